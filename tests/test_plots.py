"""Each figure shows what it is given: every picture, every curve, every bar."""

from itertools import pairwise

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from xlxmert_core.chapters import plots  # noqa: E402


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3)).astype(np.uint8)


def shown(figure) -> list[np.ndarray]:
    """The pictures of a figure, in the order of its axes."""
    figure.canvas.draw()  # raises when something cannot be drawn
    return [image.get_array() for axis in figure.axes for image in axis.images]


def same(got, want) -> bool:
    return len(got) == len(want) and all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize(("columns", "axes"), [(2, 6), (5, 5), (8, 8)])
def test_a_contact_sheet_shows_every_picture(images, columns, axes):
    figure = plots.contact_sheet(images, columns=columns)
    assert isinstance(figure, Figure) and len(figure.axes) == axes
    assert same(shown(figure), images) and not any(axis.axison for axis in figure.axes)


def test_titles_stand_below_their_pictures_and_are_wrapped(images):
    figure = plots.contact_sheet(images, [f"picture {i} of a rather long title" for i in range(5)], width=12)
    texts = [axis.texts[0].get_text() for axis in figure.axes[:5]]
    assert [t.replace("\n", " ") for t in texts] == [f"picture {i} of a rather long title" for i in range(5)]
    assert all(len(line) <= 12 for text in texts for line in text.split("\n"))
    assert figure.get_figheight() > plots.contact_sheet(images).get_figheight()


def test_rows_of_pictures_are_named_and_may_differ_in_length(images):
    figure = plots.picture_grid({"original": images, "painted": images[:3]})
    assert isinstance(figure, Figure) and len(figure.axes) == 10
    assert same(shown(figure), [*images, *images[:3]])
    names = [axis.get_ylabel() for axis in figure.axes]
    assert names == ["original", "", "", "", "", "painted", "", "", "", ""]


def test_painting_steps_veil_the_masked_cells(images):
    masked = np.zeros((3, 4, 4), bool)
    masked[0], masked[1, 0, 1] = True, True
    figure = plots.painting_steps(images[:3], masked, "a red house")
    assert isinstance(figure, Figure) and len(figure.axes) == 3
    assert [axis.get_title() for axis in figure.axes] == ["step 1", "step 2", "step 3"]
    pictures = shown(figure)
    assert same(pictures[::2], images[:3]) and figure.get_suptitle() == "a red house"
    opacity = [veil[..., 3] for veil in pictures[1::2]]
    assert (opacity[0] > 0.5).all() and not opacity[2].any()
    assert (opacity[1][:4, 4:8] > 0.5).all() and (opacity[1] > 0).sum() == 16


def test_curves_are_running_means_with_their_chance():
    history = [{"step": step, "loss": float(step), **({"rare": 1.0} if step % 3 == 0 else {})} for step in range(30)]
    figure = plots.curves(history, ["loss", "rare", "absent"], smooth=4, chance={"loss": 7.0}, ylabel="nats")
    assert isinstance(figure, Figure) and len(figure.axes) == 1
    axis = figure.axes[0]
    lines = {line.get_label(): line for line in axis.lines}
    assert [t.get_text() for t in axis.get_legend().get_texts()] == ["loss", "rare"]
    assert lines["loss"].get_xdata().tolist() == list(range(3, 30))
    assert lines["loss"].get_ydata() == pytest.approx(np.arange(27) + 1.5)  # the mean of four steps
    assert lines["rare"].get_xdata().tolist() == list(range(9, 30, 3))
    assert [set(line.get_ydata()) for line in axis.lines if line.get_linestyle() == "--"] == [{7.0}]
    assert axis.get_ylabel() == "nats"


def test_a_short_history_is_still_drawn():
    figure = plots.curves([{"step": 0, "loss": 2.0}, {"step": 1, "loss": 4.0}], ["loss"], smooth=10)
    assert figure.axes[0].lines[0].get_ydata().tolist() == [3.0]


def test_bars_have_the_given_heights_and_chances():
    groups = {"ours": {"colour": 0.8, "kind": 0.9}, "theirs": {"kind": 0.5, "colour": 0.4}}
    figure = plots.bars(groups, "accuracy", chance={"colour": 0.125, "kind": 0.1})
    assert isinstance(figure, Figure) and len(figure.axes) == 1
    axis = figure.axes[0]
    assert [bar.get_height() for bar in axis.patches] == [0.8, 0.9, 0.4, 0.5]  # categories in the first's order
    assert [label.get_text() for label in axis.get_xticklabels()] == ["colour", "kind"]
    edges = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in axis.patches)
    assert all(left[1] <= right[0] for left, right in pairwise(edges))  # none overlap
    heights = [path.vertices[0, 1] for lines in axis.collections for path in lines.get_paths()]
    assert heights == pytest.approx([0.125, 0.1])
    assert len(plots.bars(groups, "accuracy").axes[0].collections) == 0


def test_a_code_map_writes_every_code_beside_its_picture(images):
    codes = np.arange(16).reshape(4, 4) * 70
    figure = plots.code_map(codes, images[0])
    assert isinstance(figure, Figure) and len(figure.axes) == 2
    left, right = figure.axes
    picture, colours = shown(figure)
    assert np.array_equal(picture, images[0]) and len(left.lines) == 6  # three cuts each way
    assert len(np.unique(colours)) == 16 and colours.min() >= 0 and colours.max() < 1
    written = {tuple(int(v) for v in text.get_position()): text.get_text() for text in right.texts}
    assert written[(3, 0)] == "210" and written[(0, 3)] == "840" and len(written) == 16


def test_attention_lights_up_the_cells_that_are_looked_at(images):
    weights = np.full((5, 16), 0.04)
    weights[np.arange(5), np.arange(5)] = 0.4
    figure = plots.attention(images[0], weights, list("abcde"), columns=4)
    assert isinstance(figure, Figure) and len(figure.axes) == 8 and not any(axis.axison for axis in figure.axes)
    assert [axis.get_title() for axis in figure.axes] == [f"{name} 40%" for name in "abcde"] + [""] * 3
    panels = shown(figure)
    assert len(panels) == 5
    for place, panel in enumerate(panels):
        rows, columns = (slice(4 * i, 4 * i + 4) for i in divmod(place, 4))
        assert np.array_equal(panel[rows, columns], images[0][rows, columns])  # the brightest cell is the picture
        assert (panel == images[0]).all(-1).sum() < 32  # the other fifteen are veiled
    with pytest.raises(ValueError, match="zip"):
        plots.attention(images[0], weights, ["too", "few"])
