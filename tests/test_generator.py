"""The generator is the paper's, its shortcuts are exact, and its losses say what they promise."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from xlxmert_core import generator as gen
from xlxmert_core.config import GeneratorConfig, paper_generator
from xlxmert_core.datasets.profiles import storybook_generator
from xlxmert_core.train import generator_losses

SMALL = GeneratorConfig(feature_dim=6, bottleneck=8, channels=(8, 8, 4), spade_hidden=5, groups=4)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny maps gain nothing from threads, and lose much when other work shares the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small() -> gen.Generator:
    torch.manual_seed(0)
    return gen.Generator(SMALL).eval()


def features(batch: int = 2, config: GeneratorConfig = SMALL, seed: int = 1):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(batch, config.feature_dim, config.grid, config.grid, generator=source)


def plain_spade(spade, x, y):
    resized = F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)
    hidden = F.relu(spade.shared(resized))
    normal = nn.InstanceNorm2d(x.shape[1], affine=False)(x)
    return normal * (1 + spade.gamma(hidden)) + spade.beta(hidden)


def spread(x):
    """Four channels become the four pixels that replace one."""
    batch, channels, height, width = x.shape
    out = torch.zeros(batch, channels // 4, 2 * height, 2 * width)
    for row in (0, 1):
        for column in (0, 1):
            out[:, :, row::2, column::2] = x[:, 2 * row + column :: 4]
    return out


def plain_generator(model, z):
    """Section 6 of the method, written down step by step with no shortcut."""
    size = model.config.image_size
    up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    seed = torch.tanh(model.bottleneck(z))
    h, y = model.start(seed), model.style(seed)
    total = torch.zeros(len(z), 3, size, size)
    for block, to_rgb in zip(model.blocks, model.to_rgb, strict=True):
        inner = F.leaky_relu(plain_spade(block.norm1, h, y), 0.2)
        inner = spread(block.conv1(inner)) if block.sub_pixel else block.conv1(up(inner))
        inner = block.conv2(F.leaky_relu(plain_spade(block.norm2, inner, y), 0.2))
        h = inner + (spread(block.skip(h)) if block.sub_pixel else block.skip(up(h)))
        rgb = to_rgb(h)
        total += F.interpolate(rgb, size=(size, size), mode="bilinear", align_corners=False)
    return torch.tanh(total)


def randomise_biases(module: nn.Module) -> None:
    """Fresh biases are zero, which would hide a bias in the wrong place."""
    with torch.no_grad():
        for name, value in module.named_parameters():
            if name.endswith("bias"):
                value.uniform_(-0.5, 0.5)


def test_paper_preset_has_the_documented_parts():
    model = gen.Generator(paper_generator())
    assert sum(p.numel() for p in model.parameters()) == 1_771_417
    shapes = {k: tuple(v.shape) for k, v in gen.fold_spectral_norm(model).state_dict().items()}
    block = {f"{n}.{p}" for n in ("conv1", "conv2", "skip") for p in ("weight", "bias")}
    block |= {f"{n}.{c}.{p}" for n in ("norm1", "norm2") for c in ("shared", "gamma", "beta")
              for p in ("weight", "bias")} | {"noise1", "noise2"}  # fmt: skip
    expected = {f"blocks.{i}.{name}" for i in range(5) for name in block}
    expected |= {f"to_rgb.{i}.{p}" for i in range(5) for p in ("weight", "bias")}
    expected |= {f"{n}.{p}" for n in ("bottleneck", "start", "style") for p in ("weight", "bias")}
    assert set(shapes) == expected
    assert shapes["bottleneck.weight"] == (256, 2048, 1, 1)
    assert shapes["start.weight"] == shapes["style.weight"] == (32, 64, 3, 3)
    assert shapes["blocks.4.norm2.shared.weight"] == (128, 32, 3, 3)
    assert shapes["blocks.0.norm1.gamma.weight"] == (32, 128, 3, 3)
    assert shapes["blocks.2.skip.weight"] == (32, 32, 1, 1)
    assert shapes["to_rgb.4.weight"] == (3, 32, 3, 3)


def test_spectral_norm_is_where_the_authors_have_it():
    keys = gen.Generator(SMALL).state_dict()
    normed = {k.split(".parametrizations")[0] for k in keys if k.endswith("weight.original")}
    blocks = {f"blocks.{i}.{n}" for i in range(2) for n in ("conv1", "conv2", "skip")}
    assert normed == blocks | {"start", "style"}


@pytest.mark.parametrize("preset", [paper_generator, storybook_generator, lambda: SMALL])
def test_equals_the_plain_reading_of_the_paper(preset):
    config = preset()
    torch.manual_seed(3)
    model = gen.Generator(config).eval()
    randomise_biases(model)
    z = features(1, config)
    with torch.no_grad():
        ours, plain = model(z), plain_generator(model, z)
    assert ours.shape == (1, 3, config.image_size, config.image_size)
    assert (ours - plain).abs().max() < 2e-5
    assert ours.std() > 0.01 and ours.abs().max() <= 1


@pytest.mark.parametrize("size", [8, 16, 48])
def test_resized_conv_is_exact_with_gradients(size):
    torch.manual_seed(0)
    y = torch.randn(2, 3, 8, 8, dtype=torch.double, requires_grad=True)
    layer = nn.Conv2d(3, 4, 3, padding=1).double()
    resized = F.interpolate(y, size=(size, size), mode="bilinear", align_corners=False)
    plain, ours = layer(resized), gen.resized_conv3(y, layer.weight, layer.bias, size)
    assert torch.allclose(ours, plain, atol=1e-10)
    weights = torch.randn_like(plain)
    inputs = (y, layer.weight, layer.bias)
    a = torch.autograd.grad((plain * weights).sum(), inputs)
    b = torch.autograd.grad((ours * weights).sum(), inputs)
    assert all(torch.allclose(x, z, atol=1e-9) for x, z in zip(a, b, strict=True))


class Row(nn.Module):
    """A layer that asks for taps."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ gen.resize_taps(4, 8, x.device, x.dtype)[:, :4].T


