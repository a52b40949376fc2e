"""``bserkit run``: one experiment, from data to a tracked result."""

from __future__ import annotations

import sys
from typing import Any

import click

from bserkit.cli.group import Command
from bserkit.cli.options import given_settings, given_workspace, setting_options


@click.command(cls=Command)
@click.argument("data", required=False, type=click.Path())
@setting_options()
def run(data: str | None, **given: Any) -> None:
    """Learn from a corpus of stereo speech and evaluate on unseen speakers.

    DATA is a folder or a csv manifest; without it, a small synthetic corpus is used. Features are computed once:
    another pooler, classifier or fusion on the same corpus takes seconds. Every run is kept in MLflow.

    \b
    Components are spelt NAME:KEY=VALUE,KEY=VALUE, such as block-max:blocks=3,pyramid=true.
    'bserkit components' lists them all with their parameters.

    \b
    bserkit run
    bserkit run corpora/emovo --mono duplicate --backbone torchvision:arch=squeezenet1_1,weights=net.pth
    bserkit run corpora/emovo --mono duplicate --pooler block-max:blocks=3 --fusion feature
    bserkit run manifest.csv --protocol predefined:train=train,test=val
    bserkit run corpora/emovo --protocol folds:path=folds.csv     # columns utterance, fold, part (train or test)
    """
    from rich.console import Console

    from bserkit.cli.console import show_cautions, show_findings, show_results
    from bserkit.experiments.run import execute, plan

    settings, plugins, cache = given_settings({"data": data, **given})
    workspace, reporter = given_workspace(cache, given["quiet"])
    planned = plan(settings, plugins, workspace)
    show_findings(reporter.console, planned)
    result = execute(planned, workspace)
    measures = result.evaluation.measures()
    if given["quiet"]:
        click.echo(
            f"accuracy={measures.accuracy:.4f} uar={measures.uar:.4f} macro_f1={measures.macro_f1:.4f} "
            f"run={result.run_id}" + "".join(f" {name}=true" for name in result.cautions)
        )
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    show_results(console, result.evaluation)
    show_cautions(console, result.cautions)
    click.echo(
        f"Run {result.run_id} in experiment {settings.experiment!r}. Compare runs with: bserkit compare, bserkit ui"
    )
