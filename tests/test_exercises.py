"""Every solution of an exercise is code that runs after its chapter, with all that the chapter has made."""

import ast
import re
import shutil
from functools import cache
from textwrap import dedent

import nbformat
import pytest

from book.build.lanes import execute_all
from book.build.run_chapters import ROOT, Result, Run, chapters

FENCED = re.compile(r"(?ms)^( *)```python\n(.*?)^\1```$")
COLUMN = 92  # characters that the page shows in a line
DAY = tuple(name for name in chapters() if name[:2] in ("01", "04", "13"))  # seconds, and they need no other chapter


def solutions(prose: str) -> list[list[str]]:
    """The blocks of Python of each numbered solution in a chapter's prose."""
    solved = prose.partition("\n## Exercises\n")[2].partition("\n## ")[0].partition(":::{dropdown} Solution")[2]
    parts = re.split(r"(?m)^\d+\. ", solved)[1:]
    return [[dedent(code) for _, code in FENCED.findall(part)] for part in parts]


def prose(notebook: nbformat.NotebookNode) -> str:
    """All text of a chapter."""
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def opened(chapter: str) -> nbformat.NotebookNode:
    """A committed chapter."""
    return nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", as_version=4)


def with_solutions(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The chapter with its solutions as its last cells."""
    blocks = [code for solution in solutions(prose(notebook)) for code in solution]
    notebook.cells += [nbformat.v4.new_code_cell(code) for code in blocks]
    return notebook


@cache
def executed(names: tuple[str, ...]) -> dict:
    """What became of these chapters and their solutions, from empty artifacts; training takes two steps."""
    work = ROOT / "_build" / f"test_exercises_{len(names)}"
    shutil.rmtree(work, ignore_errors=True)
    run = Run(notebooks=work / "notebooks", work=work, artifacts=work / "artifacts", profile="smoke")
    run.notebooks.mkdir(parents=True)
    for name in names:
        nbformat.write(with_solutions(opened(name)), run.notebooks / f"{name}.ipynb")
    return execute_all(run, list(names), keep_going=True)


@pytest.mark.parametrize("chapter", chapters())
def test_every_solution_is_code(chapter):
    found = solutions(prose(opened(chapter)))
    assert found and all(found)
    for code in (code for solution in found for code in solution):
        ast.parse(code)
        assert max(map(len, code.splitlines())) <= COLUMN


@pytest.mark.slow
@pytest.mark.parametrize("chapter", DAY)
def test_solutions_run(chapter):
    assert isinstance(executed(DAY)[chapter], Result), executed(DAY)[chapter]


@pytest.mark.nightly
@pytest.mark.parametrize("chapter", [name for name in chapters() if name not in DAY])
def test_solutions_run_by_night(chapter):
    outcome = executed(tuple(chapters()))[chapter]
    assert isinstance(outcome, Result), outcome


TEXT = """# 99

## Exercises

1. First?
2. Second?

:::{dropdown} Solutions
1. In words, then

   ```python
   for i in range(2):
       print(i)
   ```

   and once more

   ```python
   x = 1
   ```
2. Only words, `y = 2`.
:::

## Summary

```python
never = 1
```
"""


def test_solutions_are_found_by_their_number_and_lose_their_indent():
    assert solutions(TEXT) == [["for i in range(2):\n    print(i)\n", "x = 1\n"], []]


def test_solutions_become_the_last_cells():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(TEXT), nbformat.v4.new_code_cell("0")])
    assert [cell.source for cell in with_solutions(notebook).cells[1:]] == ["0", "for i in range(2):\n    print(i)\n",
                                                                            "x = 1\n"]  # fmt: skip
