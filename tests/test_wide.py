"""The wide world: five things, three of a kind; all that is asked and stated of them follows from the scene."""

import json
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from test_storybook import cells_of, judge, run
from test_storybook_gqa import run as run_gqa

from xlxmert_core.data import storybook as sb
from xlxmert_core.data.storybook import grammar
from xlxmert_core.data.storybook.gqa import compounds
from xlxmert_core.datasets import open_dataset
from xlxmert_core.datasets.profiles import profile


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(0)
    return [sb.sample_scene(rng, i % 4 == 0, sb.WIDE) for i in range(300)]


def told(scene, *names) -> set:
    """(kind, n) of things that are alike in these respects."""
    looks = Counter((t.kind, *(getattr(t, name) for name in names)) for t in scene.things)
    return {(kind, n) for (kind, *_), n in looks.items()}


def test_scenes_obey_the_rules(scenes):
    for scene in scenes:
        assert 1 <= len(scene.things) <= 5 and max(n for _, n in told(scene)) <= 3
        for a, b in combinations(scene.things, 2):
            gaps = [max(abs(p[0] - q[0]), abs(p[1] - q[1])) for p in cells_of(a) for q in cells_of(b)]
            assert min(gaps) > (a.kind == b.kind)  # things of one kind never touch
    sizes, most = (Counter(map(count, scenes)) for count in (lambda s: len(s.things),
                                                             lambda s: max(n for _, n in told(s))))  # fmt: skip
    assert len(sizes) == 5 and min(sizes.values()) > 35 and min(most[2], most[3]) > 15


def test_numbers_that_are_held_out_are_never_shown_unless_asked_for(scenes):
    for scene in scenes:
        for names in ((), ("colour",), ("size",), ("colour", "size")):
            assert not told(scene, *names) & sb.HELD_COUNTS
    rng, shown = np.random.default_rng(4), Counter()
    for _ in range(60):
        scene = sb.sample_scene(rng, world=sb.WIDE, held_count=True)
        [pair] = told(scene, "colour", "size") & sb.HELD_COUNTS  # alike, so that a text tells the number
        shown[pair] += 1
        assert not {(t.colour, t.kind) for t in scene.things} & sb.HELD_OUT
    assert shown.keys() == sb.HELD_COUNTS


def test_programs_give_the_answers(scenes):
    rng, counted = np.random.default_rng(1), set()
    for scene in scenes:
        for question in sb.questions(scene, rng, 6):
            assert run(question.program, scene) == question.answer, question
            counted |= {question.answer} if question.kind_of_question == "count" else set()
        for question in compounds(scene, rng, 6):
            assert run_gqa(question.program, scene) == question.answer, question
            assert all(run_gqa(implied.program, scene) == implied.answer for implied in question.entailed)
    assert counted == {*"012345"}


def test_statements_about_two_pictures_are_right_and_count(scenes):
    rng, numbers = np.random.default_rng(3), Counter()
    names = {words[0]: n for n, words in grammar.NUMBERS.items()}
    for left, right in zip(scenes[:-1], scenes[1:], strict=True):
        sentence, truth = sb.pair_statements(left, right, rng)
        *_, number, kind = words = sentence.split()
        if number in names and kind in grammar.PLURALS.values():
            shown = Counter(t.kind for t in {"left": left, "right": right}[words[1]].things)
            assert truth == (shown[grammar.KIND_OF[kind]] == names[number]), sentence
            numbers[truth] += 1
        else:
            assert truth == judge(sentence, left, right), sentence
    assert min(numbers[True], numbers[False]) > 5


def test_a_data_set_has_its_own_splits_and_words(tmp_path):
    data = open_dataset("wide", tmp_path / "wide")
    run_of = data.budgets("smoke")
    data.prepare(replace(run_of, train=40, held_out=12), 0)
    assert run_of.judged.keys() == {*data.tests} == {"test", "composition", "counts"}
    for name in ("train", "held_out", *data.tests):
        split, tasks = data.split(name), data.questions(name).tasks
        assert all(tasks.values()) and {scene.world for scene in split.scenes} == {sb.WIDE}
        assert any(told(scene) & sb.HELD_COUNTS for scene in split.scenes) == (name == "counts")
        for record, scene in zip(split.records, split.scenes, strict=True):
            assert all(all(sb.facts_hold(scene, facts)) for facts in record.facts)
    words = {word for example in data.texts("train") for word in example.sentence.split()}
    assert len(words) > 120 and words & {*data.language.exchangeable[2]}
    assert {*json.loads((data.folder / "scenes/counts.json").read_text())} == {str(4_000_001 + i) for i in range(12)}


def test_storybook_budgets_are_those_of_its_profile():
    assert profile("smoke").judged.keys() == {"test", "composition"}
