"""The tables of the paper, made of what the runs of a sweep logged (paper, Tables 1 to 8 and figures 4 to 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from bserkit.corpora.protocols import caution_names, warnings_of
from bserkit.evaluation.comparison import RunPart, compare
from bserkit.evaluation.statistics import RESAMPLES, SEED, Interval, over_speakers
from bserkit.reporting.comparison import permutation_text
from bserkit.reporting.tables import TextTable, confusion_table
from bserkit.rows import column
from bserkit.schema import FUSION, FUSION_NOTES, MEASURES, UNLABELLED, bounds_of, measure_of, oracle_weights
from bserkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bserkit.evaluation.comparison import Comparison
    from bserkit.evaluation.metrics import Measures
    from bserkit.evaluation.results import Results
    from bserkit.tracking.finished import KeptRun

#: The paper's table of the poolers of each channel.
_POOLER_TABLES = {"left": 2, "right": 3, "mid": 4, "side": 5}
#: What the paper calls the weight of the first channel of each transform, and that of the first transform.
_TRANSFORM_WEIGHTS, _LAST_WEIGHT = "αβ", "λ"
#: The stages that are held together by one block of tables; within it channels, poolers and fusions differ.
_BLOCK = ("frontend", "backbone", "finetune", "normaliser", "classifier")
#: The fusion of the paper's Table 7; all others fuse scores, as in Table 6.
_FEATURE_LEVEL = "feature"
_WORDS = {name: MEASURES[name] for name in ("accuracy", "uar")}


@dataclass(frozen=True)
class Outcome:
    """What one combination of a sweep came to, as its run logged it.

    Attributes:
        name: what tells it from the others.
        stages: what each stage is called.
        transforms: the transform of each channel, in the channels' order.
        run: with its numbers.
        results: its tables.
        command: what does this one run.
        reference: whether it stands beside the grid, to be compared with.
    """

    name: str
    stages: Mapping[str, str]
    transforms: Mapping[str, str]
    run: KeptRun
    results: Results
    command: str
    reference: bool = False

    def row(self) -> CombinationRow:
        """Return it as a row of a sweep's table."""
        return combination_row(self.name, self.stages, self.reference, self.command, self.run)

    def number(self, measure: str, part: str = FUSION, oracle: bool = False) -> float | None:
        """Return a measure of a part, or of the oracle's, if the run logged it."""
        return self.run.metrics.get(measure_of(measure, part, oracle))

    def weights(self) -> dict[str, list[float]]:
        """Return the weight of each channel and transform in every fold, where they have any."""
        found: dict[str, list[float]] = {}
        for of_fold in self.results.weights.values():
            for part, weight in of_fold.items():
                found.setdefault(part, []).append(weight)
        return found

    def channels_of(self) -> dict[str, list[str]]:
        """Return the channels of each transform."""
        grouped: dict[str, list[str]] = {}
        for channel, transform in self.transforms.items():
            grouped.setdefault(transform, []).append(channel)
        return grouped


@dataclass(frozen=True)
class Page:
    """Everything that is written of a sweep.

    Attributes:
        sections: tables, each some below a heading, which may be empty.
        remarks: what a reader must know, a paragraph each.
    """

    sections: Sequence[tuple[str, Sequence[TextTable]]]
    remarks: Sequence[str]

    def markdown(self, title: str, commands: Sequence[str]) -> str:
        """Write the page as a Markdown document that ends with the commands of single runs."""
        texts = [f"# {title}"]
        for heading, tables in self.sections:
            texts += [f"## {heading}"] * bool(heading) + [table.markdown() for table in tables]
        console = "\n".join(["```console", *commands, "```"])
        return "\n\n".join([*texts, *self.remarks, "The command of each combination:", console]) + "\n"


class _Stage(NamedTuple):
    """One step of a fusion: the part that it makes, the channels in it, what is weighed, the first weight's symbol."""

    part: str
    channels: Sequence[str]
    inputs: Sequence[str]
    symbol: str


