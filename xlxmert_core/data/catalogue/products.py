"""Products of the shop as its table has them: the reader of Fashion Product Images in its official layout.

``styles.csv`` holds one product a line (a title may hold unquoted commas), ``images/<id>.jpg`` its photograph, of any
size, and ``splits.json``, where it is there, the ids of train, val and test.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xlxmert_core.data.coco import Report
from xlxmert_core.data.files import DataError, read_json, take, text_lines
from xlxmert_core.data.pictures import names_in

COLUMNS = ("id", "gender", "masterCategory", "subCategory", "articleType", "baseColour", "season", "year", "usage",
           "productDisplayName")  # fmt: skip
SPLITS = ("train", "val", "test")
SHARES = (0.06, 0.08)  # of products in val and test where there is no splits.json


@dataclass(frozen=True)
class Kind:
    """What one article type is called: "shirt", "shirts"; ``paired`` kinds ("jeans") have no singular."""

    one: str
    many: str
    paired: bool = False


KINDS = {
    "Tshirts": Kind("tshirt", "tshirts"),
    "Shirts": Kind("shirt", "shirts"),
    "Casual Shoes": Kind("casual shoe", "casual shoes"),
    "Watches": Kind("watch", "watches"),
    "Sports Shoes": Kind("sports shoe", "sports shoes"),
    "Tops": Kind("top", "tops"),
    "Kurtas": Kind("kurta", "kurtas"),
    "Handbags": Kind("handbag", "handbags"),
    "Heels": Kind("heel", "heels"),
    "Sunglasses": Kind("sunglasses", "sunglasses", True),
    "Sandals": Kind("sandal", "sandals"),
    "Wallets": Kind("wallet", "wallets"),
    "Flip Flops": Kind("flip flop", "flip flops"),
    "Belts": Kind("belt", "belts"),
    "Sweaters": Kind("sweater", "sweaters"),
    "Sweatshirts": Kind("sweatshirt", "sweatshirts"),
    "Formal Shoes": Kind("formal shoe", "formal shoes"),
    "Jeans": Kind("jeans", "jeans", True),
    "Trousers": Kind("trousers", "trousers", True),
    "Socks": Kind("socks", "socks", True),
    "Backpacks": Kind("backpack", "backpacks"),
    "Flats": Kind("flat shoe", "flat shoes"),
    "Jackets": Kind("jacket", "jackets"),
    "Shorts": Kind("shorts", "shorts", True),
    "Caps": Kind("cap", "caps"),
    "Track Pants": Kind("track pants", "track pants", True),
    "Ties": Kind("tie", "ties"),
    "Kurtis": Kind("kurti", "kurtis"),
    "Dresses": Kind("dress", "dresses"),
}
TYPES = tuple(KINDS)
COLOURS = ("black", "white", "grey", "red", "blue", "green", "yellow", "orange", "purple", "pink", "brown")
SHADES = {  # the shop's other colours: the basic one of each
    "navy blue": "blue", "beige": "brown", "maroon": "red", "olive": "green", "silver": "grey", "steel": "grey",
    "gold": "yellow", "cream": "white", "tan": "brown", "khaki": "brown", "charcoal": "grey", "off white": "white",
    "magenta": "pink", "lavender": "purple", "copper": "brown", "peach": "pink", "teal": "blue",
    "mustard": "yellow", "turquoise blue": "blue", "coffee brown": "brown", "bronze": "brown", "rust": "brown",
    "grey melange": "grey", "sea green": "green", "taupe": "brown", "burgundy": "red", "fluorescent green": "green",
    "lime green": "green", "mauve": "purple", "nude": "brown", "mushroom brown": "brown", "skin": "brown",
    "rose": "pink", "metallic": "grey",
}  # fmt: skip
_COLOUR = "|".join(sorted((*COLOURS, *SHADES), key=len, reverse=True))  # the longest first: "navy blue" before "blue"
_TWO_COLOURS = re.compile(rf"\b({_COLOUR}) *(?:&|and|-) *({_COLOUR})\b")
_COLOUR_WORDS = frozenset(" ".join((*COLOURS, *SHADES)).split())  # "navy" and "off" too
GENDERS = ("Men", "Women", "Unisex", "Boys", "Girls")
USAGES = ("Casual", "Sports", "Formal", "Ethnic")
PATTERNS = ("plain", "striped", "checked", "printed", "floral")
LABELS = {"type": TYPES, "colour": COLOURS, "gender": GENDERS, "pattern": PATTERNS}  # what can be seen
_PATTERN_WORDS = {
    "striped": ("striped", "stripes", "stripe", "stripped"),
    "checked": ("checked", "check", "checks", "checkered", "plaid"),
    "floral": ("floral", "flower", "flowers"),
    "printed": ("printed", "print", "prints", "graphic"),
    "plain": ("solid", "plain"),
}
HELD_OUT = (  # (type, colour): no such photograph is trained on
    ("Shirts", "purple"), ("Tshirts", "yellow"), ("Kurtas", "red"), ("Casual Shoes", "red"), ("Tops", "green"),
    ("Handbags", "purple"), ("Sweaters", "green"), ("Sweatshirts", "blue"),
)  # fmt: skip


@dataclass(frozen=True)
class Product:
    """One photograph and what the shop says of it; "" where it says nothing that is known here.

    Attributes:
        type: a name of TYPES; colour: of COLOURS; shade: the shop's own colour in lower case ("navy blue").
        second: another basic colour that the title names beside the first ("black & white").
        gender: of GENDERS; usage: of USAGES; pattern: of PATTERNS, from the title.
        title: as the shop typed it, brand and all.
    """

    id: int
    type: str
    colour: str = ""
    shade: str = ""
    second: str = ""
    gender: str = ""
    usage: str = ""
    pattern: str = ""
    title: str = ""

    @property
    def held_out(self) -> bool:
        """Whether its type and one of its colours are a pair of HELD_OUT."""
        return (self.type, self.colour) in HELD_OUT or (self.type, self.second) in HELD_OUT


@dataclass(frozen=True)
class Catalogue:
    """All products whose photographs are there, by split; ``report`` says what was left out and why."""

    folder: Path
    splits: dict[str, list[Product]]
    report: Report

    def path(self, product: Product) -> Path:
        """Where the photograph of a product lies."""
        return self.folder / "images" / f"{product.id}.jpg"


def read(folder: str | os.PathLike) -> Catalogue:
    """Read the official layout.

    Raises DataError in one sentence when the table is missing or is another one, when splits.json is not what it
    should be, and when no photograph of a known product is there.
    """
    folder, report = Path(folder), Report()
    there = names_in(folder / "images") if (folder / "images").is_dir() else {}
    products = []
    for product in parse(folder / "styles.csv", report):
        if f"{product.id}.jpg" in there:
            products.append(product)
        else:
            report.skip(f"product {product.id}", f"{folder / 'images' / str(product.id)}.jpg is missing")
    if not products:
        raise DataError(f"{folder} has no photograph of a known product: put images/<id>.jpg beside styles.csv.")
    return Catalogue(folder, _split(products, folder / "splits.json", report), report)


def parse(path: Path, report: Report) -> list[Product]:
    """The known products of a styles.csv; what is left out, and labels that are not known, go into the report.

    Raises DataError in one sentence when the file is missing, is no text, begins with other columns, or is empty.
    """
    found: dict[int, Product] = {}
    types, labels = Counter(), Counter()
    lines = [(number, line) for number, line in text_lines(path) if number == 1 or line.strip()]
    for number, line in lines:
        values = [value.strip() for value in line.split(",", len(COLUMNS) - 1)]  # a title may hold commas
        if number == 1:
            if tuple(values) != COLUMNS:
                raise DataError(f"{path} must begin with the columns {','.join(COLUMNS)}, not with {line[:200]!r}.")
            continue
        if len(values) < len(COLUMNS) or not re.fullmatch("[0-9]{1,18}", values[0]):
            report.skip(f"line {number} of {path.name}", "it is no product (too few columns, or no number first)")
            continue
        row = dict(zip(COLUMNS, values, strict=True))
        if row["articleType"] not in KINDS:
            types[row["articleType"]] += 1
        elif int(row["id"]) in found:
            report.skip(f"line {number} of {path.name}", f"product {row['id']} is there already")
        else:
            found[int(row["id"])] = _product(row, labels)
    if len(lines) < 2:
        raise DataError(f"{path} is empty: put the table of Fashion Product Images there, a product a line.")
    for kind, count in types.most_common():
        report.skip(f"{count} product(s) of type {kind!r}", f"the type is not among the {len(KINDS)} that are known")
    for (name, value), count in labels.most_common():
        report.skip(f"the {name} of {count} product(s)", f"{value!r} is not among those that are known")
    return list(found.values())


def _product(row: Mapping[str, str], labels: Counter) -> Product:
    shade, title = row["baseColour"].lower(), row["productDisplayName"]
    colour = basic_colour(shade)
    gender = row["gender"] if row["gender"] in GENDERS else ""
    usage = row["usage"] if row["usage"] in USAGES else ""
    labels.update((name, row[column]) for name, column, value in
                  (("colour", "baseColour", colour), ("gender", "gender", gender), ("usage", "usage", usage))
                  if not value)  # fmt: skip
    return Product(int(row["id"]), row["articleType"], colour, shade if colour else "", second_colour(title, colour),
                   gender, usage, pattern_of(title), title)  # fmt: skip


def basic_colour(shade: str) -> str:
    """One of COLOURS for any of the shop's colours, "" for what has none ("Multi", "NA")."""
    shade = shade.strip().lower()
    return shade if shade in COLOURS else SHADES.get(shade, "")


