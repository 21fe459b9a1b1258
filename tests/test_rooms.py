"""The rooms of the module and who may enter which, read off the syntax trees; a broken rule is a sentence."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import xlxmert_core
from book.build.run_chapters import ROOT

ROOMS = {  # a room, "core" being the flat files: the rooms that it imports from besides itself, and the sentence
    "core": (
        {"data", "engine"},
        "the flat core is the paper: of the rooms it knows data/ and engine/, pipeline.py and skills.py a little more",
    ),
    "engine": ({"core"}, "engine/ runs the model: it knows the core alone"),
    "data": ({"files"}, "data/ reads files and nothing else: of the core it imports files.py only"),
    "foreign": ({"core"}, "foreign/ makes other people's weights ours: it knows the core alone"),
    "train": ({"core", "data"}, "train/ stands on the core and data/"),
    "evaluate": ({"core", "data"}, "evaluate/ stands on the core and data/, and judges what it did not train"),
    "datasets": (
        {"core", "data", "train", "evaluate", "display"},
        "datasets/ says what each data set gives: it stands on the core, data/, train/, evaluate/ and display/",
    ),
    "scale": ({"core", "data", "foreign", "train", "evaluate"}, "scale/ stands on all but paintbox/ and chapters/"),
    "display": ({"core", "engine"}, "display/ shows what was made: it knows the core and engine/"),
    "paintbox": ({"core", "data", "display"}, "paintbox/ stands on the core, data/ and display/"),
    "command": (
        {"core", "data", "display"},
        "command/ is what one types in a terminal: it stands on the core, data/ and display/",
    ),
    "chapters": (
        {"core", "data", "train", "evaluate", "datasets"},
        "chapters/ stands on the core, data/, train/, evaluate/ and datasets/",
    ),
}  # so nothing imports chapters/, paintbox/ or command/: only notebooks, tests and book/ do, and a terminal
EXTRA = {"xlxmert_core.pipeline": {"foreign", "display"}, "xlxmert_core.skills": {"display"}}
EXTRA |= {"xlxmert_core.__main__": {"command"}}
SENTENCE = "only the core and train/ know torch.distributed"


def name_of(path: Path) -> str:
    """The dotted name of a file of ours."""
    return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")


FILES = {name_of(path): path for folder in ("xlxmert_core", "book") for path in (ROOT / folder).rglob("*.py")}
KNOWN = {*FILES, "torch.distributed"}


def imported(source: str) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, at the top of the file or inside a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute, so that a rule can be read off them."
            inner = [f"{node.module}.{name.name}" for name in node.names]
            yield from ((node.lineno, name if name in KNOWN else node.module) for name in inner)


def room(module: str) -> str:
    """The room of one of our modules; files.py, which every room may use, is named itself."""
    part = module.split(".")[1] if "." in module else "core"
    return part if part in ROOMS or part == "files" else "core"


def broken(module: str, source: str) -> list[str]:
    """What a module of the package does against the rules, a sentence each."""
    own, place = room(module), module.replace(".", "/")
    may, why = ROOMS["core" if own == "files" else own]
    may = may | {own} | EXTRA.get(module, set()) | ({"files"} if own == "core" or "core" in may else set())
    found = []
    for line, name in imported(source):
        if name.split(".")[0] == "xlxmert_core" and room(name) not in may:
            found.append(f"{place}.py, line {line}, imports {name}: {why}.")
        if name.startswith("torch.distributed") and own not in ("core", "train"):
            found.append(f"{place}.py, line {line}, imports {name}: {SENTENCE}.")
    return found


def private(module: str, source: str) -> list[str]:
    """Names that a module takes from another although they are private there, or passes on as its own."""
    found, tree = [], ast.parse(source)
    for node in ast.walk(tree):
        ours = isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("xlxmert_core", "book")
        for name in node.names if ours else ():
            if name.name.startswith("_"):
                found.append(f"{module}, line {node.lineno}, imports {name.name}, which is private to {node.module}.")
            elif name.name == name.asname:
                found.append(f"{module}, line {node.lineno}, passes on {name.name}: import it from {node.module}.")
    return found


def test_every_module_keeps_to_the_rules():
    package = {name: path.read_text("utf-8") for name, path in FILES.items() if name.startswith("xlxmert_core.")}
    assert {room(name) for name in package} == {*ROOMS, "files"}
    assert [line for name, source in package.items() for line in broken(name, source)] == []


def test_private_names_stay_at_home():
    assert [line for name, path in FILES.items() for line in private(name, path.read_text("utf-8"))] == []
    said = private("book.x", "import torch as torch\nfrom xlxmert_core.text import _a, b as b, c as d")
    assert said == [
        "book.x, line 2, imports _a, which is private to xlxmert_core.text.",
        "book.x, line 2, passes on b: import it from xlxmert_core.text.",
    ]


def test_no_import_goes_round_in_a_circle():
    graph = {
        name: {module for _, module in imported(path.read_text("utf-8")) if module in FILES} - {name}
        for name, path in FILES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"These import each other in a circle: {' <- '.join(error.args[1])}.")


@pytest.mark.parametrize(("module", "source", "said"), [
    ("xlxmert_core.data.coco", "import os\nfrom xlxmert_core.model import XLxmert",
     "xlxmert_core/data/coco.py, line 2, imports xlxmert_core.model: data/ reads files and nothing else"),
    ("xlxmert_core.skills", "def tune():\n    from xlxmert_core.train import loop",
     "xlxmert_core/skills.py, line 2, imports xlxmert_core.train.loop: the flat core is the paper"),
    ("xlxmert_core.model", "from xlxmert_core.foreign import names", "line 1, imports xlxmert_core.foreign.names:"),
    ("xlxmert_core.train.loop", "from xlxmert_core.chapters import artifacts", "train/ stands on the core and data/."),
    ("xlxmert_core.train.recipes", "from xlxmert_core.datasets import DataSet", "train/ stands on the core and data/."),
    ("xlxmert_core.paintbox.studio", "import xlxmert_core.scale.workers",
     "paintbox/ stands on the core, data/ and display/."),
    ("xlxmert_core.scale.pretrain", "from torch.distributed.checkpoint import state_dict", f": {SENTENCE}."),
    ("xlxmert_core.evaluate.scores", "from torch import distributed", f": {SENTENCE}."),
])  # fmt: skip
def test_a_broken_rule_is_a_sentence_that_names_the_line(module, source, said):
    [line] = broken(module, source)
    assert said in line


@pytest.mark.parametrize(("module", "source"), [
    ("xlxmert_core.pipeline", "from xlxmert_core.foreign import authors\nfrom xlxmert_core.data import images"),
    ("xlxmert_core.data.flickr8k", "from xlxmert_core.files import write_json"),
    ("xlxmert_core.train.loop", "import torch.distributed as dist\nfrom xlxmert_core.files import replacing"),
])  # fmt: skip
def test_what_the_rules_allow_passes(module, source):
    assert broken(module, source) == []


@pytest.mark.parametrize("name", xlxmert_core.LAZY)
def test_names_of_other_rooms_are_there_when_asked_for(name):
    assert getattr(xlxmert_core, name) is not None and name in xlxmert_core.__all__


def test_a_name_that_is_not_there_is_refused_as_by_any_module():
    with pytest.raises(AttributeError, match="no attribute 'paints'"):
        _ = xlxmert_core.paints


def test_the_flat_core_stays_thin_and_nothing_grows_long():
    core = [path.read_text("utf-8").count("\n") for path in (ROOT / "xlxmert_core").glob("*.py")]
    assert len(core) <= 20 and sum(core) <= 3600, "what is not the paper goes into a room"
    long = {str(path.relative_to(ROOT)) for path in FILES.values() if path.read_text("utf-8").count("\n") > 350}
    assert not long, "a file of more than 350 lines is two"
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [(name, node) for name, path in FILES.items() for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    sizes = {f"{name}.{n.name}": n.end_lineno - n.lineno + 1 for name, n in nodes if isinstance(n, kinds)}
    assert not {name: size for name, size in sizes.items() if size > 60}, "a function of more than 60 lines is two"
