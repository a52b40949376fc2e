"""What a user sees in the terminal: findings, progress and result tables."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bserkit.corpora.audit.audit import duplicate_rows, remark_rows, summary, summary_rows
from bserkit.corpora.protocols import warnings_of
from bserkit.corpora.speakers import one_spelling
from bserkit.evaluation.results import choice_text
from bserkit.evaluation.statistics import interval_warning, nobody
from bserkit.reporting.comparison import remarks, tables
from bserkit.reporting.tables import Cell, confusion_table
from bserkit.schema import FUSION
from bserkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bserkit.corpora.audit.audit import Audit
    from bserkit.corpora.reading import Corpus
    from bserkit.evaluation.comparison import Comparison
    from bserkit.evaluation.cross_validation import Evaluation
    from bserkit.experiments.run import Plan, Prepared
    from bserkit.experiments.settings import Settings
    from bserkit.reporting.paper_tables import Page
    from bserkit.reporting.tables import TextTable


#: Speakers that a table names.
_SHOWN_SPEAKERS = 20


class ConsoleReporter:
    """Shows progress and notices on standard error, so that standard output holds results alone.

    In a terminal each stage is a bar with its throughput; elsewhere it is a line when it is done. Quiet shows nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        # Lines are not broken for a width that nobody looks at.
        self.console = Console(stderr=True, highlight=False, quiet=quiet, width=None if sys.stderr.isatty() else 200)

    def say(self, text: str) -> None:
        """Show a finding or a notice."""
        self.console.print(text, markup=False)

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """Show a stage of ``total`` units of work."""
        began = time.monotonic()
        done = 0
        progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{unit}  {{task.fields[rate]}}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal or self.quiet,
        )
        task = progress.add_task(name, total=total, rate="")

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress.update(task, advance=count, rate=_rate(done, time.monotonic() - began))

        with progress:
            yield advance
        if not self.console.is_terminal:
            seconds = time.monotonic() - began
            self.say(f"{name}: {done} {unit} in {seconds:.1f} s ({_rate(done, seconds)})")


def _rate(done: int, seconds: float) -> str:
    """Say how many a second, or of slow ones how many seconds each.

    >>> _rate(588, 140.0), _rate(32, 1317.1)
    ('4.2/s', '41.2 s each')
    """
    return f"{seconds / done:.1f} s each" if 0 < done < seconds else f"{done / max(1e-9, seconds):.1f}/s"


def show_findings(console: Console, planned: Plan) -> None:
    """Print what was found in the corpus, and what will be done with it."""
    settings = planned.settings
    show_corpus(console, settings, planned.prepared)
    extraction = settings.extraction
    tuned = f" fine-tuned by {settings.finetune.spec}" if settings.finetune else ""
    stages = settings.pooler, settings.normaliser, settings.classifier, settings.fusion
    console.print(
        f"{extraction.backbone.spec}{tuned} on {extraction.device} in {extraction.precision}; "
        + "; ".join(one.spec for one in stages if one),
        markup=False,
    )
    show_cautions(console, {name: of for name, of in planned.cautions.items() if name not in planned.prepared.cautions})


def show_corpus(console: Console, settings: Settings, prepared: Prepared) -> None:
    """Print what was found: files, hours, channels, speakers by labels, what is left out, and the folds."""
    corpus, facts = prepared.corpus, prepared.checked.facts
    hours = sum(one.seconds for one in facts) / 3600
    rates = "/".join(f"{rate / 1000:g}" for rate in sorted({one.sample_rate for one in facts}))
    stereo = sum(one.stereo for one in facts)
    how = " (found from the file names)" if settings.found_reader else ""
    console.print(
        f"[bold]{corpus.reader.name}[/bold]{how}: {len(facts)} utterances, {hours:.2f} h, {rates} kHz, "
        f"{stereo} stereo; {len(corpus.speakers)} speakers, {len(corpus.labels)} emotions"
    )
    _show_counts(console, corpus, "all stand in the run's audit.md")
    if corpus.skipped:
        console.print(f"{len(corpus.skipped)} left out:", style="yellow")
        for one in corpus.skipped[:8]:
            console.print(f"  {one.item}: {one.reason}", markup=False)
        if len(corpus.skipped) > 8:
            console.print(f"  ... {len(corpus.skipped) - 8} more; all are in the run's skipped.csv")
    for note in prepared.checked.notes:
        console.print(f"Note: {note}.", style="yellow", markup=False)
    sides = "no speaker on both sides of any"
    if "speakers_unknown" in prepared.cautions:
        sides = "SPEAKERS MAY BE ON BOTH SIDES"
    if "speaker_overlap" in prepared.cautions:
        sides = "SPEAKERS ON BOTH SIDES"
    console.print(f"Protocol {settings.protocol.spec}: {len(prepared.folds)} folds, {sides}", markup=False)
    show_cautions(console, prepared.cautions)
    console.print(summary(prepared.audit), markup=False, soft_wrap=True)


