"""Which folder a name means, and damaged model folders: each is one sentence that names the file."""

import json
import shutil
import string
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny import tiny_painter

import xlxmert_core
from xlxmert_core import checkpoints
from xlxmert_core import folder as module
from xlxmert_core.folder import find_folder, shipped_names
from xlxmert_core.skills import Skill


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A saved pipeline with a skill."""
    painter = tiny_painter()
    painter.skills["vqa"] = Skill(tiny_painter(1).model, painter.tokenizer, ["yes", "no"])
    painter.save(tmp_path_factory.mktemp("models") / "whole")
    return tmp_path_factory.getbasetemp() / "models0" / "whole"


@pytest.fixture
def saved(whole, tmp_path):
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "saved"))


# --- Names. ------------------------------------------------------------------------------------------


@pytest.fixture
def here(whole, tmp_path, monkeypatch):
    """A working folder whose folder "storybook" holds a model that is not the shipped one."""
    shutil.copytree(whole, tmp_path / "storybook")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_that_holds_a_model_goes_before_shipped_weights_and_that_is_said(here):
    with pytest.warns(UserWarning, match="'storybook' is a folder here and shipped weights: the folder was") as said:
        assert xlxmert_core.load("storybook").model.config.hidden == 24
    assert [warning.filename for warning in said if issubclass(warning.category, UserWarning)] == [__file__]


@pytest.mark.parametrize("name", ["./storybook", Path("storybook"), "storybook/", "../{here}/storybook"], ids=repr)
def test_a_path_is_a_folder_without_a_word(here, name):
    name = name.format(here=here.name) if isinstance(name, str) else name
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert xlxmert_core.load(name).model.config.hidden == 24


def test_the_folder_that_one_is_in_opens(here, monkeypatch):
    monkeypatch.chdir(here / "storybook")
    for name in (".", "./", Path(), "../storybook"):
        assert xlxmert_core.load(name).model.config.hidden == 24


def test_a_folder_of_the_users_home_opens(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    assert xlxmert_core.load("~/storybook").model.config.hidden == 24
    painter = xlxmert_core.load(Path("~/storybook"))
    painter.save("~/again")
    assert (here / "again" / "config.json").is_file() and not Path("~").exists()


@pytest.mark.parametrize("content", [(), ("readme.txt",), ("transformer.safetensors",)], ids=str)
def test_any_other_folder_does_not(tmp_path, monkeypatch, content):
    (tmp_path / "storybook").mkdir()
    for name in content:
        (tmp_path / "storybook" / name).touch()
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert find_folder("storybook") == module.SHIPPED / "storybook"
    half = ["The folder 'storybook' has no config.json: the shipped weights of that name were opened."]
    assert [str(warning.message) for warning in said] == (half if "transformer.safetensors" in content else [])


@pytest.mark.parametrize("name", ["photographs", ".", "..", "./storybook", "/", "storybook/vqa", Path("storybook")])
def test_what_is_no_model_is_not_there_and_the_shipped_names_are_told(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match="is not a saved pipeline: it has no .*shipped weights are .*'storybook'"
    ):
        xlxmert_core.load(name)
    assert "storybook" in shipped_names() and "photographs" not in shipped_names()


@pytest.mark.parametrize("name", ["", None, 5, [], b""], ids=repr)
def test_what_is_no_name_is_one_sentence(name):
    with pytest.raises(ValueError, match="takes a folder, a file or a shipped name such as 'storybook', not"):
        xlxmert_core.load(name)


# --- Damage. -----------------------------------------------------------------------------------------


def opened(folder) -> str:
    """What is said of a folder; "" when it opens. Anything but one sentence is raised."""
    try:
        xlxmert_core.load(folder)
    except (ValueError, OSError) as error:
        assert "\n" not in str(error) and str(folder) in str(error), error
        return str(error)
    return ""


def put(path: Path, change) -> None:
    """Write a JSON file anew after a change."""
    value = json.loads(path.read_text())
    path.write_text(json.dumps(change(value) or value))


@pytest.mark.parametrize("skill", ["", "vqa"])
@pytest.mark.parametrize(("change", "said"), [
    (lambda c: c.pop("model") and None, "lacks model"),
    (lambda c: c.pop("answers") and None, "lacks answers"),
    (lambda c: c["model"].pop("heads") and None, "lacks model.heads"),
    (lambda c: c.update(later=1), "has later, which this version of xlxmert_core does not know: open it with"),
    (lambda c: c["model"].update(later=1), "has model.later, which this version"),
    (lambda c: c.update(model=None), "no object 'model'"),
    (lambda c: c.update(model=[1]), "no object 'model'"),
    (lambda c: c.update(answers="yes"), "has answers that are no list of texts"),
    (lambda c: c.update(answers=[1, 2]), "has answers that are no list of texts"),
    (lambda c: c.update(answers=["a"] * 9), "has 9 answers, its model 3"),
    (lambda c: c["model"].update(hidden="24"), "model.hidden = '24', which is no size"),
    (lambda c: c["model"].update(hidden=-3), "model.hidden = -3, which is no size"),
    (lambda c: c["model"].update(hidden=1e99), "which is no size"),
    (lambda c: c["model"].update(hidden=None), "which is no size"),
    (lambda c: c["model"].update(grid=30_000), "model.grid = 30000, which is no size"),  # 22 GB of boxes
    (lambda c: c["model"].update(heads=0), "config.json describes no model"),
    (lambda c: c["model"].update(heads=5), "heads=5 does not divide"),
    (lambda c: c["model"].update(dropout=7), "describes nothing that can be made"),
    (lambda c: c["model"].update(language_layers=10**6), "more than 1000 layers"),
    (lambda c: c["model"].update(hidden=3 * 2**20), "wrong shape"),
    (lambda c: c["model"].update(vocab_size=99), "wrong shape"),
    (lambda c: [c], "is no JSON object"),
])  # fmt: skip
def test_a_config_that_is_wrong_is_named(saved, change, said, skill):
    put(saved / skill / "config.json", change)
    assert said in opened(saved)


@pytest.mark.parametrize(("change", "said"), [
    (lambda c: c["generator"].update(channels=[8, 0]), "generator.channels = [8, 0], which is no size"),
    (lambda c: c["generator"].update(channels=[]), "which is no size"),
    (lambda c: c["generator"].update(grid=8), "a generator that does not fit its model"),
    (lambda c: c["generator"].pop("groups") and None, "lacks generator.groups"),
    (lambda c: c.update(generator=3), "no object 'generator'"),
    (lambda c: c.update(generator=None, encoder=7), "describes nothing that can be made"),
    (lambda c: c["encoder"].update(later=1), "describes nothing that can be made"),
    (lambda c: c["encoder"].update(labels=3), "describes nothing that can be made"),
    (lambda c: c["encoder"].update(feature_dim=11), "wrong shape"),
])  # fmt: skip
def test_parts_that_are_wrong_are_named(saved, change, said):
    put(saved / "config.json", change)
    assert said in opened(saved)


@pytest.mark.parametrize("content", ["", "{", '{"model": ', "[]", "null", "3", '"text"', "\x00", "{} {}"], ids=repr)
@pytest.mark.parametrize("name", ["config.json", "vqa/config.json", "tokenizer.json", "vqa/tokenizer.json"])
def test_a_json_file_that_is_cut_or_another_is_one_sentence(saved, name, content):
    (saved / name).write_text(content)
    assert Path(name).name in opened(saved)


def test_a_bom_in_front_of_a_config_is_passed_over(saved):
    path = saved / "config.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert opened(saved) == ""


PARTS = ["config.json", "tokenizer.json", "transformer.safetensors", "generator.safetensors"]
WEIGHTS = ["transformer.safetensors", "generator.safetensors", "encoder.safetensors", "vqa/model.safetensors"]


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("left", [0, 7, 8, 100, 0.5, 0.99, -1])
def test_weights_that_are_cut_are_one_sentence(saved, name, left):
    data = (saved / name).read_bytes()
    (saved / name).write_bytes(data[: int(left * len(data)) if isinstance(left, float) else left])
    assert f"{Path(name).name} is not a file of plain weights" in opened(saved)


@pytest.mark.parametrize("one", WEIGHTS)
@pytest.mark.parametrize("other", WEIGHTS)
def test_weights_that_are_swapped_are_one_sentence(saved, one, other):
    same = one == other or (one, other) == (WEIGHTS[3], WEIGHTS[0])  # a skill may hold what it need not
    shutil.copy(saved / other, saved / f"{one}.new")
    (saved / f"{one}.new").replace(saved / one)
    assert ("" if same else "do not fit") in opened(saved) and (opened(saved) == "") == same


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize(("change", "said"), [
    (lambda v: v.to(torch.int64), "wrong type: "),
    (lambda v: v.to(torch.complex64), "wrong type: "),
    (lambda v: v.flatten()[:1], "wrong shape: "),
    (lambda v: torch.full_like(v, float("nan")), "NaN or infinite: "),
    (lambda v: torch.full_like(v, float("inf")), "NaN or infinite: "),
    (lambda v: None, "missing: "),
])  # fmt: skip
def test_weights_that_are_mistyped_missing_or_not_finite_are_named(saved, name, change, said):
    state = load_file(saved / name)
    key = next(k for k, v in state.items() if v.is_floating_point() and v.numel() > 1)
    changed = {k: change(v) if k == key else v for k, v in state.items()}
    save_file({k: v.contiguous() for k, v in changed.items() if v is not None}, saved / name)
    assert f"{said}{key}" in opened(saved)


def test_a_skill_beside_another_transformer_is_refused_and_alone_too(saved):
    left = [name for name, value in load_file(saved / WEIGHTS[3]).items() if not value.numel()]
    assert "pooler.bias" in left and "pooler.weight" not in left  # zeros here and there, and others
    model = xlxmert_core.load(saved).model
    with torch.no_grad():
        model.pooler.bias += 1
    checkpoints.save(model, saved / WEIGHTS[0])
    said = f"vqa/config.json belongs to another transformer.safetensors than is in {saved}: save the model again."
    assert said in opened(saved)
    (saved / WEIGHTS[0]).unlink()
    with pytest.raises(ValueError, match="vqa/config.json belongs to another transformer.safetensors"):
        Skill.load(saved / "vqa")


@pytest.mark.parametrize("base", [3, [], {}, True, "", "0" * 16], ids=repr)
def test_a_skills_mark_that_is_none_is_one_sentence(saved, base):
    put(saved / "vqa" / "config.json", lambda c: c.update(base=base))
    assert "belongs to another transformer.safetensors" in opened(saved)


def test_what_is_left_out_is_missing_without_a_mark(saved):
    put(saved / "vqa" / "config.json", lambda c: c.pop("base") and None)
    assert "vqa/model.safetensors do not fit XLxmert (wrong shape: " in opened(saved)


def test_a_weight_too_much_is_named(saved):
    path = saved / WEIGHTS[1]
    save_file(load_file(path) | {"stranger": torch.zeros(2)}, path)
    assert "unexpected: stranger" in opened(saved)


def test_another_models_words_are_refused(saved):
    xlxmert_core.load("storybook").tokenizer.save(saved / "tokenizer.json")
    assert "tokenizer.json has " in opened(saved) and "words, but its model" in opened(saved)


def test_a_file_that_is_gone_is_named(saved):
    for name in ("tokenizer.json", "encoder.safetensors", "config.json"):
        (saved / name).unlink()
        assert f"{name}" in opened(saved) and "is not a saved pipeline: it has no" in opened(saved)


@pytest.mark.parametrize(("part", "name"), [
    ("model", "neighbours"), ("model", "single_layers"), ("generator", "squash"),
])  # fmt: skip
def test_a_folder_saved_before_there_was_a_setting_opens(saved, part, name):
    put(saved / "config.json", lambda c: c[part].pop(name) and None)
    assert opened(saved) == ""
    found = xlxmert_core.load(saved)
    assert not (found.model.config.neighbours or found.model.config.single_layers)
    assert found.generator.config.squash  # as all were then


def test_a_folder_of_another_library_is_refused(saved):
    put(saved / "config.json", lambda c: {"model_type": "lxmert", "hidden_size": 768})
    assert "config.json lacks model" in opened(saved)


# --- Any damage at all. ------------------------------------------------------------------------------

NAMES = st.text(string.ascii_letters, max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats() | st.text(string.printable, max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=6,
)
EXAMPLES = pytest.mark.parametrize("examples", [60, pytest.param(3_000, marks=pytest.mark.nightly)])


def leaves(value, path=()):
    """The places of everything in a JSON value."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from leaves(value[key], (*path, key))