def pattern_of(title: str) -> str:
    """The pattern that a title names, "" when it names none: "Lee Men Check Red Shirts" -> "checked"."""
    words = set(re.findall(r"[a-z]+", title.lower()))
    return next((name for name, signs in _PATTERN_WORDS.items() if words.intersection(signs)), "")


def second_colour(title: str, colour: str) -> str:
    """The other basic colour of "Black & White Check" when one of the two is ``colour``; "" otherwise."""
    for pair in _TWO_COLOURS.findall(title.lower()):
        both = [basic_colour(shade) for shade in pair]
        if colour in both and both[0] != both[1]:
            return both[1 - both.index(colour)]
    return ""


def _split(products: list[Product], path: Path, report: Report) -> dict[str, list[Product]]:
    """By splits.json where it is there, otherwise by :func:`split_of`."""
    if not path.is_file():
        return {name: [p for p in products if split_of(p) == name] for name in SPLITS}
    opening = f"{path} must hold three lists of ids, {', '.join(SPLITS)}"
    lists = dict(zip(SPLITS, take(read_json(path), opening, **dict.fromkeys(SPLITS, "list")), strict=True))
    if any(type(i) is not int for ids in lists.values() for i in ids):
        raise DataError(f"{opening} (one of them is no whole number).")
    if twice := [i for i, count in Counter(i for ids in lists.values() for i in set(ids)).items() if count > 1]:
        raise DataError(f"{path} has product {twice[0]} in two splits: leave it in one.")
    place = {i: name for name, ids in lists.items() for i in ids}
    splits: dict[str, list[Product]] = {name: [] for name in SPLITS}
    for product in products:
        if product.id in place:
            splits[place[product.id]].append(product)
        else:
            report.skip(f"product {product.id}", f"it is in no split of {path.name}")
    return splits


def split_of(product: Product) -> str:
    """Same title up to colour words, same split: no near copy of a test photograph is trained on."""
    words = [w for w in re.findall(r"[a-z]+", product.title.lower()) if w not in _COLOUR_WORDS]
    share = int(hashlib.sha256(" ".join(words).encode()).hexdigest()[:8], 16) / 16**8
    return "val" if share < SHARES[0] else "test" if share < sum(SHARES) else "train"
