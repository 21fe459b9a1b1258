"""GQA-style questions: programs give their answers, implied answers follow, and words alone give nothing away."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from test_storybook import plainly_stands

from xlxmert_core.data import storybook as sb
from xlxmert_core.data.storybook.gqa import compounds

TRAIN, TEST = 900, 300


@pytest.fixture(scope="module")
def asked():
    rng = np.random.default_rng(11)
    scenes = [sb.sample_scene(rng) for _ in range(TRAIN + TEST)]
    return [(scene, compounds(scene, rng, 6)) for scene in scenes]


def run(program, scene):
    """A plain interpreter: each step's value is a list of things, a word, or a truth."""
    values = []
    for operation, argument, inputs in program:
        given = [values[i] for i in inputs]
        verb, _, attribute = operation.partition(" ")
        if verb == "select":
            value = [t for t in scene.things if t.kind == argument]
        elif verb == "relate":
            (anchor,) = given[0]
            value = [t for t in scene.things if t is not anchor and plainly_stands(t, argument, anchor)]
        elif verb == "filter":
            value = [t for t in given[0] if getattr(t, attribute) == argument]
        elif verb == "exist":
            value = bool(given[0])
        elif verb in ("query", "choose"):
            (thing,) = given[0]
            value = getattr(thing, attribute or argument)
            assert verb == "query" or value in argument.split("|")
        elif verb == "verify":
            (thing,) = given[0]
            value = getattr(thing, attribute) == argument
        elif verb == "same":
            (a,), (b,) = given
            value = getattr(a, attribute) == getattr(b, attribute)
        else:
            value = all(given) if verb == "and" else any(given)
        values.append(value)
    return {True: "yes", False: "no"}.get(values[-1], values[-1])


def test_programs_give_the_answers(asked):
    kinds = Counter()
    for scene, questions in asked:
        assert len({q.text for q in questions}) == len(questions) == 6
        for question in questions:
            kinds[question.types[2]] += 1
            assert run(question.program, scene) == question.answer, question
            for implied in question.entailed:
                assert run(implied.program, scene) == implied.answer
                assert implied.program[:-1] == question.program[:-1]  # of the same thing
                claimed = implied.text.split()[-1]
                assert implied.answer == ("yes" if claimed == question.answer else "no"), (question, implied)
    assert len(kinds) == 10 and min(kinds.values()) > 50


def test_yes_is_as_likely_as_no(asked):
    answers = defaultdict(Counter)
    for _, questions in asked:
        for question in questions:
            answers[question.types[2]][question.answer] += 1
    for kind, counts in answers.items():
        if "yes" in counts:
            assert 0.4 < counts["yes"] / counts.total() < 0.6, (kind, counts)


def test_no_question_denies_what_training_holds_out(asked):
    for scene, questions in asked:
        for question in questions:
            words = question.text.split()
            pairs = set(zip(words[:-1], words[1:], strict=True))
            assert not pairs & set(sb.HELD_OUT), question.text
            if question.types[2] == "verify colour":  # however the thing is referred to
                kind = run((*question.program[:-1], ("query", "kind", (len(question.program) - 2,))), scene)
                assert (words[-1], kind) not in sb.HELD_OUT, question.text


def test_words_alone_do_not_answer(asked):
    counts = defaultdict(Counter)
    for _, questions in asked[:TRAIN]:
        for q in questions:
            counts[q.text][q.answer] += 1
            counts[q.types[2]][q.answer] += 1
    test = [q for _, questions in asked[TRAIN:] for q in questions]
    commonest = np.mean([counts[q.types[2]].most_common(1)[0][0] == q.answer for q in test])
    words = np.mean([counts[q.text if q.text in counts else q.types[2]].most_common(1)[0][0] == q.answer for q in test])
    assert words < commonest + 0.05
