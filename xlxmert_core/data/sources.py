"""Where the official downloads keep their pictures, and which of them a reader has.

The original learns from COCO, Visual Genome, GQA and NLVR2 (VQA v2 asks about COCO's pictures). A picture is called
after its file without ending, as in LXMERT's JSON and in the original's HDF5 files: "COCO_train2014_000000000009",
"2412112", "n161313", "train-10171-0-img0".
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from xlxmert_core.data.files import DataError
from xlxmert_core.data.pictures import picture_key, walk


class Source(NamedTuple):
    """One download: its name, the texts about its pictures, and {split: (folders, official number of pictures)}."""

    name: str
    texts: str
    splits: dict[str, tuple[tuple[str, ...], int | None]]


SOURCES = {
    "coco": Source(
        "COCO",
        "COCO's captions and VQA v2's questions",
        {
            "train2014": (("train2014",), 82_783),
            "val2014": (("val2014",), 40_504),
            "test2015": (("test2015",), 81_434),
            "train2017": (("train2017",), 118_287),
            "val2017": (("val2017",), 5_000),
        },
    ),
    "vg": Source(
        "Visual Genome", "Visual Genome's captions and questions", {"all": (("VG_100K", "VG_100K_2"), 108_249)}
    ),
    "gqa": Source("GQA", "GQA's questions", {"all": (("images",), 148_854)}),
    "nlvr2": Source(
        "NLVR2", "NLVR2's statements", {name: ((name,), None) for name in ("train", "dev", "test1")}
    ),  # train/ holds the folders 0 to 99
}


def picture_files(source: str, folder: str | os.PathLike, split: str | None = None) -> dict[str, Path]:
    """{name without ending: file} of one split, or of all splits that are there, in the order of the names.

    The folders of :data:`SOURCES` lie in ``folder`` or in its ``images``. Raises :class:`DataError` in one sentence
    for an unknown source or split, for pictures that are not there, and for two files of one name.
    """
    name, _, splits = _source(source)
    if split not in (None, *splits):
        raise DataError(f"{name} has no split {split!r}: use one of {', '.join(splits)}.")
    wanted = [split] if split else list(splits)
    found: dict[str, Path] = {}
    called: dict[str, Path] = {}
    for path in sorted((path for one in wanted for path in _files(source, folder, one)), key=str):
        if (first := called.setdefault(picture_key(path.stem), path)) is not path:
            raise DataError(f"Two pictures are called {path.stem}, {first} and {path}: remove one of them.")
        found[path.stem] = path
    if not found:
        folders = ", ".join(f"{part}/" for one in wanted for part in splits[one][0])
        what = f"{name} {split}" if split else name
        raise DataError(f"There are no pictures of {what} in {folder}: expected {folders} there or in images/.")
    return found


def available(folders: Mapping[str, str | os.PathLike]) -> tuple[dict[str, dict[str, int]], str]:
    """Which sources are there: {source: {split: number of pictures}}, and what that leaves out, in sentences.

    ``folders`` is {source: folder} for those that were downloaded; one that is left out or empty counts as missing.
    """
    present: dict[str, dict[str, int]] = {}
    for key, folder in folders.items():
        counts = {split: sum(1 for _ in _files(key, folder, split)) for split in _source(key).splits}
        if any(counts.values()):
            present[key] = {split: count for split, count in counts.items() if count}
    return present, " ".join([_overview(present, folders), *_incomplete(present)])


def _source(key: str) -> Source:
    if key not in SOURCES:
        raise DataError(f"There is no source of pictures called {key!r}: use {', '.join(SOURCES)}.")
    return SOURCES[key]


def _files(source: str, folder: str | os.PathLike, split: str) -> Iterator[Path]:
    """The pictures of a split, also in sub-folders; none where the folders are missing."""
    for part in SOURCES[source].splits[split][0]:
        place = next((p for p in (Path(folder) / part, Path(folder) / "images" / part) if p.is_dir()), None)
        yield from walk(place) if place else ()


def _overview(present: dict[str, dict[str, int]], folders: Mapping[str, str | os.PathLike]) -> str:
    have = [f"{SOURCES[key].name} ({_counted(splits)})" for key, splits in present.items()]
    lacking = [key for key in SOURCES if key not in present]
    if not lacking:
        return f"All pictures are there: {_listed(have)}."
    looked = [f"no pictures in {folders[key]}" if key in folders else "no folder given" for key in lacking]
    where = [f"{SOURCES[key].name} ({why})" for key, why in zip(lacking, looked, strict=True)]
    here = f"{_listed(have)} {'is' if len(have) == 1 else 'are'} there; " if have else ""
    texts = _listed([SOURCES[key].texts for key in lacking])
    return f"{here}{_listed(where)} {'is' if len(where) == 1 else 'are'} missing: {texts} are passed over."


def _incomplete(present: dict[str, dict[str, int]]) -> Iterator[str]:
    for key, splits in present.items():
        for split, count in splits.items():
            official = SOURCES[key].splits[split][1]
            if official and count < official:
                name = f"{SOURCES[key].name} {'' if split == 'all' else split}".strip()
                yield (
                    f"{name} has {_spaced(count)} of {_spaced(official)} pictures: "
                    "what is told about the others is passed over; finish the download to use it."
                )


def _counted(splits: dict[str, int]) -> str:
    return ", ".join(f"{'' if split == 'all' else split + ' '}{_spaced(n)}" for split, n in splits.items())


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _spaced(number: int) -> str:
    return f"{number:,}".replace(",", " ")
