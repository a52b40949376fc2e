"""``bserkit compare``: finished runs on the same utterances, beside one another and tested in pairs."""

from __future__ import annotations

import sys

import click

from bserkit.cli.group import Command


@click.command(cls=Command)
@click.argument("references", metavar="[RUN RUN...]", nargs=-1)
@click.option("--experiment", metavar="NAME", default="bserkit", show_default=True, help="Where to look for the runs.")
@click.option("--best", metavar="N", type=click.IntRange(min=2), help="Compare the N finished runs with the best UAR.")
@click.option("--part", metavar="NAME", default="fusion", show_default=True, help="A channel, a transform or fusion.")
@click.option(
    "--resamples",
    metavar="N",
    type=click.IntRange(100, 100_000),
    default=2000,
    show_default=True,
    help="How often speakers are drawn for an interval; also signs for a test, beyond 12 speakers.",
)
@click.option(
    "--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draws."
)
def compare(references: tuple[str, ...], experiment: str, best: int | None, part: str, **draws: int) -> None:
    """Compare finished runs on the same utterances: are they different, or were the speakers lucky?

    RUN is a run's id, the first characters of it, or its name (the most recent finished one of that name). Runs whose
    utterances, labels or folds differ are refused. The tables are kept in MLflow, on a run named 'compare ...'.

    \b
    Intervals        draw whole speakers anew: what to expect on other speakers of this kind.
    Permutation p    swaps the two runs speaker by speaker: the one to trust.
    McNemar p        takes every utterance for independent: the one that papers print.
    After Holm       the same p, corrected for the number of pairs. Look at these.

    \b
    With fewer than 6 speakers no permutation p can fall below 0.05, and with fewer than 10 an interval is rough.
    More speakers help; more utterances of the same speakers hardly do.

    \b
    bserkit compare 3f2a 91bc
    bserkit compare "csv alexnet block-max two-stage" 91bc --part left
    bserkit compare --best 4 --experiment emovo
    """
    from rich.console import Console

    from bserkit.cli.console import show_comparison
    from bserkit.experiments.compare import compare_runs

    made = compare_runs(references, experiment, best, part, **draws)
    show_comparison(Console(highlight=False, width=None if sys.stdout.isatty() else 160), made.comparison)
    click.echo(
        f"Kept as run {made.run_id} in experiment {made.experiment!r}: comparison.csv and comparison.md in {made.place}"
    )
