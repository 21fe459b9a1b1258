"""Storybook: pictures and words must say what the scene graph says."""

import json
from collections import Counter

import numpy as np
import pytest

from xlxmert_core.data import storybook as sb
from xlxmert_core.data import vqa
from xlxmert_core.data.storybook import sprites
from xlxmert_core.data.storybook.grammar import PLURALS
from xlxmert_core.data.storybook.text import MOST_WORDS
from xlxmert_core.data.storybook.vqa import KINDS_OF_QUESTION
from xlxmert_core.evaluate.scores import gqa_scores, most_frequent


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(0)
    return [sb.sample_scene(rng, held_out=i % 4 == 0) for i in range(800)]


@pytest.fixture(scope="module")
def asked(scenes):
    rng = np.random.default_rng(1)
    return [(scene, sb.questions(scene, rng, 6)) for scene in scenes]


def cells_of(thing):
    """The plain way: every cell of the box, one by one."""
    span = {"small": 2, "large": 3}[thing.size]
    return {(thing.row + i, thing.column + j) for i in range(span) for j in range(span)}


def plainly_stands(a, relation, b):
    """Every cell of a against every cell of b."""
    compare = {
        "left of": lambda p, q: p[1] < q[1],
        "right of": lambda p, q: p[1] > q[1],
        "above": lambda p, q: p[0] < q[0],
        "below": lambda p, q: p[0] > q[0],
    }[relation]
    return all(compare(p, q) for p in cells_of(a) for q in cells_of(b))


def run(program, scene):
    """A plain interpreter of question programs, sharing nothing with what made the answers."""
    results = []
    for operation, argument, inputs in program:
        given = [results[i] for i in inputs]
        match operation:
            case "select":
                whole = {"thing": list(scene.things), "scene": scene}
                named = [t for t in scene.things if t.kind == argument]
                results.append(whole.get(argument, named))
            case "filter colour":
                results.append([t for t in given[0] if t.colour == argument])
            case "filter size":
                results.append([t for t in given[0] if t.size == argument])
            case "relate":
                (anchor,) = given[0]
                found = [t for t in scene.things if t is not anchor]
                results.append([t for t in found if plainly_stands(t, argument, anchor)])
            case "query" if argument == "background":
                results.append(given[0].background)
            case "query":
                (only,) = given[0]
                results.append(getattr(only, argument))
            case "count":
                results.append(str(len(given[0])))
            case "exist":
                results.append("yes" if given[0] else "no")
            case "verify relation":
                (a,), (b,) = given
                results.append("yes" if plainly_stands(a, argument, b) else "no")
    return results[-1]


def test_scenes_obey_the_rules(scenes):
    for scene in scenes:
        assert 1 <= len(scene.things) <= 4
        assert len({t.kind for t in scene.things}) == len(scene.things)
        taken = [cell for t in scene.things for cell in cells_of(t)]
        assert len(set(taken)) == len(taken)
        assert all(0 <= r < 8 and 0 <= c < 8 for r, c in taken)
        for t in scene.things:
            rows = {r for r, _ in cells_of(t)}
            sky = t.kind in ("star", "balloon", "kite", "bird")
            assert max(rows) <= 3 if sky else max(rows) >= 4
    counts = Counter(len(s.things) for s in scenes)
    assert min(counts.values()) > 140  # of 200 each


def test_held_out_pairs_are_only_where_they_belong(scenes):
    assert len(sb.HELD_OUT) == 8
    assert len({c for c, _ in sb.HELD_OUT}) == len({k for _, k in sb.HELD_OUT}) == 8
    has = [any((t.colour, t.kind) in sb.HELD_OUT for t in scene.things) for scene in scenes]
    assert has == [i % 4 == 0 for i in range(len(scenes))]
    assert {(t.colour, t.kind) for s in scenes for t in s.things} >= sb.HELD_OUT


def test_scene_survives_json(scenes):
    for scene in scenes[:50]:
        assert sb.Scene.from_json(json.loads(json.dumps(scene.to_json()))) == scene


def test_rendering_changes_the_boxes_only(scenes):
    for scene in scenes[:60]:
        picture = sb.render(scene)
        assert picture.shape == (128, 128, 3) and picture.dtype == np.uint8
        empty = sb.render(sb.Scene(scene.background, ()))
        changed = (picture != empty).any(-1).reshape(8, 16, 8, 16).any((1, 3))
        boxes = {cell for t in scene.things for cell in cells_of(t)}
        assert set(zip(*np.nonzero(changed), strict=True)) <= boxes
        labelled = sb.cell_labels(scene)["kind"] > 0
        assert not (labelled & ~changed).any()


