"""The exported graphs of each shipped world say what the PyTorch model says: the same codes, pixels and answers."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny import tiny_painter

import xlxmert_core
from book.build.export_onnx import WORLDS, Pixels
from book.build.run_chapters import ROOT
from xlxmert_core import sampling
from xlxmert_core.data import catalogue, storybook
from xlxmert_core.engine.graphs import Picture
from xlxmert_core.folder import shipped_names

slow = pytest.mark.slow
SIZES = {"storybook": (8, 2304, 128), "catalogue": (8, 32768, 128)}  # grid, codes, pixels
BYTES = {"storybook": 20e6, "catalogue": 25e6}  # the most that a world may be


@pytest.fixture(scope="module", params=list(WORLDS))
def world(request) -> str:
    if request.param not in shipped_names():
        pytest.skip(f"the weights of {request.param} are not shipped yet")
    return request.param


@pytest.fixture(scope="module")
def painter(world):
    return xlxmert_core.load(world)


@pytest.fixture(scope="module")
def answering(painter):
    """The painter, where it answers questions."""
    if "vqa" not in painter.skills:
        pytest.skip("this world answers no questions yet")
    return painter


@pytest.fixture(scope="module")
def graphs(exported, world):
    """Each graph as a function: numpy arrays by name -> its outputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {path.stem: onnxruntime.InferenceSession(path, options) for path in (exported / world).glob("*.onnx")}
    return {name: lambda run=session.run, **inputs: run(None, inputs) for name, session in sessions.items()}


@pytest.fixture(scope="module", params=[25, pytest.param(100, marks=pytest.mark.nightly)])
def scenes(request, world):
    """Scenes that no training has seen, or products, each with a sentence and a question about it."""
    if world == "catalogue":
        return [(sentence, WORLDS[world].question) for sentence in products(request.param)]
    held_out = storybook.sample_splits({"train": 0, "val": 0, "test": request.param, "composition": 0}, 0)["test"]
    found = []
    for number, scene in held_out.items():
        rng = np.random.default_rng(number)
        found.append((storybook.captions(scene, rng, 1)[0].text, storybook.questions(scene, rng, 1)[0].text))
    return found


def products(count: int) -> list[str]:
    """Sentences about products."""
    rng, kinds = np.random.default_rng(0), sorted(catalogue.KINDS)
    drawn = [(rng.choice(catalogue.PATTERNS), rng.choice(catalogue.COLOURS), rng.choice(kinds)) for _ in range(count)]
    return [catalogue.noun_phrase(kind, pattern, colour) for pattern, colour, kind in drawn]


@pytest.fixture(scope="module")
def painting(painter, scenes):
    """What the pipeline paints of the scenes' sentences, greedily."""
    return painter.paint([text for text, _ in scenes], temperature=0, candidates=1, polish=0)


def paint(painter, graphs, text: str) -> torch.Tensor:
    """The book's loop around the exported graphs, greedily: codes int64 [1, N]."""
    words, _ = painter.tokenizer.encode([text], painter.model.config.max_words)
    (encoded,) = graphs["text"](words=words.numpy())

    def predict(values, masked, scored, step):
        asked = scored[0].nonzero().flatten().numpy()
        logits, _, *names = graphs["cells"](text=encoded, codes=values.numpy(), masked=masked.numpy(), asked=asked)
        return torch.from_numpy(logits), torch.from_numpy(names[0]).long() if names else None

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
        raw = Picture(painter.generator, painter.model)(codes)[0]
        found = Pixels(painter)(codes)[..., :3].numpy()
    assert raw.min() < -1.05 and raw.max() > 1.05
    wanted = ((raw.clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert np.array_equal(found, wanted) and np.array_equal(painter.render(codes)[0], wanted)


@slow
def test_answers_are_those_of_the_pipeline(answering, graphs, scenes, painting):
    painter, questions = answering, [question for _, question in scenes]
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
        _, match, *_ = graphs["cells"](text=encoded, codes=codes[None].numpy(), masked=nothing, asked=np.arange(1))
        found = torch.from_numpy(match).softmax(-1)[0, 1]
        assert torch.isclose(found, painter.match(text, codes[None])[0], atol=1e-4)


@slow
def test_model_json_says_what_the_page_needs(painter, exported, world):
    about = json.loads((exported / world / "model.json").read_text())
    tokenizer = painter.tokenizer
    assert [tokenizer.backend.token_to_id(word) for word in about["words"]] == list(range(tokenizer.size))
    assert (about["grid"], about["codes"], about["pixels"]) == SIZES[world]
    assert about["answers"] == (painter.skills["vqa"].answers if "vqa" in painter.skills else [])
    assert (exported / world / "answers.onnx").exists() == bool(about["answers"])


@slow
def test_graphs_are_small_valid_and_name_no_folder(exported, world):
    found = list((exported / world).glob("*.onnx"))
    assert sum(path.stat().st_size for path in found) < BYTES[world]
    for path in found:
        onnx.checker.check_model(onnx.load(path))
        assert str(ROOT).encode() not in path.read_bytes()
        assert b"site-packages" not in path.read_bytes()


def test_the_model_knows_every_word_of_the_examples(painter, world):
    examples = WORLDS[world].examples
    assert {text: painter.tokenizer.unknown(text) for text in examples} == dict.fromkeys(examples, [])


def test_the_skill_knows_every_word_of_the_question(answering, world):
    assert answering.skills["vqa"].tokenizer.unknown(WORLDS[world].question) == []