def page(outcomes: Sequence[Outcome], chosen: Outcome | None) -> Page:
    """Write every table of the paper that the outcomes give, and what a reader must know.

    Args:
        chosen: the combination that was named first, if it did not fail: the one that is held against references.
    """
    grid = [one for one in outcomes if not one.reference]
    blocks: dict[tuple[str, ...], list[Outcome]] = {}
    for one in grid:
        blocks.setdefault(tuple(one.stages[stage] for stage in _BLOCK), []).append(one)
    differing = [position for position, names in enumerate(zip(*blocks, strict=True)) if len(set(names)) > 1]
    sections = [
        (", ".join(f"{_BLOCK[position]} {stages[position]}" for position in differing), _block(members))
        for stages, members in blocks.items()
    ]
    every = ("All combinations" * (len(blocks) > 1), [_overview(outcomes)])
    if chosen is None:
        lost = "The combination named first has no result, so nothing is held against references (Table 8)."
        return Page([*sections, every], [lost, *_remarks(grid)])
    references = [one for one in outcomes if one.reference]
    parts = [RunPart.of(one.run, one.results, FUSION) for one in (chosen, *references)]
    compared = compare(parts, FUSION, RESAMPLES, SEED, against_first=True)
    if references:
        every[1].append(_reference_table(chosen, references, compared))
    chance = compared.chance
    always = (
        f"Chance: UAR {_percent(chance.uar)} %; always {chance.majority!r}: accuracy {_percent(chance.accuracy)} %."
    )
    return Page([*sections, every], [*dict.fromkeys([always, *_remarks(grid), *compared.notes])])


def confusions(chosen: Outcome) -> dict[str, Measures]:
    """Return the measures, with confusions, of each channel and of the fusion (paper, figures 4 to 6)."""
    parts = [channel for channel in chosen.transforms if chosen.number("uar", channel) is not None]
    return {part: chosen.results.predictions[part].measures() for part in (*parts, FUSION)}


@dataclass(frozen=True)
class CombinationRow:
    """A combination of a sweep."""

    name: str = column("What tells it from the others.")
    kind: str = column("`combination`, or `reference` where it stands beside the grid.")
    channels: str = column("The channel transforms.")
    frontend: str = column("The frontend.")
    backbone: str = column("The backbone.")
    finetune: str = column("How it was fine-tuned, if it was.")
    pooler: str = column("The pooler.")
    normaliser: str = column("The normaliser, if there is one.")
    classifier: str = column("The classifier.")
    fusion: str = column("The fusion.")
    metrics: Mapping[str, float] = column("Each METRIC over all folds.", begin="")
    run: str = column("The run's id; empty where it failed.", default="")
    command: str = column("What does this one run.", default="")
    cautions: str = column("What a reader must know, by its tags.", default="")
    failed: str = column("Why it failed, if it did.", default="")


def combination_row(
    name: str, stages: Mapping[str, str], reference: bool, command: str, run: KeptRun | None, failed: str = ""
) -> CombinationRow:
    """Return a combination as one row: its stages, every number over all folds of its run, or why it has none."""
    left_out = ("fold/", "class/", "mean_fold_")
    kept = sorted(run.metrics.items()) if run else []
    given: dict[str, str] = {"name": name, "kind": "reference" if reference else "combination", **stages}
    return CombinationRow(
        **given,
        metrics={metric: value for metric, value in kept if not metric.startswith(left_out)},
        run=run.run_id if run else "",
        command=command,
        cautions=" ".join(caution_names(run.tags)) if run else "",
        failed=failed,
    )


def _block(outcomes: Sequence[Outcome]) -> list[TextTable]:
    """Write Tables 1 to 7 and the confusions of outcomes that differ in channels, poolers and fusions."""
    pooler = outcomes[0].stages["pooler"]
    by_channel = _by_channel(outcomes)
    written = []
    first = {channel: of_poolers[pooler] for channel, of_poolers in by_channel.items() if pooler in of_poolers}
    if first:
        written.append(
            TextTable(
                f"Table 1. Single channels, {pooler} (%)",
                ["channel", *_WORDS.values()],
                [[channel, *_numbers(one, channel)] for channel, one in first.items()],
                names=1,
            )
        )
    for channel, of_poolers in sorted(by_channel.items(), key=lambda pair: _POOLER_TABLES.get(pair[0], 9)):
        if len(of_poolers) > 1:
            number = _POOLER_TABLES.get(channel)
            written.append(
                TextTable(
                    f"Table {number}. Poolers, {channel} (%)" if number else f"Poolers, {channel} (%)",
                    ["pooler", *_WORDS.values()],
                    [[name, *_numbers(one, channel)] for name, one in of_poolers.items()],
                    names=1,
                )
            )
    fused = [one for one in outcomes if len(one.transforms) > 1]
    by_score = [one for one in fused if _fuser(one) != _FEATURE_LEVEL]
    by_feature = [one for one in fused if _fuser(one) == _FEATURE_LEVEL]
    if by_score:
        written.append(_score_level_table(by_score))
    if by_feature:
        written.append(_feature_level_table(by_feature))
    return [*written, *_confusion_tables(outcomes[0])]


