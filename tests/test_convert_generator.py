"""The authors' generator file: documented keys, and the same pictures after folding."""

from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import spectral_norm  # the authors' old-style one

from xlxmert_core.checkpoints import load_state
from xlxmert_core.config import GeneratorConfig, paper_generator
from xlxmert_core.foreign import convert
from xlxmert_core.foreign.convert import from_authors_generator
from xlxmert_core.generator import Generator, fold_spectral_norm

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def sn(inputs: int, outputs: int, kernel: int, groups: int = 1) -> nn.Module:
    return spectral_norm(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups))


class AuthorsSpade(nn.Module):
    def __init__(self, width, style, hidden):
        super().__init__()
        self.shared = nn.Sequential(nn.Conv2d(style, hidden, 3, padding=1), nn.ReLU())
        self.gamma = nn.Conv2d(hidden, width, 3, padding=1)
        self.beta = nn.Conv2d(hidden, width, 3, padding=1)

    def forward(self, x, y):
        y = self.shared(F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False))
        return F.instance_norm(x) * (1 + self.gamma(y)) + self.beta(y)


class AuthorsNoise(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class AuthorsBlock(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.cbn1, self.cbn2 = (AuthorsSpade(width, width, hidden) for _ in range(2))
        self.conv1, self.conv2 = sn(width, width, 3), sn(width, width, 3)
        self.noise1, self.noise2 = AuthorsNoise(), AuthorsNoise()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.res_branch = nn.Sequential(self.up, sn(width, width, 1))

    def forward(self, x, y):
        h = self.conv1(self.up(F.leaky_relu(self.cbn1(x, y), 0.2)))
        return self.conv2(F.leaky_relu(self.cbn2(h, y), 0.2)) + self.res_branch(x)


class AuthorsToRGB(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, 3, 3, padding=1)


class AuthorsGenerator(nn.Module):
    """The documented generator, plainly, under the authors' names (noise off)."""

    def __init__(self, c: GeneratorConfig):
        super().__init__()
        width, blocks = c.channels[0], range(len(c.channels) - 1)
        self.size = c.image_size
        self.bottleneck_emb = nn.Sequential(nn.Conv2d(c.feature_dim, c.bottleneck, 1), nn.Tanh())
        self.learned_init_conv = nn.Sequential(sn(c.bottleneck, width, 3, c.groups))
        self.style_init_conv = nn.Sequential(sn(c.bottleneck, width, 3, c.groups))
        self.resblocks = nn.ModuleList(AuthorsBlock(width, c.spade_hidden) for _ in blocks)
        self.to_RGB_blocks = nn.ModuleList(AuthorsToRGB(width) for _ in blocks)

    def forward(self, features):
        seed = self.bottleneck_emb(features)
        h, y, image = self.learned_init_conv(seed), self.style_init_conv(seed), 0
        for block, rgb in zip(self.resblocks, self.to_RGB_blocks, strict=True):
            h = block(h, y)
            image = image + F.interpolate(rgb.conv(h), (self.size, self.size), mode="bilinear", align_corners=False)
        return torch.tanh(image)


@pytest.fixture
def small_generator() -> GeneratorConfig:
    return GeneratorConfig(feature_dim=10, bottleneck=16, channels=(8,) * 4, spade_hidden=12, groups=4, grid=4)


@torch.no_grad()
def test_the_authors_generator_paints_the_same_pictures(small_generator):
    theirs = AuthorsGenerator(small_generator)
    for value in theirs.parameters():
        value += 0.2 * torch.randn(value.shape)
    theirs(torch.randn(2, 10, 4, 4))  # in training mode: one power iteration, so u and v are used
    theirs.eval()
    state = {f"module.{k}": v.clone() for k, v in theirs.state_dict().items()}
    ours = from_authors_generator(state)
    assert convert.generator_config(ours, grid=4) == small_generator
    model = fold_spectral_norm(Generator(small_generator))
    load_state(model, ours)
    features = torch.randn(2, 10, 4, 4)
    want = theirs(features)
    assert want.std() > 0.1 and want.shape == (2, 3, 32, 32)
    assert (model(features) - want).abs().max() <= 1e-5
    plain = {k: v for k, v in state.items() if "learned_init_conv.0.weight_u" not in k}
    with pytest.raises(ValueError, match="learned_init_conv.0.weight_orig has no weight_u"):
        from_authors_generator(plain)
    with pytest.raises(ValueError, match="unexpected last.weight"):
        from_authors_generator(state | {"last.weight": torch.zeros(1)})


def test_the_authors_generator_at_paper_scale_has_the_documented_keys():
    theirs = AuthorsGenerator(paper_generator()).state_dict()
    assert len(theirs) == 150
    assert round(sum(v.numel() for v in theirs.values()) / 1e6, 3) == 1.776
    assert theirs["learned_init_conv.0.weight_v"].shape == (576,)
    ours = from_authors_generator(theirs)
    model = fold_spectral_norm(Generator(paper_generator()))
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in model.state_dict().items()}
    assert asdict(convert.generator_config(ours)) == asdict(paper_generator())
