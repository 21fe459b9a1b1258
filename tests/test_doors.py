"""Each outside thing has one door: no module opens text, JSON, a picture or a folder of pictures by itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from book.build.run_chapters import ROOT

DOORS = {  # what a door is for: the calls that pass it, and who keeps it
    "text and JSON": ({"open", "read_text", "read_bytes", "json.load", "json.loads"}, "data/files.py"),
    "a picture": ({"Image.open"}, "data/images.py"),
    "a folder of pictures": ({"walk", "scandir", "iterdir", "glob", "rglob"}, "data/pictures.py"),
    "whether features are numbers": ({"isfinite", "isnan"}, "data/arrays.py"),
}
OWN = {  # what is no outside thing, with the reason
    ("data/images.py", "open"): "the chunks of a PNG, for its size",
    ("data/pictures.py", "walk"): "the door itself",
    ("data/sources.py", "walk"): "pictures.walk is the door",
    ("data/store.py", "read_bytes"): "a store's own index",
    ("data/store.py", "open"): "a store's own index",
    ("data/store.py", "json.loads"): "a store's own index, line by line",
    ("data/store.py", "isfinite"): "which picture the door refused",
    ("data/storybook/writer.py", "iterdir"): "the folder that it writes",
    ("datasets/coco.py", "rglob"): "files of questions, which the door then opens",
    ("train/pretraining.py", "isnan"): "numbers of a training",
    ("train/loop.py", "isfinite"): "the loss of a training",
    ("scale/assign.py", "isfinite"): "distances, before the door is asked",
    ("foreign/convert.py", "isfinite"): "a norm that it divides by",
    ("files.py", "open"): "what was written, and fingerprints",
    ("files.py", "rglob"): "fingerprints",
    ("features.py", "iterdir"): "a package's own folder",
    ("engine/__init__.py", "read_bytes"): "graphs of its own cache",
    ("engine/__init__.py", "json.loads"): "graphs of its own cache",
    ("command/serve.py", "read_bytes"): "the page of the package",
    ("onednn.py", "read_text"): "what Linux says of the processor",
    ("checkpoints.py", "json.loads"): "a text inside safetensors",
    ("checkpoints.py", "isfinite"): "weights, named by key",
    ("config.py", "isfinite"): "a setting",
    ("evaluate/scenes.py", "isfinite"): "vectors of a judge",
    ("chapters/begin.py", "glob"): "where the notebooks are",
    ("folder.py", "glob"): "the shipped weights",
    ("origins.py", "json.loads"): "an origin inside its own arrays",
    ("origins.py", "rglob"): "the package's own sources",
    ("origins.py", "isfinite"): "marks of an origin, equal up to rounding",
    ("skills.py", "iterdir"): "whether a folder is empty",
    ("paintbox/canvas.py", "read_text"): "its own script and style",
    ("display/recipe.py", "json.loads"): "a text inside a PNG",
    ("command/serve.py", "json.loads"): "what the served page asks for",
    ("display/recipe.py", "Image.open"): "a PNG of the paint box, with its text",
}


def passing(source: str) -> Iterator[tuple[int, str]]:
    """(line, call) of every call that a door is for; what opens for writing is none."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        full = ast.unparse(node.func)
        short = full.rpartition(".")[2]
        modes = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        if full == "open" and any(set(mode) & set("wax+") for mode in modes):
            continue
        for calls, _ in DOORS.values():
            yield from ((node.lineno, name) for name in calls if full == name or short == name != "open")


def around(name: str, source: str) -> list[str]:
    """A sentence for each call of a file of the package that goes around a door."""
    found = []
    for line, call in passing(source):
        for thing, (calls, keeper) in DOORS.items():
            if call in calls and name != keeper and (name, call) not in OWN:
                found.append(f"xlxmert_core/{name}, line {line}, calls {call}(): {thing} goes through {keeper}.")
    return found


FILES = {path.relative_to(ROOT / "xlxmert_core").as_posix(): path for path in (ROOT / "xlxmert_core").rglob("*.py")}


@pytest.mark.parametrize("name", FILES)
def test_no_module_goes_around_a_door(name):
    assert around(name, FILES[name].read_text("utf-8")) == []


def test_every_exception_is_needed():
    used = {(name, call) for name, path in FILES.items() for _, call in passing(path.read_text("utf-8"))}
    assert OWN.keys() - used == set()
    assert all(Path(ROOT, "xlxmert_core", keeper).exists() for _, keeper in DOORS.values())


@pytest.mark.parametrize("source", [
    "open(path)", "open(path, 'rb')", "with open(path, encoding='utf-8') as file: pass", "path.read_text()",
    "Path(path).read_bytes()", "json.loads(text)", "Image.open(path)", "os.walk(folder)", "folder.rglob('*')",
    "np.isfinite(features).all()", "features.isfinite()",
])  # fmt: skip
def test_what_goes_around_a_door_is_a_sentence(source):
    [line] = around("data/mine.py", source)
    assert line.startswith("xlxmert_core/data/mine.py, line 1, calls") and "goes through data/" in line


def test_writing_and_the_doors_themselves_pass():
    assert around("data/mine.py", "open(path, 'wb')\nread_json(path)\nstudio.open(path)\nopen_image(path)") == []
