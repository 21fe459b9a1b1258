"""The benchmarks' own scores, by hand and by brute force, and the files their servers take."""

import json
import math
import random
from collections import Counter

import pytest

from xlxmert_core.data.vqa import Question
from xlxmert_core.evaluate.scores import (
    caption_scores,
    gqa_scores,
    most_frequent,
    nlvr2_scores,
    submit_captions,
    submit_gqa,
    submit_nlvr2,
    submit_vqa,
    vqa_scores,
)


def ask(number, answers, kinds=("what",), entailed=()):
    return Question(number, (1,), "?", tuple(answers), answers[0], kinds, tuple(entailed))


def test_vqa_scores_are_soft_and_broken_down():
    asked = [ask(1, ["two"] * 3 + ["2"] * 6 + ["dog"], ("how many", "number")),
             ask(2, ["red"] * 2 + ["pink"] * 8, ("what", "other"))]  # fmt: skip
    scores = vqa_scores(asked, {1: "The dog", 2: "pink!"})
    assert scores == pytest.approx({"all": 0.65, "how many": 0.3, "number": 0.3, "what": 1, "other": 1})
    assert vqa_scores(asked, {1: "2", 2: "blue"})["all"] == 0.5


def test_vqa_scores_leave_each_of_the_ten_out_in_turn():
    rng = random.Random(1)
    asked = [ask(n, [rng.choice("xyz") for _ in range(10)]) for n in range(60)]
    said = {q.id: rng.choice("xyzw") for q in asked}
    official = [min((q.answers[:i] + q.answers[i + 1 :]).count(said[q.id]) / 3, 1) for q in asked for i in range(10)]
    assert vqa_scores(asked, said)["all"] == pytest.approx(sum(official) / 600)


def test_gqa_consistency_is_asked_of_right_answers_only():
    asked = [ask("a", ["red"], ("query", "attr"), ["b", "c", "not in this split", "a"]),
             ask("b", ["yes"], ("verify", "attr")), ask("c", ["no"], ("verify", "attr")),
             ask("d", ["left"], ("query", "rel"), ["c"])]  # fmt: skip
    scores = gqa_scores(asked, {"a": "red", "b": "yes", "c": "yes", "d": "right"})
    assert scores == pytest.approx(
        {"all": 0.5, "query": 0.5, "attr": 2 / 3, "verify": 0.5, "rel": 0, "consistency": 0.5}
    )
    assert "consistency" not in gqa_scores(asked[1:3], {"b": "yes", "c": "no"})


def test_nlvr2_is_consistent_when_all_pairs_of_a_sentence_are_right():
    told = [ask(f"dev-1-{pair}-{n}", [label], (f"dev-1-{n}",))
            for n, pair, label in ((0, 0, "True"), (0, 1, "False"), (1, 0, "True"), (1, 1, "True"))]  # fmt: skip
    said = {q.id: "True" for q in told}
    assert nlvr2_scores(told, said) == {"all": 0.75, "consistency": 0.5}


@pytest.mark.parametrize("score", [vqa_scores, gqa_scores, nlvr2_scores])
def test_nothing_is_left_out_of_a_score(score):
    with pytest.raises(ValueError, match="Question 1 has no prediction"):
        score([ask(1, ["a"])], {2: "a"})
    with pytest.raises(ValueError, match="Question 1 has no answer to compare with"):
        score([Question(1, (1,), "?")], {1: "a"})
    with pytest.raises(ValueError, match="no questions"):
        score([], {})


def test_the_commonest_answer_is_that_of_the_kind():
    train = [ask(i, [a], ("x", k)) for i, (a, k) in enumerate(
        [("red", "colour"), ("blue", "colour"), ("blue", "colour"), ("yes", "exist"), ("no", "exist")])]  # fmt: skip
    test = [ask(7, ["red"], ("x", "colour")), ask(8, ["no"], ("x", "exist")), ask(9, ["no"], ("x", "new"))]
    assert most_frequent(train, test) == {7: "blue", 8: "no", 9: "blue"}


def test_words_alone_answer_with_the_commonest_answer_to_the_same_words():
    def said(number, text, answer, kind="colour"):
        return Question(number, (1,), text, (answer,), answer, (kind,))

    train = [said(1, "a", "red"), said(2, "b", "blue"), said(3, "b", "blue"), said(4, "c", "yes", "exist")]
    test = [said(5, "a", "?"), said(6, "new", "?"), said(7, "new", "?", "exist"), said(8, "c", "?", "another kind")]
    assert most_frequent(train, test, words=True) == {5: "red", 6: "blue", 7: "yes", 8: "yes"}
    assert most_frequent(train, test)[5] == "blue"


CAPTIONS = [["a red house in the snow", "a house on a hill"], ["two dogs run on a beach", "dogs by the sea"],
            ["a man rides a horse", "someone on a brown horse"]]  # fmt: skip


def test_captions_score_by_how_close_the_wording_is():
    same = caption_scores(CAPTIONS, [texts[0] for texts in CAPTIONS])
    near = caption_scores(CAPTIONS, ["a house in the snow", "dogs on a beach", "a man on a horse"])
    others = caption_scores(CAPTIONS, [texts[0] for texts in CAPTIONS[1:] + CAPTIONS[:1]])
    assert same["BLEU-1"] == pytest.approx(1) and same["BLEU-4"] == pytest.approx(1) and same["ROUGE-L"] == 1
    for name in ("BLEU-4", "ROUGE-L", "CIDEr-D"):
        assert same[name] > near[name] > others[name] - 1e-9
    assert others["CIDEr-D"] < 0.1 < near["CIDEr-D"] < same["CIDEr-D"]
    assert caption_scores([["A  Red, house!"]] * 2, ["a red house"] * 2)["ROUGE-L"] == 1


