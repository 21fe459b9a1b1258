"""The catalogue as a data set: its official files, splits, labels, questions and judge."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from shop import HUES, LINES, SHARED, fill, product, write

from xlxmert_core.data import catalogue, coco, lxmert, nlvr2, vqa
from xlxmert_core.data.catalogue import writer
from xlxmert_core.data.catalogue.products import HELD_OUT, KINDS
from xlxmert_core.data.files import DataError, read_json
from xlxmert_core.datasets import catalogue as data_set
from xlxmert_core.datasets import open_dataset
from xlxmert_core.datasets.base import UNLABELLED
from xlxmert_core.datasets.profiles import PROFILES, profile
from xlxmert_core.evaluate.products import ProductJudge, ProductReader, known_of
from xlxmert_core.evaluate.scores import most_frequent
from xlxmert_core.train.labels import PictureObjective

real = pytest.mark.skipif(not (SHARED / "styles.csv").is_file(), reason="no product photographs beside the clone")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("source") / "products")


@pytest.fixture(scope="module")
def data(source, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLXMERT_CATALOGUE", str(source))
        found = open_dataset("catalogue", tmp_path_factory.mktemp("data") / "catalogue")
        found.prepare(replace(profile("smoke"), train=120, held_out=40), seed=3)
    return found


# --- On disk. -----------------------------------------------------------------------------------------


def test_official_readers_take_what_is_written(data):
    for part in writer.PARTS:
        records, report = coco.read_captions(data.folder, part)
        assert records and not report.skipped
        assert all(len(r.captions) == len(r.facts) == 5 and all(r.facts) for r in records)
        asked = vqa.read(data.folder / f"vqa/v2_OpenEnded_catalogue_{part}_questions.json",
                         data.folder / f"vqa/v2_catalogue_{part}_annotations.json")  # fmt: skip
        told = nlvr2.read(data.folder / f"nlvr2/{part}.json")
        ids = {record.image_id for record in records}
        assert {q.images[0] for q in asked} == ids and {i for q in told for i in q.images} <= ids
        assert {q.answer for q in told} == {"True", "False"}
        sentences = lxmert.read_aggregated(data.folder / f"lxmert/{part}.json")
        assert {int(e.image_id) for e in sentences} == ids and len(sentences) == 5 * len(ids) + len(asked)


def test_small_square_photographs_are_linked_and_others_made_square(data, source):
    told = read_json(data.folder / "annotations" / "captions_train.json")["images"]
    sizes = {entry["file_name"]: (entry["width"], entry["height"]) for entry in told}
    for path in (data.folder / "images" / "train").iterdir():
        assert path.is_symlink() == (int(path.stem) % 2 == 0)
        with Image.open(path) as picture:
            assert picture.size == sizes.pop(path.name) == ((128, 128) if int(path.stem) % 8 else (192, 192))
        assert not path.is_symlink() or path.resolve() == (source / "images" / path.name).resolve()
    assert not sizes


def test_a_photograph_that_does_not_open_and_one_that_is_missing_are_told(data):
    told = str(data.split("train").report)
    assert "product 18: " in told and "picture 17: The picture" in told and "17.jpg is broken" in told


def test_pairs_that_are_held_out_are_in_parts_of_their_own(data):
    for part in writer.PARTS:
        pairs = {(known_of(r)["type"][0], known_of(r)["colour"][0]) for r in coco.read_captions(data.folder, part)[0]}
        assert pairs and ((pairs <= {*HELD_OUT}) if part in ("composition", "pairs") else not pairs & {*HELD_OUT})
    names = [f"{colour} {KINDS[kind].one}" for kind, colour in HELD_OUT]
    said = [e.sentence for e in data.texts("train")]
    said += [q.text for those in data.questions("train").tasks.values() for q in those]
    assert not any(name in sentence for name in names for sentence in said)


def test_a_second_colour_is_held_out_too():
    assert product(colour="red", second="purple").held_out and product(colour="purple").held_out
    assert not product(colour="red", second="blue").held_out


def test_a_complete_folder_is_left_alone_and_another_one_refused(source, tmp_path):
    folder = catalogue.write(source, tmp_path / "x", 20, 5, 0)
    before = (folder / "manifest.json").stat().st_mtime_ns
    assert catalogue.write(source, folder, 20, 5, 0) == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == before
    train = coco.read_captions(folder, "train")[0]
    assert len(train) <= 20 and len(coco.read_captions(folder, "val")[0]) == 5
    catalogue.write(source, folder, 20, 5, 1)
    assert [r.image_id for r in coco.read_captions(folder, "train")[0]] != [r.image_id for r in train]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="full holds other files: name an empty or new folder"):
        catalogue.write(source, tmp_path / "full", 20, 5, 0)
    with pytest.raises(DataError, match="has no styles.csv: name the folder of Fashion Product Images"):
        catalogue.write(tmp_path, tmp_path / "y", 20, 5, 0)


@pytest.mark.parametrize(("labels", "empty"), [
    ("Men,A,B,Watches,Black", "val, test, composition, pairs"),
    ("Men,A,B,Shirts,Purple", "train, val, test, composition"),
])  # fmt: skip
def test_a_shop_that_leaves_parts_empty_is_refused(tmp_path, labels, empty):
    lines = [f"{i},{labels},Fall,2011,Casual,Fossil Men" for i in range(1, 60)]
    shop = write(tmp_path / "shop", [LINES[0], *lines], range(1, 60))
    with pytest.raises(DataError, match=f"shop has no photograph that opens for {empty}: add .* such as purple shirts"):
        catalogue.write(shop, tmp_path / "x", 20, 5, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


@pytest.mark.parametrize("lost", [("images/train", "left_out.json"), ("images/val/122.jpg",), ("vqa",)])
def test_what_was_removed_is_written_again(source, tmp_path, lost):
    folder = catalogue.write(source, tmp_path / "x", 20, 60, 0)
    before = {path.relative_to(folder) for path in folder.rglob("*")}
    for name in lost:
        place = folder / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    catalogue.write(source, folder, 20, 60, 0)
    assert {path.relative_to(folder) for path in folder.rglob("*")} == before


# --- The data set. ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train", "held_out", "test", "composition"])
def test_a_split_has_pictures_labels_regions_and_probes(data, name):
    split = data.split(name)
    assert split.images.shape == (len(split), 128, 128, 3) and split.images.dtype == np.uint8
    assert split.classes == {"kind": 30, "colour": 12, "gender": 6, "pattern": 6, "part": 17}
    thing = split.labels["kind"] > 0
    assert thing.any((1, 2)).all() and not thing.all((1, 2)).any()
    for head, values in split.labels.items():
        assert values.shape == (len(split), 8, 8) and values.dtype == np.int64 and values.max() < split.classes[head]
        assert ((values != 0) == thing).all()
    for i, record in enumerate(split.records):
        truth = known_of(record)
        assert set(split.labels["kind"][i][thing[i]]) == {catalogue.TYPES.index(truth["type"][0]) + 1}
        known = "pattern" in truth
        assert (split.labels["pattern"][i][thing[i]] == UNLABELLED).all() == (not known)
        (region,) = split.regions[i]
        assert region.words == (truth["colour"][0], KINDS[truth["type"][0]].one)
        assert " ".join(region.words) in split.texts[i] and " ".join(region.words) in region.text
        x0, y0, x1, y1 = region.box
        assert abs(y0 - 1 / 8) < 0.04 and abs(y1 - 5 / 8) < 0.04 and 0.2 < x0 < 0.36 and 0.64 < x1 < 0.8
    for head, where in split.probes.items():
        assert (split.labels[head][tuple(where.T)] > 0).all()
    assert len(split.probes["kind"]) == len(split) >= len(split.probes["pattern"]) > 0


def test_limit_size_and_order(data):
    whole = data.split("train")
    few = data.split("train", 3, size=32)
    assert few.ids == whole.ids[:3] != sorted(whole.ids)[:3] and few.images.shape == (3, 32, 32, 3)


def test_questions_are_about_pictures_that_are_there(data):
    asked, split = data.questions("test"), data.split("test")
    assert list(asked.tasks) == ["vqa", "nlvr2"] and (asked.images == split.images).all()
    assert all(len(asked.rows(q)) == 1 + (task == "nlvr2") for task, those in asked.tasks.items() for q in those)
    few = data.questions("test", 5)
    assert len(few.images) == 5 and 0 < len(few.tasks["vqa"]) < len(asked.tasks["vqa"]) and few.folder.is_dir()


def test_photographs_that_are_not_there_are_asked_for(monkeypatch, tmp_path):
    monkeypatch.delenv("XLXMERT_CATALOGUE", raising=False)
    found = open_dataset("catalogue", tmp_path / "x")
    with pytest.raises(DataError, match="name the folder of Fashion.*XLXMERT_CATALOGUE=/path/to/catalogue make book"):
        found.prepare(found.budgets("smoke"), 0)
    with pytest.raises(DataError, match=r"is not there: prepare\(\) links the photographs, as chapter 02 does"):
        found.split("train")


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_has_budgets_that_fit_its_vocabulary(name):
    run, usual = data_set.Catalogue("").budgets(name), profile(name)
    assert np.prod(run.code_parts) == run.codes == run.model.codes and run.painter == run.speaker == "pipeline"
    assert run.judged.keys() == {*data_set.Catalogue.tests}
    if name != "train":
        assert run.encoder_steps <= usual.encoder_steps and run.train < usual.train


def test_words_that_stand_for_each_other_are_single_words(data):
    said = {word for e in data.texts("train") for word in re.findall(r"\w+", e.sentence)}
    groups = data.language.exchangeable
    assert all(" " not in word for group in groups for word in group) and all(said & {*group} for group in groups)


# --- The judge. ---------------------------------------------------------------------------------------


class Oracle:
    """Knows a split's pictures by heart; of others it says what the first one is."""

    def __init__(self, split):
        truths = [known_of(record) for record in split.records]
        seen = [{name: t.get(name, values)[0] for name, values in catalogue.LABELS.items()} for t in truths]
        self.known = {image.tobytes(): those for image, those in zip(split.images, seen, strict=True)}

    def read(self, images):
        return [self.known[image.tobytes()] for image in images]


