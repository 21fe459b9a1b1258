"""What a weight file keeps: matrices in 8 bits come back nearly as they were, and nothing that another file has."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_painter
from torch import nn

import xlxmert_core
from xlxmert_core import checkpoints
from xlxmert_core.data.packing import filled_in, left_out, narrowed, widened
from xlxmert_core.generator import fold_spectral_norm

TEXTS = ["a red house", "two blue boats"]


def packed(rows: torch.Tensor) -> torch.Tensor:
    return widened(narrowed({"w": rows}, 8))["w"]


def test_a_matrix_is_bytes_with_a_scale_a_row_and_all_else_is_half():
    state = {"w": torch.randn(3, 16), "kernel": torch.randn(4, 2, 3, 3), "narrow": torch.randn(5, 4),
             "bias": torch.randn(3), "steps": torch.tensor(7), "codes": torch.arange(20).view(2, 10),
             "none": torch.zeros(0, 8), "empty": torch.zeros(3, 0)}  # fmt: skip
    found = narrowed(state, 8)
    kinds = {name: (value.dtype, tuple(value.shape)) for name, value in found.items()}
    assert kinds["w"] == (torch.int8, (3, 16)) and kinds["w.scale"] == (torch.float32, (3,))
    assert kinds["kernel"] == (torch.int8, (4, 2, 3, 3)) and kinds["kernel.scale"] == (torch.float32, (4,))
    assert kinds["narrow"] == (torch.float16, (5, 4)), "a scale would take more than the bits that it saves"
    assert kinds["bias"][0] == torch.float16 and kinds["steps"][0] == kinds["codes"][0] == torch.int64
    again = widened(found)
    assert again.keys() == state.keys()
    assert all(again[name].shape == value.shape for name, value in state.items())


def test_a_row_is_as_near_as_its_own_largest_number_allows():
    """A loud row costs the others nothing; against plain rounding of each row, the error is never larger."""
    torch.manual_seed(0)
    rows = torch.randn(40, 192) * torch.logspace(-6, 3, 40)[:, None]
    error = (packed(rows) - rows).square().mean(1)
    scale = rows.abs().amax(1, keepdim=True) / 127
    plain = ((rows / scale).round() * scale - rows).square().mean(1)
    assert bool((error <= plain * 1.0001).all()) and float((error / plain).mean()) < 0.985
    relative = (error / rows.square().mean(1)).sqrt()
    assert float(relative.max()) < 0.01, "a step is 3 to 4 of 127 deviations, and its error 1 / sqrt(12) of it"
    coarse = (packed(rows.flatten()[None]).view_as(rows) - rows).square().mean(1)
    assert float(coarse[0]) > 1000 * float(error[0])


def test_packed_again_it_stays_as_it_is():
    rows = torch.randn(30, 64, generator=torch.Generator().manual_seed(0))
    once = packed(rows)
    assert torch.equal(packed(once), once), "else a skill would keep what its pipeline has"
    assert torch.equal(packed(torch.zeros(2, 9)), torch.zeros(2, 9))
    one = torch.zeros(1, 9).index_fill_(1, torch.tensor([3]), -2.5)
    assert torch.allclose(packed(one), one, rtol=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_stays_none_and_is_refused(tmp_path, value):
    module = nn.Linear(16, 2)
    with torch.no_grad():
        module.weight[1, 2] = value
    checkpoints.save(module, tmp_path / "x.safetensors", bits=8)
    with pytest.raises(ValueError, match=r"x.safetensors do not fit Linear \(NaN or infinite: weight\)"):
        checkpoints.load(nn.Linear(16, 2), tmp_path / "x.safetensors")


@pytest.mark.parametrize("bits", [4, 0, 64, "8", True, None, 8.5])
def test_other_bits_are_refused(tmp_path, bits):
    with pytest.raises(ValueError, match="Weights are saved in 8, 16 or 32 bits, not in"):
        checkpoints.save(nn.Linear(2, 2), tmp_path / "x.safetensors", bits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("change", "said"), [
    (lambda s: s.pop("weight.scale"), "wrong type: weight torch.int8 instead of torch.float32"),
    (lambda s: s.update({"weight.scale": torch.ones(3)}), r"unexpected: weight\.scale; wrong type: weight"),
    (lambda s: s.update({"weight.scale": torch.ones(2, 1)}), r"unexpected: weight\.scale"),
    (lambda s: s.update({"weight.scale": torch.ones(2, dtype=torch.int64)}), r"unexpected: weight\.scale"),
    (lambda s: s.update({"weight.scale": torch.full((2,), torch.nan)}), "NaN or infinite: weight"),
    (lambda s: s.update(weight=s["weight"].float()), r"unexpected: weight\.scale"),
    (lambda s: s.update(weight=torch.tensor(3, dtype=torch.int8)), r"unexpected: weight\.scale; wrong shape: weight"),
    (lambda s: s.pop("weight"), r"missing: weight; unexpected: weight\.scale"),
])  # fmt: skip
def test_damage_is_one_sentence(tmp_path, change, said):
    path = tmp_path / "x.safetensors"
    checkpoints.save(nn.Linear(16, 2), path, bits=8)
    state = load_file(path)
    change(state)
    save_file(state, path)
    with pytest.raises(ValueError, match=said) as error:
        checkpoints.load(nn.Linear(16, 2), path)
    assert "\n" not in str(error.value)


def test_what_others_have_is_left_out_and_comes_back():
    state = {"a": torch.ones(3), "b": torch.zeros(2, 2), "c": torch.ones(2), "d": torch.ones(2), "own": torch.zeros(4)}
    others = {"a": torch.ones(3), "b": torch.zeros(2, 3), "c": torch.ones(2).half(), "d": -torch.ones(2),
              "strange": torch.ones(1)}  # fmt: skip
    found = left_out(state, others)
    assert {name: value.numel() for name, value in found.items()} == {"a": 0, "b": 4, "c": 2, "d": 2, "own": 4}
    again = filled_in(found, others)
    assert again.keys() == state.keys() and all(torch.equal(again[name], state[name]) for name in state)
    assert filled_in(found, {})["a"].numel() == 0


def test_a_pipeline_of_8_bits_does_all_that_it_did(tmp_path):
    """It paints, answers, is saved again and takes a quarter of the room; the engine's codes are the plain model's."""
    painter = tiny_painter(codes=40)
    for bits in (8, 32):
        painter.save(tmp_path / str(bits), bits=bits)
    sizes = {bits: sum((tmp_path / bits / f"{part}.safetensors").stat().st_size for part in ("transformer", "encoder"))
             for bits in ("8", "32")}  # fmt: skip
    assert sizes["8"] < 0.4 * sizes["32"], "names and vectors weigh most in so small a model"
    opened = xlxmert_core.load(tmp_path / "8")
    assert {p.dtype for part in (opened.model, opened.generator, opened.encoder) for p in part.parameters()} == {
        torch.float32
    }
    for part, own in ((opened.model, painter.model), (opened.encoder, painter.encoder)):
        state = own.state_dict()
        for name, value in part.state_dict().items():
            assert (value.float() - state[name]).norm() <= 0.012 * state[name].float().norm(), name
    before, after = painter.render(torch.arange(16)[None]), opened.render(torch.arange(16)[None])
    assert np.abs(before.astype(int) - after).mean() < 2
    opened.save(tmp_path / "again", bits=8)
    again = xlxmert_core.load(tmp_path / "again")
    fast, plain = (p.paint(TEXTS, seed=0, candidates=1) for p in (opened, again))
    assert torch.equal(fast.codes, plain.codes) and np.abs(fast.images.astype(int) - plain.images).max() <= 1
    assert again.caption(fast.images) == opened.caption(fast.images)


def test_a_generator_with_spectral_norm_is_saved_as_what_it_computes(tmp_path):
    painter = tiny_painter()
    generator = fold_spectral_norm(painter.generator)
    checkpoints.save(generator, tmp_path / "g.safetensors", bits=8)
    names = [name for name in load_file(tmp_path / "g.safetensors") if not name.endswith(".scale")]
    assert sorted(names) == sorted(generator.state_dict())
