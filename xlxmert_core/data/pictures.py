"""The door to a folder of pictures: which of its files are pictures, and which picture an id means."""

import operator
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from xlxmert_core.data.files import DataError

NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}  # Pillow leaves these to other programs
COMPANIONS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")  # folders that systems lay beside pictures
COCO = re.compile(r"(?:COCO_\w+_)?(\d{12})")  # its pictures' names, of 2014 and of 2017


@cache
def formats() -> tuple[str, ...]:
    """The names of the formats that are opened: all of Pillow's that it reads without another program."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NO_PICTURES)


@cache
def endings() -> frozenset[str]:
    """The endings of their files, such as ".jpg", in small letters."""
    known = formats()
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in known)


def walk(folder: str | os.PathLike) -> Iterator[Path]:
    """The pictures in a folder and its sub-folders (also linked ones), in the order of their paths.

    What begins with a dot, and what systems lay beside pictures, is passed over.
    """
    seen, found = set(), []
    for inner, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(inner)) in seen:
            folders.clear()  # a link that leads back
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".") and name not in COMPANIONS]
        found += [Path(inner, name) for name in names if is_picture(name)]
    return iter(sorted(found))


def is_picture(name: str) -> bool:
    """Whether a file of this name is a picture, by its ending, and no companion of one ("._42.jpg")."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in endings()


def picture_key(image_id: int | str) -> str:
    """One spelling of an id, to join features, sentences and questions: 42, "42", "000000000042" -> "42".

    Whatever is no number stays as it is (but for accents, which Unicode spells in two ways). COCO's numbers and Visual
    Genome's overlap: where both are used, COCO's pictures go by their full names. Raises :class:`DataError` for what is
    neither a whole number nor a string.
    """
    if isinstance(image_id, str):
        if image_id.isascii() and image_id.isdigit():
            return image_id.lstrip("0") or "0"
        return unicodedata.normalize("NFC", str(image_id))
    try:
        if not isinstance(image_id, bool):
            return str(operator.index(image_id))
    except TypeError:
        pass
    raise DataError(f"A picture's id is a whole number or a string, not {image_id!r}.")


def bare(name: int | str) -> int | str:
    """An id without the folder and the ending of a picture: "val/42.jpg" -> "42"."""
    if not isinstance(name, str) or not is_picture(inner := re.split(r"[/\\]", name)[-1]):
        return name
    return os.path.splitext(inner)[0]


class ByPicture(Mapping):
    """What belongs to pictures, found by an id in any of the forms that people use.

    What belongs to COCO_val2014_000000000042.jpg is found under that name, with or without its ending, under 42, "42"
    and "000000000042"; in a folder also what belongs to house_7.png under 7, unless a picture is called so.

    Args:
        pairs: (name, value) of each picture.
        ends: whether a number at the end of any name is one to find it by; COCO's always is.

    Raises :class:`DataError` when two pictures have one name, and for an id that may mean one or another.
    """

    def __init__(self, pairs: Iterable[tuple[int | str, Any]], ends: bool = False):
        self._found: dict[str, tuple[int | str, Any]] = {}  # key: name and value
        self._coco: dict[str, list[str]] = defaultdict(list)  # number: keys of COCO's names of it
        self._ends: dict[str, list[str]] = defaultdict(list)  # number: keys that end in it
        for name, value in pairs:
            key = picture_key(bare(name))
            if key in self._found:
                first = self._found[key][0]
                raise DataError(f"Two pictures are called {key}, {first} and {name}: remove one of them.")
            self._found[key] = name, value
            if number := COCO.fullmatch(str(bare(name))):
                self._coco[picture_key(number[1])].append(key)
            if ends and (number := re.search(r"[0-9]+$", key)):
                self._ends[picture_key(number[0])].append(key)

    def __getitem__(self, image_id: int | str) -> Any:
        name = bare(image_id)
        key, coco = picture_key(name), COCO.fullmatch(str(name))
        named, theirs = [key] if key in self._found else [], self._coco.get(key, [])
        if named and key in theirs and len(theirs) < 3:
            possible = named  # COCO's picture of 2014 is that of 2017
        else:
            possible = named + theirs
        if not possible and coco:
            possible = self._coco.get(picture_key(coco[1]), [])
        possible = possible or self._ends.get(key, [])
        if len(possible) > 1:
            first, second = (self._found[k][0] for k in possible[:2])
            raise DataError(f"Picture {key} may be {first!r} or {second!r}: use one source.")
        if not possible:
            raise KeyError(image_id)
        return self._found[possible[0]][1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def find_pictures(folder: str | os.PathLike) -> ByPicture:
    """The files of a folder's pictures, also in its sub-folders, by any of the ids of :class:`ByPicture`.

    Raises :class:`DataError` when the folder is not there, and for two pictures of one name.
    """
    if not Path(folder).is_dir():
        raise DataError(f"There is no folder {folder}: put the pictures there, or check the path.")
    return ByPicture(((str(path), path) for path in walk(folder)), ends=True)


def names_in(folder: str | os.PathLike) -> dict[str, Path]:
    """The files that lie in a folder itself, by their names, spelled as JSON spells them (macOS parts accents)."""
    with os.scandir(folder) as entries:
        return {unicodedata.normalize("NFC", entry.name): Path(folder, entry.name) for entry in entries}
