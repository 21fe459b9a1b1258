"""Chapters in a process of their own, while the tests go on in this one."""

import os
import shutil
import subprocess
import sys

from book.build.run_chapters import ROOT, Run

BEGUN: list[subprocess.Popen] = []  # ended with the session


def ahead(run: Run, names: list[str], **environment: str) -> subprocess.Popen:
    """Begin to run chapters from empty artifacts; what is said goes to ``chapters.log``."""
    shutil.rmtree(run.work, ignore_errors=True)
    run.work.mkdir(parents=True)
    call = [sys.executable, "-m", "book.build", "--work", str(run.work)]
    call += ["--profile", run.profile, "--dataset", run.dataset, "--only", *names]
    with open(run.work / "chapters.log", "w") as log:
        BEGUN.append(subprocess.Popen(call, stdout=log, stderr=log, env=os.environ | environment, cwd=ROOT))
    return BEGUN[-1]
