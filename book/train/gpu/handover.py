"""What a run on a GPU hands over: a few files, each small enough to travel, and one record of all its stages."""

import json
import tarfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from xlxmert_core.files import replacing, write_json

LIMIT = 15 * 2**20  # bytes of one file that comes back


def pack_files(target: Path, paths: Sequence[Path], folder: str) -> None:
    """Those of the paths that are there, as many as the limit allows, in one archive."""
    with replacing(target) as temporary:
        tar = tarfile.open(temporary, "w:gz") if target.suffix == ".gz" else tarfile.open(temporary, "w")
        for path in paths:
            if path.is_file() and tar.offset + path.stat().st_size < LIMIT:
                tar.add(path, f"{folder}/{path.name}")
        tar.close()


def copy_files(out: Path, paths: Sequence[Path]) -> None:
    """Those of the paths that are there and small enough, into the out folder."""
    for path in paths:
        if path.is_file() and path.stat().st_size < LIMIT:
            with replacing(out / path.name) as temporary:
                temporary.write_bytes(path.read_bytes())


def write_record(run: Any, ends: dict[str, float], **about: Any) -> None:
    """Write record.json: about the run (``begin``, ``device``, ``sizes``, ``work``, ``out``), then of each stage."""
    records = {path.stem.removeprefix("record_"): json.loads(path.read_text())
               for path in sorted(run.work.glob("record_*.json"))}  # fmt: skip
    device = torch.cuda.get_device_name() if run.device.startswith("cuda") else "processor"
    about |= {"took": time.time() - run.begin, "torch": torch.__version__, "sizes": asdict(run.sizes), "ends": ends,
              "device": device}  # fmt: skip
    write_json(run.out / "record.json", {"about": about} | records)
