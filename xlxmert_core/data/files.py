"""The door for text and JSON: whole, line by line, or streamed; what is wrong is named with its line, column and field.

Text is UTF-8, a byte-order mark before it is no part of it, and only a newline ends a line. The official question
files hold up to a gigabyte; read whole they would take several times that in memory.
"""

import json
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from xlxmert_core.files import why

BLOCK = 1 << 20  # characters read at once


class DataError(ValueError):
    """A data set that cannot be read; the message says what, where and what to do."""

    def __init__(self, message: str):
        super().__init__(sayable(message))


def sayable(text: str) -> str:
    """A text that can be shown and written: file names of other systems are not always UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def open_text(path: str | os.PathLike) -> Generator:
    """A text file, opened for reading; what cannot be read raises :class:`DataError`."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            try:
                yield file
            except UnicodeDecodeError as error:  # it counts from the block that it was found in
                read = file.buffer.tell()  # ty: ignore[missing-attribute]  a file on disk can tell
                raise unreadable(path, error, columns=read - len(error.object)) from error
    except OSError as error:
        raise unreadable(path, error) from error


def read_text(path: str | os.PathLike) -> str:
    """A text file, whole."""
    with open_text(path) as file:
        return file.read()


def text_lines(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """(line number from 1, line) of a text file, one after another; U+2028 and its like end no line."""
    with open_text(path) as file:
        yield from enumerate((line.removesuffix("\n") for line in file), 1)


def read_json(path: str | os.PathLike) -> Any:
    """A JSON file; raises :class:`DataError` naming line and column, or the missing file."""
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unreadable(path, error) from error


def read_lines(path: str | os.PathLike) -> Iterator[tuple[int, dict]]:
    """JSON lines: (line number from 1, object) one after another; empty lines are passed over."""
    for number, line in text_lines(path):
        if line.strip():
            yield number, _object(path, number, line)


def _object(path, number: int, line: str) -> dict:
    try:
        found = json.loads(line.rstrip())  # else the end of a line cut short counts as the next line
    except (ValueError, RecursionError) as error:
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
        where = f"at byte {columns + error.start}"
        return DataError(f"{path} is not UTF-8 text {where}: save it as UTF-8, or download it again.")
    if isinstance(error, RecursionError):
        return DataError(f"{path} has brackets within brackets beyond all measure: download it again.")
    return DataError(f"{path} cannot be read ({why(error)}).")


def stream(path: str | os.PathLike, key: str | None = None) -> Iterator:
    """The entries of a large JSON file, one after another, without holding the others.

    A list gives its items, an object its (name, value) pairs; with ``key``, the items of the list under that name
    of the outer object. Raises :class:`DataError` as :func:`read_json` does, or for a missing ``key``.
    """
    with open_text(path) as file:
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
            except (ValueError, RecursionError) as error:
                raise unreadable(self.path, error) from error
            else:
                if end + 2 < len(self.text) or not self.more():  # a number may go on (1e-|7)
                    self.at = end
                    return found

    def fail(self, message: str) -> None:
        """Raise an error about the next character."""
        error = json.JSONDecodeError(message, self.text, self.at)
        raise unreadable(self.path, error, self.lines, self.columns)


# --- What is in an entry. -----------------------------------------------------------------------------


def is_text(value: object) -> bool:
    """Whether this is a string of whole characters: JSON allows halves of one, which nothing can show or write."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _is_id(value: object) -> bool:
    return is_text(value) or isinstance(value, int) and not isinstance(value, bool)


KINDS: dict[str, tuple[Callable, str]] = {
    "text": (is_text, "text"),
    "id": (_is_id, "a whole number or a name"),
    "number": (_is_number, "a finite number"),
    "numbers": (lambda value: isinstance(value, list) and all(map(_is_number, value)), "a list of finite numbers"),
    "list": (lambda value: isinstance(value, list), "a list"),
    "object": (lambda value: isinstance(value, dict), "an object"),
}


def take(entry: object, opening: str, **kinds: str) -> tuple:
    """The values of a JSON object by their names, each of the kind (of :data:`KINDS`) that is asked for.

    ``opening`` says where the entry is and what it should be, and begins the sentence of the :class:`DataError`.
    """
    if not isinstance(entry, dict):
        raise DataError(f"{opening} (it is {_shown(entry)}, not an object).")
    for name, kind in kinds.items():
        if name not in entry:
            raise DataError(f"{opening} (it has no {name!r}).")
        right, wanted = KINDS[kind]
        if not right(entry[name]):
            raise DataError(f"{opening} (its {name!r} is {_shown(entry[name])}, not {wanted}).")
    return tuple(entry[name] for name in kinds)


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
