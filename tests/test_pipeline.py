"""The one object a reader holds takes any picture, keeps what it must, and is saved and opened unchanged."""

import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import xlxmert_core
from xlxmert_core import captioning, model, sampling
from xlxmert_core.config import GeneratorConfig, ModelConfig
from xlxmert_core.features import GridEncoder
from xlxmert_core.generator import Generator
from xlxmert_core.model import PairClassifier, XLxmert
from xlxmert_core.skills import Skill
from xlxmert_core.text import Tokenizer
from xlxmert_core.train.finetuning import adopt

TEXTS = ["a red house in the snow", "two blue boats at night"]
SIZES = GeneratorConfig(feature_dim=10, bottleneck=8, channels=(8, 8, 8, 4, 4), spade_hidden=4, groups=2, grid=2)


@pytest.fixture(scope="module")
def painter():
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_corpus(TEXTS)
    config = ModelConfig(
        vocab_size=tokenizer.size, hidden=24, heads=3, feed_forward=40, language_layers=1, visual_layers=1,
        cross_layers=1, positions=24, max_words=12, dropout=0.0, codes=13, feature_dim=10, grid=2, answers=3,
    )  # fmt: skip
    model = XLxmert(config, torch.randn(13, 10))
    encoder = GridEncoder(10, {"kind": 3}, imagenet=False)
    return xlxmert_core.Pipeline(model, tokenizer, Generator(SIZES), encoder, ["yes", "no", "red"])


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def test_paint_returns_pictures_codes_and_every_step(painter):
    painting = painter.paint(TEXTS, steps=3, polish=0)
    assert painting.images.shape == (2, 32, 32, 3) and painting.images.dtype == np.uint8
    assert painting.codes.shape == (2, 4) and painting.codes.dtype == torch.int64
    assert [step["step"] for step in painting.history] == [0, 1, 2]
    assert torch.equal(painting.history[-1]["codes"], painting.codes)
    assert len(painter.paint(TEXTS[0]).images) == 1


def test_equal_seeds_give_equal_pictures(painter):
    first, again, other = (painter.paint(TEXTS, seed=s, temperature=5.0) for s in (1, 1, 2))
    assert np.array_equal(first.images, again.images)
    assert not torch.equal(first.codes, other.codes)


def test_repaint_keeps_unmasked_cells_bit_for_bit(painter):
    codes, mask = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), np.array([[True, False], [False, False]])
    repainted = painter.repaint(codes, mask, "two blue boats", temperature=5.0, seed=3)
    assert torch.equal(repainted.codes[:, 1:], codes[:, 1:])
    with pytest.raises(ValueError, match=r"mask must be bool \[2, 2\]"):
        painter.repaint(codes, np.ones((3, 3), bool), "boats")
    with pytest.raises(ValueError, match="3 texts for 2 pictures"):
        painter.repaint(codes, mask, ["boats"] * 3)
    with pytest.raises(ValueError, match="3 masks for 2 pictures"):
        painter.repaint(codes, np.stack([mask] * 3), "boats")


def test_many_are_painted_read_and_asked_in_batches_with_the_same_result(skilled, painter, monkeypatch):
    pictures = np.random.default_rng(1).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    texts = [*TEXTS, "a red house", "two boats in the snow", "night", TEXTS[0], "blue snow"]
    regions = np.random.default_rng(2).random((7, 2, 2)) < 0.5
    options = {"temperature": 5.0, "seed": 4, "candidates": 2, "polish": 3, "guidance": 1.0}
    seen, sure = [], []

    def all_of_it() -> list:
        paintings = [
            painter.paint(
                texts, order=sampling.maskgit, callback=lambda step: seen.append(len(step["codes"])), **options
            ),
            painter.repaint(pictures, regions, texts, **options),
        ]
        history = [{k: np.asarray(v) for k, v in step.items()} for p in paintings for step in p.history]
        sure.append(np.concatenate([step.pop("confidence") for step in history]))
        lines = [painter.caption(pictures, regions, lengths=[3, 5]), skilled.caption(pictures, regions)]
        lines += [painter.caption(pictures, lengths=torch.arange(14).view(7, 2) % 5 + 1, prior=torch.zeros(7, 2))]
        answers = [p.answer(pictures, texts) for p in (painter, skilled)]
        whole = [p.codes.numpy() for p in paintings] + [p.images for p in paintings]
        whole += [painter.encode(pictures).numpy()]
        return [*whole, *history, lines, answers, skilled.judge(pictures, pictures[::-1], texts)]

    together = all_of_it()
    assert set(seen) == {14}
    seen.clear()
    monkeypatch.setattr(model, "AT_ONCE", 6)  # three texts, or a few sentences, at a time
    np.testing.assert_equal(all_of_it(), together)
    np.testing.assert_allclose(*sure, rtol=1e-5)  # the order of a sum depends on what is summed together
    assert set(seen) == {6, 2}