def judge_of(split) -> ProductJudge:
    return ProductJudge(lambda: Oracle(split))


def test_a_perfect_painter_is_right_and_a_wrong_one_is_not(data):
    split = data.split("test", 30)
    judge = judge_of(split)
    right = judge.paintings(split.images, split)
    assert right == dict.fromkeys(judge.measures, 1.0)
    chance = judge.paintings(split.images, split.shifted())
    assert chance["both"] < min(chance["type"], chance["colour"]) + 1e-9 < 0.9


def test_captions_are_looked_up_in_what_is_known(data):
    split = data.split("test", 2)
    judge, (one, two) = judge_of(split), (known_of(record) for record in split.records)
    lines = split.texts
    assert judge.captions(lines, split) == dict(precision=1, all_right=1, recall=1, type_and_colour=1)
    assert judge.faults(lines, split) == ["", ""]
    other = next(c for c in HUES if c not in (one["colour"][0], two["colour"][0]))
    wrong = [lines[0].replace(one["colour"][0], other), "a thing"]
    scores = judge.captions(wrong, split)
    assert scores["all_right"] == 0 and scores["type_and_colour"] == 0.5 and scores["recall"] == 0.25
    assert judge.faults(wrong, split) == [f"the colour is {one['colour'][0]}, not {other}", "it states nothing"]
    assert judge.retold(lines, lines) == {"facts": 1, "all_right": 1} != judge.retold(lines, lines[::-1])


