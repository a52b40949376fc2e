"""``bserkit sweep``: every combination of several components, and the tables of the paper."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from bserkit.cli.group import Command
from bserkit.cli.options import given_values, given_workspace, setting_options
from bserkit.errors import BserkitError


@click.command(cls=Command)
@click.argument("data", required=False, type=click.Path())
@click.option(
    "--reference",
    "references",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="One more run, to compare with: the settings in this TOML file stand over those of the first combination.",
)
@setting_options(several=True)
def sweep(data: str | None, references: tuple[Path, ...], **given: Any) -> None:
    """Run every combination of several components and print the tables of the paper.

    Options that name a component may be given several times. Each combination is an ordinary run in MLflow, below one
    run of the sweep; all are on the same folds, and features are computed and pooled once. A sweep that was broken off
    goes on when the same command is typed again. One that fails in a combination does all others.

    \b
    What is printed, and kept as tables.md, combinations.csv and confusion.png:
    Table 1           each channel alone, with the first pooler
    Tables 2 to 5     the poolers, for each channel
    Tables 6 and 7    score-level fusion with its weights, and feature-level fusion
    Table 8           the first combination against each --reference, with tests
    Figures 4 to 6    confusion matrices

    two-stage:tune=oracle searches its weights on the test utterances too, as the paper did. That is shown beside the
    result with the optimism, never as the result. The best row of a table is picked on the test data as well: the
    combination that you name first is the one that you chose beforehand.

    \b
    bserkit sweep corpora/emovo --mono duplicate --backbone torchvision:arch=squeezenet1_1,weights=net.pth
    bserkit sweep corpora/emovo --mono duplicate --pooler block-max --pooler global-max --fusion two-stage --fusion mean
    bserkit sweep corpora/emovo --channels lr,ms --channels mono --mono duplicate --reference opensmile.toml
    """
    from rich.console import Console

    from bserkit.cli.console import show_corpus, show_page
    from bserkit.corpora.protocols import caution_names
    from bserkit.experiments.grid import AXES, combinations
    from bserkit.experiments.sweep import execute, plan

    grid = {axis: given.pop(axis) for axis in AXES}
    values, plugins = given_values({"data": data, **given})
    every = combinations(values, grid, references, plugins)
    quiet = given["quiet"]
    workspace, reporter = given_workspace(values.get("cache"), quiet)
    planned = plan(every, plugins, workspace)
    show_corpus(reporter.console, planned.first.combination.settings, planned.first.prepared)
    reporter.say(f"{planned.size}, on the same folds")
    swept = execute(planned, given["run_name"], workspace)
    if quiet:
        for one in swept.outcomes:
            numbers = " ".join(f"{name}={one.run.metrics[name]:.4f}" for name in ("accuracy", "uar", "macro_f1"))
            cautions = "".join(f" {name}=true" for name in caution_names(one.run.tags))
            click.echo(f"{numbers} run={one.run.run_id}{cautions} {one.name}")
    else:
        show_page(Console(highlight=False, width=None if sys.stdout.isatty() else 160), swept.page)
    experiment = every[0].settings.experiment
    click.echo(f"sweep={swept.run_id}" if quiet else f"Sweep {swept.run_id} in experiment {experiment!r}.")
    if swept.failed:
        reasons = "".join(f"\n  {one.combination.name}: {one.reason}" for one in swept.failed)
        raise BserkitError(
            f"{len(swept.failed)} of {len(every)} combinations failed:{reasons}\nThe same command runs these alone "
            "and keeps the others."
        ) from swept.failed[0].error