def test_an_exporter_leaves_no_tensor_without_values(monkeypatch):
    monkeypatch.setattr(gen, "TAPS", {})
    torch.export.export(Row(), (torch.rand(2, 4),))
    assert not gen.TAPS and Row()(torch.ones(1, 4)).isfinite().all()


def test_halved_conv_is_exact():
    torch.manual_seed(0)
    x, layer = torch.randn(2, 3, 10, 10), nn.Conv2d(3, 4, 3, padding=1)
    ours = gen.halved_conv3(x, layer.weight, layer.bias)
    assert torch.allclose(ours, F.avg_pool2d(layer(x), 2), atol=1e-6)


def test_made_without_spectral_norms_it_takes_the_folded_weights(small):
    plain = gen.Generator(small.config, gen.conv).eval()
    plain.load_state_dict(gen.fold_spectral_norm(small).state_dict())
    with torch.no_grad():
        assert torch.equal(plain(features()), small(features()))


def test_folding_keeps_the_output_and_leaves_the_original(small):
    folded = gen.fold_spectral_norm(small)
    with torch.no_grad():
        assert torch.equal(folded(features()), small(features()))
    assert not any("parametrizations" in k for k in folded.state_dict())
    assert any("parametrizations" in k for k in small.state_dict())
    twice = gen.fold_spectral_norm(folded)
    assert all(torch.equal(a, b) for a, b in
               zip(twice.parameters(), folded.parameters(), strict=True))  # fmt: skip
    before = folded.start.weight.clone()
    with torch.no_grad():
        small.start.parametrizations.weight.original.mul_(2)
    assert torch.equal(folded.start.weight, before)


def test_normed_weights_have_largest_singular_value_one(small):
    small.train()
    for _ in range(30):  # power iterations
        small(features())
    weight = small.eval().blocks[0].conv1.weight.flatten(1)
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=1e-3)