def test_an_object_looks_the_same_wherever_it_stands():
    star = [sb.Thing("star", "pink", "large", 0, 0), sb.Thing("star", "pink", "large", 1, 5)]
    sprite = sprites.sprite("star", "pink", 48)
    opaque = sprite[..., 3] == 255
    assert opaque.mean() > 0.25
    for t in star:
        picture = sb.render(sb.Scene("night", (t,)))
        box = picture[t.row * 16 : t.row * 16 + 48, t.column * 16 : t.column * 16 + 48]
        assert (box[opaque] == sprite[..., :3][opaque]).all()


@pytest.mark.parametrize("size", sb.SIZES)
def test_every_sprite_fills_its_box_and_shows_its_colour(size):
    pixels = {"small": 32, "large": 48}[size]
    looks = {c: [sprites.sprite(k, c, pixels).astype(float) for k in sb.KINDS] for c in sb.COLOURS}
    for colour, drawn in looks.items():
        wanted = sprites.rgb(sprites.PALETTE[colour])
        for kind, sprite in zip(sb.KINDS, drawn, strict=True):
            rows, columns = np.nonzero(sprite[..., 3] > 128)
            assert max(np.ptp(rows), np.ptp(columns)) >= 0.8 * pixels, kind
            near = np.abs(sprite[..., :3] - wanted).max(-1) < 40
            assert (near & (sprite[..., 3] > 250)).mean() > 0.08, (kind, colour)
    shapes = np.stack([sprite[..., 3] > 128 for sprite in looks["red"]])
    for i in range(len(shapes)):
        for j in range(i):
            both, either = (shapes[i] & shapes[j]).sum(), (shapes[i] | shapes[j]).sum()
            assert both / either < 0.9, (sb.KINDS[i], sb.KINDS[j])


def test_backgrounds_differ_in_nearly_every_cell():
    cells = []
    for name in sb.BACKGROUNDS:
        picture = sb.render(sb.Scene(name, ())).astype(float)
        cells.append(picture.reshape(8, 16, 8, 16, 3).mean((1, 3)))  # [8, 8, 3]
    for i in range(5):
        for j in range(i):
            assert (np.abs(cells[i] - cells[j]).max(-1) > 12).mean() > 0.9


def test_cell_labels_against_the_plain_way(scenes):
    for scene in scenes[:100]:
        labels = sb.cell_labels(scene)
        assert all(v.shape == (8, 8) and v.dtype == np.int64 for v in labels.values())
        assert (labels["background"] == sb.BACKGROUNDS.index(scene.background)).all()
        owner = {cell: t for t in scene.things for cell in cells_of(t)}
        for cell in np.ndindex(8, 8):
            t = owner.get(cell)
            if t is None or labels["kind"][cell] == 0:
                assert all(labels[n][cell] == 0 for n in ("kind", "colour", "size", "part"))
                continue
            assert sb.KINDS[labels["kind"][cell] - 1] == t.kind
            assert sb.COLOURS[labels["colour"][cell] - 1] == t.colour
            assert sb.SIZES[labels["size"][cell] - 1] == t.size
            inside = (cell[0] - t.row) * t.span + cell[1] - t.column
            assert labels["part"][cell] == inside + {2: 10, 3: 1}[t.span]
        for t in scene.things:
            assert labels["kind"][sb.centre_cell(t)] == sb.KINDS.index(t.kind) + 1
            assert sb.centre_cell(t) in cells_of(t)


def test_every_sprite_and_background_is_drawn_once(scenes):
    [sb.render(scene) for scene in scenes]
    drawn = [made.cache_info().misses for made in (sprites.sprite, sprites.background)]
    [sb.render(scene) for scene in scenes]
    assert [made.cache_info().misses for made in (sprites.sprite, sprites.background)] == drawn
    assert 0 < drawn[0] < len(scenes)


def test_relations_against_the_plain_way(scenes):
    seen = Counter()
    for scene in scenes[:200]:
        for a in scene.things:
            for b in scene.things:
                for relation in sb.RELATIONS if a is not b else ():
                    truth = sb.stands(a, relation, b)
                    seen[relation, truth] += 1
                    assert truth == plainly_stands(a, relation, b)
    assert len(seen) == 8


def test_captions_state_what_holds_and_only_that(scenes):
    rng = np.random.default_rng(2)
    for scene in scenes[:300]:
        captions = sb.captions(scene, rng)
        assert len(captions) == 5
        for caption in captions:
            words = caption.text.split()
            assert len(words) <= MOST_WORDS and caption.text == caption.text.lower()
            assert caption.facts and all(sb.facts_hold(scene, caption.facts))
            kinds = {f[3] for f in caption.facts if f[0] == "thing"}
            assert kinds == {w for w in words if w in sb.KINDS}
            colours = Counter(f[2] for f in caption.facts if f[0] == "thing")
            assert colours == Counter(w for w in words if w in sb.COLOURS)
            relations = [f[2] for f in caption.facts if f[0] == "relation"]
            assert len(relations) == sum(f" {r} " in caption.text for r in sb.RELATIONS)
        first = captions[0].facts
        assert sum(f[0] == "thing" and f[1] is not None for f in first) == len(scene.things)
        assert ("background", scene.background) in first
        assert any(f[0] == "relation" for f in first) == (len(scene.things) > 1)