def test_unigram_precision_against_counting():
    rng = random.Random(0)
    words = "abcdefgh"
    truth = [[" ".join(rng.choices(words, k=6)) for _ in range(2)] for _ in range(20)]
    said = [" ".join(rng.choices(words, k=6)) for _ in truth]
    hits = sum(min(line.split().count(w), max(t.split().count(w) for t in texts))
               for texts, line in zip(truth, said, strict=True) for w in set(line.split()))  # fmt: skip
    assert caption_scores(truth, said)["BLEU-1"] == pytest.approx(hits / 120, abs=1e-6)


def plain_cider(truth, said, n):
    """CIDEr-D of n-grams (Vedantam et al. 2015), written out: clipped, weighted by rarity and by length."""
    grams = lambda line: Counter(ngrams(line.split(), n))  # noqa: E731
    seen = Counter(gram for texts in truth for gram in set().union(*map(grams, texts)))
    weigh = lambda counts: {g: c * math.log(len(truth) / max(1, seen[g])) for g, c in counts.items()}  # noqa: E731
    scores = []
    for texts, line in zip(truth, said, strict=True):
        ours, each = weigh(grams(line)), []
        for text in texts:
            theirs = weigh(grams(text))
            dot = sum(min(w, theirs.get(g, 0)) * theirs.get(g, 0) for g, w in ours.items())
            size = math.hypot(*ours.values()) * math.hypot(*theirs.values())
            gap = len(line.split()) - len(text.split())
            each.append(10 * (dot / size if size else 0) * math.exp(-(gap**2) / 72))
        scores.append(sum(each) / len(each))
    return sum(scores) / len(scores)


def ngrams(words, n):
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def test_cider_is_the_written_formula():
    rng = random.Random(2)
    truth = [[" ".join(rng.choices("abcdefgh", k=rng.randint(4, 9))) for _ in range(3)] for _ in range(25)]
    said = [" ".join(rng.choice(texts).split()[:-1] + ["a"] * rng.randint(1, 3)) for texts in truth]
    want = sum(plain_cider(truth, said, n) for n in (1, 2, 3, 4)) / 4
    assert caption_scores(truth, said)["CIDEr-D"] == pytest.approx(want, abs=1e-6) and want > 0.5


def test_every_picture_needs_a_caption():
    with pytest.raises(ValueError, match="2 captions for 3 pictures"):
        caption_scores(CAPTIONS, ["a", "b"])


def test_submission_files_have_the_servers_form(tmp_path):
    submit_vqa({7: "red"}, tmp_path / "new" / "v.json")
    submit_gqa({"07": "red"}, tmp_path / "g.json")
    submit_nlvr2({"test1-0-1-0": "True", "test1-0-0-0": "False"}, tmp_path / "out" / "n.csv")
    submit_captions({42: "a dog"}, tmp_path / "c.json")
    assert json.loads((tmp_path / "new" / "v.json").read_text()) == [{"question_id": 7, "answer": "red"}]
    assert json.loads((tmp_path / "g.json").read_text()) == [{"questionId": "07", "prediction": "red"}]
    assert (tmp_path / "out" / "n.csv").read_text() == "test1-0-1-0,True\ntest1-0-0-0,False\n"
    assert json.loads((tmp_path / "c.json").read_text()) == [{"image_id": 42, "caption": "a dog"}]
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(("text", "other"), [
    ("собака бежит по снегу", "кошка спит там она"), ("一只狗在雪地里跑", "猫睡觉"),
    ("läuft über die Straße", "schläft unter dem Baum"), ("हिन्दी में एक कुत्ता", "बिल्ली सो रही है"),
])  # fmt: skip
def test_captions_of_every_script_are_scored(text, other):
    same = caption_scores([[text], [other]], [text, other])
    assert same["BLEU-1"] == pytest.approx(1) and same["ROUGE-L"] == pytest.approx(1) and same["CIDEr-D"] > 1
    wrong = caption_scores([[text], [other]], [other, text])
    assert wrong["BLEU-1"] < 0.01 and wrong["CIDEr-D"] == 0


@pytest.mark.parametrize(("text", "words"), [
    ("läuft, über_die Straße!", "läuft über die straße"), ("cafe\u0301", "café"), ("一只狗 2 ١", "一 只 狗 2 ١"),
    ("कुत्ता।", "कुत्ता"), ("Don't; 2x4_a-b", "don't 2x4 a b"),
])  # fmt: skip
def test_words_are_whole_in_every_script(text, words):
    assert caption_scores([[words]], [text])["ROUGE-L"] == 1


def test_captions_without_a_word_are_no_measure():
    for references in ([], [["..."]], [["?!", ""], ["-"]]):
        with pytest.raises(ValueError, match=f"None of the {len(references)} pictures has a reference with a word"):
            caption_scores(references, ["a dog"] * len(references))
    assert caption_scores([["a dog"], ["a cat"]], ["", "a cat"])["ROUGE-L"] == pytest.approx(0.5)
