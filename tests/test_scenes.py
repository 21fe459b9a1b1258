"""How paintings are judged: facts looked up in what the reader saw, and the distance between two sets."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from xlxmert_core.data.storybook import (
    BACKGROUNDS,
    COLOURS,
    KINDS,
    SIZES,
    STORYBOOK,
    WIDE,
    Scene,
    Thing,
    captions,
    cell_labels,
    sample_scene,
)
from xlxmert_core.evaluate.scenes import (
    LABELS,
    CodeReader,
    SceneReader,
    Seen,
    caption_accuracy,
    frechet_distance,
    holds,
    labels_read,
    round_trip,
    scene_accuracy,
)
from xlxmert_core.train.labels import LabelObjective

SEEN = {
    "background": "snow",
    "things": [
        Seen("house", "red", "large", 6.0, 1.0),
        Seen("star", "blue", "small", 0.5, 5.5),
        Seen("star", "blue", "small", 2.5, 7.5),
        Seen("car", None, None, 6.0, 5.5),
    ],
}
HOUSE, STAR = ("red", "house"), ("blue", "star")


@pytest.mark.parametrize(
    ("fact", "true"),
    [
        (("background", "snow"), True),
        (("background", "grass"), False),
        (("thing", "large", "red", "house"), True),
        (("thing", None, "red", "house"), True),
        (("thing", "small", "red", "house"), False),
        (("thing", "large", "blue", "house"), False),
        (("thing", None, "red", "car"), False),  # its colour was not recognised
        (("thing", None, "red", "kite"), False),  # it was not seen
        (("relation", HOUSE, "left of", STAR), True),
        (("relation", STAR, "left of", HOUSE), False),
        (("relation", STAR, "right of", HOUSE), True),
        (("relation", HOUSE, "right of", STAR), False),
        (("relation", STAR, "above", HOUSE), True),
        (("relation", HOUSE, "above", STAR), False),
        (("relation", HOUSE, "below", STAR), True),
        (("relation", STAR, "below", HOUSE), False),
        (("relation", HOUSE, "left of", ("pink", "kite")), False),
        (("relation", ("pink", "kite"), "left of", STAR), False),
        (("relation", STAR, "left of", (None, "car")), False),  # the same column
        (("relation", (None, "car"), "right of", HOUSE), True),
        (("relation", ("red", "car"), "right of", STAR), False),
        (["thing", "small", "blue", "star"], True),  # facts read from JSON are lists
        (("nonsense", "a house house"), False),
        (("count", 2, "small", "blue", "star"), True),
        (("count", 1, None, None, "star"), False),
        (("count", 3, None, None, "star"), False),
        (("count", 2, None, "red", "star"), False),
        (("relation", HOUSE, "next to", ("blue", "star")), False),
        (("relation", (None, "house"), "next to", (None, "car")), False),  # too far
        (("between", (None, "car"), HOUSE, (None, "star")), False),  # the first star is above it
    ],
)
def test_a_fact_is_looked_up(fact, true):
    assert holds(fact, SEEN) is true


def test_accuracies_are_shares_per_type_and_per_text():
    empty = {"background": "sand", "things": []}
    facts = [
        [("background", "snow"), ("thing", None, "red", "house"), ("relation", STAR, "above", HOUSE)],
        [("background", "snow"), ("thing", None, "red", "house"), ("thing", "large", "blue", "star")],
        [("background", "sand"), ("thing", None, "red", "house")],
        [("background", "sand")],
    ]
    got = scene_accuracy([SEEN, SEEN, empty, empty], facts)
    want = {"facts": 7 / 9, "all_right": 2 / 4, "background": 1.0, "thing": 2 / 4, "relation": 1.0}
    assert got == pytest.approx(want)
    assert set(scene_accuracy([SEEN], [[("background", "snow")]])) == {"facts", "all_right", "background"}
    with pytest.raises(ValueError, match="zip"):
        scene_accuracy([SEEN], facts)


def perfect_reading(scene):
    middle = [(t, (t.span - 1) / 2) for t in scene.things]
    things = [Seen(t.kind, t.colour, t.size, t.row + half, t.column + half) for t, half in middle]
    return {"background": scene.background, "things": things}


@pytest.mark.parametrize(("world", "more"), [(STORYBOOK, set()), (WIDE, {"count", "between"})])
def test_all_captions_hold_for_a_perfect_reading_and_not_for_another_scene(world, more):
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng, world=world) for _ in range(60)]
    texts = [(scene, caption.facts) for scene in scenes for caption in captions(scene, rng)]
    right = scene_accuracy([perfect_reading(scene) for scene, _ in texts], [facts for _, facts in texts])
    assert set(right) == {"facts", "all_right", "background", "thing", "relation"} | more
    assert set(right.values()) == {1.0}
    shifted = scene_accuracy([perfect_reading(scene) for scene, _ in texts], [f for _, f in texts[5:] + texts[:5]])
    assert shifted["all_right"] < 0.1 and shifted["thing"] < 0.2


class Told(SceneReader):
    """A reader whose cells show given label grids: picture i is painted in brightness i."""

    def __init__(self, labels: list[dict], world):
        sizes = labels_read(world)
        super().__init__(sum(sizes.values()), world)
        self.rows = torch.stack([self.one_hot(cells, sizes) for cells in labels])  # [M, N, width]
        parts = torch.eye(self.rows.shape[-1]).split(list(sizes.values()))
        with torch.no_grad():
            for head, part in zip(self.heads.values(), parts, strict=True):
                head.weight.copy_(part)
                head.bias.zero_()

    @staticmethod
    def one_hot(cells, sizes):
        parts = [torch.eye(size)[torch.as_tensor(cells[name]).flatten()] for name, size in sizes.items()]
        return torch.cat(parts, -1)

    def forward(self, images):
        return self.rows[((images[:, 0, 0, 0] + 1) * 127.5).round().long()]


def read(*labels, world=STORYBOOK):
    images = np.zeros((len(labels), 128, 128, 3), np.uint8)
    images[:] = np.arange(len(labels))[:, None, None, None]
    return Told(list(labels), world).read(images)


def grid(**things):
    """Labels of a snowy picture; things are (kind, colour, size, cells)."""
    cells = {name: np.zeros(64, np.int64) for name in LABELS}
    cells["background"][:] = BACKGROUNDS.index("snow")
    for kind, (colours, size, where) in things.items():
        cells["kind"][where] = KINDS.index(kind) + 1
        cells["colour"][where] = [COLOURS.index(c) + 1 if c else 0 for c in colours]
        cells["size"][where] = SIZES.index(size) + 1
    return cells


def test_reading_takes_majorities_and_centres():
    first = grid(house=(["red", None, None, None], "large", [0, 1, 8, 9]))
    second = grid(cup=(["pink", "pink", "red"], "small", [61, 62, 63]), kite=(["green"], "small", [5]))
    second["background"][:20] = BACKGROUNDS.index("night")  # the smaller part
    third = grid(ball=([None, None], "small", [3, 11]))
    house, cup, ball = read(first, second, third)
    assert house == {"background": "snow", "things": [Seen("house", "red", "large", 0.5, 0.5)]}
    assert cup["things"] == [Seen("cup", "pink", "small", 7.0, 6.0)]  # no lone kite
    assert cup["background"] == "snow"
    assert ball["things"] == [Seen("ball", None, "small", 0.5, 3.0)]
    assert not holds(("thing", None, "red", "ball"), ball)


def test_things_of_one_kind_are_read_one_by_one():
    """Also where a painter has them touch, which scenes never do: the parts of things tell them apart."""
    cup = Thing("cup", "pink", "small", 5, 0)
    apart = [cup, replace(cup, row=6, column=3), replace(cup, size="large", row=4, column=5, colour="red")]
    touching = [cup, replace(cup, column=2), replace(cup, row=5, column=4, colour="red")]
    for things in (apart, touching):
        scene = Scene("snow", tuple(things))
        [seen] = read(cell_labels(scene), world=WIDE)
        [few] = read(cell_labels(scene))
        assert [thing.kind for thing in few["things"]] == ["cup"]  # where no kind repeats, a kind is one thing
        assert sorted(seen["things"]) == sorted(perfect_reading(scene)["things"])
        assert holds(("count", 2, None, "pink", "cup"), seen) and holds(("count", 3, None, None, "cup"), seen)
    assert holds(("relation", ("red", "cup"), "next to", ("pink", "cup")), seen) is False  # of one of them alone
    assert holds(("between", ("pink", "cup"), ("red", "cup"), ("red", "cup")), seen) is False


@pytest.mark.parametrize("world", [STORYBOOK, WIDE])
def test_reading_true_labels_gives_the_scene_and_its_captions(world):
    rng = np.random.default_rng(1)
    scenes = [sample_scene(rng, world=world) for _ in range(40)]
    seen = read(*[cell_labels(scene) for scene in scenes], world=world)
    for scene, picture in zip(scenes, seen, strict=True):
        wanted = perfect_reading(scene)["things"]
        assert sorted(t[: 5 if world is WIDE else 3] for t in picture["things"]) == sorted(
            t[: 5 if world is WIDE else 3] for t in wanted)  # fmt: skip
    facts = [[fact for c in captions(scene, rng) for fact in c.facts] for scene in scenes]
    assert scene_accuracy(seen, facts)["all_right"] == 1.0


@pytest.mark.parametrize(("world", "heads"), [(STORYBOOK, {*LABELS}), (WIDE, {*LABELS, "part"})])
def test_a_reader_has_a_cell_for_each_sixteen_pixels_and_trains(world, heads):
    torch.manual_seed(0)
    reader = SceneReader(width=12, world=world)
    images = torch.randint(0, 256, (2, 128, 128, 3), dtype=torch.uint8)
    scene = sample_scene(np.random.default_rng(2))
    labels = {name: torch.from_numpy(cells)[None].repeat(2, 1, 1) for name, cells in cell_labels(scene).items()}
    loss, numbers = LabelObjective(reader)({"images": images, **labels})
    loss.backward()
    assert all(p.grad is not None for p in reader.parameters()) and {"loss", *heads} == set(numbers)
    pictures = reader.read(images.numpy())
    assert len(pictures) == 2 and not reader.training
    assert all(p["background"] in BACKGROUNDS and {t.kind for t in p["things"]} <= set(KINDS) for p in pictures)


def standardised(rng, rows, width):
    """Vectors whose sample mean is exactly 0 and whose sample covariance is exactly 1."""
    x = rng.normal(size=(rows, width))
    x -= x.mean(0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T


def test_the_distance_of_known_gaussians_is_the_closed_form():
    rng = np.random.default_rng(0)
    x, y = standardised(rng, 400, 4), standardised(rng, 300, 4)
    first, second, shift = np.array([1.0, 2, 3, 4]), np.array([2.0, 2, 1, 0.5]), np.array([1.0, 0, -2, 0])
    want = (shift**2).sum() + ((first - second) ** 2).sum()  # of axis-parallel Gaussians
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]  # turning both changes nothing
    a, b = x * first @ turn, (y * second + shift) @ turn
    assert frechet_distance(a, b) == pytest.approx(want)
    assert frechet_distance(b, a) == pytest.approx(want)


def test_a_set_has_no_distance_to_itself_however_few_it_holds():
    rng = np.random.default_rng(1)
    for rows in (100, 5):  # five vectors of eight values span no full covariance
        x = rng.normal(size=(rows, 8))
        assert frechet_distance(x, x) == pytest.approx(0, abs=1e-4)
        assert frechet_distance(x, x + 3) == pytest.approx(72, rel=1e-4)


@pytest.mark.parametrize(("world", "told"), [(STORYBOOK, {"thing"}), (WIDE, {"thing", "count"})])
def test_codes_are_read_by_what_they_meant_in_training(world, told):
    scenes = [sample_scene(np.random.default_rng(i), world=world) for i in range(60)]
    names = labels_read(world)
    cells = [cell_labels(scene) for scene in scenes]
    labels = {name: np.stack([c[name] for c in cells]) for name in names}
    labels["background"] = np.where(labels["kind"] > 0, -100, labels["background"])  # as chapter 02 learns them
    parts = np.stack([labels[name].reshape(60, 64) for name in names], -1)
    codes = np.unique(parts.reshape(-1, len(names)), axis=0, return_inverse=True)[1].reshape(
        60, 64
    )  # one code a meaning
    reader = CodeReader(codes, labels, world)
    seen = reader.read(codes)
    facts = [captions(scene, np.random.default_rng(0))[0].facts for scene in scenes]
    got = scene_accuracy(seen, facts)
    assert min(got[name] for name in told) > 0.99
    blank = reader.read(np.full((1, 64), codes.max() + 7))
    assert blank[0]["things"] == []


SCENE = Scene("snow", (Thing("house", "red", "large", 4, 0), Thing("star", "blue", "small", 0, 6)))


def test_captions_are_held_against_their_scenes():
    said = {
        "a large red house and a small blue star in the snow": (3, 3, 3),  # facts, true ones, told ones of three
        "a red house left of a blue star": (3, 3, 0),  # true, but without sizes nothing is told
        "a small red house and a small blue star by the water": (3, 1, 1),
        "a blue star star": (2, 1, 0),  # the rest of it is nonsense
    }
    got = caption_accuracy([SCENE] * 4, list(said))
    stated, true, told = map(sum, zip(*said.values(), strict=True))
    assert got == pytest.approx({"precision": true / stated, "all_right": 2 / 4, "recall": told / 12, "grammar": 3 / 4})
    with pytest.raises(ValueError, match="zip"):
        caption_accuracy([SCENE], list(said))


def test_true_captions_are_perfect_and_those_of_other_scenes_are_not():
    rng = np.random.default_rng(3)
    scenes = [sample_scene(rng) for _ in range(40)]
    first = [captions(scene, rng)[0].text for scene in scenes]
    assert set(caption_accuracy(scenes, first).values()) == {1.0}
    others = caption_accuracy(scenes, first[1:] + first[:1])
    assert others["grammar"] == 1 and others["precision"] < 0.4 and others["recall"] < 0.4


def test_a_round_trip_counts_what_is_told_again():
    texts = ["a large red house left of a small blue star in the snow", "a red ball by the water", "a red cup"]
    again = ["a small blue star and a large red house in the snow", "a small blue ball by the water", "a red cup"]
    assert round_trip(texts, again) == pytest.approx({"facts": 5 / 6, "all_right": 2 / 3})
    assert round_trip(texts, texts) == {"facts": 1, "all_right": 1}
    with pytest.raises(ValueError, match="zip"):
        round_trip(texts, again[:2])
    cars = ["two red cars", "a small red car and a large red car", "three red cars", "a red car"]
    counted = [round_trip(["two red cars at night"], [f"{said} at night"], WIDE)["facts"] for said in cars]
    assert counted == [1, 1, 0.5, 0.5]  # two are two, however they are told
