"""A pipeline works where its model is: the same on a device of its own, and nothing left on the processor."""

import numpy as np
import pytest
import torch
from elsewhere import DEVICE, Elsewhere
from tiny import CODES, GRID, TEXTS, tiny_painter

from xlxmert_core import generator, sampling
from xlxmert_core.engine import graphs
from xlxmert_core.model import PairClassifier
from xlxmert_core.paintbox.studio import Studio
from xlxmert_core.skills import Skill
from xlxmert_core.train.finetuning import adopt

MASK = np.eye(GRID, dtype=bool)
REGION = np.ones((GRID, GRID), bool)
PICTURES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
SHAPE = torch.arange(2 * GRID**2).view(2, -1) % CODES  # codes that lie on the processor
BOXES = torch.tensor([[0.0, 0.1, 0.5, 0.4], [0.2, 0.2, 0.9, 1.0], [0.0, 0.0, 1.0, 1.0]])  # of three regions
SHORT = {"steps": 2, "candidates": 2}  # every operation on the other device costs a hundred times what it should


def skilled():
    """The tiny painter with skills of every kind."""
    painter = tiny_painter()

    def learn(answers):
        torch.manual_seed(len(answers))
        return adopt(painter.model, painter.tokenizer, painter.answers, answers).eval()

    lengths = [str(n) for n in range(11)]
    for name, model, answers in (
        ("vqa", learn(["left", "right"]), ["left", "right"]),
        ("nlvr2", PairClassifier(learn([])).eval(), ["False", "True"]),
        ("captions", learn(lengths), lengths),
    ):
        painter.skills[name] = Skill(model, painter.tokenizer, answers)
    return painter


def codes(painting) -> torch.Tensor:
    return torch.cat([painting.codes, painting.history[-1]["codes"]])


CALLS = {
    "paint": lambda p: codes(p.paint(TEXTS, seed=1, temperature=3.0, **SHORT)),
    "paint guided": lambda p: codes(p.paint(TEXTS, guidance=1.0, order=sampling.maskgit, polish=2, **SHORT)),
    "paint as the paper": lambda p: codes(p.paint(TEXTS, **sampling.PAPER)),
    "every order": lambda p: torch.cat(
        [p.paint(TEXTS[0], order=o, steps=2, candidates=1, polish=0).codes for o in sampling.ORDERS.values()]
    ),
    "repaint": lambda p: codes(p.repaint(PICTURES, MASK, TEXTS, seed=2, **SHORT)),
    "repaint codes": lambda p: codes(p.repaint(SHAPE, MASK, TEXTS, seed=2, **SHORT)),
    "render": lambda p: p.render(SHAPE),
    "encode": lambda p: p.encode(PICTURES),
    "features of codes": lambda p: p.features(SHAPE),
    "score": lambda p: p.score(TEXTS, SHAPE),
    "match": lambda p: p.match(TEXTS, SHAPE),
    "read": lambda p: torch.cat([x.flatten() for x in p.read(TEXTS, torch.ones(2, GRID**2, 10))]),
    "read regions": lambda p: p.read(TEXTS, torch.ones(2, 3, 10), BOXES).pooled,
    "caption": lambda p: p.caption(PICTURES, REGION),
    "caption at lengths": lambda p: p.caption(PICTURES, lengths=[3, 5]),
    "answer": lambda p: p.answer(PICTURES, TEXTS),
    "answer as pretrained": lambda p: p.answer(PICTURES, TEXTS, skill="gqa"),
    "judge": lambda p: p.judge(PICTURES, SHAPE, TEXTS),
    "draw in the paint box": lambda p: in_a_studio(p),
}


def seeded():
    return torch.Generator().manual_seed(0)


def in_a_studio(painter):
    """A stroke, a brush, a look back and a question."""
    studio, seen = Studio(painter), []
    studio.paint(TEXTS[0], on_step=seen.append)
    studio.repaint(TEXTS[1], MASK)
    studio.answer(TEXTS[0])
    return np.concatenate([studio.picture.codes, studio.step(0).hidden, seen[0].hidden, *studio.attention(TEXTS[0])[1]])


def plain(result):
    """Numbers and words, off whatever device."""
    return result.cpu().numpy() if isinstance(result, torch.Tensor) else result


def assert_alike(found, expected):
    """The same words, whole numbers and pixels; fractions to five decimals."""
    if isinstance(found, np.ndarray) and found.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, atol=1e-5)
    else:
        np.testing.assert_equal(found, expected)


@pytest.fixture(scope="module")
def expected():
    painter = skilled()
    return {name: plain(call(painter)) for name, call in CALLS.items()}


@pytest.fixture
def elsewhere(monkeypatch):
    """The tiny painter on a device of its own."""
    for name in ("__enter__", "__exit__"):
        monkeypatch.setattr(torch.inference_mode, name, lambda *_: None)
    for name in ("tensor", "as_tensor"):  # they ask no mode what a device is
        make = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda data, device=None, make=make, **kind: make(data, **kind).to(device))
    with torch.no_grad(), Elsewhere():
        yield skilled().to(DEVICE)
    generator.TAPS.clear()


@pytest.mark.parametrize("name", CALLS)
def test_a_pipeline_elsewhere_mixes_no_devices_and_says_the_same(name, expected, elsewhere):
    assert elsewhere.device == DEVICE and elsewhere.engine is elsewhere.model
    found = CALLS[name](elsewhere)
    assert not isinstance(found, torch.Tensor) or found.device == DEVICE
    assert_alike(plain(found), expected[name])


def test_a_forgotten_move_is_refused(elsewhere):
    model, words = elsewhere.model, elsewhere.tokenizer.encode(TEXTS, 12)
    with pytest.raises(RuntimeError, match="mixes devices"):
        model(*words, model.embed_codes(SHAPE.to(DEVICE)))
    with pytest.raises(RuntimeError, match="numpy"):
        elsewhere.encode(SHAPE).numpy()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of NVIDIA's")
@pytest.mark.parametrize("name", CALLS)
def test_a_pipeline_on_a_gpu_says_the_same(name, expected):
    assert_alike(plain(CALLS[name](skilled().to("cuda"))), expected[name])


def test_the_parts_pass_their_shapes_on_the_meta_device():
    painter = tiny_painter()
    forms = graphs.forms(painter.model.to("meta"), painter.generator.to("meta"), attend=graphs.plain)
    inputs = {name: [x.to("meta") for x in given.values()]
              for name, given in graphs.example_inputs(painter.model.config).items()}  # fmt: skip
    found = {name: form.to("meta")(*inputs[name]) for name, form in forms.items()}
    cells, pooled = found.pop("cells")
    assert (cells.shape, pooled.shape) == ((3, GRID**2, 24), (3, 24))
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "text": (3, 5, 24), "head": (3, CODES), "picture": (3, 3, 64, 64),
    }  # fmt: skip
    assert {value.device.type for value in (cells, pooled, *found.values())} == {"meta"}
