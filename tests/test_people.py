"""People and machines asked about paintings: a blanked word, a choice of two, answers that last, and agreement."""

import csv

import numpy as np
import pytest
import torch
from tiny import TEXTS, tiny_painter

from xlxmert_core.data.files import DataError
from xlxmert_core.data.ratings import FIELDS, read_ratings, write_ratings
from xlxmert_core.evaluate.people import Blank, blanked, fill_in, hummus, preference, tally
from xlxmert_core.evaluate.statistics import fleiss_kappa
from xlxmert_core.paintbox.canvas import VIEW
from xlxmert_core.paintbox.raters import DONE, FillGap, Prefer

GROUPS = {"noun": ("house", "boats"), "colour": ("red", "blue"), "number": ("two",)}
SENTENCES, WORDS = ["a ____ house", "two blue ____", "____ stars"], ["red", "boats", "three"]


def row(rater: str, item: int, answer: str, wanted: str = "red") -> dict[str, str]:
    return dict(zip(FIELDS, (rater, str(item), f"sentence {item}", wanted, answer), strict=True))


# --- Agreement, and counting. ------------------------------------------------------------------------


def test_fleiss_kappa_of_a_published_table():
    """Ten items, fourteen raters, five answers: the example of Fleiss' kappa's encyclopaedia article, 0.210."""
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert fleiss_kappa(np.array(table)) == pytest.approx(0.210, abs=5e-4)


def test_fleiss_kappa_at_its_ends():
    assert fleiss_kappa(np.array([[3, 0], [0, 3], [3, 0]])) == 1
    assert fleiss_kappa(np.array([[3, 0], [3, 0]])) == 1  # there was only ever one answer
    assert fleiss_kappa(np.array([[1, 1], [1, 1]])) == -1  # two raters who never agree
    many = np.random.default_rng(0).multinomial(4, [0.5, 0.3, 0.2], 20_000)
    assert abs(fleiss_kappa(many)) < 0.02
    for wrong in (np.array([[2, 1], [1, 1]]), np.array([[1, 0]]), np.zeros((0, 2), int)):
        with pytest.raises(ValueError, match="as many answers to each item, two or more"):
            fleiss_kappa(wrong)


def test_hummus_counts_right_words_and_agreement():
    rows = [row("ann", 1, "Red "), row("bob", 1, "red"), row("ann", 2, "red"), row("bob", 2, "blue")]
    found = hummus(rows)
    assert found["right"] == 0.75 and (found["raters"], found["items"]) == (2, 2)
    assert 0.5 == found["low"] < found["high"] == 1
    assert tally(rows).tolist() == [[2, 0], [1, 1]]
    assert found["kappa"] == pytest.approx((0.5 - 0.625) / 0.375)
    assert "kappa" not in hummus(rows[:3]) and hummus(rows[:3])["right"] == 1


def test_preference_counts_a_draw_as_half():
    rows = [row("ann", 1, "ours"), row("bob", 1, "ours"), row("ann", 2, ""), row("bob", 2, "theirs")]
    assert preference(rows, "ours")["preferred"] == pytest.approx((1 + 0.25) / 2)
    assert preference(rows, "theirs")["preferred"] == pytest.approx(0.75 / 2)


# --- The machine fills in. ---------------------------------------------------------------------------


def test_one_word_of_the_groups_is_blanked():
    found = {blanked(TEXTS[1], np.random.default_rng(i), GROUPS) for i in range(40)}
    assert found == {
        Blank("", "two", " blue boats at night", "number"), Blank("two ", "blue", " boats at night", "colour"),
        Blank("two blue ", "boats", " at night", "noun"),
    }  # fmt: skip
    assert Blank("two ", "blue", " boats", "colour").sentence == "two ____ boats"
    assert blanked("in the snow", np.random.default_rng(0), GROUPS) is None