def test_pictures_of_all_kinds_give_the_same_codes(painter, picture, tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(picture).save(path)
    codes = painter.encode(picture)
    assert codes.shape == (1, 4) and codes.dtype == torch.int64
    for same in (path, str(path), Image.fromarray(picture), [picture], picture[None]):
        assert torch.equal(painter.encode(same), codes)
    assert painter.encode([path, picture]).tolist() == [*codes.tolist()] * 2
    for mode in ("L", "RGBA", "CMYK"):
        assert painter.encode(Image.fromarray(picture).convert(mode)).shape == (1, 4)
    with pytest.raises(ValueError, match="address"):
        painter.encode("https://example.com/a.png")


def test_captions_and_answers_are_sentences_and_known_answers(painter, picture):
    (caption,) = painter.caption(picture, lengths=[3])
    assert len(caption.split()) == 3
    assert set(painter.answer([picture, picture], "a house")) <= {"yes", "no", "red"}
    with pytest.raises(ValueError, match="2 questions for 1 pictures"):
        painter.answer(picture, ["a", "house"])
    mute = xlxmert_core.Pipeline(painter.model, painter.tokenizer, painter.generator, painter.encoder)
    with pytest.raises(ValueError, match="no answer vocabulary"):
        mute.answer(picture, "a house")


def test_saved_and_opened_it_does_the_same(painter, picture, tmp_path):
    painter.save(tmp_path / "p")
    opened = xlxmert_core.load(tmp_path / "p")
    assert np.array_equal(opened.paint(TEXTS).images, painter.paint(TEXTS).images)
    assert torch.equal(opened.encode(picture), painter.encode(picture))
    assert opened.answer(picture, "a house") == painter.answer(picture, "a house")
    painter.save(tmp_path / "half", bits=16)
    assert xlxmert_core.load(tmp_path / "half").paint(TEXTS).codes.shape == (2, 4)


def test_load_refuses_addresses_and_names_what_is_missing(painter, tmp_path):
    with pytest.raises(ValueError, match="local folders only"):
        xlxmert_core.load("https://example.com/model")
    painter.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match="it has no tokenizer.json"):
        xlxmert_core.load(tmp_path)


