"""kill -9 at random moments of a tiny job of every kind: begun again it ends with equal weights, codes and metrics."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from killed_jobs import JOBS

from book.build.run_chapters import ROOT

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def rows(moments: int, folder: Path, *names: str) -> list[dict]:
    """What a process says that kills these jobs; it forks them, and torch's threads do not like to be forked here."""
    command = [sys.executable, str(Path(__file__).with_name("killed_jobs.py")), str(moments), str(folder), *names]
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), *sys.path]))}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.nightly
@pytest.mark.parametrize("name", JOBS)
def test_at_twenty_moments(tmp_path, name):
    (row,) = rows(20, tmp_path, name)
    print(row)
    assert row["equal"] == row["moments"] and row["killed"] >= 5  # the first run is the slowest: others end sooner