def replaced(value, path, new):
    """A JSON value with another one at a place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A folder whose parts are links to whole ones, so that one at a time is damaged; without an eye, which is slow."""
    folder, whole = tmp_path_factory.mktemp("scratch"), tmp_path_factory.mktemp("light")
    painter = tiny_painter(encoder=False)
    painter.save(whole)
    checkpoints.save(painter.model, whole / WEIGHTS[0], bits=8)
    for part in PARTS:
        (folder / part).symlink_to(whole / part)
    return folder


def damaged(scratch: Path, name: str, content: bytes) -> str:
    """What is said of the folder with this content in one of its files."""
    path = scratch / name
    target = path.readlink()
    path.unlink()
    try:
        path.write_bytes(content)
        return opened(scratch)
    finally:
        path.unlink()
        path.symlink_to(target)


def try_all(examples: int, strategy: st.SearchStrategy, check) -> None:
    """Check so many examples, the same ones in every run of the quick tests."""
    options = dict(max_examples=examples, deadline=None, database=None, derandomize=examples == 60)
    settings(**options, suppress_health_check=list(HealthCheck))(given(strategy)(check))()


@EXAMPLES
def test_any_value_anywhere_in_a_config_opens_or_is_one_sentence(scratch, examples):
    config = json.loads((scratch / "config.json").read_text())
    changed = st.builds(lambda place, value: replaced(config, place, value), st.sampled_from([*leaves(config)]), JSON)
    said = set()
    try_all(examples, changed, lambda value: said.add(damaged(scratch, "config.json", json.dumps(value).encode())))
    assert len(said) > 10, "the examples are damaged in many ways"


@EXAMPLES
@pytest.mark.parametrize("name", PARTS)
def test_any_bytes_in_any_file_open_or_are_one_sentence(scratch, name, examples):
    data, share = (scratch / name).read_bytes(), examples // len(PARTS)
    head = min(len(data), 4000)  # where a header is, if there is one

    def cut(start: int, length: int, new: bytes, goes_on: bool) -> bytes:
        return data[:start] + new + (data[start + length :] if goes_on else b"")

    pieces = st.builds(cut, st.integers(0, head), st.integers(0, 50), st.binary(max_size=20), st.booleans())
    said = set()
    try_all(share, pieces, lambda content: said.add(damaged(scratch, name, content)))
    assert said - {""}, "some of them are refused"
