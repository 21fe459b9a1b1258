"""Fashion Product Images: read, told, asked and drawn up in the official formats; the data set and its judge."""

import json
import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xlxmert_core.data import catalogue, coco, lxmert, nlvr2, vqa
from xlxmert_core.data.catalogue import pictures, products, text, writer
from xlxmert_core.data.catalogue.products import COLUMNS, HELD_OUT, KINDS, SPLITS, Product
from xlxmert_core.data.catalogue.questions import CHECKS
from xlxmert_core.data.files import DataError
from xlxmert_core.datasets import catalogue as data_set
from xlxmert_core.datasets import open_dataset
from xlxmert_core.datasets.base import UNLABELLED
from xlxmert_core.datasets.profiles import PROFILES, profile
from xlxmert_core.evaluate.products import ProductJudge, ProductReader, known_of
from xlxmert_core.evaluate.scores import most_frequent
from xlxmert_core.train.labels import PictureObjective

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "catalogue"
real = pytest.mark.skipif(not (SHARED / "styles.csv").is_file(), reason="no product photographs beside the clone")
LINES = [
    ",".join(COLUMNS),
    "1,Men,Apparel,Topwear,Shirts,Navy Blue,Fall,2011,Formal,Arrow Men Check Navy, White, Blue & White Shirt",
    "2,Women,Accessories,Bags,Handbags,Red,Fall,2011,Casual,Baggit Women Red Leather Handbag",
    "3,Women,Footwear,Shoes,Heels,,Fall,2011,NA,Catwalk Women Heels",
    "4,Men,Apparel,Topwear,Rain Jacket,Black,Fall,2011,Casual,Just Black",
    "broken line",
    "2,Women,Accessories,Bags,Handbags,Red,Fall,2011,Casual,Twice",
]
HUES = {"black": (20, 20, 20), "red": (220, 0, 0), "blue": (0, 0, 220), "green": (0, 160, 0), "purple": (130, 0, 130)}
SIDES = re.compile(r"\b(left|right)\b")


def product(**values) -> Product:
    base = dict(id=1, type="Shirts", colour="red", shade="red", gender="Men", usage="Casual", title="Lee Men Red Shirt")
    return Product(**(base | values))


def write(folder: Path, lines=LINES, ids=(1, 2, 3)) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "styles.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for i in ids:
        Image.fromarray(np.full((16, 16, 3), 200, np.uint8)).save(folder / "images" / f"{i}.jpg")
    return folder


def photograph(number: int, colour: str, width: int, height: int) -> Image.Image:
    """A thing of one colour in the upper middle of a white picture, with its number in dark and light squares."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    thing = pixels[height // 8 : height * 5 // 8, width // 4 : width * 3 // 4]
    thing[:] = HUES[colour]
    for bit in range(8):
        place = thing[4 + 8 * (bit // 3) :, 2 + 8 * (bit % 3) :]
        place[:7, :7] = place[:7, :7] // (1 + (number >> bit & 1)) + 10
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """240 products in the official layout, half of them three to four as the shop's are; 17 does not open."""
    rng = np.random.default_rng(0)
    kinds, colours, genders = ("Shirts", "Jeans", "Casual Shoes"), tuple(HUES), ("Men", "Women", "Boys")
    lines, folder = [LINES[0]], tmp_path_factory.mktemp("source") / "products"
    for i in range(1, 241):
        kind, colour, gender = (options[rng.integers(len(options))] for options in (kinds, colours, genders))
        look = ("Striped", "Solid", "")[i % 3]
        lines.append(f"{i},{gender},A,B,{kind},{colour.title()},Fall,2011,Casual,Brand {i} {gender} {look} {kind}")
    write(folder, [*lines, *LINES[4:]], ())
    for i, line in enumerate(lines[1:], 1):
        size = (60, 80) if i % 2 else (128, 128)
        photograph(i, line.split(",")[5].lower(), *size).save(folder / "images" / f"{i}.jpg", quality=95)
    (folder / "images" / "17.jpg").write_bytes(b"no picture")
    (folder / "images" / "18.jpg").unlink()
    ids = {"train": range(1, 121), "val": range(121, 181), "test": range(181, 241)}
    (folder / "splits.json").write_text(json.dumps({name: [*those] for name, those in ids.items()}))
    return folder