def _by_channel(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Outcome]]:
    """Return, by channel and pooler, an outcome that has the channel's numbers: what fuses it does not move them."""
    found: dict[str, dict[str, Outcome]] = {}
    for one in outcomes:
        for channel in one.transforms:
            if one.number("uar", channel) is not None:
                found.setdefault(channel, {}).setdefault(one.stages["pooler"], one)
    return found


def _score_level_table(outcomes: Sequence[Outcome]) -> TextTable:
    """Write Table 6: each stage of score fusion, as it was tuned on training speakers and as the paper tunes it."""
    naming, names = _naming(outcomes)
    oracle = any(one.number("uar", oracle=True) is not None for one in outcomes)
    header = [*names, "fused", "weight", *_WORDS.values()]
    header += [f"oracle {word}" for word in ("weight", *_WORDS.values())] * oracle
    rows = []
    for one in outcomes:
        searched = {name: [weight] for name, weight in oracle_weights(one.run.metrics).items()}
        for stage in _stages(one):
            row = [*naming(one), ", ".join(stage.channels), _weight(stage, one.weights()), *_numbers(one, stage.part)]
            if oracle:
                row += [_weight(stage, searched), *(_oracle(one, stage.part, name) for name in _WORDS)]
            rows.append(row)
    title = "Table 6. Score-level fusion (%)"
    if oracle:
        title += ". The oracle's weights are searched on the test utterances, as in the paper: no result (optimism)"
    return TextTable(title, header, rows, names=len(names) + 1)


def _feature_level_table(outcomes: Sequence[Outcome]) -> TextTable:
    naming, names = _naming(outcomes)
    return TextTable(
        "Table 7. Feature-level fusion (%)",
        [*names, "fused", *_WORDS.values()],
        [
            [*naming(one), ", ".join(stage.channels), *_numbers(one, stage.part)]
            for one in outcomes
            for stage in _stages(one)
        ],
        names=len(names) + 1,
    )


def _confusion_tables(outcome: Outcome) -> list[TextTable]:
    """Write figures 4 to 6 as tables: of every true class, the share of each prediction."""
    made = []
    for part, one in confusions(outcome).items():
        figure = "Figures 5 and 6" if part == FUSION else "Figure 4"
        how = outcome.stages["fusion"] if part == FUSION else part
        title = f"{figure}. Confusion of {how}, {outcome.stages['pooler']}: predicted (%)"
        made.append(confusion_table(title, one, shares=True))
    return made


def _overview(outcomes: Sequence[Outcome]) -> TextTable:
    """Write every combination beside its oracle."""
    return TextTable(
        f"Every combination{over_speakers(sorted(set(outcomes[0].results.fusion.speakers.tolist())))} (%)",
        ["", "run", *_WORDS.values(), "oracle UAR", "optimism, UAR"],
        [
            [
                f"{_marked(one)} (reference)" if one.reference else _marked(one),
                one.run.run_id[:8],
                *(_interval(_logged_interval(one, name)) for name in _WORDS),
                _percent(one.number("uar", oracle=True)),
                _optimism(one, FUSION, "uar"),
            ]
            for one in outcomes
        ],
        names=2,
    )


def _reference_table(chosen: Outcome, references: Sequence[Outcome], compared: Comparison) -> TextTable:
    """Write Table 8: references, then ours, and how sure the difference is."""
    pairs = {pair.run: pair for pair in compared.pairs}
    rows = []
    for index, one in [*enumerate(references, start=1), (0, chosen)]:
        row = [_marked(one) if index else f"ours: {_marked(one)}"]
        row += [_interval(compared.intervals[index][name]) for name in _WORDS]
        if pair := pairs.get(index):
            row.append(_interval(pair.difference["uar"], "+.2f"))
            row.append(f"{pair.utterances.p:.2g} ({pair.mcnemar_holm:.2g})")
            row += [permutation_text(pair, name) for name in _WORDS]
        rows.append([*row, *[""] * (7 - len(row))])
    return TextTable(
        f"Table 8. Against references{over_speakers(compared.speakers)} (%); p (p after Holm for "
        f"{counted(len(references), 'comparison')})",
        [
            "",
            *_WORDS.values(),
            "UAR, it - ours",
            "McNemar p",
            *(f"permutation p, {word}" for word in _WORDS.values()),
        ],
        rows,
        names=1,
    )


