"""The slowest tests of the last ``make test``: ``python -m book.build.slowest`` (or ``make slowest``)."""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from book.build.run_chapters import ROOT

REPORT = ROOT / "_build" / "tests.xml"


def slowest(report: Path, count: int = 20) -> list[tuple[float, str]]:
    """(seconds, test) of the slowest, their fixtures included, the slowest first."""
    cases = ElementTree.parse(report).iter("testcase")
    found = [(float(case.attrib["time"]), f"{case.get('classname')}::{case.get('name')}") for case in cases]
    return sorted(found, reverse=True)[:count]


def main() -> int:
    """The command behind ``make slowest``."""
    if not REPORT.exists():
        print("No test has run yet: make test first.", file=sys.stderr)
        return 1
    for seconds, name in slowest(REPORT):
        print(f"{seconds:8.1f} s  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