class Attack:
    """Unpickling this runs a command."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_load_never_runs_what_is_in_a_file(painter, tmp_path):
    painter.save(tmp_path / "p")
    marker = tmp_path / "ran"
    (tmp_path / "p" / "transformer.safetensors").write_bytes(pickle.dumps(Attack(marker)))
    with pytest.raises(Exception, match="transformer.safetensors"):
        xlxmert_core.load(tmp_path / "p")
    assert not marker.exists()


def test_the_best_of_several_candidates_is_the_one_that_matches_best(painter):
    options = {"steps": 2, "temperature": 5.0, "order": sampling.random, "polish": 0}
    chosen = painter.paint(TEXTS, candidates=6, **options)
    seen = []
    painter.paint(TEXTS, candidates=6, callback=lambda step: seen.append(step["codes"]), **options)
    every = seen[-1]  # [2 * 6, N]
    assert every.shape == (12, 4) and len(every.unique(dim=0)) > 2
    for i, text in enumerate(TEXTS):
        scores = painter.score(text, every[6 * i : 6 * i + 6])
        assert torch.equal(chosen.codes[i], every[6 * i + int(scores.argmax())])
    assert torch.equal(chosen.history[-1]["codes"], chosen.codes)


def test_a_text_that_is_empty_or_too_long_is_said_to_be(painter):
    with pytest.warns(UserWarning, match="empty text asks for nothing"):
        painter.paint("  ", steps=1)
    with pytest.warns(UserWarning, match="has 500 words; the model reads the first 10"):
        painter.paint("house " * 500, steps=1)
    with pytest.warns(UserWarning, match="'w4'.* and 35 more"):
        painter.paint(" ".join(f"w{i}" for i in range(40)), steps=1)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda p, image, codes: p.paint("a purple house"), "never learned"),
        (lambda p, image, codes: p.paint("house " * 20, guidance=1.0), "has 20 words"),
        (lambda p, image, codes: p.paint(""), "asks for nothing"),
        (lambda p, image, codes: p.repaint(codes, np.eye(2, dtype=bool), "a purple house"), "never learned"),
        (lambda p, image, codes: p.repaint(codes, np.eye(2, dtype=bool), " "), "asks for nothing"),
        (lambda p, image, codes: p.score("a purple house", codes), "never learned"),
        (lambda p, image, codes: p.match(["a purple house"], codes), "never learned"),
        (lambda p, image, codes: p.read("a purple house", torch.ones(1, 4, 10)), "never learned"),
        (lambda p, image, codes: p.answer(image, "a purple house", skill="gqa"), "never learned"),
        (lambda p, image, codes: p.answer(image, "a pruple house"), "never learned"),
        (lambda p, image, codes: p.judge(image, image, "a pruple house"), "never learned"),
    ],
    ids="paint paint-guided paint-nothing repaint repaint-nothing score match read answer skill judge".split(),
)
def test_a_warning_points_at_the_line_that_called(skilled, picture, call, said):
    with pytest.warns(UserWarning, match=said) as seen:
        call(skilled, picture, torch.tensor([[1, 2, 3, 4]]))
    lines = {(warning.filename, warning.lineno) for warning in seen}
    assert lines == {(__file__, call.__code__.co_firstlineno)}


def test_unknown_words_are_named_with_the_nearest_known(painter):
    with pytest.warns(UserWarning, match="'housse' .read as: house"):
        painter.paint("a red housse")


@pytest.mark.filterwarnings("ignore:Words the model never", "ignore:An empty text", "ignore:The text has 500")
@pytest.mark.parametrize("text", ["", "house " * 500, "🏠🌟", "بيت أحمر", "[MASK] [PAD] \x00"])
def test_odd_texts_paint_something(painter, text):
    assert painter.paint(text, steps=2).images.shape == (1, 32, 32, 3)


@pytest.fixture(scope="module")
def skilled(painter):
    """The painter with three skills that know a few more words; each is told apart by what it says."""
    longer = painter.tokenizer.extended(["a purple house"])

    def learn(answers) -> XLxmert:
        torch.manual_seed(1)
        return adopt(painter.model, longer, painter.answers, answers).eval()

    lengths = [str(n) for n in range(11)]
    writer, judge = learn(lengths), PairClassifier(learn([])).eval()
    skills = {
        "vqa": Skill(learn(["left", "right"]), longer, ["left", "right"]),
        "nlvr2": Skill(judge, longer, ["False", "True"]),
        "captions": Skill(writer, longer, lengths),
    }
    with torch.no_grad():
        writer.answer_head[3].bias[[0, 2, 4, 6, 9]] += torch.tensor([90.0, 50.0, 52.0, 51.0, 53.0])
    parts = (painter.model, painter.tokenizer, painter.generator, painter.encoder, painter.answers)
    return xlxmert_core.Pipeline(*parts, skills)


def test_the_skill_writes_the_four_likeliest_lengths_and_keeps_the_best_sentence(skilled, picture, monkeypatch):
    skill, features = skilled.skills["captions"], torch.from_numpy(skilled.features([picture, 255 - picture]))
    given, write = [], captioning.write_caption
    monkeypatch.setattr(captioning, "write_caption", lambda *a, **k: given.append((a, k)) or write(*a, **k))
    said = skilled.caption([picture, 255 - picture])
    (model, tokenizer, shown), options = given[0]
    assert model is skill.model and tokenizer is skill.tokenizer and torch.equal(shown, features)
    assert options["lengths"].tolist() == [[9, 4, 6, 2]] * 2  # the likeliest of all, no word, is no sentence
    alone = [write(model, tokenizer, features, [n]) for n in (9, 4, 6, 2)]
    for row, text in enumerate(said):
        scores = [float(means[row]) * n for (_, means), n in zip(alone, (9, 4, 6, 2), strict=True)]
        best = int((torch.tensor(scores) + options["prior"][row]).argmax())
        assert text == alone[best][0][row]
    assert len(skilled.caption(picture, lengths=[3])[0].split()) == 3


def test_a_region_hides_all_other_cells(skilled, painter, picture, monkeypatch):
    hidden = []
    write = captioning.write_caption
    monkeypatch.setattr(captioning, "write_caption", lambda *a, **k: hidden.append(k["hidden"]) or write(*a, **k))
    left = np.array([[True, False], [True, False]])
    for pipeline in (skilled, painter):
        pipeline.caption([picture] * 2, left, lengths=[3])
        pipeline.caption([picture] * 2, np.stack([left, ~left]), lengths=[3])
        assert hidden[-2].tolist() == [[False, True, False, True]] * 2
        assert hidden[-1].tolist() == [[False, True, False, True], [True, False, True, False]]
    with pytest.raises(ValueError, match=r"region must be bool \[2, 2\], got \[3, 3\]"):
        skilled.caption(picture, np.ones((3, 3), bool))
    with pytest.raises(ValueError, match="3 regions for 2 pictures"):
        skilled.caption([picture] * 2, np.stack([left] * 3))


def test_a_skill_answers_in_place_of_the_pretrained_model(skilled, painter, picture):
    features = torch.from_numpy(skilled.features([picture, 255 - picture]))
    questions = ["a red house", "two boats"]
    said = skilled.answer([picture, 255 - picture], questions)
    assert said == skilled.skills["vqa"].answer(questions, features) and set(said) <= {"left", "right"}
    assert skilled.answer(picture, "a house", skill="gqa") == painter.answer(picture, "a house")  # no such skill here
    with pytest.raises(ValueError, match="2 questions for 1 pictures"):
        skilled.answer(picture, questions)


def test_pairs_are_judged_left_and_right(skilled, painter, picture):
    left, right = [picture, 255 - picture], [255 - picture, picture // 2]
    both = torch.stack([torch.from_numpy(skilled.features(side)) for side in (left, right)], 1)
    want = skilled.skills["nlvr2"].answer(["a red house"] * 2, both)
    assert skilled.judge(left, right, "a red house") == [answer == "True" for answer in want]
    with pytest.raises(ValueError, match="2 pictures on the left but 1 on the right"):
        skilled.judge(left, picture, "a house")
    with pytest.raises(ValueError, match="3 statements for 2 pictures"):
        skilled.judge(left, right, ["a house"] * 3)
    with pytest.raises(ValueError, match="has no skill 'nlvr2'"):
        painter.judge(left, right, "a house")


def test_skills_are_saved_and_opened_with_the_pipeline(skilled, picture, tmp_path):
    skilled.save(tmp_path)
    opened = xlxmert_core.load(tmp_path)
    assert opened.skills.keys() == skilled.skills.keys()
    assert opened.caption(picture) == skilled.caption(picture)
    assert opened.answer(picture, "a purple house") == skilled.answer(picture, "a purple house")
    assert opened.judge(picture, 255 - picture, "a house") == skilled.judge(picture, 255 - picture, "a house")


def test_a_skill_is_asked_with_the_words_that_it_knows(skilled, painter, picture):
    with pytest.warns(UserWarning, match="'purple'"):
        painter.answer(picture, "a purple house")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        skilled.answer(picture, "a purple house")
        skilled.judge(picture, picture, "a purple house")
    with pytest.warns(UserWarning, match="'pruple' .read as: purple"):
        skilled.answer(picture, "a pruple house")
    with pytest.warns(UserWarning, match="'prupel' .near: purple"):
        skilled.judge(picture, picture, "a prupel house")


def test_saving_again_removes_old_skills_and_nothing_else(painter, skilled, tmp_path):
    (tmp_path / "gqa").mkdir()
    (tmp_path / "gqa" / "questions.json").write_text("mine")
    skilled.save(tmp_path)
    (tmp_path / "vqa" / "notes.txt").write_text("mine")
    painter.save(tmp_path)
    assert xlxmert_core.load(tmp_path).skills == {}
    left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*/*") if p.is_file()}
    assert left == {"gqa/questions.json", "vqa/notes.txt"}


def test_a_skill_that_is_none_is_refused(skilled, picture):
    with pytest.raises(ValueError, match="no skill 'vga' that answers questions: choose 'vqa' or 'gqa'"):
        skilled.answer(picture, "a red house", skill="vga")


@pytest.fixture
def able(painter):
    """The painter with every skill."""
    skills = {name: Skill(painter.model, painter.tokenizer, painter.answers) for name in ("vqa", "gqa")}
    skills["nlvr2"] = Skill(PairClassifier(painter.model), painter.tokenizer, ["False", "True"])
    skills["captions"] = Skill(painter.model, painter.tokenizer, ["0", "1", "2"])
    return xlxmert_core.Pipeline(
        painter.model, painter.tokenizer, painter.generator, painter.encoder, painter.answers, skills
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e19])
@pytest.mark.parametrize("skilled", [True, False])
def test_features_that_are_no_numbers_are_refused_by_every_face(painter, able, value, skilled):
    some, features = able if skilled else painter, torch.zeros(1, 4, 10)
    features[0, 1, 2] = value
    calls = [lambda: some.encode(features), lambda: some.features(features), lambda: some.caption(features),
             lambda: some.answer(features, "is it red"), lambda: some.read("a house", features),
             lambda: some.repaint(features, np.ones((2, 2), bool), "boats")]  # fmt: skip
    for call in calls + [lambda: able.judge(features, features, "boats"), lambda: able.answer(features, "a", "gqa")]:
        with pytest.raises(ValueError, match="The features are (NaN or infinite|as large as 3e)"):
            call()


def test_an_eye_that_sees_no_numbers_is_named(painter, picture):
    blind = GridEncoder(10, {"kind": 3}, imagenet=False)
    torch.nn.init.constant_(blind.neck.bias, float("nan"))
    broken = xlxmert_core.Pipeline(painter.model, painter.tokenizer, painter.generator, blind)
    with pytest.raises(ValueError, match="The features that the eye sees are NaN or infinite"):
        broken.encode(picture)


def test_what_is_read_has_its_shape_and_boxes_their_range(painter):
    features, boxes = torch.zeros(2, 3, 10), torch.tensor([[0, 0, 0.5, 1]]).repeat(3, 1)
    assert painter.read("a house", features, boxes).pooled.shape[0] == 2
    assert painter.read("a house", features, boxes.expand(2, 3, 4)).pooled.shape[0] == 2
    with pytest.raises(ValueError, match="between 0 and 1, these go from 0 to 320: divide pixels"):
        painter.read("a house", features, boxes * 320)
    with pytest.raises(ValueError, match=r"Boxes must be \[3, 4\] or \[2, 3, 4\], .*, got \[2, 4\]"):
        painter.read("a house", features, boxes[:2])
    for wrong in (features, features[0], torch.zeros(2, 4, 9)):
        with pytest.raises(ValueError, match=r"must be float \[B, 4, 10\], or \[B, N, 10\] with boxes"):
            painter.read("a house", wrong)


def test_codes_that_are_none_are_refused_by_every_face(painter):
    for face in (painter.render, lambda codes: painter.score("a", codes), lambda codes: painter.match("a", codes)):
        for codes in (torch.full((1, 4), 13), torch.full((1, 4), -1), torch.zeros(1, 3, dtype=torch.int64)):
            with pytest.raises(ValueError, match="codes go from|must be codes int"):
                face(codes)
        with pytest.raises(ValueError, match="Codes are whole numbers, not torch.float32"):
            face(torch.zeros(1, 4))
