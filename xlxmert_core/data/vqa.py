"""VQA v2 in its official files, and the official rules for comparing answers.

``questions.json`` holds {"questions": [{question_id, image_id, question}]}, ``annotations.json`` {"annotations":
[{question_id, image_id, question_type, answer_type, multiple_choice_answer, answers: ten of {answer}}]}. Test
splits have no annotations. Storybook, and any set of your own in this format, goes the same way.
"""

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from xlxmert_core.data.files import DataError, is_text, read_json, stream, take
from xlxmert_core.data.pictures import picture_key

OFTEN = 9  # occurrences that make an answer a class: 3 129 on VQA v2


@dataclass(frozen=True, slots=True)
class Question:
    """A question, or a statement, about one picture or two.

    images: keys of the pictures (COCO numbers, GQA and NLVR2 names); answers: of ten people (VQA) or the one
    (GQA, NLVR2), none in a test split; answer: the one to learn; kinds: what the score is broken down by;
    entailed: ids of the questions whose answers follow (GQA).
    """

    id: int | str
    images: tuple[int | str, ...]
    text: str
    answers: tuple[str, ...] = ()
    answer: str = ""
    kinds: tuple[str, ...] = ()
    entailed: tuple[str, ...] = ()


def read(questions: str | os.PathLike, annotations: str | os.PathLike | None = None) -> list[Question]:
    """The questions of a split in the order of the file, answered when annotations are given.

    Both files are streamed: what is kept is a few hundred bytes a question. Raises DataError in one sentence for a
    repeated question id, an annotation without question or the reverse, and for files that are not VQA v2's.
    """
    found: dict[str, Question] = {}
    for place, entry in enumerate(stream(questions, "questions")):
        opening = f"{questions}: entry {place} is not in VQA v2's layout"
        number, picture, text = take(entry, opening, question_id="id", image_id="id", question="text")
        if (key := picture_key(number)) in found:
            raise DataError(f"{questions} asks question {number} twice: every question_id must be there once.")
        found[key] = Question(number, (picture,), text)
    if annotations is None:
        return list(found.values())
    answered = set()
    for place, entry in enumerate(stream(annotations, "annotations")):
        number, answers, best, kinds = _answered(annotations, place, entry)
        if (key := picture_key(number)) not in found:
            raise DataError(f"{annotations} answers question {number}, which {questions} does not ask: use one split.")
        if key in answered:
            raise DataError(f"{annotations} answers question {number} twice: every question_id must be there once.")
        answered.add(key)
        found[key] = replace(found[key], answers=answers, answer=best, kinds=kinds)
    if len(answered) < len(found):
        number = next(n for n in found if n not in answered)
        raise DataError(f"{annotations} lacks the answer to question {number} of {questions}: use one split.")
    return list(found.values())


def _answered(path, place: int, entry: dict) -> tuple[int | str, tuple[str, ...], str, tuple[str, ...]]:
    """An annotation: (question id, answers, the best one, kinds)."""
    (number,) = take(entry, f"{path}: entry {place} is not in VQA v2's layout", question_id="id")
    opening = f"{path}: the answer to question {number} is not in VQA v2's layout"
    best, ten = take(entry, opening, multiple_choice_answer="text", answers="list")
    named = {name: "text" for name in ("question_type", "answer_type") if name in entry}
    kinds = tuple(map(sys.intern, take(entry, opening, **named)))
    answers = tuple(sys.intern(*take(given, opening, answer="text")) for given in ten)
    return number, answers, sys.intern(normalise(best)), kinds


def answer_vocabulary(questions: Iterable[Question], minimum: int = OFTEN) -> list[str]:
    """The answers that are some question's first choice at least ``minimum`` times; frequent first, then by alphabet.

    Raises DataError when no answer is given so often.
    """
    counts = Counter(question.answer for question in questions if question.answers)
    kept = sorted((a for a, n in counts.items() if n >= minimum), key=lambda a: (-counts[a], a))
    if not kept:
        most = max(counts.values(), default=0)
        raise DataError(f"No answer is given {minimum} times, the most frequent {most} times: lower minimum.")
    return kept


def read_answers(path: str | os.PathLike) -> list[str]:
    """A given vocabulary: ``ans2label`` {answer: row}, ``label2ans`` [answer] or LXMERT's ``all_ans`` [{"ans"}].

    Raises DataError when rows are missing or given twice, or for another layout.
    """
    content = read_json(path)
    if isinstance(content, dict):
        ranked = {row: answer for answer, row in content.items() if type(row) is int and is_text(answer)}
        if sorted(ranked) != list(range(len(content))):
            raise DataError(f"{path} does not number its {len(content)} answers from 0 without gaps.")
        return [ranked[row] for row in range(len(content))]
    answers = [e.get("ans") if isinstance(e, dict) else e for e in content] if isinstance(content, list) else [None]
    if not all(map(is_text, answers)):
        raise DataError(f"{path} is no list of answers: it is neither ans2label, label2ans nor all_ans.")
    if len(set(answers)) < len(answers):
        twice = next(a for a, n in Counter(answers).items() if n > 1)
        raise DataError(f"{path} lists the answer {twice!r} twice.")
    return answers


def soft_scores(answers: Sequence[str]) -> dict[str, float]:
    """{normalised answer: VQA accuracy} of what ten people said: the soft targets of fine-tuning."""
    given = [normalise(answer) for answer in answers]
    return {answer: accuracy(count, len(given)) for answer, count in Counter(given).items()}


def accuracy(same: int, people: int = 10) -> float:
    """min(#same / 3, 1) averaged over all ways to leave one person out; ``same`` of ``people`` gave the answer."""
    if people < 2:
        return float(same > 0)
    others = same * min((same - 1) / 3, 1) + (people - same) * min(same / 3, 1)
    return others / people


# --- The official normalisation (VQA evaluation code): punctuation, number words, articles, contractions. --------

NUMBERS = dict(zip("none zero one two three four five six seven eight nine ten".split(),
                   "0 0 1 2 3 4 5 6 7 8 9 10".split(), strict=True))  # fmt: skip
ARTICLES = ("a", "an", "the")
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
WHOLE = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've "
    "needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've "
    "somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll "
    "that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've "
    "we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's "
    "who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've "
    "you'll you're you've"
).split()
# A word that lacks one of its apostrophes gets it back; one slip of the official table counts as well.
CONTRACTIONS = {word[:i] + word[i + 1 :]: word for word in WHOLE for i, mark in enumerate(word) if mark == "'"}
CONTRACTIONS["somebody'd"] = "somebodyd"


def normalise(answer: str) -> str:
    """An answer as the official evaluation compares it: "The two dogs!" is "2 dogs"."""
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    thousands = re.search(r"\d,\d", text) is not None
    clean = text
    for mark in PUNCTUATION:
        glued = f"{mark} " in text or f" {mark}" in text or thousands
        clean = clean.replace(mark, "" if glued else " ")
    clean = re.sub(r"\.(?!\d)", "", clean)
    words = [NUMBERS.get(word, word) for word in clean.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)