def show_cautions(console: Console, cautions: Mapping[str, str]) -> None:
    """Warn of what a reader of the numbers must know, such as speakers on both sides."""
    for warning in warnings_of(cautions):
        console.print(warning, style="bold red", markup=False)


def _show_counts(console: Console, corpus: Corpus, whole: str) -> None:
    """Print how many utterances each speaker has of each label; of many speakers some, and where all are to be seen."""
    counts = corpus.count()
    shown = corpus.speakers[:_SHOWN_SPEAKERS]
    table = Table("speaker", *map(escape, corpus.labels), "all", box=None, pad_edge=False)
    for speaker in shown:
        row = [counts[speaker, label] for label in corpus.labels]
        table.add_row(escape(speaker) or "unknown", *map(str, row), str(sum(row)))
    totals = [sum(counts[speaker, label] for speaker in corpus.speakers) for label in corpus.labels]
    table.add_row("all", *map(str, totals), str(sum(totals)), style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    console.print(table)
    if len(shown) < len(corpus.speakers):
        console.print(f"... {len(corpus.speakers) - len(shown)} more speakers; {whole}", markup=False)


def show_results(console: Console, evaluation: Evaluation) -> None:
    """Print the results over all folds, fold by fold, and the confusion matrix."""
    console.print()
    console.print(_overall_table(evaluation))
    _show_intervals(console, evaluation)
    console.print(_fold_table(evaluation))
    console.print(_drawn(confusion_table("Confusion of the fusion: predicted", evaluation.measures())))
    for note in evaluation.notes():
        console.print(f"Note: {note}.", style="yellow", markup=False)
    oracle, honest = evaluation.oracle_measures(), evaluation.measures()
    if oracle and evaluation.oracle:
        console.print(
            f"Oracle (weights searched on the test utterances themselves, as the paper does; not a result): accuracy "
            f"{oracle.accuracy:.3f}, UAR {oracle.uar:.3f}, {_weights_text(evaluation.oracle.weights)}; "
            f"optimism {oracle.accuracy - honest.accuracy:+.3f} accuracy, {oracle.uar - honest.uar:+.3f} UAR.",
            markup=False,
        )


def show_audit(console: Console, audit: Audit, quiet: bool) -> None:
    """Print what was measured by speaker and by label, who says what, what is shared, and the findings in words."""
    whole = "bserkit audit DATA --out FILE.md writes all"
    if not quiet:
        for by in ("speaker", "label"):
            _show_rows(console, summary_rows(audit, by), f"By {by}: median ± deviation", whole, _SHOWN_SPEAKERS)
        _show_counts(console, audit.corpus, whole)
        for rows, noun, what in (
            (duplicate_rows(audit), "pair", "with common sound"),
            (remark_rows(audit), "recording", "to look at"),
        ):
            _show_rows(console, rows, f"{counted(len(rows), noun)} {what}", whole)
    findings = audit.findings
    console.print(
        f"{counted(len(findings), 'finding')}{', the most serious first' * (len(findings) > 1)}:"
        if findings
        else "Nothing was found that could fool the numbers."
    )
    for finding in findings:
        console.print(f"  - {finding.text}", markup=False, soft_wrap=True)
    if any(finding.cut for finding in findings):
        console.print(f"Lists are cut short above; {whole}.", markup=False)


def _show_rows(console: Console, rows: Sequence[Mapping[str, str]], title: str, whole: str, most: int = 12) -> None:
    """Print the first rows of a table, if it has any, and where all are to be seen."""
    if rows:
        console.print(_rows_table(rows[:most], title))
    if len(rows) > most:
        console.print(f"... {len(rows) - most} more; {whole}", markup=False)


def _rows_table(rows: Sequence[Mapping[str, str]], title: str) -> Table:
    table = Table(*map(escape, rows[0]), title=title, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row.values()))
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def show_comparison(console: Console, comparison: Comparison) -> None:
    """Print runs beside one another, their differences, each speaker's UAR, and what to make of them."""
    for table in tables(comparison):
        console.print(_drawn(table))
    for remark in remarks(comparison):
        console.print(remark, markup=False, style="yellow" if remark in comparison.notes else None)


