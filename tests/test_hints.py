"""Every public function says by its hints what it takes and gives; ``make test`` has them checked by ty."""

import ast
from collections.abc import Iterator

import pytest

from book.build.run_chapters import ROOT

FILES = [path for folder in ("xlxmert_core", "book") for path in sorted((ROOT / folder).rglob("*.py"))]


def public(body: list[ast.stmt], inside: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """(name, function) of the public functions, methods and constructors of a module."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public(node.body, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef) and (node.name == "__init__" or not node.name.startswith("_")):
            yield inside + node.name, node


def silent(source: str) -> list[str]:
    """What the hints of a module leave open, a sentence each; the values of ``*args`` and ``**options`` may stay so."""
    found = []
    for name, node in public(ast.parse(source).body):
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        bare = [arg.arg for arg in given if arg.annotation is None and arg.arg not in ("self", "cls")]
        if bare:
            found.append(f"line {node.lineno}: {name}() does not say what it takes as {', '.join(bare)}.")
        if node.returns is None and node.name != "__init__":
            found.append(f"line {node.lineno}: {name}() does not say what it returns.")
    return found


def test_public_functions_say_what_they_take_and_give():
    assert [f"{path.relative_to(ROOT)}, {line}" for path in FILES for line in silent(path.read_text("utf-8"))] == []


@pytest.mark.parametrize(("source", "said"), [
    ("def f(x) -> int: ...", ["line 1: f() does not say what it takes as x."]),
    ("def f(x: int, *, y) -> int: ...", ["line 1: f() does not say what it takes as y."]),
    ("def f(x: int): ...", ["line 1: f() does not say what it returns."]),
    ("class A:\n    def __init__(self, x): ...", ["line 2: A.__init__() does not say what it takes as x."]),
    ("class A:\n    def f(self, **more) -> int: ...\n    def _g(x): ...", []),
])  # fmt: skip
def test_what_a_function_leaves_open_is_a_sentence(source, said):
    assert silent(source) == said