def test_wrong_facts_do_not_hold():
    house = sb.Thing("house", "red", "small", 5, 0)
    scene = sb.Scene("sand", (house, sb.Thing("tree", "pink", "large", 5, 4)))
    false = [
        ("background", "snow"),
        ("thing", "large", "red", "house"),
        ("thing", None, "pink", "house"),
        ("relation", ("red", "house"), "right of", ("pink", "tree")),
        ("relation", ("red", "house"), "above", ("pink", "tree")),
        ("relation", ("red", "house"), "left of", ("blue", "tree")),
    ]
    true = [
        ("thing", None, "red", "house"),
        ["relation", ["red", "house"], "left of", ["pink", "tree"]],
    ]
    assert sb.facts_hold(scene, false) == [False] * 6
    assert sb.facts_hold(scene, true) == [True] * 2
    with pytest.raises(ValueError, match="begin it with"):
        sb.facts_hold(scene, [("weather", "rain")])


def test_programs_give_the_answers(asked):
    kinds = Counter()
    for scene, questions in asked:
        assert len({q.text for q in questions}) == len(questions) == 6
        for question in questions:
            kinds[question.kind_of_question] += 1
            assert run(question.program, scene) == question.answer, question
    assert set(kinds) == set(KINDS_OF_QUESTION)


def as_vqa(question):
    answer, kind = question.answer, question.kind_of_question
    return vqa.Question(id(question), (1,), question.text, (answer,), answer, (kind,))


def test_words_alone_do_not_answer(asked):
    """Each kind stays near guessing one of its answers."""
    fold = [[q for i, (_, qs) in enumerate(asked) for q in qs if i % 4 == part] for part in (1, 2)]
    train, test = (
        fold[0] + [q for i, (_, qs) in enumerate(asked) for q in qs if i % 4 == 3],
        fold[1],
    )
    train, test = ([as_vqa(q) for q in part] for part in (train, test))
    words, guess = (gqa_scores(test, most_frequent(train, test, words=by_words)) for by_words in (True, False))
    ceiling = {"colour": 0.25, "size": 0.62, "background": 0.33, "count": 0.38, "exist": 0.62,
               "relation": 0.3, "verify": 0.65, "all": 0.42}  # fmt: skip
    assert words.keys() == guess.keys() == ceiling.keys()
    for kind, most in ceiling.items():
        assert words[kind] < most and guess[kind] < most, kind


def judge(sentence, left, right):
    """A plain reader of the statements about two pictures."""
    words, here = sentence.split(), {"left": left, "right": right}
    other = {"left": right, "right": left}
    kinds = [{t.kind for t in s.things} for s in (left, right)]
    if words[0] == "there":
        return int(words[2]) == len(left.things) + len(right.things)
    if words[4] in ("two", "three"):
        [kind] = [k for k, many in PLURALS.items() if many == words[5]]
        return sum(t.kind == kind for t in here[words[1]].things) == {"two": 2, "three": 3}[words[4]]
    if "more" in words:
        return len(here[words[1]].things) > len(other[words[1]].things)
    if words[0] in ("both", "only") and words[-1] in sb.KINDS:
        return sum(words[-1] in k for k in kinds) == (2 if words[0] == "both" else 1)
    if words[0] == "both":
        return left.background == right.background == words[-1]
    if words[-1] in sb.BACKGROUNDS:
        return here[words[1]].background == words[-1]
    return any((t.colour, t.kind) == tuple(words[-2:]) for t in here[words[1]].things)


def test_pair_statements_are_right_and_balanced(scenes):
    rng = np.random.default_rng(3)
    labels = []
    for left, right in zip(scenes[:-1], scenes[1:], strict=True):
        sentence, label = sb.pair_statements(left, right, rng)
        assert judge(sentence, left, right) == label, sentence
        labels.append(label)
    assert 0.43 < np.mean(labels) < 0.57


def test_vocabulary_is_small(scenes, asked):
    rng = np.random.default_rng(4)
    words = {w for s in scenes for c in sb.captions(s, rng) for w in c.text.split()}
    words |= {w for _, qs in asked for q in qs for w in [*q.text.split(), q.answer]}
    pairs = zip(scenes[:-1], scenes[1:], strict=True)
    words |= {w for a, b in pairs for w in sb.pair_statements(a, b, rng)[0].split()}
    assert 60 < len(words) < 110