def _marked(one: Outcome) -> str:
    """Return the name of an outcome, with what sets its numbers apart from those beside it."""
    return f"{one.name} (uses unlabelled test recordings)" if UNLABELLED in one.run.tags else one.name


def _remarks(grid: Sequence[Outcome]) -> list[str]:
    said = [*dict.fromkeys(warning for one in grid for warning in warnings_of(one.run.tags))]
    said += [f"Note: {note}." for note in dict.fromkeys(one.run.tags.get(FUSION_NOTES) for one in grid) if note]
    if any(one.weights() for one in grid):
        said.append(
            "α, β and λ weigh the first channel of the first pair, that of the second, and the first pair (eqs. 8-10). "
            "They are searched on the training side of each fold: the mean over folds, the lowest and the highest."
        )
    if any(one.number("uar", oracle=True) is not None for one in grid):
        said.append(
            "Optimism is what the oracle has above the result, because its weights were searched on the test "
            "utterances."
        )
    if len(grid) > 1:
        said.append(
            f"All numbers are of the same utterances. Whoever picks the best of these {len(grid)} combinations picks "
            "on the test data: the best owes some of its lead to luck, and its number is too good. Only that of a "
            f"combination chosen before looking, such as the one named first ({grid[0].name}), can be taken as it is."
        )
    return said


def _stages(outcome: Outcome) -> list[_Stage]:
    """Return each transform that fuses channels and, last, the whole."""
    channels, channels_of = list(outcome.transforms), outcome.channels_of()
    if len(channels_of) == 1:
        return [_Stage(FUSION, channels, channels, _TRANSFORM_WEIGHTS[0])]
    symbols = dict(zip(channels_of, _TRANSFORM_WEIGHTS, strict=False))
    stages = [_Stage(name, made, made, symbols.get(name, "")) for name, made in channels_of.items() if len(made) > 1]
    return [*stages, _Stage(FUSION, channels, list(channels_of), _LAST_WEIGHT)]


def _weight(stage: _Stage, weights: Mapping[str, Sequence[float]]) -> str:
    """Spell the weights of a stage: that of the first of two inputs, or of all of more."""
    if any(name not in weights for name in stage.inputs):
        return ""
    if len(stage.inputs) == 2 and stage.symbol:
        return f"{stage.symbol} = {_spread(weights[stage.inputs[0]])}"
    return ", ".join(f"{name} {_spread(weights[name])}" for name in stage.inputs)


def _spread(values: Sequence[float]) -> str:
    """Spell values by their mean, lowest and highest.

    >>> _spread([0.2, 0.7]), _spread([0.4])
    ('0.45 (0.2 to 0.7)', '0.4')
    """
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{sum(values) / len(values):.2f} ({min(values):.1f} to {max(values):.1f})"


def _naming(outcomes: Sequence[Outcome]) -> tuple[Callable[[Outcome], list[str]], list[str]]:
    """Return what names an outcome in a table of several, and the names of those columns: what differs, the pooler."""
    columns = [
        stage
        for stage in ("channels", "pooler", "fusion")
        if stage == "pooler" or len({one.stages[stage] for one in outcomes}) > 1
    ]
    return lambda one: [one.stages[stage] for stage in columns], columns


def _fuser(outcome: Outcome) -> str:
    return outcome.stages["fusion"].partition(":")[0]


def _numbers(outcome: Outcome, part: str) -> list[str]:
    return [_percent(outcome.number(name, part)) for name in _WORDS]


def _oracle(outcome: Outcome, part: str, name: str) -> str:
    """Spell a measure of the oracle, with its optimism in brackets."""
    searched = outcome.number(name, part, oracle=True)
    return "" if searched is None else f"{_percent(searched)} ({_optimism(outcome, part, name)})"


def _optimism(outcome: Outcome, part: str, name: str) -> str:
    searched, honest = outcome.number(name, part, oracle=True), outcome.number(name, part)
    # Rounded first, and zero added, so that nothing is spelt -0.00.
    return "" if searched is None or honest is None else f"{round(100 * (searched - honest), 2) + 0.0:+.2f}"


def _percent(share: float | None) -> str:
    """Spell a share as the paper does: in per cent, with two decimals."""
    return "" if share is None else f"{100 * share:.2f}"


def _interval(share: Interval, form: str = ".2f") -> str:
    return format(Interval(100 * share.value, 100 * share.low, 100 * share.high), form)


def _logged_interval(outcome: Outcome, name: str) -> Interval:
    missing = float("nan")
    low, high = (outcome.run.metrics.get(bound, missing) for bound in bounds_of(name))
    return Interval(outcome.run.metrics[name], low, high)
