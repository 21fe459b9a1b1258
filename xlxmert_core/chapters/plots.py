"""The book's figures: each function draws one and returns it. matplotlib only, no state of its own."""

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

INK, ACCENT = "#2b2d42", "#d1495b"
PALETTE = ("#d1495b", "#2e86ab", "#edae49", "#66a182", "#8d6a9f", "#2b2d42")


def contact_sheet(images: np.ndarray, titles: Sequence[str] | None = None, columns: int = 8, size: float = 1.5,
                  width: int = 24) -> Figure:  # fmt: skip
    """Pictures uint8 [M, S, S, 3] in rows of ``columns``, each with its title below, wrapped at ``width``."""
    rows = -(-len(images) // columns)
    lines = max((len(textwrap.wrap(t, width)) for t in titles or [""]), default=0)
    height = size + 0.1 + 0.15 * lines
    figure, axes = plt.subplots(rows, columns, figsize=(size * columns, height * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for index, (axis, image) in enumerate(zip(axes.flat[: len(images)], images, strict=True)):
        axis.imshow(image)
        if titles:
            text = "\n".join(textwrap.wrap(titles[index], width))
            axis.text(0.5, -0.04, text, transform=axis.transAxes, ha="center", va="top", fontsize=7, color=INK)
    figure.tight_layout(pad=0.4)
    return figure


def picture_grid(rows: dict[str, np.ndarray], size: float = 1.4) -> Figure:
    """Named rows of pictures under each other: {"original": [M, S, S, 3], "reconstruction": ...}."""
    columns = max(len(images) for images in rows.values())
    figure, axes = plt.subplots(len(rows), columns, figsize=(size * columns + 0.8, size * len(rows)), squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line[: len(images)], images, strict=True):
            axis.imshow(image)
        for axis in line:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(name, fontsize=8, color=INK)
    figure.tight_layout(pad=0.3)
    return figure


def painting_steps(images: np.ndarray, masked: np.ndarray, title: str = "", columns: int = 4,
                   size: float = 1.7) -> Figure:  # fmt: skip
    """One picture after each step: images uint8 [T, S, S, 3]; masked bool [T, grid, grid] is greyed out."""
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    shape = (size * columns, (size + 0.25) * rows + 0.25)
    figure, axes = plt.subplots(rows, columns, figsize=shape, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    side = images.shape[1]
    for step, (axis, image) in enumerate(zip(axes.flat[: len(images)], images, strict=True)):
        veil = np.kron(masked[step], np.ones((side // masked.shape[1],) * 2))
        axis.imshow(image)
        axis.imshow(np.dstack([np.ones((side, side, 3)), 0.8 * veil]))
        axis.set_title(f"step {step + 1}", fontsize=9, color=INK)
    figure.suptitle(title, fontsize=9, color=INK)
    return figure


def curves(history: Sequence[dict], names: Sequence[str], smooth: int = 10, ylabel: str = "loss",
           chance: dict[str, float] | None = None) -> Figure:  # fmt: skip
    """Running means of numbers of a training history; dashed lines mark the chance level of a name."""
    figure, axis = plt.subplots(figsize=(6.4, 3))
    for index, name in enumerate(names):
        colour = PALETTE[index % len(PALETTE)]
        points = [(h["step"], h[name]) for h in history if name in h]
        if not points:
            continue
        steps, values = np.array(points).T
        window = min(smooth, len(values))
        mean = np.convolve(values, np.ones(window) / window, mode="valid")
        axis.plot(steps[window - 1 :], mean, color=colour, label=name)
        if chance and name in chance:
            axis.axhline(chance[name], color=colour, linestyle="--", linewidth=0.8)
    axis.set_xlabel("step")
    axis.set_ylabel(ylabel)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


def bars(groups: dict[str, dict[str, float]], ylabel: str, chance: dict[str, float] | None = None,
         spread: dict[str, dict[str, float]] | None = None) -> Figure:  # fmt: skip
    """Grouped bars: {series: {category: value}}; ``chance`` draws a dash over each category, ``spread`` error bars."""
    categories = list(next(iter(groups.values())))
    figure, axis = plt.subplots(figsize=(1.2 * len(categories) + 2.5, 3))
    width = 0.8 / len(groups)
    for index, (series, values) in enumerate(groups.items()):
        x = np.arange(len(categories)) + (index - (len(groups) - 1) / 2) * width
        either_way = [spread[series][c] for c in categories] if spread else None
        drawn = axis.bar(x, [values[c] for c in categories], width * 0.92, label=series, color=PALETTE[index],
                         yerr=either_way, error_kw={"lw": 0.8, "ecolor": INK})  # fmt: skip
        axis.bar_label(drawn, fmt="%.2f", fontsize=7)
    for index, level in enumerate(chance[category] for category in categories) if chance else ():
        axis.hlines(level, index - 0.45, index + 0.45, color=INK, linestyle="--", linewidth=0.8)
    axis.set_xticks(range(len(categories)), categories)
    axis.set_ylabel(ylabel)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    return figure


def trade_off(results: Sequence[dict], marked: dict[str, dict], metric: str = "all_right") -> Figure:
    """Quality against time, one mark a setting: dicts with order, steps, temperature, guidance, candidates, ms, metric.

    Colours are orders, sizes grow with the steps; squares are greedy, dots sampled; filled ones choose the best of
    several candidates, and a ring means guidance. ``marked`` names some of the settings in the figure.
    """
    figure, axis = plt.subplots(figsize=(7.4, 4.2))
    names = list(dict.fromkeys(r["order"] for r in results))
    for r in results:
        colour = PALETTE[names.index(r["order"]) % len(PALETTE)]
        area = 14 + 16 * np.log2(r["steps"])
        fill = colour if r["candidates"] > 1 else "none"
        shape = "o" if r["temperature"] else "s"
        axis.scatter(r["ms"], r[metric], area, marker=shape, facecolors=fill, edgecolors=colour, lw=0.9, alpha=0.85)
        if r["guidance"]:
            axis.scatter(r["ms"], r[metric], s=2.2 * area, facecolors="none", edgecolors=colour, linewidths=0.4)
    for index, name in enumerate(names):
        axis.scatter([], [], color=PALETTE[index % len(PALETTE)], label=name)
    for name, r in marked.items():
        arrow = {"arrowstyle": "-", "color": INK, "lw": 0.7}
        axis.annotate(name, (r["ms"], r[metric]), (12, -26), textcoords="offset points", fontsize=8, arrowprops=arrow)
    axis.set_xscale("log")
    axis.set_xlabel("milliseconds a picture (batches of 32, two cores)")
    axis.set_ylabel("texts with every fact right")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


def code_map(codes: np.ndarray, image: np.ndarray, size: float = 3.2) -> Figure:
    """A picture beside its grid of code numbers; codes int [grid, grid], image uint8 [S, S, 3]."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(2 * size, size))
    left.imshow(image)
    cell = image.shape[0] / len(codes)
    for line in np.arange(1, len(codes)) * cell - 0.5:
        left.axhline(line, color="white", linewidth=0.4)
        left.axvline(line, color="white", linewidth=0.4)
    right.imshow((codes.astype(np.int64) * 2654435761 % 997) / 997, cmap="Pastel1")
    for row, column in np.ndindex(codes.shape):
        right.text(column, row, codes[row, column], ha="center", va="center", fontsize=5.5, color=INK)
    for axis in (left, right):
        axis.axis("off")
    figure.tight_layout(pad=0.3)
    return figure


def attention(image: np.ndarray, weights: np.ndarray, titles: Sequence[str], columns: int = 4,
              size: float = 1.6) -> Figure:  # fmt: skip
    """Weights [M, N] over the cells of one picture uint8 [S, S, 3]: bright where looked at, M panels with titles.

    Each panel is scaled by its own largest weight, which stands after the title.
    """
    columns = min(columns, len(weights))
    rows = -(-len(weights) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(size * columns, (size + 0.3) * rows), squeeze=False)
    side = int(round(weights.shape[1] ** 0.5))
    grey = image.mean(-1, keepdims=True).repeat(3, -1)
    for axis in axes.flat:
        axis.axis("off")
    for axis, row, title in zip(axes.flat[: len(weights)], weights, titles, strict=True):
        light = np.kron((row / row.max()).reshape(side, side), np.ones((image.shape[0] // side,) * 2))[..., None]
        axis.imshow((light * image + (1 - light) * (60 + grey / 4)).astype(np.uint8))
        axis.set_title(f"{title} {row.max():.0%}", fontsize=8, color=INK)
    figure.tight_layout(pad=0.4)
    return figure