def test_the_machine_fills_the_gap_by_what_it_sees_and_never_sees_the_word():
    painter, heard = tiny_painter(), []
    with torch.no_grad():
        for value in painter.model.encoder.parameters():
            value += 0.3 * torch.randn(value.shape)
    painter.model.word_embedding.register_forward_hook(lambda _, given, __: heard.append(given[0].clone()))
    blanks = [blanked(TEXTS[i % 2], np.random.default_rng(i), GROUPS) for i in range(70)]
    codes = torch.randint(13, (70, 16), generator=torch.Generator().manual_seed(0))
    found = fill_in(painter, codes, blanks)
    tokenizer, model = painter.tokenizer, painter.model
    assert len(found) == 70 and [len(words) for words in heard] == [64, 6]
    number = {word: tokenizer.backend.token_to_id(word) for word in " ".join(TEXTS).split()}
    for i in (0, 1, 69):
        blank, words = blanks[i], [w for w in (blanks[i].before + blanks[i].word + blanks[i].after).split()]
        place = 1 + len(blank.before.split())
        ids = torch.tensor([[tokenizer.cls, *map(number.get, words), tokenizer.sep]])
        ids[0, place] = tokenizer.mask
        assert torch.equal(torch.cat([w[:, : ids.shape[1]] for w in heard if w.shape[1] >= ids.shape[1]])[i], ids[0])
        with torch.no_grad():
            logits = model.word_logits(model(ids, None, model.embed_codes(codes[i : i + 1])).words[0, place])
        logits[[tokenizer.pad, tokenizer.cls, tokenizer.sep, tokenizer.mask, tokenizer.unk]] = -torch.inf
        assert found[i] == tokenizer.decode([int(logits.argmax())])


def test_a_gap_that_cannot_be_filled_is_refused():
    painter, codes = tiny_painter(), torch.zeros(1, 16, dtype=torch.long)
    with pytest.raises(ValueError, match="hides a word that the model does not know: blank another"):
        fill_in(painter, codes, [Blank("a ", "zebra", "", "noun")])
    with pytest.raises(ValueError, match="hides a word after its first 10 words: blank another"):
        fill_in(painter, codes, [Blank("red " * 10, "house", "", "noun")])
    with pytest.raises(ValueError, match="1 pictures, but 2 sentences with a gap"):
        fill_in(painter, codes, [Blank("a ", "house", "", "noun")] * 2)


# --- People fill in and choose. ----------------------------------------------------------------------


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


def shown(canvas) -> np.ndarray:
    return np.frombuffer(canvas.pixels, np.uint8).reshape(16, 16, 3)


def test_a_rater_fills_in_word_after_word_and_goes_on_another_day(pictures, tmp_path):
    path = tmp_path / "answers" / "hummus.csv"
    asked = FillGap(pictures, SENTENCES, WORDS, path, "ann")
    assert np.array_equal(shown(asked.canvas), pictures[0]) and "a ____ house" in asked.sentence.value
    assert asked.status.value == "Question 1 of 3" and not path.exists()
    asked.word.value = "red"
    asked.buttons["Next"].click()
    assert asked.word.value == "" and asked.now == 1 and np.array_equal(shown(asked.canvas), pictures[1])
    asked.answer("  ")
    assert asked.now == 1 and "even if you have to guess" in asked.status.value
    later = FillGap(pictures, SENTENCES, WORDS, path, "ann")
    assert later.now == 1 and later.status.value == "Question 2 of 3"
    later.word._handle_custom_msg({"event": "submit"}, [])  # Enter in an empty field
    assert later.now == 1
    later.answer('a "boat", or two\nof them')
    later.answer("four")
    assert later.now is None and later.status.value == DONE and later.buttons["Next"].disabled
    later.answer("five")
    rows = read_ratings(path)
    assert [r["answer"] for r in rows] == ["red", 'a "boat", or two\nof them', "four"]
    assert rows[0] == {"rater": "ann", "item": "1", "sentence": "a ____ house", "wanted": "red", "answer": "red"}
    assert FillGap(pictures, SENTENCES, WORDS, path, "bob").now == 0
    assert hummus(rows)["right"] == pytest.approx(1 / 3)
    with open(path, newline="", encoding="utf-8") as file:
        assert [tuple(line) for line in csv.reader(file)][0] == FIELDS