def test_starts_orthogonal_with_zero_bias(small):
    weight = small.bottleneck.weight.flatten(1)  # [8, 6]
    assert torch.allclose(weight.T @ weight, torch.eye(6), atol=1e-5)
    assert all(v.abs().max() == 0 for k, v in small.named_parameters() if k.endswith("bias"))


def test_noise_is_seeded_and_off_by_default(small):
    with torch.no_grad():
        clean = small(features())
        assert torch.equal(small(features()), clean)
        assert torch.equal(small(features(), torch.Generator().manual_seed(0)), clean)  # scale is 0
        small.blocks[0].noise1.fill_(0.5)
        assert torch.equal(small(features()), clean)
        a, b, c = (small(features(), torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c) and not torch.equal(a, clean)


def test_noise_reaches_both_places_of_every_block(small):
    """Each of the noise scales changes the picture when it alone is set."""
    scales = [p for n, p in small.named_parameters() if "noise" in n]
    assert len(scales) == 2 * len(small.blocks)
    with torch.no_grad():
        clean = small(features())
        for scale in scales:
            scale.fill_(1.0)
            assert not torch.equal(small(features(), torch.Generator().manual_seed(0)), clean)
            scale.zero_()


def test_without_squash_it_ends_in_the_sum_that_a_tanh_would_squash(small):
    linear = gen.Generator(replace(SMALL, squash=False)).eval()
    linear.load_state_dict(small.state_dict())
    with torch.no_grad():
        for model in (small, linear):
            model.to_rgb[0].bias.fill_(1.5)
        pictures = linear(features())
        assert pictures.max() > 1.2
        assert torch.equal(pictures.tanh(), small(features()))
        assert (plain_generator(linear, features()) - pictures.tanh()).abs().max() < 2e-5


def test_wrong_feature_shape_is_named(small):
    with pytest.raises(ValueError, match=r"\[B, 6, 8, 8\], got \[2, 8, 8, 6\]"):
        small(features().permute(0, 2, 3, 1))


def test_a_batch_is_its_pictures(small):
    with torch.no_grad():
        both = small(features(2))
        assert torch.allclose(both[:1], small(features(2)[:1]), atol=1e-5)


def test_learns_one_picture():
    torch.manual_seed(0)
    model = gen.Generator(SMALL).train()
    target = torch.rand(1, 3, 32, 32) * 0.2 + torch.linspace(-0.8, 0.8, 32)
    optimiser = torch.optim.Adam(model.parameters(), 4e-3)
    losses = []
    for _ in range(40):
        loss = F.l1_loss(model(features(1)), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.35 * losses[0]


@pytest.mark.parametrize(("size", "channels", "blocks"), [(256, 4, 6), (128, (2, 3, 4, 5, 6), 5)])
def test_discriminator_shapes(size, channels, blocks):
    model = gen.Discriminator(feature_dim=7, channels=channels, image_size=size)
    patch, maps, codes = model(torch.randn(2, 3, size, size))
    assert patch.shape == (2, 1, 8, 8) and codes.shape == (2, 7, 8, 8)
    assert len(maps) == blocks
    sides = [m.shape[-1] for m in maps]
    assert sides == [size // 2 ** (i + 1) for i in range(blocks - 1)] + [8]
    if not isinstance(channels, int):
        assert tuple(m.shape[1] for m in maps) == channels


def test_discriminator_equals_the_plain_reading():
    torch.manual_seed(0)
    model = gen.Discriminator(feature_dim=3, channels=4, image_size=32).eval()
    randomise_biases(model)
    images = torch.randn(2, 3, 32, 32)
    h = images
    for i, block in enumerate(model.blocks):
        down = nn.AvgPool2d(2) if i < len(model.blocks) - 1 else nn.Identity()
        x = F.leaky_relu(h, 0.2) if i else h
        inner = nn.InstanceNorm2d(4)(block.conv1(x))
        h = down(block.conv2(F.leaky_relu(inner, 0.2))) + block.skip(down(x))
    patch, maps, codes = model(images)
    assert torch.allclose(maps[-1], h, atol=1e-5)
    assert torch.allclose(patch, model.patch(F.relu(h)), atol=1e-5)
    assert torch.allclose(codes, model.code(F.relu(h)), atol=1e-5)


def test_paper_discriminator_head_reaches_the_feature_width():
    model = gen.Discriminator(feature_dim=2048)
    assert tuple(model.code.weight.shape) == (2048, 64, 1, 1)
    assert len(model.blocks) == 6


@pytest.mark.parametrize("options", [{"image_size": 100}, {"image_size": 128, "channels": (4, 4)}])
def test_discriminator_refuses_sizes_that_do_not_fit(options):
    with pytest.raises(ValueError, match="Discriminator"):
        gen.Discriminator(4, **options)


def test_hinge_losses_by_hand():
    real = torch.tensor([[0.0, 1.0], [3.0, 3.0]])[:, None, None]  # picture means 0.5 and 3
    fake = torch.tensor([[-2.0, 0.0], [0.5, 0.5]])[:, None, None]  # picture means -1 and 0.5
    assert generator_losses.hinge_d(real, fake).item() == pytest.approx((0.5 + 0) / 2 + (0 + 1.5) / 2)
    assert generator_losses.hinge_g(fake).item() == pytest.approx(0.25)


def test_feature_matching_skips_the_last_block_and_spares_the_real_side():
    fake = [torch.zeros(1, 2, 2, 2, requires_grad=True) for _ in range(3)]
    real = [torch.full((1, 2, 2, 2), v, requires_grad=True) for v in (0.5, 3.0, 100.0)]
    loss = generator_losses.feature_matching(fake, real)
    assert loss.item() == pytest.approx(0.5 * 0.25 + (3 - 0.5))
    loss.backward()
    assert fake[0].grad.abs().sum() > 0 and fake[2].grad is None
    assert all(m.grad is None for m in real)


def test_perceptual_sums_over_maps_and_pulls_towards_the_real_picture():
    def network(x):
        return [x, 2 * x]

    fake = torch.zeros(1, 3, 4, 4, requires_grad=True)
    loss = generator_losses.perceptual(network, fake, torch.full((1, 3, 4, 4), 0.25))
    assert loss.item() == pytest.approx(0.5 * 0.25**2 + 0.5 * 0.5**2)
    loss.backward()
    assert (fake.grad < 0).all()


def test_code_loss_matches_cell_by_cell_and_freezes_the_centroids():
    torch.manual_seed(0)
    centroids = torch.randn(9, 5, requires_grad=True)
    codes = torch.randint(9, (2, 16))
    found = torch.randn(2, 5, 4, 4, requires_grad=True)
    loss = generator_losses.code_loss(found, codes, centroids)
    plain = []
    for b in range(2):
        for n in range(16):
            logits = centroids @ found[b, :, n // 4, n % 4]
            plain.append(-torch.log_softmax(logits, 0)[codes[b, n]])
    assert loss.item() == pytest.approx(torch.stack(plain).mean().item(), rel=1e-5)
    loss.backward()
    assert centroids.grad is None and found.grad.abs().sum() > 0


def test_pixels_of_things_count_as_often_as_the_weights_say():
    weights = generator_losses.LossWeights(pixel=1.0, things=3.0)
    objective = generator_losses.GeneratorObjective(nn.Identity(), None, nn.Identity(), torch.zeros(2, 4), weights)  # ty: ignore
    real, things = torch.zeros(1, 3, 4, 4), torch.tensor([[[True, False], [False, False]]])
    fake = real.clone()
    fake[:, :, :2, :2] = 1.0  # wrong where the thing is
    assert objective._pixel(real, fake, things) == pytest.approx(3 / 6)
    assert objective._pixel(real, fake, None) == pytest.approx(1 / 4)