def test_regions_must_be_named_alone(data):
    regions = [those[0] for those in data.split("test", 2).regions]
    judge = ProductJudge(lambda: None)
    assert judge.regions([region.text for region in regions], regions) == {"right": 1, "alone": 1}
    assert judge.regions([f"{regions[0].text} and a wallet", "a thing"], regions) == {"right": 0.5, "alone": 0}


def test_an_edit_asks_for_another_colour_of_no_pair_held_out(data):
    split = data.split("test", 30)
    judge = judge_of(split)
    edits = judge.edits(split, np.random.default_rng(0))
    for record, said, (kind, colour) in zip(split.records, edits.texts, edits.wanted, strict=True):
        assert colour not in known_of(record)["colour"] and (kind, colour) not in HELD_OUT
        assert f"{colour} {KINDS[kind].one}" in said
    assert edits.masks.shape == (30, 8, 8) and (edits.masks == (split.labels["kind"] > 0)).all()
    assert judge.edited(split.images, split.images, edits) == {"repaint_right": 0, "repaint_rest_same": 1}


def test_the_reader_learns_from_whole_pictures_half_of_them_mirrored(data):
    split, pairs = data.split("train", 6), data.split("pairs", 2)
    batch_at = data_set.whole_pictures([split, pairs])
    batch = batch_at(0, torch.Generator().manual_seed(0))
    known = {image.tobytes() for each in (split, pairs) for image in each.images}
    mirrored = {image[:, ::-1].tobytes() for each in (split, pairs) for image in each.images}
    shown = [image.numpy().tobytes() for image in batch["images"]]
    assert {*shown} <= known | mirrored and {*shown} & known and {*shown} & mirrored - known
    torch.manual_seed(0)
    reader = ProductReader(imagenet=False)
    few = {name: values[:4] for name, values in batch.items()}
    loss, numbers = PictureObjective(reader)(few)
    loss.backward()
    assert loss.isfinite() and numbers.keys() == {"loss", *catalogue.LABELS}
    read = reader.read(split.images[:2])
    assert [{name: value in catalogue.LABELS[name] for name, value in those.items()} for those in read] == [
        dict.fromkeys(catalogue.LABELS, True)] * 2  # fmt: skip
    assert reader.embed(split.images[:2]).shape == (2, 224)