def test_two_open_boxes_lose_no_answer(pictures, tmp_path):
    one, two = (FillGap(pictures, SENTENCES, WORDS, tmp_path / "a.csv", name) for name in ("ann", "bob"))
    one.answer("red")
    two.answer("blue")
    one.answer("boats")
    assert [(r["rater"], r["answer"]) for r in read_ratings(tmp_path / "a.csv")] == [
        ("ann", "red"), ("bob", "blue"), ("ann", "boats"),
    ]  # fmt: skip


def test_an_answer_that_cannot_be_written_is_said_and_asked_again(pictures, tmp_path):
    asked = FillGap(pictures, SENTENCES, WORDS, tmp_path / "a.csv", "ann")
    (tmp_path / "a.csv").mkdir()
    asked.answer("red")
    assert asked.now == 0 and "a.csv" in asked.status.value


def test_a_choice_hides_whose_painting_it_is_and_keeps_the_name(pictures, tmp_path):
    both = {"ours": pictures, "theirs": 255 - pictures}
    boxes = [Prefer(both, TEXTS[:1] * 3, tmp_path / f"{seed}.csv", "ann", seed=seed) for seed in range(20)]
    lefts = {tuple(box.sides(i)[0] for i in range(3)) for box in boxes}
    assert len(lefts) > 4 and set(sum(lefts, ())) == {"ours", "theirs"}
    for box in boxes[:4]:
        wanted = []
        for side, button in enumerate(("Left", "Right", "No difference")):
            sides = box.sides(box.now)
            for canvas, name in zip(box.canvases, sides, strict=True):
                assert np.array_equal(shown(canvas), both[name][box.now]) and name not in canvas.label
            wanted.append([*sides, ""][side])
            box.buttons[button].click()
        assert box.now is None and [r["answer"] for r in read_ratings(box.path)] == wanted
        want = (wanted.count("ours") + 0.5) / 3
        assert preference(read_ratings(box.path), "ours")["preferred"] == pytest.approx(want)


def test_the_widgets_show_a_still_picture_without_a_kernel(pictures, tmp_path):
    for box in (FillGap(pictures, SENTENCES, WORDS, tmp_path / "a.csv", "ann"),
                Prefer({"a": pictures, "b": pictures}, SENTENCES, tmp_path / "b.csv", "ann")):  # fmt: skip
        found = box._repr_mimebundle_()
        assert found[VIEW]["model_id"] == box.widget.model_id and found["image/png"]


def test_words_of_a_caption_are_shown_as_they_are(pictures, tmp_path):
    asked = FillGap(pictures[:1], ["<script> & ____"], ["x"], tmp_path / "a.csv", "ann")
    assert asked.sentence.value == "<b>&lt;script> &amp; ____</b>"


def test_what_does_not_belong_together_is_refused(pictures, tmp_path):
    path = tmp_path / "a.csv"
    with pytest.raises(ValueError, match="needs a rater's name"):
        FillGap(pictures, SENTENCES, WORDS, path, " ")
    with pytest.raises(ValueError, match="3 pictures, but 2 sentences"):
        FillGap(pictures, SENTENCES[:2], WORDS[:2], path, "ann")
    with pytest.raises(ValueError, match="the pictures of two painters"):
        Prefer({"ours": pictures}, SENTENCES, path, "ann")
    FillGap(pictures, SENTENCES, WORDS, path, "ann").answer("red")
    with pytest.raises(ValueError, match="has answers to other questions"):
        FillGap(pictures, SENTENCES[::-1], WORDS, path, "ann")


@pytest.mark.parametrize(("text", "said"), [
    ("", "has not the columns rater, item"), ("rater,answer\nann,red\n", "has not the columns"),
    (",".join(FIELDS) + "\nann,1,x\n", "has 3 values in row 2, not 5: mend it"),
])  # fmt: skip
def test_a_file_that_holds_no_ratings_is_one_sentence(tmp_path, text, said):
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_ratings(path)


def test_ratings_come_back_as_they_were_written(tmp_path):
    rows = [row("ann", 1, 'ünïcode, "quoted"'), row("bob", 2, "")]
    write_ratings(tmp_path / "a.csv", rows)
    assert read_ratings(tmp_path / "a.csv") == rows and read_ratings(tmp_path / "none.csv") == []
