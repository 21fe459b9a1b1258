"""JSON from disk: whole, line by line, or streamed, with errors that name the line and the column.

The official question files hold up to a gigabyte; read whole they would take several times that in memory.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BLOCK = 1 << 20  # characters read at once


class DataError(ValueError):
    """A data set that cannot be read; the message says what, where and what to do."""


def read_json(path: str | os.PathLike) -> Any:
    """A JSON file; raises :class:`DataError` naming line and column, or the missing file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def read_lines(path: str | os.PathLike) -> Iterator[tuple[int, dict]]:
    """JSON lines: (line number from 1, object) one after another; empty lines are passed over."""
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, _object(path, number, line)


@contextmanager
def _opened(path):
    """A text file read in blocks; what cannot be read raises DataError."""
    try:
        with open(path, encoding="utf-8") as file:
            try:
                yield file
            except UnicodeDecodeError as error:  # it counts from the block that it was found in
                read = file.buffer.tell()  # ty: ignore[missing-attribute]  a file on disk can tell
                raise unreadable(path, error, columns=read - len(error.object)) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _object(path, number: int, line: str) -> dict:
    try:
        found = json.loads(line.rstrip())  # else the end of a line cut short counts as the next line
    except json.JSONDecodeError as error:
        raise unreadable(path, error, number - 1) from error
    if not isinstance(found, dict):
        raise DataError(f"{path}, line {number} is no JSON object: every line describes one example.")
    return found


def unreadable(path: str | os.PathLike, error: Exception, lines: int = 0, columns: int = 0) -> DataError:
    """The error in one sentence; ``lines`` and ``columns`` (or bytes) stand before what was decoded."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"The file {path} is missing: put the official annotations there.")
    if isinstance(error, json.JSONDecodeError):
        column = error.colno + (columns if error.lineno == 1 else 0)
        where = f"line {lines + error.lineno}, column {column}"
        return DataError(f"{path} is not JSON at {where} ({error.msg}): download it again.")
    if isinstance(error, UnicodeDecodeError):
        return DataError(f"{path} is not UTF-8 text at byte {columns + error.start}: download it again.")
    return DataError(f"{path} cannot be read ({error}).")


def stream(path: str | os.PathLike, key: str | None = None) -> Iterator:
    """The entries of a large JSON file, one after another, without holding the others.

    A list gives its items, an object its (name, value) pairs; with ``key``, the items of the list under that name
    of the outer object. Raises :class:`DataError` as :func:`read_json` does, or for a missing ``key``.
    """
    with _opened(path) as file:
        reader = _Reader(path, file)
        if key is None:
            yield from _entries(reader)
            reader.finish()
            return
        for name in _names(reader) if reader.peek() != "[" else ():
            if name == key:
                yield from _entries(reader)
                return
            reader.value()
    raise DataError(f"{path} has no {key!r}: it is not in the official layout.")


def _entries(reader: "_Reader") -> Iterator:
    if reader.peek() == "{":
        for name in _names(reader):
            yield name, reader.value()
        return
    if reader.peek() not in ("[", ""):
        reader.value()
        raise DataError(f"{reader.path} is no list of entries: it is not in the official layout.")
    reader.expect("[")
    more = reader.peek() != "]"
    while more:
        yield reader.value()
        more = reader.another()
    reader.expect("]")


def _names(reader: "_Reader") -> Iterator[str]:
    """The names of an object; the caller reads each value before asking for the next name."""
    reader.expect("{")
    more = reader.peek() != "}"
    while more:
        if reader.peek() != '"':
            reader.fail("Expecting a name in double quotes")
        name = reader.value()
        reader.expect(":")
        yield name
        more = reader.another()
    reader.expect("}")


class _Reader:
    """A window on the text of a JSON file: decoded values leave it at the front, blocks come in at the back."""

    def __init__(self, path, file):
        self.path, self.file, self.text, self.at, self.ended = path, file, "", 0, False
        self.lines, self.columns = 0, 0  # of the text that has left the window
        self.decoder = json.JSONDecoder()

    def more(self) -> bool:
        """Drop what was decoded, read on; False at the end of the file."""
        block = self.file.read(max(BLOCK, len(self.text) - self.at))
        if not block:
            self.ended = True
            return False
        gone = self.text[: self.at]
        last = gone.rfind("\n")
        self.columns = len(gone) - last - 1 + (self.columns if last < 0 else 0)
        self.lines += gone.count("\n")
        self.text, self.at = self.text[self.at :] + block, 0
        return True

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]

    def expect(self, character: str) -> None:
        """Step over one character, or say where it is missing."""
        if self.peek() != character:
            self.fail(f"Expecting {character!r}")
        self.at += 1

    def another(self) -> bool:
        """Step over a comma, if there is one: another entry follows."""
        found = self.peek() == ","
        self.at += found
        return found

    def finish(self) -> None:
        """Say so when something follows the document."""
        if self.peek():
            self.fail("Extra data")

    def value(self):
        """The next value, with as many blocks as it takes."""
        self.peek()
        while True:
            try:
                found, end = self.decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut = error.pos > len(self.text) - 100 or error.msg.startswith("Unterminated string")
                if self.ended or not cut or not self.more():
                    raise unreadable(self.path, error, self.lines, self.columns) from error
            else:
                if end + 2 < len(self.text) or not self.more():  # a number may go on (1e-|7)
                    self.at = end
                    return found

    def fail(self, message: str) -> None:
        """Raise an error about the next character."""
        error = json.JSONDecodeError(message, self.text, self.at)
        raise unreadable(self.path, error, self.lines, self.columns)
