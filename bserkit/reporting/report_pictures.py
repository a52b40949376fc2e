"""The pictures of a report, each with what it shows in words and numbers."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bserkit.evaluation.results import SearchPoint, mean_scores, search_curves
from bserkit.evaluation.statistics import over_speakers
from bserkit.reporting.figures import fusion_search_figure, interval_figure, svg, training_figure
from bserkit.reporting.report_tables import CURVES
from bserkit.reporting.tables import Cell, TextTable
from bserkit.schema import ORACLE
from bserkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bserkit.reporting.report import Network, Report


@dataclass(frozen=True)
class Picture:
    """A picture with what it shows in words: an SVG element, or an image as an address that holds it.

    Attributes:
        table: the numbers behind it, if they stand nowhere else.
    """

    title: str
    text: str
    svg: str = ""
    address: str = ""
    table: TextTable | None = None


def intervals(report: Report) -> Picture:
    """Draw the UAR of each part with its interval."""
    uars = {part: one.intervals()["uar"] for part, one in report.results.predictions.items()}
    without = report.chance.uar
    told = "; ".join(f"{part} {one}" for part, one in uars.items())
    return Picture(
        f"UAR of each channel, each transform and the fusion{over_speakers(report.speakers)}",
        f"Dots{' with intervals' if report.speakers_known else ''}. UAR: {told}. Chance is {without:.3f}.",
        svg(interval_figure(uars, without, "UAR"), "intervals"),
    )


def searches(report: Report) -> list[Picture]:
    """Draw what each weight of a stage reached in the search."""
    metric = report.run.parameters.get("fusion.metric", "score")
    curves = search_curves(report.results.search)
    return [
        Picture(
            f"What each weight of {stage} reached in the search",
            f"Lines of {metric} by weight. {_told_search(points)}",
            svg(fusion_search_figure({stage: points}, metric), f"search{number}"),
            table=_search_table(stage, points, metric),
        )
        for number, (stage, points) in enumerate(curves.items(), start=1)
    ]


def _told_search(points: Sequence[SearchPoint]) -> str:
    told = []
    if means := mean_scores(points):
        (begin, first), (best, most), (end, last) = means[0], max(means, key=lambda mean: mean[1]), means[-1]
        chosen = [one.weight for one in points if one.chosen and one.fold != ORACLE]
        told.append(
            f"The mean of {counted(len(chosen), 'fold')} goes from {first:.3f} at weight {begin:g} over its best, "
            f"{most:.3f} at {best:g}, to {last:.3f} at {end:g}; folds chose {min(chosen):g} to {max(chosen):g}."
        )
    told += [
        f"The oracle chose {one.weight:g}, with {one.score:.3f}." for one in points if one.chosen and one.fold == ORACLE
    ]
    return " ".join(told)


def _search_table(stage: str, points: Sequence[SearchPoint], metric: str) -> TextTable:
    low, high = (bound([point.score for point in points]) for bound in (min, max))
    weights = sorted({point.weight for point in points})
    found: dict[str, dict[float, Cell]] = {}
    for one in points:
        shade = (one.score - low) / (high - low) if high > low else 0.0
        found.setdefault(one.fold, {})[one.weight] = Cell(f"{one.score:.3f}", shade, chosen=one.chosen)
    return TextTable(
        f"{metric} by weight of {stage}; chosen weights are framed",
        ["fold", *(f"{weight:g}" for weight in weights)],
        [[fold, *(cells.get(weight, Cell("")) for weight in weights)] for fold, cells in found.items()],
        1,
    )


def trainings(report: Report) -> list[Picture]:
    """Draw the curves of the networks of each channel."""
    by_channel: dict[str, list[Network]] = {}
    for one in report.networks:
        by_channel.setdefault(one.parameters.get("channel", ""), []).append(one)
    return [
        Picture(
            f"Learning of {channel}, a line a fold",
            " ".join(_told_curve(own, curve, words) for curve, words in CURVES.items()),
            svg(training_figure([one.curves for one in own]), f"training{number}"),
        )
        for number, (channel, own) in enumerate(by_channel.items(), start=1)
    ]


def _told_curve(networks: Sequence[Network], curve: str, words: str) -> str:
    ends = [(found[0][1], found[-1][1]) for one in networks if (found := one.curves.get(curve))]
    if not ends:
        return ""
    first, last = np.mean(ends, axis=0)
    return f"{words}, mean of {counted(len(ends), 'network')}: from {first:.3f} to {last:.3f}."


def channels(report: Report) -> Picture:
    """Show the spectrograms of one utterance, and how loud it is in each channel."""
    one = report.example[0]
    levels = "; ".join(f"{row.channel} {row.mean:.1f}" for row in report.example)
    what = f"{one.utterance} ({one.label}, {one.speaker or 'unknown'}), {one.seconds:.2f} s"
    return Picture(
        f"Spectrograms of {what}",
        f"Spectrograms of {what}, one a channel, low bands below, brighter is louder. Mean log power: {levels}.",
        address=f"data:image/png;base64,{base64.b64encode(report.picture).decode()}",
        table=TextTable(
            "Log power over all bands and frames",
            ["channel", "mean", "5% lie below", "95% lie below"],
            [[row.channel, *(f"{level:.2f}" for level in (row.mean, row.low, row.high))] for row in report.example],
            1,
        ),
    )
