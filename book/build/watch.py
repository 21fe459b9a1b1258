"""Runs in a chapter's kernel before its first cell: which artifacts it opens, and how much memory it takes at most.

``run_path`` gives ``out``, where the account goes after every cell, ``folder``, where the artifacts are, and ``home``,
where the chapter runs.
"""

import json
import os
import re
import sys
from pathlib import Path

from IPython import get_ipython

folder, home, out = (globals()[name] for name in ("folder", "home", "out"))  # given
opened = {"read": set(), "wrote": set()}


def artifact(path: object) -> str | None:
    """The name of the artifact that a file belongs to, at most two parts deep; None for any other file."""
    if not isinstance(path, str | os.PathLike):
        return None  # a number, for instance
    name = os.path.relpath(os.path.realpath(path), folder)
    if name.endswith(".lock"):
        return None  # who locks a file may only read it
    parts = [re.sub(r"(\.manifest\.json)?(\.tmp)?$", "", part) for part in name.split(os.sep)[:2]]
    return None if parts[0] == ".." else "/".join(parts)


def see(event: str, given: tuple) -> None:
    """Python's audit hook; what an earlier event wrote is not read from another chapter."""
    if event not in ("open", "os.rename", "xlxmert.require"):
        return
    writes = event == "os.rename" or (event == "open" and (given[2] or 0) & (os.O_WRONLY | os.O_RDWR))
    name = artifact(given[1 if event == "os.rename" else 0])
    if name and (writes or name not in opened["wrote"]):
        opened["wrote" if writes else "read"].add(name)


def megabytes() -> float | None:
    """This process's peak memory as Linux counts it; None elsewhere."""
    try:
        return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024
    except OSError:
        return None


def account(*_) -> None:
    """Write what was seen so far."""
    found = {kind: sorted(names) for kind, names in opened.items()} | {"megabytes": megabytes()}
    Path(out).write_text(json.dumps(found, indent=1) + "\n")


os.chdir(home)
sys.addaudithook(see)
get_ipython().events.register("post_run_cell", account)
