"""Fashion Product Images: its table is read, and what is told and asked of a product is true of it."""

import json
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image
from shop import LINES, SHARED, product, write

from xlxmert_core.data import catalogue
from xlxmert_core.data.catalogue import pictures, products, text, writer
from xlxmert_core.data.catalogue.products import HELD_OUT, KINDS, SPLITS, Product
from xlxmert_core.data.catalogue.questions import CHECKS
from xlxmert_core.data.files import DataError

real = pytest.mark.skipif(not (SHARED / "styles.csv").is_file(), reason="no product photographs beside the clone")
SIDES = re.compile(r"\b(left|right)\b")


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
    (LINES[:1], (1,), r"styles.csv is empty: put the table of Fashion Product Images there"),
    ([*LINES[:1], "", " "], (1,), "styles.csv is empty"),
])  # fmt: skip
def test_another_table_and_no_photograph_are_refused(tmp_path, lines, ids, said):
    with pytest.raises(DataError, match=said):
        catalogue.read(write(tmp_path / "c", lines, ids))


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf"])
def test_a_table_with_nothing_in_it_is_refused(tmp_path, content):
    folder = write(tmp_path / "c")
    (folder / "styles.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"styles.csv (is empty: put|must begin with the columns)"):
        catalogue.read(folder)


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
    colours = (*catalogue.COLOURS, *(shade.title() for shade in products.SHADES))  # "Navy Blue" and "Off White" too
    for two in letters[:50]:
        titles = (f"{two} Men {colour} Shirt" for colour in colours)
        assert len({products.split_of(product(title=title)) for title in titles}) == 1


def test_every_shade_is_one_of_eleven():
    assert set(products.SHADES.values()) <= set(catalogue.COLOURS)
    assert products.basic_colour("Navy Blue") == "blue" and products.basic_colour("Multi") == ""


@pytest.mark.parametrize(("title", "pattern"), [("Lee Men Stripes Shirt", "striped"), ("Solid Red Top", "plain"),
                                                ("Basics Men Check Shirt", "checked"), ("Puma Polo", "")])  # fmt: skip
def test_patterns_come_from_titles(title, pattern):
    assert products.pattern_of(title) == pattern


@pytest.mark.parametrize(("title", "colour", "second"), [
    ("Lee Men White & Navy Blue Shirt", "white", "blue"), ("Lee Men Navy Blue and Off White Shirt", "blue", "white"),
    ("Lee Men Navy Blue-White Shirt", "white", "blue"), ("Lee Men Shirt - Black & Red", "red", "black"),
    ("Lee Men Blue & Navy Blue Shirt", "blue", ""), ("Lee Men Black & Red Shirt", "blue", ""),
    ("Lee Men Black & Redwood Shirt", "black", ""), ("Lee Men Black Shirt", "black", ""),
])  # fmt: skip
def test_a_second_colour_comes_from_a_title_also_in_two_words(title, colour, second):
    assert products.second_colour(title, colour) == second


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
    assert not any(q.kind == "is gender" for p in those if p.gender == "Unisex" for q in asked[p.id])


@pytest.mark.parametrize(("kind", "noun"), [
    ("Flip Flops", "is the flip flop"), ("Flats", "is the shoe"), ("Track Pants", "are the pants"),
])  # fmt: skip
def test_the_colour_of_a_thing_is_asked_by_its_name(kind, noun):
    those = [product(id=i, type=kind) for i in range(1, 21)]
    asked = catalogue.questions(those, np.random.default_rng(0)).values()
    texts = {question.text for one in asked for question in one if question.kind == "colour"}
    assert texts == {"what colour is it", f"what colour {noun}"}


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
