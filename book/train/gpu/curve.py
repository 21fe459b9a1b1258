"""What more photographs change: transformers that learned from so many of them, side by side on one GPU.

``python -m book.train.gpu.curve --data .gpu --codes codes.pt --out OUT``. Eye, codes and generator stay those of the
whole run, and all take the same number of steps, so that the photographs and their captions are all that differs.
``book.train.measure_catalogue`` reads their paintings.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from book.train.gpu.__main__ import SMOKE, Sizes
from book.train.gpu.common import Clock, decode, load_data, say
from book.train.gpu.handover import pack_files
from book.train.gpu.text import train_transformer

COUNTS = (1000, 3000, 0)  # photographs; 0: all of them


def learn(options: argparse.Namespace, count: int) -> None:
    """Train one transformer in work/<count>, and hand it over as transformer_<count>.tar."""
    torch.manual_seed(0)
    work, sizes = options.work / str(count), SMOKE if options.smoke else Sizes()
    (work / "model").mkdir(parents=True, exist_ok=True)
    (work / "codes.pt").write_bytes(options.codes.read_bytes())
    data = load_data(options.data, options.work, options.device)
    rows = data.rows["trainable"]
    kept = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).to(rows.device)]
    data.rows["trainable"] = kept[: count or None]
    clock = Clock(options.begin + 60 * options.minutes, options.steps)
    train_transformer(data, work, clock, sizes.transformer, options.colours, sizes.small)
    record = work / "record_transformer.json"
    pack_files(
        options.out / f"transformer_{len(data.rows['trainable'])}.tar", [*(work / "model").iterdir(), record], "."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when all have been trained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that book.train.gpu.pack wrote")
    parser.add_argument("--codes", type=Path, required=True, help="codes.pt of a whole run")
    parser.add_argument("--colours", type=int, default=Sizes().colours, help="colours of those codes")
    parser.add_argument("--out", type=Path, required=True, help="where the weights go")
    parser.add_argument("--work", type=Path, default=Path("/tmp/curve"))
    parser.add_argument("--minutes", type=float, default=2.7)
    parser.add_argument("--steps", type=int, default=800, help="of each, or fewer where the time is over")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--smoke", action="store_true", help="tiny networks")
    parser.add_argument("--count", type=int, help="so many photographs alone, in this process")
    parser.add_argument("--begin", type=float, default=time.time(), help="when the run began (time.time())")
    options = parser.parse_args(arguments)
    if options.count is not None:
        learn(options, options.count)
        return 0
    for folder in (options.work, options.out):
        folder.mkdir(parents=True, exist_ok=True)
    decode(options.data, options.work, min(16, os.cpu_count() or 1))
    say(f"pictures ready after {time.time() - options.begin:.0f} s")
    given = [*(sys.argv[1:] if arguments is None else map(str, arguments)), "--begin", str(options.begin)]
    command = [sys.executable, "-m", "book.train.gpu.curve", *given]
    beside = [subprocess.Popen([*command, "--count", str(count)]) for count in COUNTS]
    return max(process.wait() for process in beside)


if __name__ == "__main__":
    sys.exit(main())
