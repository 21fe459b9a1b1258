"""Storybook goes through the same call as COCO, and its labels say what the scene graphs say."""

import numpy as np
import pytest

from xlxmert_core.data import splits, storybook
from xlxmert_core.data.files import DataError

TRAIN, HELD_OUT = 6, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return splits.write_storybook(tmp_path_factory.mktemp("data") / "storybook", TRAIN, HELD_OUT, seed=3)


@pytest.fixture(scope="module", params=splits.NAMES["storybook"])
def split(request, folder):
    return splits.load_split("storybook", folder, request.param)


def test_pictures_and_records(split):
    assert len(split) == len(split.records) == len(split.scenes) in (TRAIN, HELD_OUT)
    assert len(set(split.ids)) == len(split)
    assert split.report.skipped == []
    assert split.images.shape == (len(split), 128, 128, 3)
    assert split.images.dtype == np.uint8
    for scene, image in zip(split.scenes, split.images, strict=True):
        assert (image == storybook.render(scene)).all()


def test_captions_have_facts_that_hold(split):
    for record, scene in zip(split.records, split.scenes, strict=True):
        assert len(record.captions) == len(record.facts) == 5
        assert all(record.facts), "a caption without facts"
        assert all(all(storybook.facts_hold(scene, facts)) for facts in record.facts)


def test_labels_are_those_of_the_scenes(split):
    sizes = {"kind": 13, "colour": 9, "size": 3, "background": 5, "part": 14, "place": 16}
    assert list(split.labels) == list(split.classes) == list(sizes)
    assert split.classes == sizes
    for name, labels in split.labels.items():
        assert labels.shape == (len(split), storybook.GRID, storybook.GRID)
        assert labels.dtype == np.int64
        assert labels.max() < split.classes[name]
        assert (labels[labels != splits.UNLABELLED] >= 0).all()
    for index, scene in enumerate(split.scenes):
        cells = storybook.cell_labels(scene)
        for name in ("kind", "colour", "size", "part"):
            assert (split.labels[name][index] == cells[name]).all()
        kinds = set(np.unique(split.labels["kind"][index])) - {0}
        assert kinds == {storybook.KINDS.index(thing.kind) + 1 for thing in scene.things}


def test_places_count_blocks_of_four_cells_and_are_unlabelled_under_objects(split):
    free = split.labels["kind"] == 0
    for index, row, column in np.argwhere(free):
        assert split.labels["place"][index, row, column] == row // 2 * 4 + column // 2
    assert (split.labels["place"][~free] == splits.UNLABELLED).all()


def test_the_background_is_unlabelled_under_objects(split):
    for kind, background, scene in zip(split.labels["kind"], split.labels["background"], split.scenes, strict=True):
        assert (background[kind > 0] == splits.UNLABELLED).all()
        assert (background[kind == 0] == storybook.BACKGROUNDS.index(scene.background)).all()
        assert (kind > 0).any() and (kind == 0).any()


def test_limit_and_size(folder):
    whole = splits.load_split("storybook", folder, "train")
    few = splits.load_split("storybook", folder, "train", limit=2, size=32)
    assert few.ids == whole.ids[:2]
    assert few.images.shape == (2, 32, 32, 3)
    assert (few.labels["kind"] == whole.labels["kind"][:2]).all()


def test_a_broken_picture_leaves_the_others_in_step(folder, tmp_path):
    copy = splits.write_storybook(tmp_path / "copy", TRAIN, HELD_OUT, seed=3)
    whole = splits.load_split("storybook", folder, "train")
    (copy / "images" / "train" / whole.records[1].path.name).write_bytes(b"not a picture")
    rest = splits.load_split("storybook", copy, "train")
    keep = [0, *range(2, TRAIN)]
    assert rest.ids == [whole.ids[i] for i in keep]
    assert [what for what, _ in rest.report.skipped] == [f"picture {whole.ids[1]}"]
    assert (rest.images == whole.images[keep]).all()
    assert all((rest.labels[name] == whole.labels[name][keep]).all() for name in rest.labels)
    assert rest.scenes == [whole.scenes[i] for i in keep]


def test_a_split_that_is_not_there_is_named(folder):
    with pytest.raises(DataError, match="no pictures of 'dev'"):
        splits.load_split("storybook", folder, "dev")


def test_an_unknown_data_set_is_named(folder):
    with pytest.raises(DataError, match="There is no data set 'flickr'; known: storybook, coco"):
        splits.load_split("flickr", folder, "train")


def test_box_labels_by_hand():
    boxes = [(0.5, 0.25, 0.25, 0.25, 4), (0.25, 0.0, 0.75, 0.75, 1), (0.1, 0.1, 0.02, 0.02, 9)]
    wanted = [[0, 2, 2, 2], [0, 2, 5, 2], [0, 2, 2, 2], [0, 0, 0, 0]]  # small over large; too small for a centre
    for order in (boxes, boxes[::-1]):
        labels = splits.box_labels(order, grid=4)
        assert labels.dtype == np.int64
        assert labels.tolist() == wanted
    assert (splits.box_labels([]) == 0).all()
    assert (splits.box_labels(None) == splits.UNLABELLED).all()
    assert splits.box_labels(None).shape == splits.box_labels([]).shape == (8, 8)


def test_a_photographs_cells_have_the_colour_that_they_are():
    image = np.zeros((16, 16, 3), np.uint8)
    image[:8, 8:] = (255, 130, 0)  # levels 3, 2, 0
    image[8:, :8] = (63, 64, 255)  # levels 0, 1, 3
    labels = splits.colour_labels(image[None], grid=2)
    assert labels.tolist() == [[[1, 1 + 3 * 16 + 2 * 4], [1 + 4 + 3, 1]]]
    assert splits.colour_labels(np.full((1, 16, 16, 3), 255, np.uint8)).max() == splits.LEVELS**3
