"""XLxmert's embeddings, heads and ties; PairClassifier."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from xlxmert_core.config import ModelConfig, paper, storybook
from xlxmert_core.datasets.profiles import storybook_generator
from xlxmert_core.model import PairClassifier, XLxmert, grid_boxes
from xlxmert_core.paintbox.attention import cross_attention
from xlxmert_core.transformer import for_attention

TINY = ModelConfig(
    vocab_size=40, hidden=24, heads=3, feed_forward=40, language_layers=2, visual_layers=1,
    cross_layers=2, positions=16, dropout=0.0, codes=11, feature_dim=10, grid=3, answers=7,
)  # fmt: skip


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def centroids():
    return torch.randn(11, 10)


@pytest.fixture
def model(centroids):
    return XLxmert(TINY, centroids).eval()


@pytest.fixture
def batch(model):
    words = torch.randint(40, (3, 6))
    word_mask = torch.arange(6) < torch.tensor([6, 4, 2])[:, None]
    return words, word_mask, model.embed_codes(torch.randint(11, (3, 9)))


def test_presets_have_the_stated_sizes():
    assert (paper().cells, paper().codes, paper().hidden) == (64, 10_000, 768)
    assert storybook().cells == 64 and storybook_generator().image_size == 128
    with pytest.raises(ValueError, match="hidden=10, which heads=3 does not divide"):
        ModelConfig(hidden=10, heads=3)


def test_paper_preset_has_the_documented_number_of_values():
    with torch.device("meta"):
        model = XLxmert(paper())
    heads = sum(p.numel() for p in model.answer_head.parameters())
    values = sum(v.numel() for v in model.state_dict().values())
    assert round((values - heads) / 1e6, 1) == 231.2  # unique values, centroids included
    assert len(model.state_dict()) == 471  # the authors' 472, less the tied decoder copy


def test_shapes(model, batch):
    out = model(*batch)
    assert out.words.shape == (3, 6, 24) and out.cells.shape == (3, 9, 24)
    assert out.pooled.shape == (3, 24)
    assert model.code_logits(out.cells).shape == (3, 9, 11)
    assert model.word_logits(out.words).shape == (3, 6, 40)
    assert model.match_logits(out.pooled).shape == (3, 2)
    assert model.answer_logits(out.pooled).shape == (3, 7)


def test_boxes_run_row_by_row():
    boxes = grid_boxes(4)
    assert boxes[1].tolist() == [0.25, 0.0, 0.5, 0.25]  # second cell: to the right of the first
    assert boxes[4].tolist() == [0.0, 0.25, 0.25, 0.5]  # fifth: below it
    assert boxes[-1].tolist() == [0.75, 0.75, 1.0, 1.0]


@torch.no_grad()
def test_cell_embedding_is_the_mean_of_two_norms(model, batch):
    part, features = model.cell_embedding, batch[2]
    left = F.layer_norm(part.feature(features), (24,), eps=1e-12)
    right = F.layer_norm(part.box(grid_boxes(3)), (24,), eps=1e-12)
    want = (left + right) / 2
    assert torch.allclose(part(features, model.boxes()), want, atol=1e-6)


@torch.no_grad()
def test_text_read_once_gives_the_same_and_never_sees_the_picture(model, batch):
    words, word_mask, features = batch
    text = model.encode_text(words, word_mask)
    whole, reused = model(words, word_mask, features), model(words, word_mask, features, text=text)
    assert all(torch.equal(a, b) for a, b in zip(whole, reused, strict=True))
    calls = []
    model.encoder.language[0].register_forward_hook(lambda *_: calls.append(1))
    model(words, word_mask, features, text=text)
    assert not calls


@torch.no_grad()
def test_masked_cells_show_the_mask_feature_and_hide_theirs(model, batch):
    words, word_mask, features = batch
    masked = torch.zeros(3, 9, dtype=torch.bool)
    masked[:, ::2] = True
    model.mask_feature += torch.randn(10)
    by_hand = features.clone()
    by_hand[masked] = model.mask_feature
    got = model(words, word_mask, features, masked)
    assert torch.equal(got.cells, model(words, word_mask, by_hand).cells)
    hidden = torch.where(masked[..., None], features + 5, features)
    assert torch.equal(got.cells, model(words, word_mask, hidden, masked).cells)
    assert not torch.allclose(got.cells, model(words, word_mask, features).cells, atol=1e-4)


def test_the_mask_feature_starts_at_zero_and_learns(model, batch):
    assert model.mask_feature.tolist() == [0.0] * 10
    masked = torch.ones(3, 9, dtype=torch.bool)
    out = model(*batch, masked)
    model.code_logits(out.cells).logsumexp(-1).sum().backward()
    assert model.mask_feature.grad.abs().sum() > 0


@torch.no_grad()
def test_code_logits_are_the_written_formula_also_on_gathered_cells(model, batch):
    cells = model(*batch).cells
    dense, norm = model.code_transform.dense, model.code_transform.norm
    model.code_bias += torch.randn(11)
    hidden = norm(F.gelu(cells @ dense.weight.T + dense.bias))
    feature = hidden @ model.code_feature.weight.T + model.code_feature.bias
    want = feature @ model.centroids.T + model.code_bias
    assert torch.allclose(model.code_logits(cells), want, atol=1e-5)
    chosen = torch.rand(3, 9) < 0.4
    assert torch.allclose(model.code_logits(cells[chosen]), want[chosen], atol=1e-5)
    assert model.code_logits(cells[:0]).shape == (0, 9, 11)


PRODUCT = replace(TINY, codes=12, colour_codes=3, colour_dim=4, mixture=2, learned_positions=True)


@pytest.fixture
def product():
    shapes, colours = torch.randn(4, 6), torch.randn(3, 4)
    return XLxmert(PRODUCT, torch.cat([shapes.repeat_interleave(3, 0), colours.repeat(4, 1)], 1)).eval()


@torch.no_grad()
def test_a_product_vocabularys_logits_are_the_log_of_mixed_guesses(product):
    cells = torch.randn(5, 24)
    x = product.code_transform(cells)
    feature, weight = product.code_feature(x), product.code_mix(x).softmax(-1)
    want = torch.zeros(5, 12)
    for m in range(2):
        own = feature[:, 10 * m : 10 * m + 10]
        shape = (own[:, :6] @ product.centroids[::3, :6].T).softmax(-1)
        colour = (own[:, 6:] @ product.centroids[:3, 6:].T).softmax(-1)
        for code in range(12):
            want[:, code] += weight[:, m] * shape[:, code // 3] * colour[:, code % 3]
    assert torch.allclose(product.code_logits(cells), want.log(), atol=1e-5)
    codes = torch.randint(12, (5,))
    by_hand = F.cross_entropy(product.code_logits(cells), codes)
    assert torch.allclose(product.code_losses(cells, codes).mean(), by_hand, atol=1e-5)
    assert (product.code_losses(cells, codes) > 0).all() and product.code_bias is None


def test_two_guesses_can_say_red_cube_or_blue_ball_but_never_red_ball(product):
    """Two independent heads cannot: they would give each of the four pairs a quarter."""
    cells = torch.randn(1, 24).expand(64, 24)
    codes = torch.tensor([0, 4]).repeat(32)  # shape 0 with colour 0, shape 1 with colour 1
    optimiser = torch.optim.Adam(product.parameters(), 0.02)
    for _ in range(150):
        optimiser.zero_grad()
        product.code_losses(cells, codes).mean().backward()
        optimiser.step()
    found = product.code_logits(cells[:1]).exp()[0].detach()
    assert found[[0, 4]].min() > 0.4 and found[[1, 3]].max() < 0.05


@torch.no_grad()
def test_learned_positions_tell_cells_apart(product):
    same = product.centroids[:1].expand(1, 9, 10)
    places = product.cell_embedding(same, product.boxes())
    product.cell_embedding.grid[0] += 1.0 * torch.randn(24)
    moved = (product.cell_embedding(same, product.boxes()) - places).abs().amax(-1)[0]
    assert moved[0] > 1e-3 and moved[1:].max() == 0


@torch.no_grad()
def test_a_cell_sees_the_eight_around_it_and_no_other_region_does():
    torch.manual_seed(0)
    model = XLxmert(replace(TINY, neighbours=True)).eval()  # 3 x 3 cells
    embed, features = model.cell_embedding, torch.randn(1, 9, 10)
    before = embed(features, model.boxes())
    torch.testing.assert_close(before, (embed.feature_norm(embed.feature(features)) + embed.place(model.boxes())) / 2)
    embed.near.weight.normal_()
    before, other = embed(features, model.boxes()), features.clone()
    other[0, 0] += 1
    moved = (embed(other, model.boxes()) - before).abs().amax(-1)[0] > 1e-6
    assert moved.nonzero().flatten().tolist() == [0, 1, 3, 4]  # itself, its right, the one below, the one between
    assert torch.equal(embed(features, model.boxes(), whole=False), embed(features, model.boxes()[None], whole=False))
    assert not torch.equal(embed(features, model.boxes(), whole=False), before)


@pytest.mark.parametrize("wrong", [{"colour_codes": 5}, {"colour_codes": 0}, {"colour_dim": 10}, {"colour_dim": 0}])
def test_a_product_vocabulary_that_does_not_add_up_is_refused(wrong):
    with pytest.raises(ValueError, match="colour_codes"):
        replace(PRODUCT, **wrong)


def test_centroids_are_frozen_and_serve_both_uses(model, centroids, batch):
    assert "centroids" not in dict(model.named_parameters())
    assert [k for k, v in model.state_dict().items() if v.shape == (11, 10)] == ["centroids"]
    codes = torch.arange(9)[None]
    assert torch.equal(model.embed_codes(codes)[0], centroids[:9])
    out = model(batch[0], batch[1], model.embed_codes(codes.expand(3, 9)))
    logits = model.code_logits(out.cells).flatten(0, 1)  # [B * N, K]
    F.cross_entropy(logits, codes.repeat(3, 1).flatten()).backward()
    assert model.centroids.grad is None and not model.centroids.requires_grad
    assert model.code_bias.grad.abs().sum() > 0
    before = model.code_logits(out.cells).detach()
    model.centroids[3] += 1  # one change, seen by the input and by the classifier
    assert torch.equal(model.embed_codes(torch.tensor([[3]]))[0, 0], centroids[3] + 1)
    changed = (model.code_logits(out.cells).detach() - before).abs().amax((0, 1)) > 1e-6
    assert changed.nonzero().flatten().tolist() == [3]


def test_the_given_centroids_are_copied(centroids):
    model = XLxmert(TINY, centroids)
    kept = centroids.clone()
    centroids.zero_()
    assert torch.equal(model.centroids, kept)


def test_word_decoder_is_the_word_embedding(model, batch):
    hidden = model(*batch).words.detach()
    logits = model.word_logits(hidden)
    want = model.word_transform(hidden) @ model.word_embedding.words.weight.T + model.word_bias
    assert torch.allclose(logits, want, atol=1e-5)
    logits.square().sum().backward()
    assert model.word_embedding.words.weight.grad.abs().sum() > 0


def test_every_parameter_learns(model, batch):
    masked = torch.rand(3, 9) < 0.5
    out = model(*batch, masked)
    heads = [model.code_logits(out.cells), model.word_logits(out.words)]
    heads += [model.match_logits(out.pooled), model.answer_logits(out.pooled)]
    sum(logits.logsumexp(-1).square().sum() for logits in heads).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_initialised_like_bert():
    model = XLxmert(storybook())
    for name, value in model.named_parameters():
        if name.endswith("bias") or name == "mask_feature":
            assert value.abs().max() == 0, name
        elif "norm" in name or name == "answer_head.2.weight":
            assert (value == 1).all(), name
        elif name == "cell_embedding.grid":  # waves, as large as the norm leaves the boxes' share
            assert (value.square().mean(1) - 0.25).abs().max() < 1e-6
        else:
            assert abs(value.std() - 0.02) < 0.003 and abs(value.mean()) < 0.003, name


@pytest.mark.parametrize(
    ("shape", "message"),
    [((3, 9, 8), r"features \[B, 9, 10\], got \[3, 9, 8\]"), ((3, 3, 3, 10), "flatten the grid")],
)
def test_features_of_another_shape_are_refused(model, batch, shape, message):
    with pytest.raises(ValueError, match=message):
        model(batch[0], batch[1], torch.zeros(shape))


def test_centroids_of_another_shape_and_long_sentences_are_refused(model, batch):
    with pytest.raises(ValueError, match=r"centroids are \[5, 10\].*codes=11"):
        XLxmert(TINY, torch.zeros(5, 10))
    with pytest.raises(ValueError, match="17 words, the model 16 positions"):
        model.encode_text(torch.zeros(1, 17, dtype=torch.long))


@torch.no_grad()
def test_pair_classifier_is_one_head_on_two_pooled_vectors(model, batch):
    words, word_mask, left = batch
    right = left.flip(0)
    pairs = PairClassifier(model).eval()
    both = [model(words, word_mask, features).pooled for features in (left, right)]
    first, _, norm, last = pairs.head
    assert first.weight.shape == (48, 48) and last.weight.shape == (2, 48)
    want = last(norm(F.gelu(first(torch.cat(both, 1)))))
    assert torch.allclose(pairs(words, word_mask, left, right), want, atol=1e-6)
    assert not torch.allclose(pairs(words, word_mask, right, left), want, atol=1e-5)


@pytest.mark.parametrize("length", [5, 9])  # 9: as many words as cells
@torch.no_grad()
def test_where_words_look_is_what_every_cross_layer_computes(model, length):
    words, features = torch.randint(40, (2, length)), torch.randn(2, 9, 10)
    word_mask = torch.arange(length) < torch.tensor([length, 3])[:, None]
    before = model(words, word_mask, features)
    seen = cross_attention(model, words, word_mask, features)
    assert seen.shape == (2, 3, 2, length, 9)  # layers, heads, B, L, N
    assert torch.allclose(seen.sum(-1), torch.ones(2, 3, 2, length), atol=1e-6)
    text, cells = model.encode_text(words, word_mask), model.cell_embedding(features, model.boxes())
    cells = model.encoder.visual[0](cells)
    for layer, weights in zip(model.encoder.cross, seen, strict=True):
        want = layer.cross(text, cells, return_weights=True)[1].transpose(0, 1)
        assert torch.allclose(weights, want, atol=1e-6)
        text, cells = layer(text, cells, for_attention(word_mask), None)
    assert torch.equal(before.words, model(words, word_mask, features).words)  # the model is left as it was
    assert not any(layer._forward_pre_hooks or layer.cross._forward_hooks for layer in model.encoder.cross)


@pytest.mark.slow
def test_a_tiny_model_learns_to_copy_words_into_cells():
    """The whole machine learns: the code of each cell is told by the word at its position."""
    model = XLxmert(TINY, torch.randn(11, 10)).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    masked = torch.ones(32, 9, dtype=torch.bool)
    for _ in range(150):
        codes = torch.randint(2, (32, 1)).expand(32, 9)
        out = model(codes[:, :4] + 5, None, model.embed_codes(codes), masked)
        logits = model.code_logits(out.cells).flatten(0, 1)
        loss = F.cross_entropy(logits, codes.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (logits.argmax(1) == codes.flatten()).float().mean() > 0.95  # chance: 0.5
