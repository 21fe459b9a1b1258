"""No chapter asks which data set or profile it runs on: the objects that ``begin`` gives answer for themselves."""

import ast
from collections.abc import Iterator

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from book.build.run_chapters import ROOT, Run, chapters, check_parameters

WHAT = {ast.If: "an if", ast.IfExp: "a conditional expression", ast.While: "a while", ast.Match: "a match",
        ast.comprehension: "a comprehension's if", ast.BoolOp: "an and or or", ast.Compare: "a comparison",
        ast.Subscript: "a table lookup", ast.Call: "a table lookup"}  # fmt: skip


def asked(node: ast.AST) -> list[ast.AST]:
    """The parts of a node that decide what happens."""
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        return [node.test]
    if isinstance(node, ast.Match):
        return [node.subject]
    if isinstance(node, ast.comprehension):
        return node.ifs
    if isinstance(node, ast.Subscript):
        return [] if isinstance(node.slice, ast.Slice | ast.Tuple) else [node.slice]
    if isinstance(node, ast.Call):
        return node.args[:1] if isinstance(node.func, ast.Attribute) and node.func.attr == "get" else []
    return [node] if isinstance(node, ast.BoolOp | ast.Compare) else []


def depends(node: ast.AST) -> bool:
    """Whether an expression looks at the data set or at the budgets."""
    return any(isinstance(part, ast.Name) and part.id in ("run", "data") for part in ast.walk(node))


def named(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of every place that names the data set or the profile; ``begin`` may be given the names."""
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "begin"]
    allowed = {argument for call in calls for argument in call.args}
    quoted = {part for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for part in ast.walk(n)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in ("dataset", "profile") and node not in allowed:
            yield node.lineno, f"names {node.id!r}, which only begin() may be given"
        if isinstance(node, ast.Attribute) and node.attr in ("dataset", "profile"):
            yield node.lineno, f"names .{node.attr}, which only begin() may know"
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "data.name" and node not in quoted:
            yield node.lineno, "names data.name outside a file's name"


def branches(chapter: str, number: int, source: str) -> list[str]:
    """A sentence for every branch of a cell on the data set or the profile."""
    tree = ast.parse(TransformerManager().transform_cell(source))
    found = set(named(tree))
    for node in ast.walk(tree):
        if any(map(depends, asked(node))):
            line = min(part.lineno for part in asked(node))
            found.add((line, f"decides by {WHAT[type(node)]} on the data set or the budgets"))
    return [f"{chapter}, cell {number}, line {line}, {what}: let the data set or the profile answer."
            for line, what in sorted(found)]  # fmt: skip


def cells(chapter: str) -> list[tuple[int, str]]:
    """(number, source) of the code cells but for the one of the parameters."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", as_version=4)
    code = [(i, c) for i, c in enumerate(notebook.cells) if c.cell_type == "code"]
    return [(i, c.source) for i, c in code if "parameters" not in c.metadata.get("tags", [])]


@pytest.mark.parametrize("chapter", chapters())
def test_no_chapter_branches_on_the_data_set_or_the_profile(chapter):
    assert [line for number, source in cells(chapter) for line in branches(chapter, number, source)] == []


def test_every_chapter_begins_alike():
    for chapter in chapters():
        assert check_parameters(ROOT / "notebooks" / f"{chapter}.ipynb", Run().parameters()) == {}, chapter
        assert any("begin(profile, dataset, seed, artifacts" in source for _, source in cells(chapter)), chapter


@pytest.mark.parametrize("chapter", chapters())
def test_what_is_no_lesson_is_folded(chapter):
    """The parameters, the set-up and the record: one line each in the page until a reader opens them."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    plumbing = [cell for cell in code if "begin(profile" in cell.source or "files.record(" in cell.source]
    plumbing += [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert len(plumbing) == 3
    assert [cell.source for cell in plumbing if "hide-input" not in cell.metadata.get("tags", [])] == []


@pytest.mark.parametrize(("source", "what"), [
    ('x = 1\nif dataset == "coco":\n    x = 2', "line 2, names 'dataset'"),
    ('making = profile == "train"', "line 1, names 'profile'"),
    ("%matplotlib inline\nx = 1 if data.language.relations else 2", "line 2, decides by a conditional expression"),
    ("if run.critic_steps:\n    pass", "decides by an if"),
    ("[t for t in tasks if t in data.tests]", "decides by a comprehension's if"),
    ("found = run.codes and 3", "decides by an and or or"),
    ("long = run.train > 10000", "decides by a comparison"),
    ("{'coco': 1}[data.name]", "decides by a table lookup"),
    ("{'coco': 1}.get(data.name)", "decides by a table lookup"),
    ("match data:\n    case _:\n        pass", "decides by a match"),
    ("kind = data.name", "names data.name outside"),
    ("if files.profile:\n    pass", "names .profile"),
])  # fmt: skip
def test_a_branch_is_a_sentence_that_names_notebook_cell_and_line(source, what):
    lines = branches("05_b", 7, source)
    assert lines and lines[0].startswith("05_b, cell 7, line ") and any(what in line for line in lines)


@pytest.mark.parametrize("source", [
    "run, data, files = begin(profile, dataset, seed, artifacts)",
    "few = test.images[: run.captioned]",
    "for name in data.tests:\n    if name in found:\n        found[name] = data.split(name, run.train)",
    'submit(files.path(f"captions_{data.name}.json"))',
])  # fmt: skip
def test_what_asks_for_no_difference_passes(source):
    assert branches("05_b", 7, source) == []
