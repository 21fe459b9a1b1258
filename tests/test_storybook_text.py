"""Captions can be read back into facts, and statements judged whichever way round the pictures stand."""

import numpy as np
import pytest
from test_storybook import judge

from xlxmert_core.data import storybook as sb
from xlxmert_core.data.storybook.text import statement_holds


def test_facts_are_read_back_from_every_caption_in_few_words():
    rng = np.random.default_rng(5)
    for i in range(300):
        scene = sb.sample_scene(rng, held_out=i % 4 == 0, world=sb.JUNIOR)
        for caption in sb.captions(scene, rng):
            assert set(sb.stated_facts(caption.text)) == set(caption.facts), caption.text


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
