"""Flickr8k in its official files, brought into COCO's layout, alone or beside COCO's own photographs.

``Flickr8k.token.txt`` holds "NAME.jpg#k TAB caption" lines, ``Flickr_8k.{train,dev,test}Images.txt`` the names of
each split, ``images/`` (or ``Flicker8k_Dataset/``) the photographs.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xlxmert_core.data.coco import picture_folder
from xlxmert_core.data.files import DataError, read_json, take, text_lines
from xlxmert_core.data.pictures import is_picture, names_in
from xlxmert_core.files import why, write_json

SPLITS = {"train2017": "train", "val2017": "test"}  # COCO's names: Flickr8k's
PICTURES = ("images", "Flicker8k_Dataset")


def read(folder: str | os.PathLike, split: str) -> list[tuple[Path, list[str]]]:
    """(photograph, its captions) of a split ("train", "dev" or "test") that are on disk, in the order of the split.

    Raises DataError in one sentence for a missing file or a line without caption.
    """
    folder = Path(folder)
    pictures = next((folder / name for name in PICTURES if (folder / name).is_dir()), None)
    if pictures is None:
        raise DataError(f"{folder} has neither {' nor '.join(PICTURES)}: put Flickr8k's photographs there.")
    captions: dict[str, list[str]] = defaultdict(list)
    for number, line in text_lines(folder / "Flickr8k.token.txt"):
        name, tab, caption = line.partition("\t")
        if not (tab and caption.strip()):
            raise DataError(
                f"{folder / 'Flickr8k.token.txt'}, line {number} has no caption after a tab: fetch it again."
            )
        captions[name.partition("#")[0].strip()].append(caption.strip())
    names = [line.strip() for _, line in text_lines(folder / f"Flickr_8k.{split}Images.txt") if line.strip()]
    there = names_in(pictures)
    found = [(there[n], captions[n]) for n in dict.fromkeys(names) if captions[n] and n in there]
    if not found:
        raise DataError(f"None of the {len(names)} photographs of {split!r} is in {pictures}: put them there.")
    return found


def write_coco(folder: str | os.PathLike, out: str | os.PathLike, beside: str | os.PathLike | None = None) -> Path:
    """Write ``out`` in COCO's layout: links to the photographs, captions, and what ``beside`` (COCO) holds already.

    The test split becomes ``val2017``. Written again it gives the same files; the photographs are linked, not copied.
    Raises DataError before anything is written.
    """
    out = Path(out)
    splits = {name: _content(read(folder, split), folder, name, beside) for name, split in SPLITS.items()}
    for name, (places, content, boxes) in splits.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        for path in places:
            link = out / name / path.name
            link.unlink(missing_ok=True)  # it may point to where the photograph was
            link.symlink_to(path.resolve())
        if boxes is not None:
            write_json(out / "annotations" / f"instances_{name}.json", boxes)
        write_json(out / "annotations" / f"captions_{name}.json", content)
    return out


def _content(found: Sequence[tuple[Path, list[str]]], folder, name: str, beside) -> tuple[list[Path], dict, Any]:
    """What goes into a split: photographs, captions, and the boxes of ``beside``, None without any."""
    try:
        numbers = {path: int(path.name.split("_")[0]) for path, _ in found}
    except ValueError as error:
        raise DataError(f"A photograph of {folder} does not begin with its number ({why(error)}).") from error
    images = [{"id": numbers[path], "file_name": path.name} for path, _ in found]
    captions = [{"image_id": numbers[path], "caption": text} for path, texts in found for text in texts]
    places, theirs, boxes = [path for path, _ in found], ([], []), None
    if beside is not None:
        places += [path for path in names_in(picture_folder(beside, name)).values() if is_picture(path.name)]
        path = Path(beside) / "annotations" / f"captions_{name}.json"
        opening = f"{path} does not have COCO's captions layout"
        theirs = take(read_json(path), opening, images="list", annotations="list")
        path = path.with_name(f"instances_{name}.json")
        boxes = read_json(path) if path.is_file() else None
    if twice := [n for n, count in Counter(path.name for path in places).items() if count > 1]:
        raise DataError(f"Two photographs of {name} are called {twice[0]}: remove one of them.")
    return places, {"images": theirs[0] + images, "annotations": theirs[1] + captions}, boxes
