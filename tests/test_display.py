"""What is made shows itself: pictures above their sentences, steps that move, models in a few lines, PNGs that know."""

import base64
import copy
import io
import pickle
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import CODES, GRID, TEXTS, tiny_painter

import xlxmert_core
from xlxmert_core import sampling
from xlxmert_core.captioning import write_caption
from xlxmert_core.data.coco import Record, Report
from xlxmert_core.datasets.base import Split
from xlxmert_core.display.animation import sheet, veiled
from xlxmert_core.display.recipe import read_png
from xlxmert_core.paintbox.recipe import replay
from xlxmert_core.skills import Skill

HOW = {"steps": 3, "temperature": 3.0, "candidates": 2, "polish": 1}


@pytest.fixture(scope="module")
def painter():
    return tiny_painter()


@pytest.fixture(scope="module")
def painting(painter):
    return painter.paint(TEXTS, seed=4, **HOW)


def pictures_in(html: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def test_a_painting_shows_its_pictures_above_their_sentences(painting):
    html = painting._repr_html_()
    assert all(np.array_equal(np.array(p), image) for p, image in zip(pictures_in(html), painting.images, strict=True))
    assert [html.count(f"<figcaption>{text}</figcaption>") for text in TEXTS] == [1, 1]
    assert "http" not in html and "<script" not in html


def test_a_sentence_cannot_become_part_of_the_page(painter):
    html = painter.paint('<b onclick="x">a house</b>', **HOW)._repr_html_()
    assert "<b" not in html and "&lt;b onclick=&quot;x&quot;&gt;" in html


def test_a_terminal_gets_one_line(painting, painter):
    assert repr(painting) == f'Painting of 2 pictures, 64 x 64 pixels: "{TEXTS[0]}", "{TEXTS[1]}"'
    assert repr(painter.paint(TEXTS[0], **HOW)) == f'Painting of 1 picture, 64 x 64 pixels: "{TEXTS[0]}"'
    assert repr(painter.paint([], **HOW)) == "Painting of 0 pictures, 64 x 64 pixels"
    assert repr(painter.paint(TEXTS * 2, **HOW)).endswith(", ...")


def test_of_very_many_pictures_the_first_are_shown(painting):
    many = xlxmert_core.Painting(np.repeat(painting.images[:1], 70, 0), painting.codes[:1].expand(70, -1))
    assert len(pictures_in(many._repr_html_())) == 64 and "and 6 more" in many._repr_html_()


def test_a_saved_painting_is_painted_again_from_its_png(painter, tmp_path):
    painting = painter.paint(TEXTS[0], seed=4, **HOW)
    [path] = painting.save(tmp_path / "new" / "house.png")
    image, recipe = read_png(path)
    assert np.array_equal(image, painting.images[0]) and [s.text for s in recipe.strokes] == [TEXTS[0]]
    assert torch.equal(replay(painter, recipe).codes, painting.codes)
    with Image.open(path) as png:
        png.load()
        assert png.info["Description"] == TEXTS[0]


def test_a_repainted_one_keeps_what_lay_below(painter, tmp_path):
    mask = np.zeros((GRID, GRID), bool)
    mask[1:3, 2] = True
    below = painter.paint(TEXTS[0], seed=1, **HOW).codes
    painting = painter.repaint(below, mask, TEXTS[1], seed=2, **HOW)
    [path] = painting.save(tmp_path / "house.png")
    _, recipe = read_png(path)
    assert recipe.start == tuple(below[0].tolist()) and recipe.strokes[0].cells == (6, 10)
    assert torch.equal(replay(painter, recipe).codes, painting.codes)


def test_several_are_numbered_and_the_others_keep_their_codes(painting, tmp_path):
    paths = painting.save(tmp_path / "house.png")
    assert [path.name for path in paths] == ["house-1.png", "house-2.png"] == sorted(p.name for p in tmp_path.iterdir())
    assert [len(read_png(path)[1].strokes) for path in paths] == [1, 0]
    assert read_png(paths[1])[1].start == tuple(painting.codes[1].tolist())


def test_what_no_recipe_would_paint_again_is_saved_with_a_warning(tmp_path):
    painter = tiny_painter(seed=1)
    painting = painter.paint(TEXTS[0], order=lambda *given: sampling.halton(*given), **HOW)
    with pytest.warns(UserWarning, match="without its recipe: A recipe holds the order by its name"):
        painting.save(tmp_path / "own.png")
    painting = painter.paint(TEXTS[0], **HOW)
    with torch.no_grad():
        painter.model.code_bias.add_(1)
    with pytest.warns(UserWarning, match="house.png is saved without its recipe: the model has changed"):
        painting.save(tmp_path / "house.png")
    with Image.open(tmp_path / "house.png") as png:
        assert np.array_equal(np.array(png), painting.images[0]) and "xlxmert" not in png.info


@pytest.mark.parametrize(("name", "said"), [("house.jpg", "end 'house.jpg' in .png"), ("house", "in .png")])
def test_another_ending_is_one_sentence_and_nothing_is_written(painting, tmp_path, name, said):
    with pytest.raises(ValueError, match=said):
        painting.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_nothing_painted_is_nothing_to_save(painter, tmp_path):
    with pytest.raises(ValueError, match="no picture to save"):
        painter.paint([], **HOW).save(tmp_path / "x.png")


def test_the_steps_move(painting, tmp_path):
    steps = painting.steps(milliseconds=40)
    assert steps.frames.shape == (len(painting.history), 64, 128, 3)
    assert np.array_equal(steps.frames[-1], sheet(painting.images))
    [moving] = pictures_in(steps._repr_html_())
    assert moving.n_frames == len(painting.history) and moving.info["loop"] == 0
    assert repr(steps).startswith(f"Animation of {len(painting.history)} steps, 128 x 64 pixels")
    for name in ("house.gif", "house.png"):
        with Image.open(steps.save(tmp_path / name)) as file:
            assert file.n_frames > 1 and file.size == (128, 64)
    with pytest.raises(ValueError, match="end it in .png or .gif"):
        steps.save(tmp_path / "house.mp4")


def test_hidden_cells_lie_under_a_veil_and_no_others():
    images, masked = np.zeros((1, 8, 8, 3), np.uint8), np.array([[True, False, False, False]])
    seen = veiled(images, masked)[0, ..., 0]
    assert seen[:4, :4].min() > 100 and seen[4:].max() == 0 == seen[:4, 4:].max()


def test_a_copy_shows_its_pictures_but_forgets_how_it_was_painted(painting, tmp_path):
    for other in (copy.deepcopy(painting), pickle.loads(pickle.dumps(painting))):
        assert other._repr_html_() == painting._repr_html_()
        with pytest.raises(ValueError, match="has forgotten its steps"):
            other.steps()
        with pytest.warns(UserWarning, match="is not known any more"):
            other.save(tmp_path / "copy.png")


def test_a_callback_still_hears_every_step_of_all_candidates(painter):
    heard = []
    painter.paint(TEXTS, callback=heard.append, **HOW | {"polish": 0})
    assert [step["codes"].shape for step in heard] == [(4, GRID**2)] * 3


def test_a_pipeline_says_what_it_is(painter):
    said = repr(xlxmert_core.load("storybook")).splitlines()
    assert len(said) == 6 and said[-1].endswith("the shipped weights 'storybook'")
    for skill in ("captions", "gqa", "nlvr2", "vqa"):
        assert skill in said[4]
    assert f"{CODES} codes" in repr(painter) and f"{painter.tokenizer.size} words" in repr(painter)
    assert "this session" in repr(painter) and "no pictures" in repr(
        xlxmert_core.Pipeline(painter.model, painter.tokenizer)
    )


def test_a_folder_is_where_a_pipeline_came_from(painter, tmp_path):
    painter.save(tmp_path / "mine")
    assert repr(xlxmert_core.load(tmp_path / "mine")).endswith(f"the folder {tmp_path / 'mine'}")


def test_a_skill_a_split_and_a_report_are_one_line(painter):
    skill = Skill(painter.model, painter.tokenizer, ["yes", "no"])
    assert re.fullmatch(r"Skill: 2 answers about one picture, \d+ words, \d+ parameters", repr(skill))
    assert repr(Skill(painter.model, painter.tokenizer, ["0", "1"])).startswith("Skill: sentences about one picture")
    report = Report()
    assert repr(report) == "Report: nothing skipped"
    report.skip("a.jpg", "it does not open")
    assert repr(report) == "Report: 1 skipped (print it to see what)" and "a.jpg" in str(report)
    records = [Record(i, None, [f"picture <{i}>"]) for i in range(3)]
    split = Split(records, np.zeros((3, 8, 8, 3), np.uint8), {"kind": np.zeros((3, 2, 2))}, {"kind": 4}, report, [], {})
    assert repr(split) == "Split of 3 pictures, 8 x 8 pixels, 3 captions; labels kind; 1 skipped"
    assert len(pictures_in(split._repr_html_())) == 3 and "picture &lt;2&gt;" in split._repr_html_()


@pytest.mark.parametrize("order", sampling.ORDERS)
def test_orders_go_by_name_wherever_they_are_given(painter, order):
    by_name, function = (painter.paint(TEXTS[0], order=o, schedule=s, **HOW)
                         for o, s in ((order, "arccos"), (sampling.ORDERS[order], sampling.arccos)))  # fmt: skip
    assert torch.equal(by_name.codes, function.codes)


def test_captions_are_written_in_an_order_by_name(painter):
    features = torch.randn(1, GRID**2, 10)
    plain, named = (write_caption(painter.model, painter.tokenizer, features, [4], order=order)
                    for order in (sampling.left_to_right, "left_to_right"))  # fmt: skip
    assert plain[0] == named[0]
    with pytest.raises(ValueError, match="There is no order 'backwards': choose halton, .*left_to_right"):
        write_caption(painter.model, painter.tokenizer, features, [4], order="backwards")
    with pytest.raises(ValueError, match="There is no schedule 'slow': choose cosine, arccos, linear"):
        write_caption(painter.model, painter.tokenizer, features, [4], schedule="slow")


def test_a_model_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FileNotFoundError, match="'catalogue', 'storybook'; the authors' Epoch20_LXRT.pth and G_60"):
            xlxmert_core.load("storybok")
        with pytest.raises(FileNotFoundError, match="is not there: its authors publish it at https://.*/Epoch20_LXRT"):
            xlxmert_core.load(tmp_path / "Epoch20_LXRT.pth", vocabulary=vocabulary(tmp_path))


def vocabulary(folder):
    path = folder / "vocab.txt"
    path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nhouse\n")
    return path
