"""Pictures for the tracking store and the report; numbers beside them are in the tables of the same name."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.evaluation.results import mean_scores
from bserkit.schema import ORACLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bserkit.evaluation.metrics import Measures
    from bserkit.evaluation.results import SearchPoint
    from bserkit.evaluation.statistics import Interval
    from bserkit.features.example import Example

#: What is drawn in these colours takes the page's own where a picture stands inside one, so that dark pages stay dark.
_INK, _ACCENT, _SECOND, _RULE = "#000000", "#1f5fa8", "#a8421f", "#b0b0b0"
_PAGE = {_INK: "currentColor", _ACCENT: "var(--accent)", _SECOND: "var(--second)", _RULE: "var(--rule)"}


def svg(figure: Figure, name: str) -> str:
    """Return a picture as an SVG element for a page; the same picture always gives the same text.

    Whoever cannot see it is told nothing by its single letters: what it shows has to be said in words around it.

    Args:
        name: begins every identifier inside it, so that several pictures fit into one page.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip().replace("<svg", '<svg aria-hidden="true"', 1)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    for drawn, own in _PAGE.items():
        text = text.replace(drawn, own)
    return text


def confusion_figure(measured: Mapping[str, Measures]) -> Figure:
    """Draw confusion matrices, by name, side by side: recall by row, with counts."""
    from matplotlib.figure import Figure

    size = 1.4 + 0.62 * max(len(one.recall) for one in measured.values())
    columns = min(2, len(measured))
    rows = -(-len(measured) // columns)
    figure = Figure(figsize=(columns * size + 0.8, rows * size), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(measured) :]:
        axes.set_axis_off()
    for (name, one), axes in zip(measured.items(), grid.flat, strict=False):
        _draw_confusion(axes, one.confusion, list(one.recall))
        axes.set_title(f"{name}: UAR {one.uar:.3f}")
    return figure


def _draw_confusion(axes: Axes, confusion: np.ndarray, classes: Sequence[str]) -> None:
    totals = confusion.sum(axis=1, keepdims=True)
    share = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusion):
        # The words in a cell take no room outside it, which the layout need not find out.
        axes.text(
            column,
            row,
            f"{100 * share[row, column]:.0f}%\n{count}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if share[row, column] > 0.5 else "black",
            in_layout=False,
        )
    names = [_plain(name) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")


def _plain(name: str) -> str:
    """Spell a name so that no pair of dollars in it is taken for mathematics."""
    return name.replace("$", r"\$")


def interval_figure(intervals: Mapping[str, Interval], chance: float, measure: str) -> Figure:
    """Draw a number and its interval for each part, the first on top, with what chance reaches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 0.9 + 0.3 * len(intervals)), layout="constrained")
    axes = figure.subplots()
    places = range(len(intervals))
    for place, one in zip(places, intervals.values(), strict=True):
        axes.hlines(place, one.low, one.high, color=_ACCENT, linewidth=2)
    axes.plot([one.value for one in intervals.values()], places, "o", color=_ACCENT)
    axes.axvline(chance, color=_SECOND, linestyle="--", linewidth=1)
    axes.annotate("chance", (chance, -0.65), xytext=(3, 0), textcoords="offset points", color=_SECOND, va="center")
    axes.set_yticks(places, [_plain(name) for name in intervals])
    axes.set_ylim(len(intervals) - 0.5, -1)
    axes.set_xlim(0, 1)
    axes.set_xlabel(measure)
    _calm(axes)
    return figure


def fusion_search_figure(searches: Mapping[str, Sequence[SearchPoint]], metric: str) -> Figure:
    """Draw, for each stage, how well every weight of its first input did: a thin line a fold, a thick one their mean.

    Dots are what was chosen; what the oracle tried is dashed.

    Args:
        searches: the trials by stage.
        metric: the name of the score.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(0.6 + 3.0 * len(searches), 2.8), layout="constrained")
    grid = figure.subplots(1, len(searches), squeeze=False, sharey=True)
    for (stage, points), axes in zip(searches.items(), grid.flat, strict=True):
        folds: dict[str, list[SearchPoint]] = {}
        for point in sorted(points, key=lambda one: one.weight):
            folds.setdefault(point.fold, []).append(point)
        oracle = folds.pop(ORACLE, [])
        for index, own in enumerate(folds.values()):
            _draw_search(axes, own, "a fold" if not index else "_", color=_ACCENT, alpha=0.5, linewidth=0.8)
        if means := mean_scores(points):
            axes.plot(*zip(*means, strict=True), color=_ACCENT, linewidth=2.5, label="mean of folds")
        if oracle:
            _draw_search(axes, oracle, ORACLE, color=_SECOND, linestyle="--", linewidth=1.5)
        axes.set_xlabel(f"weight of {_plain(stage)}")
        axes.yaxis.set_major_locator(MaxNLocator(5))
        _calm(axes)
    grid[0, 0].set_ylabel(f"{metric} in the search")
    _legend(figure, grid[0, 0])
    return figure


def _draw_search(axes: Axes, points: Sequence[SearchPoint], label: str, **style: Any) -> None:
    axes.plot([point.weight for point in points], [point.score for point in points], label=label, **style)
    chosen = [(point.weight, point.score) for point in points if point.chosen]
    axes.plot(*zip(*chosen, strict=True), "o", color=style["color"], markersize=4)


def training_figure(networks: Sequence[Mapping[str, Sequence[tuple[int, float]]]]) -> Figure:
    """Draw loss and accuracy after each epoch, a line a network; dashed where it is of held-out speakers.

    Args:
        networks: each network's curves: by metric, its value after each epoch.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    grid = figure.subplots(2, 1, sharex=True)
    kinds = {"train": ("training", _ACCENT, "-"), "validation": ("held out", _SECOND, "--")}
    for measure, axes in zip(("loss", "accuracy"), grid, strict=True):
        for kind, (label, color, dash) in kinds.items():
            curves = [one[f"{kind}/{measure}"] for one in networks if f"{kind}/{measure}" in one]
            for index, curve in enumerate(curves):
                marker = "." if len(curve) == 1 else ""
                name = label if not index else "_"
                axes.plot(
                    *zip(*curve, strict=True), dash, color=color, linewidth=1, alpha=0.7, marker=marker, label=name
                )
        axes.set_ylabel(measure)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _calm(axes)
    grid[1].set_xlabel("epoch")
    grid[1].set_ylim(0, 1)
    _legend(figure, grid[0])
    return figure


def channels_figure(example: Example) -> Figure:
    """Draw the spectrograms of one utterance below one another, in the same colours: brighter is louder."""
    from matplotlib.figure import Figure

    pictures = example.channels
    figure = Figure(figsize=(8, 0.9 + 1.3 * len(pictures)), layout="constrained")
    grid = figure.subplots(len(pictures), 1, sharex=True, squeeze=False)
    low, high = np.quantile(np.stack(list(pictures.values())), [0.02, 0.999])
    for (channel, picture), axes in zip(pictures.items(), grid.flat, strict=True):
        bands = (0, example.seconds, -0.5, len(picture) - 0.5)
        image = axes.imshow(
            picture,
            origin="lower",
            aspect="auto",
            extent=bands,
            cmap="magma",
            vmin=low,
            vmax=high,
            interpolation="nearest",
        )
        axes.set_ylabel(f"{_plain(channel)}\nmel band")
    grid[-1, 0].set_xlabel("seconds")
    figure.colorbar(image, ax=grid.ravel().tolist(), label="log power", pad=0.01)
    return figure


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=8, frameon=False)


def _calm(axes: Axes) -> None:
    axes.grid(color=_RULE, alpha=0.5, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
