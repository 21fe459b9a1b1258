"""The paper's measures of paintings, on cases whose answer is known: R-precision, Inception score, FID."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import sqrtm
from torchvision.models.inception import InceptionA, InceptionC, InceptionE

from xlxmert_core.evaluate.inception import (
    Inception,
    LargestE,
    PooledA,
    PooledC,
    PooledE,
    fid_and_score,
    inception_score,
    open_inception,
)
from xlxmert_core.evaluate.retrieval import WORDS, exchanged, others, places, r_precision
from xlxmert_core.evaluate.scenes import frechet_distance

TEXTS = [f"a {colour} {noun}" for colour in ("red", "blue", "green") for noun in ("car", "dog", "cup", "kite")]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- R-precision. ------------------------------------------------------------------------------------


def test_one_word_is_exchanged_for_one_of_its_group():
    text = "Two red cars and a dog, sitting on a bench"
    assert [(p.word, p.group) for p in places(text)] == [
        ("two", "number"), ("red", "colour"), ("dog", "noun"), ("sitting", "verb"), ("bench", "noun"),
    ]  # fmt: skip
    found = exchanged(text, rng(), 1000)
    assert len(found) == len(set(found)) == 9 + 10 + 2 * (len(WORDS["noun"]) - 2) + len(WORDS["verb"]) - 1
    for other in found:
        pairs = [(a, b) for a, b in zip(text.split(), other.split(), strict=True) if a != b]
        [(was, now)] = [(a.strip(",").lower(), b.strip(",")) for a, b in pairs]
        assert any(was in group and now in group for group in WORDS.values()) and now not in text.lower().split()
    few = exchanged(text, rng(1), 5)
    assert len(few) == 5 and few != exchanged(text, rng(2), 5) and few == exchanged(text, rng(1), 5)
    assert exchanged("nothing that it knows", rng(), 5) == []


def test_rivals_are_other_captions_each_once():
    found = others([*TEXTS, TEXTS[0]], rng(), 8)
    for text, rivals in zip([*TEXTS, TEXTS[0]], found, strict=True):
        assert len(set(rivals)) == 8 and text not in rivals and set(rivals) <= set(TEXTS)
    assert {text for rivals in found for text in rivals} == set(TEXTS)
    assert set(others(TEXTS, rng(), 11)[3]) == set(TEXTS) - {TEXTS[3]}
    with pytest.raises(ValueError, match="99 rivals need 100 different captions, not 12"):
        others(TEXTS, rng())


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_a_perfect_judge_finds_all_and_a_blind_or_dull_one_what_chance_gives(kind):
    pictures = np.arange(len(TEXTS)) if kind == "array" else torch.arange(len(TEXTS))
    rivals, asked = others(TEXTS, rng(), 7), []

    def perfect(pictures, texts):
        asked.append(len(texts))
        fits = [float(TEXTS[int(i)] == text) for i, text in zip(pictures, texts, strict=True)]
        return torch.tensor(fits) if kind == "tensor" else fits

    assert r_precision(perfect, pictures, TEXTS, rivals).all() and sum(asked) == 8 * len(TEXTS)
    assert max(asked) <= 64  # few at a time
    assert not r_precision(lambda p, t: -np.array(perfect(p, t)), pictures, TEXTS, rivals).any()
    assert not r_precision(lambda p, t: np.zeros(len(t)), pictures, TEXTS, rivals).any()  # a tie is lost
    guess, many = rng(5), [TEXTS[i % 12] for i in range(4000)]
    by_chance = r_precision(lambda p, t: guess.random(len(t)), np.arange(4000), many, others(many, rng(), 7))
    assert abs(by_chance.mean() - 1 / 8) < 4 * (1 / 8 * 7 / 8 / 4000) ** 0.5


def test_rows_may_have_different_numbers_of_rivals_and_half_wrong_judges_are_half_right():
    def colour_blind(pictures, texts):
        return [float(TEXTS[i].split()[2] == text.split()[2]) for i, text in zip(pictures, texts, strict=True)]

    nouns, colours = ([exchanged(text, rng(i), 1 + i % 3, {name: WORDS[name]}) for i, text in enumerate(TEXTS)]
                      for name in ("noun", "colour"))  # fmt: skip
    assert r_precision(colour_blind, np.arange(12), TEXTS, nouns).all()
    assert not r_precision(colour_blind, np.arange(12), TEXTS, colours).any()
    half = r_precision(colour_blind, np.arange(12), TEXTS, nouns[:6] + colours[6:])
    assert half.tolist() == [True] * 6 + [False] * 6


def test_a_text_without_rivals_is_refused():
    with pytest.raises(ValueError, match=r"1 texts have no rivals \(the first is 'a red car'\)"):
        r_precision(lambda p, t: t, np.arange(2), TEXTS[:2], [[], ["x"]])
    with pytest.raises(ValueError, match="3 pictures, 2 texts and 2 lists of rivals"):
        r_precision(lambda p, t: t, np.arange(3), TEXTS[:2], [["y"], ["x"]])


# --- Inception score and the Fréchet distance. -------------------------------------------------------


def test_an_inception_score_counts_the_classes_that_are_seen_for_sure():
    sure = 50 * np.eye(8)[np.arange(80) % 8]  # each class in every split
    assert inception_score(sure) == pytest.approx((8, 0), abs=1e-6)
    assert inception_score(50 * np.eye(8)[np.zeros(80, int)]) == pytest.approx((1, 0), abs=1e-6)
    assert inception_score(np.zeros((80, 8))) == pytest.approx((1, 0), abs=1e-6)
    sorted_ = 50 * np.eye(8)[np.arange(80) // 10]  # one class a split, for 8 of 8 splits
    assert inception_score(sorted_, 8)[0] == pytest.approx(1, abs=1e-6)
    assert inception_score(np.concatenate([sure[:40], sorted_[:10], sorted_[:10], sorted_[:10], sorted_[:10]]), 2) \
        == pytest.approx((4.5, 3.5), abs=1e-6)  # fmt: skip
    p = rng().dirichlet(np.ones(5), 30)
    want = np.exp((p * np.log(p / p.mean(0))).sum(1).mean())
    assert inception_score(np.log(p), 1) == pytest.approx((want, 0))
    with pytest.raises(ValueError, match="in 10 parts needs as many pictures, not 9"):
        inception_score(np.zeros((9, 8)))


def white(rows: int, width: int, seed: int) -> np.ndarray:
    """Vectors whose mean is 0 and whose covariance is exactly 1."""
    x = rng(seed).normal(size=(rows, width))
    x -= x.mean(0)
    return np.linalg.qr(x)[0] * (rows - 1) ** 0.5


def test_the_frechet_distance_of_known_gaussians_is_the_closed_form():
    a, b = rng(1).uniform(0.5, 3, (2, 6))
    m, n = rng(2).normal(size=(2, 6))
    want = ((m - n) ** 2).sum() + ((a - b) ** 2).sum()
    assert frechet_distance(white(50, 6, 3) * a + m, white(31, 6, 4) * b + n) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("rows", [(40, 60), (5, 60), (5, 3)])
def test_the_frechet_distance_is_scipys_also_of_few_vectors(rows):
    a, b = (rng(i).normal(size=(count, 12)) @ rng(9 + i).normal(size=(12, 12)) for i, count in enumerate(rows))
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = sqrtm(cov_a @ cov_b).real
    want = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(want, rel=1e-3 if min(rows) < 12 else 1e-8)


@pytest.mark.parametrize(("ours", "theirs", "most"), [
    (lambda: PooledA(16, 8), lambda: InceptionA(16, 8), False),
    (lambda: PooledC(16, 8), lambda: InceptionC(16, 8), False),
    (lambda: PooledE(16), lambda: InceptionE(16), False),
    (lambda: LargestE(16), lambda: InceptionE(16), True),
])  # fmt: skip
@torch.no_grad()
def test_blocks_of_2015_pool_only_what_is_there_and_are_torchvisions_otherwise(ours, theirs, most):
    torch.manual_seed(0)
    one, other = ours().eval(), theirs().eval()
    other.load_state_dict(one.state_dict())
    x = torch.randn(1, 16, 5, 5)
    got, plain = one(x), other(x)
    width = one.branch_pool.conv.out_channels
    assert torch.equal(got[:, :-width], plain[:, :-width])
    pooled = torch.zeros_like(x)
    for row in range(5):
        for column in range(5):
            near = x[:, :, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            pooled[:, :, row, column] = near.amax((2, 3)) if most else near.mean((2, 3))
    assert torch.allclose(got[:, -width:], one.branch_pool(pooled), atol=1e-6)
    inner, edge = got[:, -width:, 1:-1, 1:-1], plain[:, -width:, 1:-1, 1:-1]
    assert torch.allclose(inner, edge, atol=1e-6) != most and not torch.allclose(got, plain, atol=1e-4)


@pytest.fixture(scope="module")
def net() -> Inception:
    torch.manual_seed(0)
    return Inception().eval()


@torch.no_grad()
def test_weights_are_read_from_a_file_and_the_name_says_so(net, tmp_path):
    state = {name.removeprefix("body.").replace("last.", "fc."): value for name, value in net.state_dict().items()}
    assert state["fc.weight"].shape == (1008, 2048) and "Mixed_7c.branch_pool.conv.weight" in state
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(old | {"AuxLogits.fc.bias": torch.zeros(3)}, tmp_path / "weights.pth")
    opened = open_inception(tmp_path / "weights.pth")
    assert (net.name, opened.name) == ("random Inception of 2015", "Inception of 2015")
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in opened.state_dict().items())
    assert not opened.training
    with pytest.raises(ValueError, match=r"last.weight \[1008, 2048\] instead of \[1000, 2048\]"):
        open_inception(tmp_path / "weights.pth", "torchvision")
    with pytest.raises(FileNotFoundError, match="download pytorch-fid's pt_inception-2015"):
        open_inception(tmp_path / "none.pth")
    with pytest.raises(ValueError, match="There is no Inception '2016': choose '2015' or 'torchvision'"):
        Inception("2016")


@pytest.mark.slow
def test_numbers_carry_the_name_of_who_looked(net):
    pictures = rng().integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    found = fid_and_score(net, pictures[:3], pictures[3:], splits=1)
    assert set(found) == {"FID (random Inception of 2015, 3 pictures)", "its deviation over 1 parts",
                          "Inception score (random Inception of 2015, 3 pictures)"}  # fmt: skip
    assert fid_and_score(net, pictures[:3], pictures[:3], 1)["FID (random Inception of 2015, 3 pictures)"] < 1e-3
    with torch.no_grad():
        x = F.interpolate(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1, (299, 299), mode="bilinear")
        features = net.body(x)
    assert features.shape == (6, 2048)
    want = frechet_distance(features[:3].numpy(), features[3:].numpy())
    assert found["FID (random Inception of 2015, 3 pictures)"] == pytest.approx(want, rel=1e-3)
    unbiased = features.numpy() @ net.last.weight.detach().numpy().T
    np.testing.assert_allclose(net.logits(features.numpy()), unbiased, rtol=1e-4, atol=1e-5)
