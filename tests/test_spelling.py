"""Texts are read as people mean them: no punctuation counts, slips are mended where one word is clear, things named."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xlxmert_core.data.spelling import JOINED, as_read, near, plain, remark, similar, slip
from xlxmert_core.text import SPECIAL, Tokenizer

KNOWN = frozenset("a an the and it is on in of at red blue purple yellow big house houses tree trees balloon bird boat "
                  "meadow grass night time colour one two car star left next to with under".split())  # fmt: skip


def read(text: str):
    return as_read(plain(text).split(), KNOWN)


@pytest.mark.parametrize(("text", "words"), [
    ("A RED house, on the grass!", "a red house on the grass"), ("It's a (red) house\u2026", "it is a red house"),
    ("at night-time", "at night time"), ("at nighttime", "at night time"), ("the COLOR of it", "the colour of it"),
    ("2 red houses", "two red houses"), ("a purpel ballon", "a purple balloon"), ("a yelow hosue", "a yellow house"),
    ("a \U0001f388 balloon \u2014 red", "a balloon red"), ("", ""), ("!?", ""),
])  # fmt: skip
def test_a_text_is_read_as_it_is_meant(text, words):
    assert " ".join(read(text).words) == words


def test_a_hyphen_is_left_out_where_a_word_is_known_without_it():
    known = KNOWN | {"tshirt"}
    assert as_read(["a", "red", "t", "-", "shirt", "-"], known).words == ["a", "red", "tshirt"]
    assert as_read(["a", "yellow", "-", "blue", "boat"], known).words == ["a", "yellow", "blue", "boat"]
    assert as_read(["-", "house"], known).words == ["house"]


@pytest.mark.parametrize(("text", "unknown", "things", "words"), [
    ("a cat on the grass", {"cat": ""}, ["cat"], "on the grass"),
    ("a big fluffy dog and a red house", {"fluffy": "", "dog": ""}, ["dog"], "and a red house"),
    ("dogs under a tree", {"dogs": ""}, ["dogs"], "under a tree"),
    ("a gorgeous house", {"gorgeous": ""}, [], "a house"),
    ("a red zebra", {"zebra": ""}, ["zebra"], ""),
    ("a horse and two cats", {"horse": "", "cats": ""}, ["horse", "cats"], "and"),
    ("a hous", {"hous": "house"}, [], "a house"),
    ("is it shiny", {"shiny": ""}, [], "is it"),
])  # fmt: skip
def test_an_unknown_thing_is_told_from_other_unknown_words(text, unknown, things, words):
    reading = read(text)
    assert (reading.unknown, reading.things, " ".join(reading.words)) == (unknown, things, words)


@pytest.mark.parametrize(
    "word", ["cat", "mouse", "horse", "cart", "goat", "boot", "fellow", "treat", "xyzzy", "beard", "re"]
)
def test_other_words_are_not_taken_for_slips(word):
    assert slip(word, KNOWN) == ""


@pytest.mark.parametrize(("word", "meant"), [
    ("hous", "house"), ("hosue", "house"), ("houuse", "house"), ("brid", "bird"), ("purble", "purple"),
    ("boart", "boat"), ("meadw", "meadow"),
])  # fmt: skip
def test_slips_are_mended(word, meant):
    assert slip(word, KNOWN) == meant


def test_a_slip_of_two_words_is_neither():
    assert slip("traees", frozenset({"trees", "traes"})) == "" != slip("traees", frozenset({"trees"}))


@given(st.text("abc", min_size=1, max_size=7), st.text("abc", min_size=1, max_size=7))
def test_near_is_one_slip_either_way(one, other):
    def edits(word):
        inserted = {word[:i] + c + word[i:] for i in range(len(word) + 1) for c in "abc"}
        exchanged = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)}
        wrong = {word[:i] + c + word[i + 1 :] for i in range(len(word)) for c in "abc"} if len(word) >= 6 else set()
        return inserted | exchanged | wrong

    wanted = one != other and (other in edits(one) or one in edits(other))
    assert near(one, other) == near(other, one) == wanted


def test_every_joined_spelling_is_a_slip_of_neither_side():
    assert all(JOINED.get(theirs, ours) == ours for ours, theirs in JOINED.items() if " " not in theirs)
    assert as_read(["gray"], {"grey"}).words == ["grey"] and as_read(["grey"], {"gray"}).words == ["gray"]
    assert as_read(["gray"], {"gray", "grey"}).words == ["gray"]


def test_what_is_said_of_unknown_words():
    reading = read("a cat, a hous and fluffy trees")
    told = remark([(word, similar(word, KNOWN)) for word in reading.unknown], reading)
    assert told == ("Words the model never learned: 'cat' (near: at, car); 'hous' (read as: house); 'fluffy'."
                    " A picture will lack: cat.")  # fmt: skip
    many = as_read([f"w{i}" for i in range(40)], KNOWN)
    assert remark([(word, []) for word in many.unknown], many).endswith("'w4' and 35 more.")


def test_ids_are_those_of_the_words_as_they_are_read():
    tokenizer = Tokenizer.from_corpus([" ".join(sorted(KNOWN))])
    same = ["a red house, on the grass!", "A RED hous on the grass", "a zebra a shiny red house on the grass"]
    ids, _ = tokenizer.encode(same, 20)
    assert torch.equal(ids[0], ids[1]) and torch.equal(ids[0], ids[2]) and not (ids == tokenizer.unk).any()
    assert tokenizer.length(same[2]) == 6
    assert tokenizer.unknown("It's a RED house!") == []
    masked = tokenizer.encode(["a [MASK] house!"], 20)[0][0].tolist()
    assert masked[2] == tokenizer.mask and len(masked) == 5
    assert [tokenizer.unknown(word) for word in SPECIAL if word != "[UNK]"] == [[]] * 4


def test_punctuation_that_a_model_learned_is_read():
    tokenizer = Tokenizer.from_corpus(["a red house, on grass."])
    assert tokenizer.encode(["a house, zzz."], 20)[0].shape == (1, 6)  # [CLS] a house , . [SEP]