def test_a_label_that_is_not_known_costs_nothing():
    class Flat(torch.nn.Module):
        def forward(self, images):
            return {"type": torch.zeros(len(images), 29)}

    batch = {"images": torch.zeros(2, 8, 8, 3, dtype=torch.uint8), "type": torch.tensor([UNLABELLED, 3])}
    assert float(PictureObjective(Flat())(batch)[0]) == pytest.approx(np.log(29), abs=1e-5)


# --- The real photographs. ----------------------------------------------------------------------------


@real
def test_real_photographs_give_the_same_things(monkeypatch, tmp_path):
    monkeypatch.setenv("XLXMERT_CATALOGUE", str(SHARED))
    found = open_dataset("catalogue", tmp_path / "catalogue")
    found.prepare(replace(found.budgets("smoke"), train=300, held_out=60), 0)
    train, test = found.split("train"), found.split("test")
    assert (len(train), len(test), len(found.split("composition"))) == (300, 60, 60)
    assert (train.images[:, 0, 0].mean(0) > 230).all()  # white
    share = (train.labels["kind"] > 0).mean()
    assert 0.3 < share < 0.7, share
    assert all(0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 for [region] in train.regions for x0, y0, x1, y1 in [region.box])
    asked = {name: found.questions(name).tasks["vqa"] for name in ("train", "test")}
    alone = {words: most_frequent(**asked, words=words) for words in (False, True)}
    right = {words: np.mean([q.answer == those[q.id] for q in asked["test"]]) for words, those in alone.items()}
    assert right[True] < right[False] + 0.05, right
