"""What people said of paintings, in a CSV file: one row an answer, written whole or not at all."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from xlxmert_core.data.files import DataError, open_text
from xlxmert_core.files import replacing, why

FIELDS = ("rater", "item", "sentence", "wanted", "answer")  # who was asked what, and what would have been right


def read_ratings(path: str | os.PathLike) -> list[dict[str, str]]:
    """The rows of a file that :func:`write_ratings` wrote; none where there is no file yet.

    Raises DataError in one sentence for a file of other columns, or a row that is too short or too long.
    """
    if not Path(path).exists():
        return []
    with open_text(path) as file:
        try:
            rows = list(csv.reader(file))
        except csv.Error as error:
            raise DataError(f"{path} is no CSV file ({why(error)}): name another file for the answers.") from error
    if not rows or tuple(rows[0]) != FIELDS:
        raise DataError(f"{path} has not the columns {', '.join(FIELDS)}: name another file for the answers.")
    if wrong := [number for number, row in enumerate(rows, 1) if len(row) != len(FIELDS)]:
        raise DataError(f"{path} has {len(rows[wrong[0] - 1])} values in row {wrong[0]}, not {len(FIELDS)}: mend it.")
    return [dict(zip(FIELDS, row, strict=True)) for row in rows[1:]]


def write_ratings(path: str | os.PathLike, rows: Sequence[Mapping[str, str]]) -> None:
    """Write all rows anew; raises OSError in one sentence, and what was there stays."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
