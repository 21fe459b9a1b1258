"""What the child processes of ``test_bench.py`` call: a module of its own, which is imported in no time."""

import os

from book.bench.measure import added_megabytes


def twice(number: int) -> int:
    """Twice the number."""
    return 2 * number


def hold(megabytes: int) -> float:
    """MB added by a buffer of so many, after a larger one has come and gone."""
    buffer = b"x" * (3 * megabytes << 20)
    del buffer
    return added_megabytes(lambda: b"x" * (megabytes << 20))


def setting(name: str) -> str | None:
    """An environment variable."""
    return os.environ.get(name)


def fail() -> None:
    """Fail."""
    raise ValueError("no such luck")
