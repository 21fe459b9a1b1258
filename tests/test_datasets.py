"""Storybook and photographs give the same things by the same names, and what they give is what the files say."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from book.build.run_chapters import ROOT
from xlxmert_core.data import gqa, storybook
from xlxmert_core.data.files import DataError
from xlxmert_core.data.pictures import picture_key
from xlxmert_core.datasets import DATASETS, base, coco, open_dataset
from xlxmert_core.datasets.coco import Coco
from xlxmert_core.datasets.profiles import PROFILES, profile
from xlxmert_core.datasets.storybook import FILES, Storybook
from xlxmert_core.datasets.wide import Wide

TRAIN, HELD_OUT = 6, 3


SMALL = replace(profile("smoke"), train=TRAIN, held_out=HELD_OUT)
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "coco"
REAL = pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="no COCO photographs beside the clone (shared/data/coco)")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    found = Storybook(tmp_path_factory.mktemp("data") / "storybook")
    found.prepare(SMALL, seed=3)
    return found


@pytest.fixture(scope="module", params=[name for name in FILES if name != "counts"])
def split(request, data):
    return data.split(request.param)


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
        assert (labels[labels != base.UNLABELLED] >= 0).all()
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
    assert (split.labels["place"][~free] == base.UNLABELLED).all()


def test_the_background_is_unlabelled_under_objects(split):
    for kind, background, scene in zip(split.labels["kind"], split.labels["background"], split.scenes, strict=True):
        assert (background[kind > 0] == base.UNLABELLED).all()
        assert (background[kind == 0] == storybook.BACKGROUNDS.index(scene.background)).all()
        assert (kind > 0).any() and (kind == 0).any()


def test_limit_and_size(data):
    whole = data.split("train")
    few = data.split("train", 2, size=32)
    assert few.ids == whole.ids[:2]
    assert few.images.shape == (2, 32, 32, 3)
    assert (few.labels["kind"] == whole.labels["kind"][:2]).all()


def test_a_broken_picture_leaves_the_others_in_step(data, tmp_path):
    copy = Storybook(tmp_path / "copy")
    copy.prepare(SMALL, seed=3)
    whole = data.split("train")
    (copy.folder / "images" / "train" / whole.records[1].path.name).write_bytes(b"not a picture")
    rest = copy.split("train")
    keep = [0, *range(2, TRAIN)]
    assert rest.ids == [whole.ids[i] for i in keep]
    assert [what for what, _ in rest.report.skipped] == [f"picture {whole.ids[1]}"]
    assert (rest.images == whole.images[keep]).all()
    assert all((rest.labels[name] == whole.labels[name][keep]).all() for name in rest.labels)
    assert rest.scenes == [whole.scenes[i] for i in keep] and rest.regions == [whole.regions[i] for i in keep]


def test_a_split_that_is_not_there_is_named(data, tmp_path):
    with pytest.raises(DataError, match="no pictures of 'dev'"):
        data.split("dev")
    with pytest.raises(DataError, match=r"nowhere is not there: prepare\(\) draws the scenes, as chapter 02 does"):
        Storybook(tmp_path / "nowhere").split("train")


def test_an_unknown_data_set_is_named(tmp_path):
    with pytest.raises(DataError, match="There is no data set 'flickr'; known: storybook, junior, wide, coco"):
        open_dataset("flickr", tmp_path)


def test_regions_are_those_of_the_scene_graphs_in_gqas_format(split, data, request):
    name = FILES[request.node.callspec.params["split"]]
    found = gqa.read_regions(data.folder / f"gqa/{name}_sceneGraphs.json")
    pairs = zip(split.ids, split.regions, strict=True)
    assert found == [(str(i), region.text, region.box) for i, those in pairs for region in those]
    assert all(set(region.words) <= set(region.text.split()) for those in split.regions for region in those)


@pytest.mark.parametrize("kind", [Storybook, Wide])
def test_the_judge_sees_what_training_holds_out(data, kind):
    many = replace(data.split("train"), records=data.split("train").records * 100)
    scenes = kind(data.folder).seen_by_judge(many, 0).scenes
    assert len(scenes) == len(many) and {(t.colour, t.kind) for s in scenes for t in s.things} >= storybook.HELD_OUT
    assert {n for s in scenes for n in Counter(t.kind for t in s.things).items()} >= kind.world.held_counts


def test_probes_are_the_centres_of_things(split):
    assert list(split.probes) == ["kind", "colour", "size"]
    for where in split.probes.values():
        assert len(where) == sum(len(scene.things) for scene in split.scenes)
        assert (split.labels["kind"][tuple(where.T)] > 0).all()


def test_some_pictures_are_a_split_and_the_next_ones_stand_for_chance(split):
    few = split.some([2, 0])
    assert few.ids == [split.ids[2], split.ids[0]] and few.texts == [split.texts[2], split.texts[0]]
    assert (few.images == split.images[[2, 0]]).all() and few.scenes == [split.scenes[2], split.scenes[0]]
    assert (few.labels["kind"] == split.labels["kind"][[2, 0]]).all() and few.regions[1] == split.regions[0]
    assert split.shifted().ids == split.ids[1:] + split.ids[:1]
    assert split.first(2).ids == split.ids[:2] and split.first(99).ids == split.ids


@pytest.mark.parametrize("name", ["train", "held_out", "test"])
def test_questions_are_about_pictures_that_are_there(data, name):
    asked, split = data.questions(name), data.split(name)
    assert list(asked.tasks) == ["vqa", "gqa", "nlvr2"] and (asked.images == split.images).all()
    for task, questions in asked.tasks.items():
        assert questions and all(len(asked.rows(q)) == 1 + (task == "nlvr2") for q in questions)
    first = asked.tasks["vqa"][0]
    assert picture_key(split.ids[asked.rows(first)[0]]) == picture_key(first.images[0])
    assert asked.folder.is_dir()


def test_texts_are_captions_and_questions(data):
    split, texts = data.split("held_out"), data.texts("held_out")
    captions = [e.sentence for e in texts if e.source == "mscoco"]
    assert captions == [text for record in split.records for text in record.captions]
    assert {e.source for e in texts} == {"mscoco", "vqa"}
    words = {word for text in captions for word in text.split()}
    assert words & set(data.language.exchangeable[0]) and any(f" {r} " in t for r in data.language.relations
                                                              for t in captions)  # fmt: skip


@pytest.mark.parametrize("name", PROFILES)
def test_photographs_are_fewer_and_need_fewer_codes(name):
    few, many = Coco("").budgets(name), profile(name)
    assert few.train < many.train and few.codes < many.codes and few.code_parts == (few.codes,)
    assert few.model.hidden == many.model.hidden and few.model.mixture == 1 and few.painter == "pipeline"
    assert Storybook("").budgets(name) is many and many.judged.keys() == {*Storybook.tests}


@REAL
def test_photographs_give_the_same_things(monkeypatch, tmp_path):
    monkeypatch.setenv("XLXMERT_COCO", str(PHOTOGRAPHS))
    found = open_dataset("coco", tmp_path)
    found.prepare(found.budgets("smoke"), 0)
    held_out, test = found.split("held_out", 8, size=32), found.split("test", 8, size=32)
    assert isinstance(found, DATASETS["coco"]) and not set(held_out.ids) & set(test.ids)
    assert list(held_out.probes) == ["kind", "colour"] == list(held_out.labels)
    asked = found.questions("held_out")
    questions = asked.tasks["vqa"]
    kinds = dict(zip(found.split("held_out", size=8).ids, found.split("held_out", size=8).regions, strict=True))
    for q in questions:
        there = any(q.text.endswith(f" {region.words[0]}") for region in kinds[q.images[0]])
        assert there == (q.answer == "yes")
    assert len([q for q in questions if q.answer == "yes"]) == len(questions) / 2 > 9
    assert {e.source for e in found.texts("held_out")} == {"mscoco"}


def test_photographs_that_are_not_there_are_asked_for(monkeypatch, tmp_path):
    monkeypatch.delenv("XLXMERT_COCO", raising=False)
    found = open_dataset("coco", tmp_path)
    with pytest.raises(DataError, match="no pictures of 'train2017'.*XLXMERT_COCO=/path/to/coco make book"):
        found.prepare(found.budgets("smoke"), 0)


def test_box_labels_by_hand():
    boxes = [(0.5, 0.25, 0.25, 0.25, 4), (0.25, 0.0, 0.75, 0.75, 1), (0.1, 0.1, 0.02, 0.02, 9)]
    wanted = [[0, 2, 2, 2], [0, 2, 5, 2], [0, 2, 2, 2], [0, 0, 0, 0]]  # small over large; too small for a centre
    for order in (boxes, boxes[::-1]):
        labels = coco.box_labels(order, grid=4)
        assert labels.dtype == np.int64
        assert labels.tolist() == wanted
    assert (coco.box_labels([]) == 0).all()
    assert (coco.box_labels(None) == base.UNLABELLED).all()
    assert coco.box_labels(None).shape == coco.box_labels([]).shape == (8, 8)


def test_a_photographs_cells_have_the_colour_that_they_are():
    image = np.zeros((16, 16, 3), np.uint8)
    image[:8, 8:] = (255, 130, 0)  # levels 3, 2, 0
    image[8:, :8] = (63, 64, 255)  # levels 0, 1, 3
    labels = coco.colour_labels(image[None], grid=2)
    assert labels.tolist() == [[[1, 1 + 3 * 16 + 2 * 4], [1 + 4 + 3, 1]]]
    assert coco.colour_labels(np.full((1, 16, 16, 3), 255, np.uint8)).max() == coco.LEVELS**3
