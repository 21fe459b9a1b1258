"""A small shop in the official layout of Fashion Product Images, with the faults of a large one."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from xlxmert_core.data.catalogue import COLUMNS, Product

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "catalogue"
LINES = [
    ",".join(COLUMNS),
    "1,Men,Apparel,Topwear,Shirts,Navy Blue,Fall,2011,Formal,Arrow Men Check Navy, White, Blue & White Shirt",
    "2,Women,Accessories,Bags,Handbags,Red,Fall,2011,Casual,Baggit Women Red Leather Handbag",
    "3,Women,Footwear,Shoes,Heels,,Fall,2011,NA,Catwalk Women Heels",
    "4,Men,Apparel,Topwear,Rain Jacket,Black,Fall,2011,Casual,Just Black",
    "broken line",
    "2,Women,Accessories,Bags,Handbags,Red,Fall,2011,Casual,Twice",
]
HUES = {"black": (20, 20, 20), "red": (220, 0, 0), "blue": (0, 0, 220), "green": (0, 160, 0), "purple": (130, 0, 130)}


def product(**values) -> Product:
    base = dict(id=1, type="Shirts", colour="red", shade="red", gender="Men", usage="Casual", title="Lee Men Red Shirt")
    return Product(**(base | values))


def write(folder: Path, lines=LINES, ids=(1, 2, 3)) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "styles.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for i in ids:
        Image.fromarray(np.full((16, 16, 3), 200, np.uint8)).save(folder / "images" / f"{i}.jpg")
    return folder


def photograph(number: int, colour: str, width: int, height: int) -> Image.Image:
    """A thing of one colour in the upper middle of a white picture, with its number in dark and light squares."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    thing = pixels[height // 8 : height * 5 // 8, width // 4 : width * 3 // 4]
    thing[:] = HUES[colour]
    for bit in range(8):
        place = thing[4 + 8 * (bit // 3) :, 2 + 8 * (bit % 3) :]
        place[:7, :7] = place[:7, :7] // (1 + (number >> bit & 1)) + 10
    return Image.fromarray(pixels)


def fill(folder: Path) -> Path:
    """240 products in the official layout, half of them three to four, as the shop's are; 17 does not open."""
    rng = np.random.default_rng(0)
    kinds, colours, genders = ("Shirts", "Jeans", "Casual Shoes"), tuple(HUES), ("Men", "Women", "Boys")
    lines = [LINES[0]]
    for i in range(1, 241):
        kind, colour, gender = (options[rng.integers(len(options))] for options in (kinds, colours, genders))
        look = ("Striped", "Solid", "")[i % 3]
        lines.append(f"{i},{gender},A,B,{kind},{colour.title()},Fall,2011,Casual,Brand {i} {gender} {look} {kind}")
    write(folder, [*lines, *LINES[4:]], ())
    for i, line in enumerate(lines[1:], 1):
        size = (60, 80) if i % 2 else (192, 192) if i % 8 == 0 else (128, 128)
        photograph(i, line.split(",")[5].lower(), *size).save(folder / "images" / f"{i}.jpg", quality=95)
    (folder / "images" / "17.jpg").write_bytes(b"no picture")
    (folder / "images" / "18.jpg").unlink()
    ids = {"train": range(1, 121), "val": range(121, 181), "test": range(181, 241)}
    (folder / "splits.json").write_text(json.dumps({name: [*those] for name, those in ids.items()}))
    return folder
