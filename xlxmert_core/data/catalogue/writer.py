"""The catalogue on disk in the formats of COCO, VQA v2, NLVR2 and LXMERT, beside its photographs.

Photographs that are square and small are linked, not copied; others are made square, 128 pixels a side.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from xlxmert_core.data import official
from xlxmert_core.data.catalogue.pictures import squared
from xlxmert_core.data.catalogue.products import Catalogue, Product, read
from xlxmert_core.data.catalogue.questions import questions, statements
from xlxmert_core.data.catalogue.text import captions
from xlxmert_core.data.coco import Report
from xlxmert_core.data.files import DataError, read_json
from xlxmert_core.data.images import ImageError, open_image, picture_size
from xlxmert_core.data.pictures import names_in
from xlxmert_core.files import fingerprint, write_json

PIXELS = 128
LARGEST = 2 * PIXELS  # of a square photograph that is linked as it is
PARTS = ("train", "val", "test", "composition", "pairs")
SOURCES = ("products", "text", "questions", "pictures", "writer", "../official")  # what decides the content
TEXTS, LEFT_OUT = ("annotations", "vqa", "nlvr2", "lxmert"), "left_out.json"


def write(source: str | os.PathLike, folder: str | os.PathLike, train: int, others: int, seed: int) -> Path:
    """Write the data set into ``folder``, from the official layout in ``source``; returns the folder.

    All is written beside the folder first and renamed once complete. A folder whose manifest names the same source,
    arguments, code, texts and names of pictures is left alone.

    Args:
        train: how many products to learn from, at most; drawn at random, as their order is.
        others: how many of each other part, at most: "val" and "test"; "composition", those of val and test that are
            pairs of HELD_OUT; and "pairs", those of train, which only a judge may see.

    Raises DataError in one sentence when the source cannot be read or leaves a part empty, and FileExistsError when the
    folder holds other files.
    """
    source, folder = Path(source), Path(folder)
    arguments = _arguments(source, train, others, seed)
    if official.is_complete(folder, arguments, _content):
        return folder
    official.check_place(folder, "catalogue")
    catalogue = read(source)
    temporary = official.begin_beside(folder)
    written = {}
    for index, (part, products) in enumerate(parts(catalogue, seed).items()):
        rng = np.random.default_rng([seed, index, 1])
        written[part] = _write_part(temporary, part, catalogue, products[: train if part == "train" else others], rng)
    if empty := [part for part, count in written.items() if not count]:
        shutil.rmtree(temporary)
        raise DataError(
            f"{source} has no photograph that opens for {', '.join(empty)}: add products until train, val and test "
            "have some, and train and one of the others also some of the pairs held out, such as purple shirts."
        )
    write_json(temporary / LEFT_OUT, catalogue.report.skipped)
    official.put_in_place(temporary, folder, arguments, _content)
    return folder


def _arguments(source: Path, train: int, others: int, seed: int) -> dict:
    """What the content follows from; raises DataError when the source has no table."""
    table, here = source / "styles.csv", Path(__file__).parent
    if not table.is_file():
        raise DataError(f"{source} has no styles.csv: name the folder of Fashion Product Images, where it lies.")
    tables = [fingerprint(path) for path in (table, source / "splits.json") if path.is_file()]
    there = len(names_in(source / "images")) if (source / "images").is_dir() else 0
    code = {name: fingerprint(here / f"{name}.py") for name in SOURCES}
    return {"source": os.fspath(source.resolve()), "tables": tables, "photographs": there, "train": train,
            "others": others, "seed": seed, "code": code}  # fmt: skip


def _content(folder: Path) -> dict[str, str]:
    """Fingerprints of what is there: of all texts, and of the pictures' names, since many are but links."""
    found = {name: fingerprint(folder / name) for name in (*TEXTS, LEFT_OUT) if (folder / name).exists()}
    for part in PARTS:
        if (images := folder / "images" / part).is_dir():
            found[f"images/{part}"] = hashlib.sha256("\n".join(sorted(names_in(images))).encode()).hexdigest()[:16]
    return found


def left_out(folder: Path) -> Report:
    """What of the official files is not in a folder that :func:`write` has made, and why."""
    return Report([(what, why) for what, why in read_json(folder / LEFT_OUT)])


def parts(catalogue: Catalogue, seed: int) -> dict[str, list[Product]]:
    """The products of each part, in an order drawn by ``seed``: no pair of HELD_OUT is in train, val or test."""
    found: dict[str, list[Product]] = {part: [] for part in PARTS}
    for split, products in catalogue.splits.items():
        for i in np.random.default_rng([seed, PARTS.index(split)]).permutation(len(products)):
            aside = "pairs" if split == "train" else "composition"
            found[aside if products[i].held_out else split].append(products[i])
    return found


def _write_part(folder: Path, part: str, catalogue: Catalogue, products: Sequence[Product],
                rng: np.random.Generator) -> int:  # fmt: skip
    """Write a part's pictures and texts; returns how many pictures there are."""
    images = folder / "images" / part
    images.mkdir(parents=True)
    sides = {p.id: side for p in products if (side := _write_picture(catalogue, p, images / f"{p.id}.jpg"))}
    there = [p for p in products if p.id in sides]
    names = {product.id: f"{product.id}.jpg" for product in there}
    texts, asked = {product.id: captions(product) for product in there}, questions(there, rng)
    files = {
        f"annotations/captions_{part}.json": official.captions("Catalogue", names, texts, sides),
        **official.vqa("Catalogue", part, asked),
        f"lxmert/{part}.json": official.lxmert(names, texts, asked),
    }
    rows = [
        official.nlvr2(f"{part}-{number}-{turn}-0", told.sentence, told.truths[turn], names, left.id, right.id)
        for number, told in enumerate(statements(there, rng))
        for turn, (left, right) in enumerate(((told.first, told.second), (told.second, told.first)))
    ]
    official.write(folder, files, {f"nlvr2/{part}.json": rows})
    return len(there)


def _write_picture(catalogue: Catalogue, product: Product, place: Path) -> int:
    """Link a photograph, or make it square; its side in pixels, 0 of one that does not open, which is reported."""
    path = catalogue.path(product)
    try:
        width, height = picture_size(path)
        if width == height <= LARGEST:
            place.symlink_to(path.resolve())
            return width
        Image.fromarray(squared(open_image(path), PIXELS)).save(place, quality=95, subsampling=0)
        return PIXELS
    except ImageError as error:
        catalogue.report.skip(f"picture {product.id}", str(error))
        return 0
