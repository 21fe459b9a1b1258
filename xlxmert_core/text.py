"""Text in, word ids out: a word-level tokenizer for small data sets, BERT's word pieces for the paper's."""

import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers
from torch import Tensor

from xlxmert_core.data import spelling
from xlxmert_core.data.files import text_lines
from xlxmert_core.files import replacing, why

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Tokenizer:
    """Sentences <-> ids, on the Hugging Face ``tokenizers`` library.

    Attributes pad, unk, cls, sep and mask are the ids of the special tokens; ``size`` is the number of
    tokens; ids from ``first_word`` on are ordinary words, behind the special tokens and BERT's places
    for new ones ([unused0] and so on). Random words are drawn from those: BERT's own recipe draws from the
    whole vocabulary, where one in thirty is no word.
    """

    def __init__(self, backend: Backend):
        self.backend = backend
        backend.no_padding()
        backend.no_truncation()
        ids = {token: backend.token_to_id(token) for token in SPECIAL}
        missing = [token for token, number in ids.items() if number is None]
        if missing:
            raise ValueError(f"The vocabulary has no {', '.join(missing)}: use one with BERT's special tokens.")
        self.pad, self.unk, self.cls, self.sep, self.mask = (n for n in ids.values() if n is not None)
        self.size = backend.get_vocab_size()
        self.first_word = max(self.pad, self.unk, self.cls, self.sep, self.mask) + 1
        while (backend.id_to_token(self.first_word) or "").startswith("[unused"):
            self.first_word += 1

    @classmethod
    def from_corpus(cls, sentences: Iterable[str]) -> "Tokenizer":
        """One token a word: lower case, punctuation apart, most frequent first, then by alphabet.

        Accents stay, for in many scripts they are half of a letter; word pieces drop them, as BERT's do.
        """
        return cls(_word_level([*SPECIAL, *_ranked(_word_level(SPECIAL), sentences)]))

    def extended(self, sentences: Iterable[str]) -> "Tokenizer":
        """This tokenizer with the sentences' unknown words behind its own; word pieces already spell every word."""
        if not isinstance(self.backend.model, models.WordLevel):
            return self
        known = self.backend.get_vocab()
        fresh = [word for word in _ranked(self.backend, sentences) if word not in known]
        backend = _word_level([*sorted(known, key=lambda word: known[word]), *fresh])
        backend.normalizer = self.backend.normalizer
        return Tokenizer(backend)

    @classmethod
    def from_word_pieces(cls, vocabulary: str | os.PathLike) -> "Tokenizer":
        """BERT's uncased word pieces from a ``vocab.txt``, one piece a line.

        Raises FileNotFoundError or ValueError in one sentence.
        """
        if not Path(vocabulary).is_file():
            raise FileNotFoundError(f"There is no vocabulary at {vocabulary}: give BERT's vocab.txt.")
        table = {piece: number - 1 for number, piece in text_lines(vocabulary)}
        if missing := [token for token in SPECIAL if token not in table]:
            raise ValueError(f"{vocabulary} has no {', '.join(missing)}: it is not BERT's vocab.txt.")
        backend = Backend(models.WordPiece(table, unk_token="[UNK]", max_input_chars_per_word=100))
        _split_words(backend)
        backend.add_special_tokens(list(SPECIAL))
        return cls(backend)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Tokenizer":
        """Read a ``tokenizer.json``; raises FileNotFoundError or ValueError in one sentence."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no tokenizer at {path}.")
        try:
            return cls(Backend.from_file(os.fspath(path)))
        except Exception as error:  # the library raises bare Exception for every malformed file
            raise ValueError(f"{path} is not a tokenizer.json: {why(error)}") from error

    def save(self, path: str | os.PathLike) -> None:
        """Write ``tokenizer.json`` (a temporary file first, then renamed); raises OSError in one sentence."""
        remedy = "check the folder and the space on its disk"
        with replacing(path, (Exception,), remedy) as temporary:  # the library raises bare Exception
            self.backend.save(os.fspath(temporary))

    def encode(self, sentences: Sequence[str], max_words: int, pad_to: int | None = None) -> tuple[Tensor, Tensor]:
        """Sentences -> (ids int64 [B, L], mask bool [B, L], False on padding).

        Every row is [CLS] words [SEP], cut to ``max_words`` tokens; L is the longest row, or ``pad_to``.
        """
        if max_words < 2 or (pad_to is not None and pad_to < max_words):
            raise ValueError(f"encode() got max_words={max_words}, pad_to={pad_to}: at least 2, and pad_to not below.")
        found = self.backend.encode_batch(list(sentences), add_special_tokens=False)
        rows = [self._known_ids(text, e.ids)[: max_words - 2] for text, e in zip(sentences, found, strict=True)]
        length = pad_to or max((len(row) + 2 for row in rows), default=2)
        ids = torch.full((len(rows), length), self.pad)
        for line, row in zip(ids, rows, strict=True):
            line[: len(row) + 2] = torch.tensor([self.cls, *row, self.sep])
        return ids, ids != self.pad

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """Ids -> text, without special tokens; word pieces are joined."""
        ids = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        special = {self.pad, self.unk, self.cls, self.sep, self.mask}
        words = [self.backend.id_to_token(i) or "" for i in ids if i not in special]
        return " ".join(words).replace(" ##", "")

    def _known_ids(self, text: str, ids: list[int]) -> list[int]:
        words = self.reading(text).words if self.unk in ids else None
        return ids if words is None else [n for word in words if (n := self.backend.token_to_id(word)) is not None]

    def length(self, text: str) -> int:
        """How many tokens a text has, without [CLS] and [SEP]."""
        return len(self._known_ids(text, self.backend.encode(text, add_special_tokens=False).ids))

    def reading(self, text: str) -> spelling.Reading:
        """A text as the model reads it, see :func:`.spelling.as_read`; word pieces spell what they do not know."""
        found = self.backend.encode(text, add_special_tokens=False)
        plain = isinstance(self.backend.model, models.WordLevel)
        return spelling.reading(text, found, self.unk, lambda: self._known if plain else None)

    def unknown(self, text: str) -> list[tuple[str, list[str]]]:
        """Words that the model does not know, each with up to three known words spelled like it."""
        return [(word, spelling.similar(word, self._known)) for word in self.reading(text).unknown]

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.backend.get_vocab())


def _word_level(tokens: Sequence[str]) -> Backend:
    backend = Backend(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    _split_words(backend)
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.BertNormalizer(strip_accents=False)])
    backend.add_special_tokens(list(SPECIAL))
    return backend


def _ranked(backend: Backend, sentences: Iterable[str]) -> list[str]:
    counts = Counter(word for sentence in sentences for word in _words(backend, sentence))
    return sorted(counts, key=lambda word: (-counts[word], word))


def _split_words(backend: Backend) -> None:
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()


def _words(backend: Backend, text: str) -> list[str]:
    normal = backend.normalizer.normalize_str(text)
    return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal)]


def outside() -> int:
    """The ``stacklevel`` with which the function that asks warns of the line that called into this package.

    It counts the frames of the package and of torch, whose decorators stand between; as pandas does.
    """
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("xlxmert_core", "torch"):
        frame, level = frame.f_back, level + 1
    return level


def warn_of(tokenizer: Tokenizer, texts: Sequence[str], limit: int) -> None:
    """Warn of words that the tokenizer does not know and of texts that are cut to ``limit`` tokens."""
    for text in texts:
        if unknown := tokenizer.unknown(text):
            warnings.warn(spelling.remark(unknown, tokenizer.reading(text)), stacklevel=outside())
        if (length := tokenizer.length(text)) > limit - 2:
            warnings.warn(f"The text has {length} words; the model reads the first {limit - 2}.", stacklevel=outside())


def texts_of(given: str | Sequence[str], what: str = "texts") -> list[str]:
    """One text or several as a list; raises ValueError for what is no text, or has characters that are none."""
    several = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [given]
    for text in several:
        if not isinstance(text, str):
            raise ValueError(f"The {what} must be one text or a list of texts, not {text!r}.")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError(f"The {what} hold half a character, as badly decoded files do: {text!r}.")
    return several


def one_each(given: str | Sequence[str], pictures: int, what: str) -> list[str]:
    """One sentence for all pictures, or one for each; raises ValueError when the counts differ."""
    several = texts_of(given, what) * (pictures if isinstance(given, str) else 1)
    if len(several) != pictures:
        raise ValueError(f"{len(several)} {what} for {pictures} pictures: give one, or one for each.")
    return several