def show_page(console: Console, page: Page) -> None:
    """Print the tables of a sweep, and what to make of them."""
    for heading, written in page.sections:
        console.print()
        if heading:
            console.rule(escape(heading), align="left")
        for table in written:
            # Above the table rather than in it, where a narrow table would break its title.
            console.print(table.title, style="italic", markup=False)
            console.print(_drawn(replace(table, title="")))
    for remark in page.remarks:
        console.print(remark, markup=False)


def _drawn(table: TextTable) -> Table:
    drawn = Table(title=escape(table.title) or None, title_justify="left")
    for column, name in enumerate(table.header):
        drawn.add_column(escape(name), justify="left" if column < table.names else "right")
    for row in table.rows:
        drawn.add_row(*(_marked(cell) for cell in row))
    return drawn


def _marked(cell: str | Cell) -> str:
    text = escape(str(cell))
    return f"[bold]{text}[/bold]" if isinstance(cell, Cell) and cell.chosen else text


def _show_intervals(console: Console, evaluation: Evaluation) -> None:
    intervals = evaluation.intervals()
    speakers = sorted(set(one_spelling(evaluation.speakers).tolist()))
    if not nobody(speakers):
        console.print(
            f"95% intervals of the {FUSION} over {counted(len(speakers), 'speaker')}: "
            f"accuracy {intervals['accuracy']}, UAR {intervals['uar']}",
            markup=False,
        )
    if warning := interval_warning(speakers):
        console.print(warning, style="yellow", markup=False)


def _overall_table(evaluation: Evaluation) -> Table:
    table = Table(
        title=f"{len(evaluation.utterances)} utterances, {counted(len(evaluation.outcomes), 'fold')}; "
        f"chance UAR {1 / len(evaluation.classes):.3f}",
        title_justify="left",
    )
    for name in ("", "accuracy", "UAR", "macro F1", "weight (lowest to highest over folds)"):
        table.add_column(name, justify="right" if name else "left")
    kinds = list(evaluation.scores)
    for part in kinds:
        result = evaluation.measures(part)
        weights = [outcome.weights[part] for outcome in evaluation.outcomes if part in outcome.weights]
        spread = f"{np.mean(weights):.2f} ({min(weights):.1f} to {max(weights):.1f})" if weights else ""
        table.add_row(
            part,
            *(f"{value:.3f}" for value in result.overall().values()),
            spread,
            style="bold" if part == FUSION else None,
            end_section=part in kinds[-2:],
        )
    return table


def _fold_table(evaluation: Evaluation) -> Table:
    table = Table(title="Fold by fold: UAR of each part", title_justify="left")
    chose = ["chosen by search"] * any(outcome.choices for outcome in evaluation.outcomes)
    for name in ("fold", "utterances", *evaluation.scores, "fusion accuracy", "fusion F1", "weights", *chose):
        table.add_column(name, justify="left" if name in {"fold", "weights", *chose} else "right")
    for index, outcome in enumerate(evaluation.outcomes):
        result = evaluation.measures(fold=index)
        table.add_row(
            escape(outcome.fold.name),
            str(len(outcome.fold.test)),
            *(f"{evaluation.measures(part, index).uar:.3f}" for part in evaluation.scores),
            f"{result.accuracy:.3f}",
            f"{result.macro_f1:.3f}",
            _weights_text(outcome.weights),
            *[escape("\n".join(f"{part} {choice_text(one)}" for part, one in outcome.choices.items()))] * len(chose),
        )
    return table


def _weights_text(weights: Mapping[str, float]) -> str:
    return " ".join(f"{name} {weight:.2g}" for name, weight in weights.items())
