"""The official scores of VQA v2, GQA, NLVR2 and COCO captions, and the files their servers take.

Predictions are {question id: answer}. A score is a dict of shares: "all", one entry a kind of question, and
"consistency" where the benchmark has one. A question without prediction is an error, never left out.
"""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from xlxmert_core.data.vqa import Question, normalise, soft_scores
from xlxmert_core.files import replacing, write_json

Predictions = Mapping[int | str, str]
IDEOGRAPH = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]")


def vqa_scores(questions: Sequence[Question], predictions: Predictions) -> dict[str, float]:
    """VQA accuracy: min(#same / 3, 1), averaged over leaving each of the ten people out (Antol et al. 2015)."""
    answers = _of_each(questions, predictions)
    return _by_kind(
        questions,
        [soft_scores(q.answers).get(normalise(a), 0.0) for q, a in zip(questions, answers, strict=True)],
    )


def gqa_scores(questions: Sequence[Question], predictions: Predictions) -> dict[str, float]:
    """Exact match; "consistency": of questions answered right, the mean share of entailed ones also right.

    Hudson and Manning 2019, section 4; entailed questions that the split does not ask are passed over.
    """
    answers = _of_each(questions, predictions)
    right = {q.id: q.answer == a for q, a in zip(questions, answers, strict=True)}
    scores = _by_kind(questions, list(right.values()))
    implied = [[right[e] for e in q.entailed if e != q.id and e in right] for q in questions if right[q.id]]
    shares = [np.mean(those) for those in implied if those]
    return scores | ({"consistency": float(np.mean(shares))} if shares else {})


def nlvr2_scores(statements: Sequence[Question], predictions: Predictions) -> dict[str, float]:
    """Share of right judgements; "consistency": share of sentences judged right for all of their pairs.

    Suhr et al. 2019, section 5.
    """
    judged = _of_each(statements, predictions)
    right = [q.answer == a for q, a in zip(statements, judged, strict=True)]
    sentences = defaultdict(list)
    for question, outcome in zip(statements, right, strict=True):
        sentences[question.kinds[0]].append(outcome)
    return {"all": float(np.mean(right)), "consistency": float(np.mean([all(s) for s in sentences.values()]))}


def _of_each(questions, predictions) -> list[str]:
    if not questions:
        raise ValueError("There are no questions to score.")
    for question in questions:
        if not question.answers:
            raise ValueError(f"Question {question.id!r} has no answer to compare with: score a split with annotations.")
        if question.id not in predictions:
            raise ValueError(f"Question {question.id!r} has no prediction: every question of the split counts.")
    return [predictions[q.id] for q in questions]


def _by_kind(questions, outcomes) -> dict[str, float]:
    found = defaultdict(list)
    for question, outcome in zip(questions, outcomes, strict=True):
        for kind in dict.fromkeys(("all", *question.kinds)):
            found[kind].append(float(outcome))
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def most_frequent(train: Sequence[Question], test: Sequence[Question], words: bool = False) -> dict[int | str, str]:
    """The commonest answer to questions of the same kinds: a prediction that needs neither words nor picture.

    With ``words``, the commonest answer to the very same words where training has them: what language alone gives
    to whoever learned all of it by heart.
    """
    counts: dict[tuple, Counter] = defaultdict(Counter)
    for question in train:
        for key in {(), question.kinds, (*question.kinds, question.text), (question.text,)}:
            counts[key][question.answer] += 1
    best = {key: min(c, key=lambda a: (-c[a], a)) for key, c in counts.items()}

    def guess(question: Question) -> str:
        exact = [(*question.kinds, question.text), (question.text,)] if words else []
        return next(best[key] for key in (*exact, question.kinds, ()) if key in best)

    return {q.id: guess(q) for q in test}


def caption_scores(references: Sequence[Sequence[str]], candidates: Sequence[str]) -> dict[str, float]:
    """BLEU-1 to -4, ROUGE-L and CIDEr-D by pycocoevalcap, the library of the COCO captions challenge.

    Args:
        references: the captions that people wrote, several a picture; candidates: ours, one a picture.

    Words are lower-cased runs of letters and digits of any script; the challenge's own tokenizer needs Java and differs
    in rare cases ("don't"). Raises ValueError when the numbers differ, and when no reference has a word.
    """
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    if len(references) != len(candidates):
        raise ValueError(f"{len(candidates)} captions for {len(references)} pictures: write one for each.")
    truth = {i: [_words(text) for text in texts] for i, texts in enumerate(references)}
    ours = {i: [_words(text)] for i, text in enumerate(candidates)}
    if not any(any(texts) for texts in truth.values()):
        raise ValueError(
            f"None of the {len(truth)} pictures has a reference with a word: there is nothing to score by."
        )
    bleu, _ = Bleu(4).compute_score(truth, ours, verbose=0)
    scores = {f"BLEU-{n}": float(value) for n, value in enumerate(bleu, 1)}
    scores["ROUGE-L"] = float(Rouge().compute_score(truth, ours)[0])
    return scores | {"CIDEr-D": float(Cider().compute_score(truth, ours)[0])}


def _words(text: str) -> str:
    """The words of a text, each character of Chinese and its like for itself, as BERT splits them."""
    text = unicodedata.normalize("NFC", text.lower())
    return " ".join("".join(map(_kept, text)).split())


def _kept(character: str) -> str:
    if unicodedata.category(character)[0] in "LMN":  # letters, the marks on them, numbers
        return f" {character} " if IDEOGRAPH.match(character) else character
    return "'" if character == "'" else " "


# --- Submission files -------------------------------------------------------------------------------


def submit_vqa(predictions: Predictions, path: str | os.PathLike) -> None:
    """EvalAI's VQA file: [{"question_id", "answer"}]."""
    write_json(Path(path), [{"question_id": q, "answer": a} for q, a in predictions.items()])


def submit_gqa(predictions: Predictions, path: str | os.PathLike) -> None:
    """GQA's file: [{"questionId", "prediction"}]."""
    write_json(Path(path), [{"questionId": str(q), "prediction": a} for q, a in predictions.items()])


def submit_nlvr2(predictions: Predictions, path: str | os.PathLike) -> None:
    """NLVR2's file: a line "identifier,True" or "identifier,False" for each statement."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{q},{a}\n" for q, a in predictions.items()))


def submit_captions(captions: Mapping[int, str], path: str | os.PathLike) -> None:
    """COCO's captions file: [{"image_id", "caption"}]."""
    write_json(Path(path), [{"image_id": i, "caption": c} for i, c in captions.items()])
