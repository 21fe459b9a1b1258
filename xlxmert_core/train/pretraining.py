"""The three pretraining tasks of X-LXMERT: paint cells, fill in words, tell matches from mismatches.

Paper, section 3 and 4.1: uniform masking of cells, BERT masking of words, and a random other image's
sentence half of the time. One task a batch, in turn; questions add their answer to whatever task runs.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlxmert_core.data.pictures import picture_key
from xlxmert_core.model import XLxmert
from xlxmert_core.text import Tokenizer
from xlxmert_core.train.distributed import mean, total
from xlxmert_core.train.loop import BatchAt, step_seed, to_device

IGNORED = -100  # the one label value that every cross-entropy here skips
TASKS = ("visual", "words", "matched")
CellMask = Callable[[int, int, torch.Generator], Tensor]  # (batch, cells, generator) -> bool [B, N]


def uniform_cell_mask(batch: int, cells: int, generator: torch.Generator) -> Tensor:
    """Mask 1..cells cells, the number drawn uniformly, positions without replacement: bool [B, N]."""
    count = torch.randint(1, cells + 1, (batch, 1), generator=generator)
    ranks = torch.rand(batch, cells, generator=generator).argsort(1).argsort(1)
    return ranks < count


def bernoulli_cell_mask(batch: int, cells: int, generator: torch.Generator, rate: float = 0.15) -> Tensor:
    """LXMERT's masking, kept as the ablation: every cell independently with ``rate``; bool [B, N]."""
    return torch.rand(batch, cells, generator=generator) < rate


def arccos_cell_mask(batch: int, cells: int, generator: torch.Generator) -> Tensor:
    """Mask a share cos(pi/2 u), u uniform: a fifth of the pictures is almost empty (MaskGIT, Muse); bool [B, N].

    On a nearly empty canvas only the sentence can tell what belongs there, so this is where it is learned.
    """
    share = torch.cos(torch.pi / 2 * torch.rand(batch, 1, generator=generator))
    ranks = torch.rand(batch, cells, generator=generator).argsort(1).argsort(1)
    return ranks < (share * cells).ceil().clamp(1, cells)


def mask_words(
    words: Tensor, tokenizer: Tokenizer, generator: torch.Generator, rate: float | None = 0.15
) -> tuple[Tensor, Tensor]:
    """BERT's masking: a share ``rate`` of the words; of these 80 % [MASK], 10 % random, 10 % kept.

    ``rate=None`` draws the rate uniformly per sentence and always writes [MASK]: the captioning recipe.
    Returns (input ids, labels), both [B, L]; the labels are ``IGNORED`` everywhere else. [PAD], [CLS] and
    [SEP] are never masked, and the labels never share memory with the input.
    """
    draw = torch.rand(words.shape, generator=generator)
    share = torch.rand(len(words), 1, generator=generator) if rate is None else rate
    chosen = (draw < share) & ~_around(words, tokenizer)
    labels = torch.where(chosen, words, IGNORED)
    kind = torch.rand(words.shape, generator=generator) if rate is not None else torch.zeros(words.shape)
    anything = torch.randint(tokenizer.first_word, tokenizer.size, words.shape, generator=generator)
    inputs = torch.where(chosen & (kind < 0.8), tokenizer.mask, words)
    inputs = torch.where(chosen & (kind >= 0.8) & (kind < 0.9), anything, inputs)
    return inputs, labels


