"""Pictures for the tracking store; numbers beside them are in the tables of the same name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bserkit.experiment import Evaluation


def confusion_figure(evaluation: Evaluation, parts: Sequence[str]) -> Figure:
    """Draw the confusion matrices of some parts side by side: recall by row, with counts."""
    from matplotlib.figure import Figure

    size = 1.4 + 0.62 * len(evaluation.classes)
    columns = min(2, len(parts))
    rows = -(-len(parts) // columns)
    figure = Figure(figsize=(columns * size + 0.8, rows * size), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(parts) :]:
        axes.set_axis_off()
    for part, axes in zip(parts, grid.flat, strict=False):
        _draw_confusion(axes, evaluation.measures(part).confusion, evaluation.classes)
        axes.set_title(f"{part}: UAR {evaluation.measures(part).uar:.3f}")
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
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("decided")
    axes.set_ylabel("true")


def fusion_search_figure(searches: Mapping[str, Sequence[tuple[str, float, float, bool]]], metric: str) -> Figure:
    """Draw, for each stage, how well every weight of its first input did, a line a fold; the chosen ones are marked.

    Args:
        searches: by stage, one (fold, weight of the first input, score, chosen) a trial.
        metric: the name of the score.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + 4 * len(searches), 4), layout="constrained")
    grid = figure.subplots(1, len(searches), squeeze=False, sharey=True)
    for (stage, trials), axes in zip(searches.items(), grid.flat, strict=True):
        for fold in dict.fromkeys(trial[0] for trial in trials):
            points = sorted((weight, score) for name, weight, score, _ in trials if name == fold)
            (line,) = axes.plot(*zip(*points, strict=True), label=fold, linewidth=2.5 if fold == "oracle" else 1)
            chosen = [(weight, score) for name, weight, score, best in trials if name == fold and best]
            axes.plot(*zip(*chosen, strict=True), marker="o", linestyle="", color=line.get_color())
        axes.set_xlabel(f"weight of {stage}")
        axes.grid(alpha=0.3)
    grid[0, 0].set_ylabel(f"{metric} on the items searched on")
    grid[0, -1].legend(fontsize=7)
    return figure
