"""Captions can be read back into facts, and statements judged whichever way round the pictures stand."""

import numpy as np
import pytest
from test_storybook import judge

from xlxmert_core.data import storybook as sb
from xlxmert_core.data.storybook.text import statement_holds


def test_facts_are_read_back_from_every_caption():
    rng = np.random.default_rng(5)
    for i in range(300):
        scene = sb.sample_scene(rng, held_out=i % 4 == 0)
        for caption in sb.captions(scene, rng):
            assert set(sb.stated_facts(caption.text)) == set(caption.facts), caption.text


@pytest.mark.parametrize("text", [
    "a red ball ball on the sand", "a red ball left of", "on the sand we see", "a red ball and a red ball",
    "a red ball and a blue ball", "a red ball the sand", "what colour is the ball", "a ball red", "",
    "a red ball on the sand on the sand we see a red ball", "a red ball at night night",
    "on the sand a red ball on the sand",
])  # fmt: skip
def test_what_is_not_a_caption_states_nonsense(text):
    assert sb.stated_facts(text)[-1] == ("nonsense", text)


def test_what_can_be_read_of_nonsense_is_read():
    facts = sb.stated_facts("a small red balloon balloon in the snow")
    assert facts[:-1] == (("background", "snow"), ("thing", "small", "red", "balloon"))


def test_statements_hold_whichever_way_round():
    rng = np.random.default_rng(6)
    scenes = [sb.sample_scene(rng) for _ in range(300)]
    for a, b in zip(scenes[::2], scenes[1::2], strict=True):
        sentence, truth = sb.pair_statements(a, b, rng)
        assert statement_holds(sentence, a, b) == truth == judge(sentence, a, b)
        assert statement_holds(sentence, b, a) == judge(sentence, b, a)
        with pytest.raises(ValueError, match="is no statement about these two pictures"):
            statement_holds(sentence.replace("picture", "page"), a, b)
    with pytest.raises(ValueError, match="is no statement about these two pictures"):
        statement_holds("the left picture shows a green lion", scenes[0], scenes[1])