def mask_to_write(words: Tensor, tokenizer: Tokenizer, generator: torch.Generator,
                  placed: Sequence[int] = ()) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The captioning recipe, in which half of the sentences with ``placed`` words hide those on purpose.

    Alone, or with all that follows, as a writer meets them from left to right. Whether "left" or "right" is true hangs
    on two things and both their places: a word that chance seldom leaves as the only riddle stays a coin's toss.

    Args:
        words: ids int64 [B, L]; placed: ids of words such as "left".

    Returns (input ids, labels), both [B, L], as :func:`mask_words` does.
    """
    inputs, labels = mask_words(words, tokenizer, generator, rate=None)
    if not len(placed):
        return inputs, labels
    found = torch.isin(words, torch.as_tensor(placed))  # [B, L]
    meant, alone = torch.rand(2, len(words), 1, generator=generator) < 0.5
    chosen = torch.where(alone, found, (found.cumsum(1) > 0) & ~_around(words, tokenizer))
    meant = meant & found.any(1, keepdim=True)  # [B, 1]
    inputs = torch.where(meant, torch.where(chosen, tokenizer.mask, words), inputs)
    return inputs, torch.where(meant, torch.where(chosen, words, IGNORED), labels)


def _around(words: Tensor, tokenizer: Tokenizer) -> Tensor:
    """Which ids [B, L] stand around a sentence and are never hidden, [PAD], [CLS] and [SEP]: bool [B, L]."""
    return torch.isin(words, torch.tensor([tokenizer.pad, tokenizer.cls, tokenizer.sep]))


def neighbours(words: Tensor, size: int) -> Tensor:
    """Which pairs of words ever stand side by side in the sentences [S, L]: bool [size, size]."""
    known = torch.zeros(size, size, dtype=torch.bool)
    known[words[:, :-1].flatten(), words[:, 1:].flatten()] = True
    return known


def exchange_word(words: Tensor, groups: Sequence[Tensor], known: Tensor, generator: torch.Generator) -> Tensor:
    """Exchange one word of each sentence for another of its group: ids [B, L] -> [B, L].

    Only words that are ``known`` bool [V, V] beside both neighbours are used: "an red house" would give itself
    away, and a pair that training holds out would be learned as false. Where none is left, nothing changes.

    Args:
        groups: word ids int64 of words that can stand for each other, e.g. all colours.
    """
    changed = words.clone()
    found = torch.isin(words, torch.cat(list(groups)))  # [B, L]
    draw = torch.rand(words.shape, generator=generator).masked_fill(~found, -1)
    for row, place in enumerate(draw.argmax(1).tolist()):
        before, word, after = words[row, place - 1], words[row, place], words[row, (place + 1) % words.shape[1]]
        group = next((g for g in groups if word in g), words[:0, 0])
        others = group[(group != word) & known[before, group] & known[group, after]]
        if len(others):
            changed[row, place] = others[torch.randint(len(others), (), generator=generator)]
    return changed


@dataclass(frozen=True)
class PairedText:
    """Sentences tied to coded pictures, all in memory: what pretraining draws from.

    codes int [pictures, N]; words int [sentences, L], [PAD] at the end; picture int [sentences] (which picture a
    sentence belongs to); is_caption bool [sentences] (only captions may serve the visual task); answer int
    [sentences], ``IGNORED`` for none. Small integers: LXMERT's nine million sentences take half a gigabyte.
    """

    codes: Tensor
    words: Tensor
    picture: Tensor
    is_caption: Tensor
    answer: Tensor

    @classmethod
    def build(cls, examples: Iterable, ids: Sequence[int | str], codes: Tensor | np.ndarray, tokenizer: Tokenizer,
              answers: Sequence[str], max_words: int) -> "PairedText":  # fmt: skip
        """Tie sentences to coded pictures; those of pictures that were not coded are left out.

        Args:
            examples: :class:`xlxmert_core.data.lxmert.Example`, one a sentence; read once, in pieces.
            ids: the pictures' ids, in the order of ``codes`` int [pictures, N].
            answers: the answer vocabulary; a label outside it counts as no label.

        Raises ValueError when no sentence belongs to any picture.
        """
        row = {picture_key(image_id): i for i, image_id in enumerate(ids)}
        index = {answer: i for i, answer in enumerate(answers)}
        small, seen, longest, parts = torch.int16 if tokenizer.size < 2**15 else torch.int32, 0, 0, []
        examples = iter(examples)
        while some := list(islice(examples, 10_000)):
            seen += len(some)
            kept = [e for e in some if picture_key(e.image_id) in row]
            best = [max(e.label, key=e.label.get) if e.label else None for e in kept]
            words, known = tokenizer.encode([e.sentence for e in kept], max_words, pad_to=max_words)
            longest = max(longest, *known.sum(1).tolist()) if kept else longest
            picture = torch.tensor([row[picture_key(e.image_id)] for e in kept], dtype=torch.int32)
            is_caption = torch.tensor([e.source == "mscoco" for e in kept], dtype=torch.bool)
            answer = torch.tensor([index.get(a, IGNORED) for a in best], dtype=torch.int32)
            parts.append((words.to(small), picture, is_caption, answer))
        if not any(len(part[0]) for part in parts):
            raise ValueError(
                f"None of {seen} sentences belongs to one of the {len(row)} coded pictures: "
                "make codes and sentences from the same data set."
            )
        words, *rest = (list(values) for values in zip(*parts, strict=True))
        return cls(torch.as_tensor(codes), torch.cat([part[:, :longest] for part in words]), *map(torch.cat, rest))


class PretrainingBatches:
    """``batch_at`` for pretraining: step ``i`` runs task ``tasks[i % len(tasks)]``.

    Args:
        caption_dropout: share of visual-task captions replaced by the empty text (for guidance).
        cell_mask: ``(batch, cells, generator) -> bool [B, N]``.
        word_rate: see :func:`mask_words`.
        right_text: the visual task sees captions only (the paper's third refinement); False is the ablation.
        first_caption: share of the visual task's texts that are their picture's first caption, where Storybook
            tells every fact of the scene; the others are drawn from all captions.
        exchangeable: groups of word ids, e.g. all colours. With them the matching task reads captions only, and
            half of its mismatches are the picture's own caption with one word exchanged within its group: the
            paper's hard R-precision, turned into a lesson, so that the head notices a wrong colour.
    """

    def __init__(self, data: PairedText, tokenizer: Tokenizer, batch: int, tasks: Sequence[str] = TASKS,
                 cell_mask: CellMask = uniform_cell_mask, word_rate: float | None = 0.15,
                 caption_dropout: float = 0.1, right_text: bool = True, first_caption: float = 0.0,
                 exchangeable: Sequence[Sequence[int]] = ()):  # fmt: skip
        self.data, self.tokenizer, self.batch, self.tasks = data, tokenizer, batch, tasks
        self.cell_mask, self.word_rate, self.caption_dropout = cell_mask, word_rate, caption_dropout
        captions = data.is_caption.nonzero().flatten()
        everything = torch.arange(len(data.words))
        self.pools = {task: everything for task in TASKS}
        if right_text:
            self.pools["visual"] = captions
        self.first_caption = first_caption
        fresh = data.picture[captions].diff(prepend=torch.tensor([-1], dtype=data.picture.dtype)) != 0
        self.firsts = captions[fresh]
        self.exchangeable = [torch.tensor(group, dtype=torch.long) for group in exchangeable]
        if exchangeable:
            self.pools["matched"] = captions
            self.known = neighbours(data.words.long(), tokenizer.size)
        self.empty = torch.full_like(data.words[0].long(), tokenizer.pad)
        self.empty[:2] = torch.tensor([tokenizer.cls, tokenizer.sep])

    def __call__(self, step: int, generator: torch.Generator) -> dict:
        """The batch of one step: task, words and word_mask [B, L], codes [B, N], answers [B], and the task's own."""
        task, data = self.tasks[step % len(self.tasks)], self.data
        pool = self.pools[task]
        rows = pool[torch.randint(len(pool), (self.batch,), generator=generator)]
        if task == "visual" and self.first_caption:
            first = self.firsts[torch.randint(len(self.firsts), (self.batch,), generator=generator)]
            rows = torch.where(torch.rand(self.batch, generator=generator) < self.first_caption, first, rows)
        batch = {
            "task": task,
            "words": data.words[rows].long(),
            "codes": data.codes[data.picture[rows]].long(),
            "answers": data.answer[rows].long(),
        }
        getattr(self, f"_{task}")(batch, rows, generator)
        batch["word_mask"] = batch["words"] != self.tokenizer.pad
        longest = int(batch["word_mask"].sum(1).max())
        for name in ("words", "word_mask", "word_labels"):
            if name in batch:
                batch[name] = batch[name][:, :longest]
        return batch

    def _visual(self, batch, rows, generator):
        cells = batch["codes"].shape[1]
        batch["masked"] = self.cell_mask(self.batch, cells, generator)
        dropped = torch.rand(self.batch, 1, generator=generator) < self.caption_dropout
        batch["words"] = torch.where(dropped, self.empty, batch["words"])
        batch["answers"] = torch.where(dropped[:, 0], IGNORED, batch["answers"])

    def _words(self, batch, rows, generator):
        batch["words"], batch["word_labels"] = mask_words(batch["words"], self.tokenizer, generator, self.word_rate)

    def exchanged(self, words: Tensor, generator: torch.Generator) -> Tensor:
        """The sentences [B, L] with one word of each exchanged (:func:`exchange_word`)."""
        return exchange_word(words, self.exchangeable, self.known, generator)

    def _matched(self, batch, rows, generator):
        pool = self.pools["matched"]
        other = pool[torch.randint(len(pool), (self.batch,), generator=generator)]
        same = self.data.picture[other] == self.data.picture[rows]
        false, words = self.data.words[other].long(), batch["words"]
        if self.exchangeable:
            near = self.exchanged(words, generator)
            hard = (torch.rand(self.batch, generator=generator) < 0.5) & (near != words).any(1)
            false, same = torch.where(hard[:, None], near, false), same & ~hard
        swap = (torch.rand(self.batch, generator=generator) < 0.5) & ~same
        batch["words"] = torch.where(swap[:, None], false, words)
        batch["matched"] = (~swap).long()
        batch["answers"] = torch.where(swap, IGNORED, batch["answers"])


class Pretraining(nn.Module):
    """The pretraining objective around an XLxmert: ``forward(batch) -> (loss, numbers)``."""

    def __init__(self, model: XLxmert, answers: bool = True):
        super().__init__()
        self.model, self.answers = model, answers

    def forward(self, batch: dict) -> tuple[Tensor, dict]:
        """One batch of :class:`PretrainingBatches` -> (loss of its task, plus its answers'; numbers to plot)."""
        model = self.model
        features = model.embed_codes(batch["codes"])  # [B, N, F]
        out = model(batch["words"], batch["word_mask"], features, batch.get("masked"))
        loss, numbers = getattr(self, f"_{batch['task']}")(out, batch)
        asked = batch["answers"] != IGNORED
        if self.answers and total(asked.sum()) > 0:
            labels, logits = batch["answers"][asked], model.answer_logits(out.pooled[asked])  # [asked, A]
            answer_loss = mean(F.cross_entropy(logits, labels, reduction="none"))
            right = mean((logits.argmax(1) == labels).float())
            loss, numbers = loss + answer_loss, numbers | {"answers": answer_loss.detach(), "answers_right": right}
        return loss, numbers

    def _visual(self, out, batch):
        masked, codes = batch["masked"], batch["codes"]
        hidden = out.cells[masked]  # [masked, H]: only masked cells pay for the head
        loss = mean(self.model.code_losses(hidden, codes[masked]))
        if self.training:
            return loss, {"visual": loss.detach()}
        right = mean((self.model.code_logits(hidden).argmax(1) == codes[masked]).float())
        return loss, {"visual": loss.detach(), "visual_right": right}

    def _words(self, out, batch):
        hidden = batch["word_labels"] != IGNORED
        if total(hidden.sum()) == 0:
            return out.words.sum() * 0, {}
        labels = batch["word_labels"][hidden]
        logits = self.model.word_logits(out.words[hidden])  # [masked, V]
        loss = mean(F.cross_entropy(logits, labels, reduction="none"))
        return loss, {"words": loss.detach(), "words_right": mean((logits.argmax(1) == labels).float())}

    def _matched(self, out, batch):
        logits = self.model.match_logits(out.pooled)  # [B, 2]
        loss = mean(F.cross_entropy(logits, batch["matched"], reduction="none"))
        right = mean((logits.argmax(1) == batch["matched"]).float())
        return loss, {"matched": loss.detach(), "matched_right": right}


@torch.inference_mode()
def evaluate(objective: nn.Module, batch_at: BatchAt, steps: int, seed: int) -> dict[str, float]:
    """Mean of every number over ``steps`` batches (of held-out data), without training."""
    objective.eval()
    collected: dict[str, list[float]] = {}
    device = next(objective.parameters()).device
    for step in range(steps):
        batch = to_device(batch_at(step, torch.Generator().manual_seed(step_seed(seed, step))), device)
        for name, value in objective(batch)[1].items():
            collected.setdefault(name, []).append(float(value))
    unknown = {name for name, values in collected.items() if np.isnan(values).all()}  # of no cell that is labelled
    return {name: float("nan" if name in unknown else np.nanmean(values)) for name, values in collected.items()}