@pytest.fixture(scope="module")
def data(source, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLXMERT_CATALOGUE", str(source))
        found = open_dataset("catalogue", tmp_path_factory.mktemp("data") / "catalogue")
        found.prepare(replace(profile("smoke"), train=120, held_out=40), seed=3)
    return found


# --- The official table. ------------------------------------------------------------------------------


def test_titles_may_hold_commas(tmp_path):
    first = catalogue.read(write(tmp_path / "c")).splits
    (found,) = [p for those in first.values() for p in those if p.id == 1]
    assert found.title == "Arrow Men Check Navy, White, Blue & White Shirt"
    assert (found.colour, found.shade, found.second) == ("blue", "navy blue", "white")
    assert (found.pattern, found.usage, found.gender) == ("checked", "Formal", "Men")


def test_what_is_left_out_is_counted_and_named(tmp_path):
    found = catalogue.read(write(tmp_path / "c", [*LINES, LINES[4].replace("4,", "9,", 1)], ids=(1, 3)))
    told = str(found.report)
    for words in ("2 product(s) of type 'Rain Jacket': the type is not among the 29", "line 6 of styles.csv: it is no",
                  "product 2 is there already", "the colour of 1 product(s): ''", "the usage of 1 product(s): 'NA'",
                  "product 2: ", "2.jpg is missing"):  # fmt: skip
        assert words in told
    assert sorted(p.id for those in found.splits.values() for p in those) == [1, 3]


@pytest.mark.parametrize(("lines", "ids", "said"), [
    (["id,colour"], (), "must begin with the columns id,gender,.* not with 'id,colour'"),
    (LINES, (), r"no photograph of a known product: put images/<id>.jpg beside"),
])  # fmt: skip
def test_another_table_and_no_photograph_are_refused(tmp_path, lines, ids, said):
    with pytest.raises(DataError, match=said):
        catalogue.read(write(tmp_path / "c", lines, ids))


def test_no_table_is_named(tmp_path):
    with pytest.raises(DataError, match=r"styles.csv is missing"):
        catalogue.read(tmp_path)


def test_splits_are_read_and_strays_named(tmp_path):
    folder = write(tmp_path / "c")
    (folder / "splits.json").write_text(json.dumps({"train": [1], "val": [2], "test": []}))
    found = catalogue.read(folder)
    assert [[p.id for p in found.splits[s]] for s in SPLITS] == [[1], [2], []]
    assert ("product 3", "it is in no split of splits.json") in found.report.skipped


@pytest.mark.parametrize(("content", "said"), [
    ({"train": [1]}, "three lists of ids, train, val, test .it has no 'val'"),
    ({"train": [1], "val": ["2"], "test": []}, "one of them is no whole number"),
    ({"train": [1, 2], "val": [2], "test": []}, "has product 2 in two splits: leave it in one"),
])  # fmt: skip
def test_other_splits_are_refused(tmp_path, content, said):
    folder = write(tmp_path / "c")
    (folder / "splits.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=said):
        catalogue.read(folder)


def test_without_splits_a_title_decides_and_its_colour_does_not():
    letters = [chr(97 + i % 26) + chr(97 + i // 26) for i in range(676)]
    many = Counter(products.split_of(product(title=f"{two} shirt")) for two in letters)
    assert 0.78 < many["train"] / 676 < 0.93 and many["val"] and many["test"]
    for two in letters[:50]:
        titles = (f"{two} Men {colour} Shirt" for colour in ("Red", "Black", "Beige"))
        assert len({products.split_of(product(title=title)) for title in titles}) == 1


def test_every_shade_is_one_of_eleven():
    assert set(products.SHADES.values()) <= set(catalogue.COLOURS)
    assert products.basic_colour("Navy Blue") == "blue" and products.basic_colour("Multi") == ""


@pytest.mark.parametrize(("title", "pattern"), [("Lee Men Stripes Shirt", "striped"), ("Solid Red Top", "plain"),
                                                ("Basics Men Check Shirt", "checked"), ("Puma Polo", "")])  # fmt: skip
def test_patterns_come_from_titles(title, pattern):
    assert products.pattern_of(title) == pattern


# --- What is said and asked. --------------------------------------------------------------------------


def test_five_captions_and_their_facts():
    many = product(colour="blue", shade="navy blue", pattern="striped", usage="Formal", title="Lee Men Slim Fit Shirt")
    told = catalogue.captions(many)
    assert [said for said, _ in told] == [
        "a striped blue shirt for men", "men's striped navy blue shirts", "this shirt is blue and striped and formal",
        "a navy blue shirt", "a slim striped blue men's shirt"]  # fmt: skip
    assert told[0][1] == [("type", "Shirts"), ("colour", "blue"), ("pattern", "striped"), ("gender", "Men")]
    assert told[2][1] == [("type", "Shirts"), ("colour", "blue"), ("pattern", "striped"), ("usage", "Formal")]
    both = product(colour="black", shade="black", second="white", pattern="checked", title="Lee Men Shirt")
    said, facts = catalogue.captions(both)[0]
    assert said == "a checked black shirt with white for men"
    assert facts[1:] == [("colour", "black"), ("colour", "white"), ("pattern", "checked"), ("gender", "Men")]
    assert catalogue.captions(both)[4][0] == "a checked black men's shirt with white"


def test_captions_of_what_has_no_singular_and_no_labels():
    told = [said for said, _ in catalogue.captions(Product(1, "Jeans"))]
    assert told == ["jeans", "jeans", "these are jeans", "jeans", "jeans"]
    assert catalogue.captions(Product(1, "Caps"))[2] == ("this is a cap", [("type", "Caps")])
    assert catalogue.noun_phrase("Shirts", "orange") == "an orange shirt"
    assert text.style_of(product(type="Formal Shoes", usage="Formal")) == ""


@pytest.mark.parametrize(("title", "details"), [
    ("Turtle Men Check Brown Ties", []), ("Classic Polo Men Stripes Blue Tshirts", []),
    ("ADIDAS Women's Red Polo T-shirt", ["polo"]), ("Baggit Women Leather Tote Handbag", ["leather", "tote"]),
    ("Domyos Washed Blue", []), ("Puma Kids Boys Sleeveless Tee", ["sleeveless"]),
])  # fmt: skip
def test_brands_are_left_out_of_titles(title, details):
    assert text.details(product(title=title)) == details


@pytest.mark.parametrize(("said", "facts"), [
    ("a flip flop for women in navy blue", [("type", "Flip Flops"), ("colour", "blue"), ("gender", "Women")]),
    ("women ' s formal shoes", [("type", "Formal Shoes"), ("gender", "Women")]),
    ("boys ' plain sporty shorts", [("type", "Shorts"), ("gender", "Boys"), ("pattern", "plain"), ("usage", "Sports")]),
    ("a red and red shirt with jeans", [("type", "Shirts"), ("type", "Jeans"), ("colour", "red")]),
    ("nothing", []),
])  # fmt: skip
def test_facts_are_read_from_any_sentence(said, facts):
    assert catalogue.stated_facts(said) == facts


def shelf(count: int = 400) -> list[Product]:
    """Products of every kind, gender and pattern, as common as they like; some labels are not known."""
    rng = np.random.default_rng(1)
    pick = lambda options: str(rng.choice(options))  # noqa: E731
    found = []
    for i in range(count):
        colour = pick(["", *catalogue.COLOURS])
        second = pick(["", "", *catalogue.COLOURS]) if colour else ""
        found.append(Product(i + 1, pick(["Shirts", "Shirts", "Jeans", "Caps"]), colour, colour,
                             "" if second == colour else second, pick(["", "Men", "Men", "Women", "Unisex"]), "",
                             pick(["", "striped", "plain"]), f"t {i}"))  # fmt: skip
    return found


def true_of(one: Product, question: str) -> bool:
    """Whether yes is the answer, worked out from the words."""
    return all(getattr(one, name) == value for name, value in catalogue.stated_facts(question))


def test_questions_are_true_and_their_words_tell_nothing():
    those = shelf()
    asked = catalogue.questions(those, np.random.default_rng(0))
    answers, kinds = defaultdict(Counter), Counter()
    for one in those:
        for question in asked[one.id]:
            kinds[question.kind] += 1
            if question.answer in ("yes", "no"):
                assert true_of(one, question.text) == (question.answer == "yes"), (one, question)
                answers[question.text][question.answer] += 1
            else:
                assert question.answer in (KINDS[one.type].one, one.colour, one.pattern, text.FOR_WHOM.get(one.gender))
        assert len({question.text for question in asked[one.id]}) == len(asked[one.id])
    assert all(found["yes"] == found["no"] for found in answers.values())
    assert kinds.keys() == {"type", "colour", "gender", "pattern", *(f"is {name}" for name in CHECKS)}
    assert not any(SIDES.search(question.text) for one in asked.values() for question in one)
    assert asked == catalogue.questions(those, np.random.default_rng(0))


def holds(sentence: str, first: Product, second: Product) -> bool:
    """Whether a statement is true, worked out from its words."""
    if match := re.fullmatch(r"the two pictures (do not show|show) (.+)", sentence):
        name = {"the same kind of thing": "type", "the same colour": "colour", "things for the same people": "gender"}
        return (getattr(first, name[match[2]]) == getattr(second, name[match[2]])) == (match[1] == "show")
    shown = [true_of(one, sentence) for one in (first, second)]
    if sentence.startswith("both"):
        return all(shown)
    return sum(shown) == 1 if sentence.startswith("only") else shown[sentence.startswith("the second")]


def test_statements_are_true_and_their_words_tell_nothing():
    those = shelf(3000)
    told = catalogue.statements(those, np.random.default_rng(0))
    truths = defaultdict(list)
    for first, second, sentence, (as_told, turned) in told:
        assert (holds(sentence, first, second), holds(sentence, second, first)) == (as_told, turned), sentence
        truths[re.match(r"both|only|the (?:two pictures \w+|first|second)", sentence)[0]] += [as_told, turned]
    assert len(truths) == 6 and all(0.44 < np.mean(found) < 0.56 for found in truths.values())
    assert len(those) < 2 * len(told) <= 3 * len(those) and not any(SIDES.search(s.sentence) for s in told)
    assert catalogue.statements([product()], np.random.default_rng(0)) == []


# --- Photographs. -------------------------------------------------------------------------------------


def test_a_picture_is_made_square_and_none_of_it_is_lost():
    pixels = np.full((80, 60, 3), (200, 210, 220), np.uint8)
    pixels[20:60, 10:50] = 0
    found = catalogue.squared(Image.fromarray(pixels), 128)
    assert found.shape == (128, 128, 3) and (found[[0, 0, -1, -1], [0, -1, 0, -1]] == (200, 210, 220)).all()
    assert abs((found[..., 0] < 100).mean() - 40 * 40 / 80**2) < 0.02


def test_where_a_product_lies():
    images = np.full((3, 128, 128, 3), 250, np.uint8)
    images[0, 32:96, 16:112] = 0
    images[0, 48:80, 32:80] = 250  # as white as the border, and within
    images[0, 5, 5] = 0  # a speck
    images[1] = images[0, :, ::-1]
    masks = catalogue.product_masks(images)
    wanted = np.zeros((128, 128), bool)
    wanted[32:96, 16:112] = True
    assert (masks[0] == wanted).all() and (masks[1] == wanted[:, ::-1]).all()
    assert masks[2].mean() == 0.25 and masks[2, 64, 64]  # nothing is seen: the middle half
    assert np.allclose(catalogue.boxes(masks)[0], (0.125, 0.25, 0.875, 0.75))
    cells = catalogue.covered_cells(masks)
    assert cells.shape == (3, 8, 8) and (np.argwhere(cells[0]).min(0) == (2, 1)).all() and cells[0].sum() == 24
    parts = catalogue.parts(catalogue.boxes(masks), cells, 4)
    assert (parts[0, 2, 1], parts[0, 2, 6], parts[0, 5, 6]) == (1, 4, 16) and parts[0, 0, 0] == 0
    middle = catalogue.middle_cells(cells)
    assert middle[:, 0].tolist() == [0, 1, 2] and cells[tuple(middle.T)].all()
    assert pictures.product_masks(images[:0]).shape == (0, 128, 128)


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
    for path in (data.folder / "images" / "train").iterdir():
        assert path.is_symlink() == (int(path.stem) % 2 == 0)
        with Image.open(path) as picture:
            assert picture.size == (128, 128)
        assert not path.is_symlink() or path.resolve() == (source / "images" / path.name).resolve()


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


def test_an_edit_asks_for_another_colour_that_training_knows(data):
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
def test_the_real_catalogue():
    found = catalogue.read(SHARED)
    assert {name: len(those) for name, those in found.splits.items()} == {"train": 8577, "val": 619, "test": 813}
    assert [what for what, _ in found.report.skipped] == [f"the usage of {n} product(s)" for n in (11, 2, 1, 1)]
    parts = writer.parts(found, 0)
    assert not any(p.held_out for part in ("train", "val", "test") for p in parts[part])
    assert min(Counter((p.type, p.colour) for p in parts["composition"])[pair] for pair in HELD_OUT) >= 3


@real
def test_captions_of_the_real_catalogue_state_what_they_say():
    for item in [p for those in catalogue.read(SHARED).splits.values() for p in those]:
        for said, facts in catalogue.captions(item):
            assert {*catalogue.stated_facts(said)} == {*facts}, (said, facts)
            assert len(said.split()) <= 14 and said.isascii() and not SIDES.search(said)


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
