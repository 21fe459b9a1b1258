"""The exported graphs say what the PyTorch model says: the same codes, pixels and answers."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tiny import tiny_painter

import xlxmert_core
from book.build.export_onnx import EXAMPLES, Pixels, halved
from book.build.run_chapters import ROOT
from xlxmert_core import sampling
from xlxmert_core.data import storybook
from xlxmert_core.engine.graphs import Picture

slow = pytest.mark.slow


@pytest.fixture(scope="module")
def painter():
    return xlxmert_core.load("storybook")


@pytest.fixture(scope="module")
def graphs(exported):
    """Each graph as a function: numpy arrays by name -> its outputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {path.stem: onnxruntime.InferenceSession(path, options) for path in exported.glob("*.onnx")}
    return {name: lambda run=session.run, **inputs: run(None, inputs) for name, session in sessions.items()}


@pytest.fixture(scope="module", params=[25, pytest.param(100, marks=pytest.mark.nightly)])
def scenes(request):
    """Scenes that no training has seen, each with a sentence and a question about it."""
    held_out = storybook.sample_splits({"train": 0, "val": 0, "test": request.param, "composition": 0}, 0)["test"]
    found = []
    for number, scene in held_out.items():
        rng = np.random.default_rng(number)
        found.append((storybook.captions(scene, rng, 1)[0].text, storybook.questions(scene, rng, 1)[0].text))
    return found


@pytest.fixture(scope="module")
def painting(painter, scenes):
    """What the pipeline paints of the scenes' sentences, greedily."""
    return painter.paint([text for text, _ in scenes], temperature=0, candidates=1, polish=0)


def paint(painter, graphs, text: str) -> torch.Tensor:
    """The book's loop around the exported graphs, greedily: codes int64 [1, N]."""
    words, _ = painter.tokenizer.encode([text], painter.model.config.max_words)
    (encoded,) = graphs["text"](words=words.numpy())

    def predict(values, masked, scored, step):
        logits, _ = graphs["cells"](text=encoded, codes=values.numpy(), masked=masked.numpy())
        return torch.from_numpy(logits)[scored], None

    cells = painter.model.config.cells
    empty, everything = torch.zeros(1, cells, dtype=torch.long), torch.ones(1, cells, dtype=torch.bool)
    return sampling.fill(predict, empty, everything, 16, sampling.halton, sampling.cosine)


@slow
def test_graphs_paint_the_codes_of_the_pipeline(painter, graphs, scenes, painting):
    found = torch.cat([paint(painter, graphs, text) for text, _ in scenes])
    assert torch.equal(found, painting.codes)


@slow
def test_pixels_are_those_of_the_pipeline(graphs, painting):
    for codes, image in zip(painting.codes, painting.images, strict=True):
        (found,) = graphs["generator"](codes=codes[None].numpy())
        assert (found[..., 3] == 255).all()
        assert np.abs(found[..., :3].astype(int) - image.astype(int)).max() <= 2


def test_colours_beyond_black_and_white_are_cut_off():
    painter = tiny_painter(squash=False)
    codes = torch.arange(16)[None] % painter.model.config.codes
    with torch.no_grad():
        raw = Picture(painter.generator, painter.model.centroids)(codes)[0]
        found = Pixels(painter)(codes)[..., :3].numpy()
    assert raw.min() < -1.05 and raw.max() > 1.05
    wanted = ((raw.clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert np.array_equal(found, wanted) and np.array_equal(painter.render(codes)[0], wanted)


@slow
def test_answers_are_those_of_the_pipeline(painter, graphs, scenes, painting):
    questions = [question for _, question in scenes]
    skill = painter.skills["vqa"]
    found = []
    for question, codes in zip(questions, painting.codes, strict=True):
        words, _ = skill.tokenizer.encode([question], painter.model.config.max_words)
        (logits,) = graphs["answers"](words=words.numpy(), codes=codes[None].numpy())
        found.append(skill.answers[int(logits.argmax())])
    assert found == painter.answer(painting.codes, questions)


@slow
def test_match_is_that_of_the_pipeline(painter, graphs, scenes, painting):
    for (text, _), codes in zip(scenes[:10], painting.codes[:10], strict=True):
        words, _ = painter.tokenizer.encode([text], painter.model.config.max_words)
        (encoded,) = graphs["text"](words=words.numpy())
        nothing = np.zeros((1, len(codes)), dtype=bool)
        _, match = graphs["cells"](text=encoded, codes=codes[None].numpy(), masked=nothing)
        found = torch.from_numpy(match).softmax(-1)[0, 1]
        assert torch.isclose(found, painter.match(text, codes[None])[0], atol=1e-4)


@slow
def test_model_json_says_what_the_page_needs(painter, exported):
    about = json.loads((exported / "model.json").read_text())
    tokenizer = painter.tokenizer
    assert [tokenizer.backend.token_to_id(word) for word in about["words"]] == list(range(tokenizer.size))
    assert (about["grid"], about["codes"], about["pixels"]) == (8, 2304, 128)
    assert about["answers"] == painter.skills["vqa"].answers


@slow
def test_graphs_are_small_valid_and_name_no_folder(exported):
    for path in exported.glob("*.onnx"):
        onnx.checker.check_model(onnx.load(path))
        assert path.stat().st_size < 5e6
        assert str(ROOT).encode() not in path.read_bytes()
        assert b"site-packages" not in path.read_bytes()


def test_the_model_knows_every_word_of_the_examples(painter):
    assert {text: painter.tokenizer.unknown(text) for text in EXAMPLES} == dict.fromkeys(EXAMPLES, [])


def weights(values: np.ndarray) -> onnx.ModelProto:
    """A graph that adds a stored array to its input."""
    kind, shape = TensorProto.FLOAT, list(values.shape)
    node = helper.make_node("Add", ["x", "w"], ["y"])
    inputs, outputs = ([helper.make_tensor_value_info(name, kind, shape)] for name in "xy")
    return helper.make_model(helper.make_graph([node], "add", inputs, outputs, [numpy_helper.from_array(values, "w")]))


@pytest.mark.parametrize(("values", "stored"), [
    (np.linspace(-1, 1, 256).astype(np.float16).astype(np.float32), np.float16),
    (np.linspace(-1, 1, 256).astype(np.float32), np.float32),  # would be rounded
    (np.ones(3, np.float32), np.float32),  # not worth it
])  # fmt: skip
def test_halved_changes_no_number(values, stored):
    model = halved(weights(values))
    assert numpy_helper.to_array(model.graph.initializer[0]).dtype == stored
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert np.array_equal(session.run(None, {"x": np.zeros_like(values)})[0], values)
