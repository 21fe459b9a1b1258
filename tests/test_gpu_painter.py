"""The run's generator, its critic and their steps: what is written for speed is equal to what is written plainly."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from shop import HUES, photograph
from torch import nn

from book.train.gpu import common, critic, networks, painter, trainer
from book.train.gpu.eye import COLOUR, SHAPE
from xlxmert_core import checkpoints
from xlxmert_core import generator as layers
from xlxmert_core.config import GeneratorConfig
from xlxmert_core.generator import Generator, conv
from xlxmert_core.train.muon import Muon


@pytest.fixture(scope="module")
def network() -> networks.Perceptual:
    """VGG16 with weights that were drawn, as loud as its maps are, and equal weights of the distance."""
    torch.manual_seed(0)
    network = networks.Perceptual().eval().requires_grad_(False)
    for part in network.convs.values():
        nn.init.kaiming_normal_(part.weight)
    for weight in network.weights:
        weight.fill_(0.1)
    return network


@pytest.fixture(scope="module")
def photographs() -> torch.Tensor:
    """Six pictures of things on white, uint8 [6, 3, 128, 128]."""
    drawn = [np.asarray(photograph(i, colour, 128, 128)) for i, colour in enumerate([*HUES, "red"])]
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture
def taught(network) -> trainer.Trainer:
    """A trainer of tiny networks, whose views were made of pictures that are small enough to be quick."""
    torch.manual_seed(0)
    return trainer.Trainer(network, torch.randn(9, 12), torch.rand(2, 3, 32, 32) * 2 - 1, lambda: (), small=True)


# --- What is written for speed. ----------------------------------------------------------------------


@pytest.mark.parametrize(("size", "larger"), [(8, 16), (64, 128), (16, 128), (128, 128)])
def test_products_of_matrices_enlarge_as_interpolation_does(size, larger):
    x = torch.randn(2, 3, size, size, dtype=torch.double)
    wanted = F.interpolate(x, size=(larger, larger), mode="bilinear", align_corners=False)
    torch.testing.assert_close(trainer.enlarged(x, larger), wanted, rtol=0, atol=1e-6)


def test_the_modules_generator_takes_quick_layers_and_gives_them_back():
    torch.manual_seed(0)
    generator, features = Generator(GeneratorConfig(6, 8, (8, 8, 4), 5), conv).eval(), torch.randn(2, 6, 8, 8)
    plain, functions = generator(features), (layers.double, layers._enlarge)
    with pytest.raises(KeyboardInterrupt), trainer.quick_layers():
        assert layers._enlarge is trainer.enlarged and layers.double is not functions[0]
        torch.testing.assert_close(generator(features), plain, rtol=0, atol=1e-5)
        raise KeyboardInterrupt
    assert (layers.double, layers._enlarge) == functions


@pytest.mark.parametrize("size", [4, 32])
def test_the_pool_is_the_one_that_does_not_alias(network, size):
    x = torch.randn(2, 5, size, size)
    padded = F.pad(F.max_pool2d(x, 2, 1), (1, 1, 1, 1), mode="replicate")
    wanted = F.avg_pool2d(F.avg_pool2d(padded, 2, 1), 2, 2)  # a quarter, a half, a quarter of every second pixel's
    torch.testing.assert_close(network._pool(x), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("kind", "most"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_vectors_become_one_long_and_nought_stays(kind, most):
    x = 50 * torch.randn(2, 30, 4, 4)
    x[0, :, 0, 0] = 0
    found = networks._of_length_one(x.to(kind))
    lengths = found.float().norm(dim=1)
    assert found.dtype == kind and lengths[0, 0, 0] == 0
    assert (lengths.flatten()[1:] - 1).abs().max() < most
    assert F.cosine_similarity(found.float(), x).flatten()[1:].min() > 0.999


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (6, 40), (40, 6)])
def test_muon_with_a_rate_on_the_device_is_muon(shape):
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    rate = torch.tensor(0.0)
    optimisers = trainer.Steady([ours], lr=rate, momentum=0.9), Muon([theirs], lr=0.0, momentum=0.9)
    for step in range(3):
        rate.fill_(0.1 * (step + 1))
        optimisers[1].param_groups[0]["lr"] = 0.1 * (step + 1)
        gradient = torch.randn(shape)
        for weight, optimiser in zip((ours, theirs), optimisers, strict=True):
            weight.grad = gradient.clone()
            optimiser.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert (ours - 1).abs().max() > 0.05


# --- The critic. -------------------------------------------------------------------------------------


def test_augmentation_of_strength_nought_changes_nothing_and_the_gradient_passes():
    torch.manual_seed(0)
    images = (torch.rand(4, 3, 24, 24) * 2 - 1).requires_grad_()
    still = critic.augment(images, critic.draw_augmentation(4, 24, images.device, strength=0.0))
    torch.testing.assert_close(still, images, rtol=0, atol=1e-5)
    draws = critic.draw_augmentation(4, 24, images.device)
    draws["hole"] = torch.ones(4, 1, 24, 24)
    changed = critic.augment(images, draws)
    assert ((changed - images).abs().flatten(1).mean(1) > 0.02).all()
    pull = torch.autograd.grad((changed * torch.randn_like(changed)).sum(), images)[0]
    assert (pull[:, :, 6:-6, 6:-6] != 0).all()


def test_a_shift_is_of_whole_pixels_and_a_hole_is_grey():
    images = torch.rand(2, 3, 24, 24) * 2 - 1
    draws = critic.draw_augmentation(2, 24, images.device, strength=0.0)
    draws["shift"][:, 0] = 2 * 3 / 24  # three pixels
    torch.testing.assert_close(critic.augment(images, draws)[..., :-3], images[..., 3:], rtol=0, atol=1e-5)
    torch.manual_seed(1)
    draws = critic.draw_augmentation(200, 24, images.device)
    assert torch.allclose(draws["shift"] * 24 / 2, (draws["shift"] * 24 / 2).round(), atol=1e-4)
    assert 0 < draws["shift"].abs().max() <= 2 * critic.SHIFT / 24 + 1e-6
    holes = 1 - draws["hole"].flatten(1)
    assert 0.15 < (holes.amax(1) > 0).float().mean() < 0.45  # of 200, about HOLES
    assert 0 < holes.mean(1).max() <= (2 * critic.HOLE + 1 / 24) ** 2


def test_views_deviate_by_one_on_the_photographs_they_were_made_with(network, photographs):
    torch.manual_seed(0)
    images = common.to_unit(photographs[:, :, ::4, ::4])
    views = critic.Views(network, images)
    maps = views(images)
    assert [list(x.shape[1:3]) for x in maps] == [[51, 32], [96, 16], [192, 8], [256, 4]]
    assert [x[:, :width].std().item() for x, width in zip(maps, critic.WIDTHS, strict=True)] == pytest.approx([1] * 4)
    assert torch.equal(maps[0][:, -3:], images)
    raw = [layer(x).std() for layer, x in zip(views.mix, network.raw_maps(images), strict=True)]
    assert all(abs(deviation - 1) > 0.01 for deviation in raw)
    assert not any("convs" in name for name in views.state_dict())


def test_every_head_judges_every_cell_and_looks_at_its_code():
    torch.manual_seed(0)
    judge, sizes = critic.Critic(12, 16), (128, 64, 32, 16)
    maps = [torch.randn(2, width, size, size)
            for width, size in zip((critic.WIDTHS[0] + 3, *critic.WIDTHS[1:]), sizes, strict=True)]  # fmt: skip
    features = torch.randn(2, 12, 8, 8)
    with torch.no_grad():
        logits = judge.eval()(maps, features)
        assert [list(x.shape) for x in logits] == [[2, 8, 8]] * 4
        features[1, :, 3, 5] += 1.0
        changed = [a != b for a, b in zip(logits, judge(maps, features), strict=True)]
    assert all(x.nonzero().tolist() == [[1, 3, 5]] for x in changed)


def test_lecam_is_nought_at_equal_means_and_positive_beyond():
    calm, even = critic.LeCam(torch.device("cpu"), weight=0.5, keep=0.75), [torch.full((2, 4, 4), 0.3)] * 4
    calm.real.fill_(0.3), calm.fake.fill_(0.3)
    assert calm(even, even).item() == pytest.approx(0, abs=1e-12)
    apart = calm([x + 1 for x in even], [x - 1 for x in even])
    # the means have moved by a quarter of the way, each away from the other
    assert (calm.real.item(), calm.fake.item()) == pytest.approx((0.55, 0.05))
    assert apart.item() == pytest.approx(0.5 * 2 * 1.25**2)
    assert calm([x - 1 for x in even], [x + 1 for x in even]).item() == 0  # the right way round is no matter


# --- The trainer. ------------------------------------------------------------------------------------


def test_the_average_of_the_weights_is_the_closed_form(taught):
    name, keep, shape = "start.weight", 0.75, taught.generator.start.weight.shape
    first, values = taught.average.start.weight.clone(), [torch.randn(shape) for _ in range(4)]
    others = taught.average.bottleneck.weight.clone()
    taught.keep.fill_(keep)
    for value in values:
        taught.generator.get_parameter(name).data.copy_(value)
        taught._remember()
    wanted = keep**4 * first + sum((1 - keep) * keep ** (3 - i) * value for i, value in enumerate(values))
    torch.testing.assert_close(taught.average.get_parameter(name).data, wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(taught.average.bottleneck.weight.data, others, rtol=0, atol=1e-5)  # had not moved


def test_a_step_sets_what_a_graph_reads(taught, monkeypatch):
    seen = []
    monkeypatch.setattr(taught, "_step", lambda critical: seen.append(critical) or {})
    taught.step(0.5, 0.0, 10)
    taught.step(0.25, 0.8, 10)
    assert seen == [False, True]
    assert taught.ratio.item() == pytest.approx(0.8) and taught.keep.item() ** 10 == pytest.approx(0.5)
    rates = [float(group["lr"]) for optimiser in taught.optimisers for group in optimiser.param_groups]
    muon, adam, judge = (0.25 * rate for rate in trainer.RATES)
    assert rates == pytest.approx([muon, adam, adam * trainer.COLOUR_RATE, judge])
    given = [p for optimiser in taught.optimisers[:-1] for group in optimiser.param_groups for p in group["params"]]
    assert {*map(id, given)} == {*map(id, taught.generator.parameters())} and len(given) == len({*map(id, given)})


def test_what_is_whiter_than_white_is_called_back_and_paintings_are_let_be(taught):
    real = torch.ones(2, 3, 32, 32)
    leaf = torch.full((3, 3, 32, 32), 1.5).requires_grad_()  # two reconstructions and a painting
    force, numbers = taught._reconstruction(leaf, real, 1.0)
    assert (force[:2] > 0).all() and (force[2] == 0).all()
    assert numbers["beyond"] == 1 and numbers["pixel"].item() == pytest.approx(0.5) and numbers["lpips"] == 0
    leaf.data.fill_(0.0)
    assert taught._reconstruction(leaf, torch.rand(2, 3, 32, 32), 1.0)[1]["lpips"] > 0


def test_the_plan_of_a_run():
    assert painter.plan(0.0, 0) == (pytest.approx(0.01), 0.0, 30)
    assert painter.plan(0.225, 1000) == (pytest.approx(common.decay(0.225, 0.0)), pytest.approx(0.5), 30)
    assert painter.plan(0.5, 1000) == (pytest.approx(0.5), 1.0, 100)
    factor, ratio, half_life = painter.plan(0.999, 1000)
    assert factor < 1e-3 and (ratio, half_life) == (1.0, 200)


# --- The stage. --------------------------------------------------------------------------------------


def pictures_of(photographs: torch.Tensor) -> common.Data:
    return common.Data(photographs, [], {"trainable": torch.arange(4), "test": torch.arange(4, 6)})


def test_mirrored_pictures_come_with_mirrored_codes(photographs):
    torch.manual_seed(0)
    codes = (10 * torch.arange(6)[:, None, None] + torch.arange(2)[:, None]).expand(6, 2, 64)
    lessons = painter.Lessons(pictures_of(photographs), codes, (40, 7))
    real, told, painted = lessons()
    assert painted.shape == (7, 64) and set(painted.flatten().tolist()) <= {0, 10, 20, 30}
    assert set(told.flatten().tolist()) == {10 * row + mirror for row in range(4) for mirror in range(2)}
    for picture, numbers in zip(real, told, strict=True):
        row, mirror = divmod(int(numbers[0]), 10)
        wanted = common.to_unit(photographs[row])
        assert torch.equal(picture, wanted.flip(2) if mirror else wanted)
        assert not torch.equal(wanted, wanted.flip(2))


def test_paintings_are_taken_up_when_they_appear_and_only_once(photographs, tmp_path):
    lessons, path = painter.Lessons(pictures_of(photographs), torch.zeros(6, 2, 64, dtype=torch.long), (2, 5)), tmp_path
    lessons.look_for(path / "painted.pt")
    before = lessons.painted
    assert not before.any()
    torch.save(torch.arange(1, 4)[:, None].expand(3, 64).int(), path / "painted.pt")
    lessons.look_for(path / "painted.pt")
    assert lessons.painted is before and lessons.painted[:5, 0].tolist() == [1, 2, 3, 1, 2]
    assert (lessons()[2] > 0).all()
    torch.save(torch.full((3, 64), 7), path / "painted.pt")
    lessons.look_for(path / "painted.pt")
    assert lessons.painted.max() == 3


@pytest.mark.slow
def test_two_steps_leave_weights_sheets_and_a_record(network, photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(painter, "LOOK", 1)
    monkeypatch.setattr(painter, "NOTE", 0)
    networks.pack(tmp_path, "vgg", network)
    (tmp_path / "model").mkdir()
    codes = torch.randint(12, (6, 2, 64), generator=torch.Generator().manual_seed(0))
    saved, path = [], tmp_path / "codes.pt"
    common.save_tensors(path, {"shape": torch.randn(4, SHAPE), "colour": torch.randn(3, COLOUR), "codes": codes})
    common.save_tensors(tmp_path / "painted.pt", codes[:3, 0])
    trained = painter.train_painter(pictures_of(photographs), tmp_path, tmp_path, common.Clock(1e12, steps=2), path,
                                    lambda: saved.append(sheets(tmp_path)), small=True)  # fmt: skip
    assert saved == [["progress_25.png"], ["progress_100.png", "progress_25.png"]]
    assert Image.open(tmp_path / "sheets" / "progress_100.png").size == (16 * 128, 4 * 128)
    record = json.loads((tmp_path / "record_painter.json").read_text())
    assert record["numbers"]["steps"] == 2 and [*record["numbers"]["test"]] == ["test_lpips", "test_pixel"]
    assert ["critic" in point for point in record["curve"]] == [False, True]
    assert np.isfinite([*record["curve"][1].values()]).all()
    assert all(state["exp_avg"].any() for state in trained.optimisers[-1].state.values())  # the critic has learned
    assert checkpoints.read(tmp_path / "critic.safetensors").keys() == trained.critic.state_dict().keys()
    config = checkpoints.read_config(tmp_path / "model" / "generator.safetensors")
    again = Generator(GeneratorConfig(**config | {"channels": tuple(config["channels"])}), conv)
    assert not again.config.squash and asdict(again.config) == asdict(trained.generator.config)
    checkpoints.load(again, tmp_path / "model" / "generator.safetensors")
    with torch.no_grad():
        found = again(trained.features(codes[:2, 0]))
    assert found.shape == (2, 3, 128, 128)
    assert (common.from_unit(found).int() - trained.render(codes[:2, 0]).int()).abs().max() <= 2  # half precision


def sheets(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "sheets").iterdir())
