"""The reference of the module, made from its docstrings: a page a room, with every public name.

Only the source is read, nothing is imported. A name's label is its own: ``[](xlxmert_core.sampling.fill)`` leads to it
from any page.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from inspect import cleandoc
from pathlib import Path

from book.build.run_chapters import ROOT

CODE = ROOT / "xlxmert_core"
ROLE = re.compile(r":[a-z]+:`~?\.?([^`]+)`")
SPANS = re.compile(r"(``[^`]*``|`[^`]*`)")
SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Yields")
INTRO = """# Reference

Every public name of `xlxmert_core`, a page a room, made from the docstrings when the book is built. Axes are those of
[](../notation.md). Begin with [](xlxmert_core.pipeline.Pipeline).
"""
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def rooms() -> dict[str, list[Path]]:
    """Room -> its files; "core" are the flat ones."""
    found: dict[str, list[Path]] = {"core": sorted(CODE.glob("[!_]*.py"))}
    for path in sorted(CODE.rglob("*.py")):
        inner = path.relative_to(CODE).parts
        if len(inner) > 1:
            found.setdefault(inner[0], []).append(path)
    return found


def dotted(path: Path) -> str:
    """The name of a module."""
    return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")


def public(body: list[ast.stmt]) -> Iterator[Definition]:
    """The classes and functions of a module or a class that are not private."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node


def names() -> list[str]:
    """Every public name, in the order of the pages: classes, functions and methods."""
    found = []
    for path in (path for files in rooms().values() for path in files):
        for node in public(ast.parse(path.read_text("utf-8")).body):
            found.append(f"{dotted(path)}.{node.name}")
            if isinstance(node, ast.ClassDef):
                found += [f"{dotted(path)}.{node.name}.{inner.name}" for inner in public(node.body)]
    return found


def escaped(text: str) -> str:
    """A piece of a docstring as Markdown: roles and literals become code, all other signs stand for themselves."""
    text = ROLE.sub(r"``\1``", text)
    parts = SPANS.split(text)
    return "".join(
        f"`{part.strip('`')}`" if i % 2 and part.strip("`") else re.sub(r"([\\*_{}\[\]<>$#|`])", r"\\\1", part)
        for i, part in enumerate(parts)
    )


def prose(docstring: str) -> str:
    """A docstring as Markdown: its sections ("Args:") become lists, examples become code."""
    lines, section = [], False
    for line in cleandoc(docstring).splitlines():
        if line.removesuffix(":") in SECTIONS and line.endswith(":"):
            lines, section = [*lines, "", f"**{line}**", ""], True
        elif line.startswith(">>> "):
            after = bool(lines) and lines[-1].lstrip("\n").startswith("    >>>")
            lines.append(f"    {line}" if after else f"\n    {line}")
        elif section and (item := re.match(r"    ([\w, *]+): (.*)", line)):
            lines.append(f"- `{item[1]}`: {escaped(item[2])}")
        elif section and line.startswith(" "):
            lines.append(f"  {escaped(line.strip())}")
        else:
            section = section and not line.strip()
            lines.append(escaped(line))
    return "\n".join(lines).strip()


def call(node: Definition, owner: str = "") -> str:
    """How a thing is called: ``fill(predict, values, ...)``; a class with what it is made of."""
    if not isinstance(node, ast.ClassDef):
        inside = ast.unparse(node.args)
        inside = re.sub(r"^(self|cls)(, )?", "", inside) if owner else inside
        plain = any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list)
        result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"{owner}{node.name}{'' if plain else f'({inside})'}{result}"
    init = next((f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None)
    if init is not None:
        return f"class {node.name}({re.sub(r'^self(, )?', '', ast.unparse(init.args))})"
    fields = [ast.unparse(field) for field in node.body if isinstance(field, ast.AnnAssign)]
    return f"class {node.name}({', '.join(fields)})"


@cache
def twice() -> set[str]:
    """Names that only capitals tell apart, in small letters: Sphinx's labels know no capitals."""
    return {name for name, count in Counter(name.lower() for name in names()).items() if count > 1}


def label(name: str) -> str:
    """What leads to a name: the name itself, but for a function called like a class."""
    plain = name.rpartition(".")[2].islower()
    return f"{name}-function" if plain and name.lower() in twice() else name


def entry(node: Definition, module: str, owner: str = "") -> list[str]:
    """One thing's part of a page, its methods after it."""
    lines = [
        f"({label(f'{module}.{owner}{node.name}')})=",
        f"{'####' if owner else '###'} {escaped(owner + node.name)}",
        "",
    ]
    lines += ["```python", call(node, owner), "```", "", prose(ast.get_docstring(node) or ""), ""]
    if isinstance(node, ast.ClassDef):
        lines += [line for inner in public(node.body) for line in entry(inner, module, f"{node.name}.")]
    return lines


def page(room: str, files: list[Path]) -> str:
    """A room's page."""
    lines = [f"# {'The core' if room == 'core' else f'{room}/'}", ""]
    for path in files:
        tree, module = ast.parse(path.read_text("utf-8")), dotted(path)
        about = prose(ast.get_docstring(tree) or "")
        if path.name == "__init__.py":
            lines += [about, ""]
        definitions = list(public(tree.body))
        if definitions:
            lines += [f"({module})=", f"## {escaped(module)}", "", "" if path.name == "__init__.py" else about, ""]
            lines += [line for node in definitions for line in entry(node, module)]
    return "\n".join(lines) + "\n"


def write(folder: Path) -> list[str]:
    """Write index.md and a page a room into a folder; returns the names of the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.md").write_text(INTRO, "utf-8")
    for room, files in rooms().items():
        (folder / f"{room}.md").write_text(page(room, files), "utf-8")
    return ["index", *rooms()]
