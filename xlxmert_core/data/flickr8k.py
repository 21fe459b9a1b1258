"""Flickr8k in its official files, brought into COCO's layout, alone or beside COCO's own photographs.

``Flickr8k.token.txt`` holds "NAME.jpg#k TAB caption" lines, ``Flickr_8k.{train,dev,test}Images.txt`` the names of
each split, ``images/`` (or ``Flicker8k_Dataset/``) the photographs.
"""

import os
from collections import defaultdict
from pathlib import Path

from xlxmert_core.data.coco import picture_folder
from xlxmert_core.data.files import DataError, read_json
from xlxmert_core.files import write_json

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
    for number, line in enumerate(_lines(folder / "Flickr8k.token.txt"), 1):
        name, tab, caption = line.partition("\t")
        if not (tab and caption.strip()):
            raise DataError(
                f"{folder / 'Flickr8k.token.txt'}, line {number} has no caption after a tab: fetch it again."
            )
        captions[name.partition("#")[0]].append(caption.strip())
    names = [line.strip() for line in _lines(folder / f"Flickr_8k.{split}Images.txt") if line.strip()]
    found = [(pictures / n, captions[n]) for n in names if captions[n] and (pictures / n).is_file()]
    if not found:
        raise DataError(f"None of the {len(names)} photographs of {split!r} is in {pictures}: put them there.")
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The file {path} cannot be read ({error}): put Flickr8k's text files there.") from error


def write_coco(folder: str | os.PathLike, out: str | os.PathLike, beside: str | os.PathLike | None = None) -> Path:
    """Write ``out`` in COCO's layout: links to the photographs, captions, and what ``beside`` (COCO) holds already.

    The test split becomes ``val2017``. Written again it gives the same files; the photographs are linked, not copied.
    """
    out = Path(out)
    for name, split in SPLITS.items():
        found = read(folder, split)
        (out / name).mkdir(parents=True, exist_ok=True)
        try:
            numbers = {path: int(path.name.split("_")[0]) for path, _ in found}
        except ValueError as error:
            raise DataError(f"A photograph of {folder} does not begin with its number ({error}).") from error
        images = [{"id": numbers[path], "file_name": path.name} for path, _ in found]
        captions = [{"image_id": numbers[path], "caption": text} for path, texts in found for text in texts]
        content = {"images": images, "annotations": captions}
        places = [path for path, _ in found]
        if beside is not None:
            places += list(picture_folder(beside, name).iterdir())
            theirs = read_json(Path(beside) / "annotations" / f"captions_{name}.json")
            content = {key: theirs[key] + content[key] for key in content}
            boxes = f"annotations/instances_{name}.json"
            write_json(out / boxes, read_json(Path(beside) / boxes))
        for path in places:
            link = out / name / path.name
            link.unlink(missing_ok=True)  # it may point to where the photograph was
            link.symlink_to(path.resolve())
        write_json(out / "annotations" / f"captions_{name}.json", content)
    return out
