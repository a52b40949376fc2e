"""``bserkit audit``: what could fool the numbers of a corpus."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from bserkit.cli.group import Command
from bserkit.cli.options import given_plugins, given_workspace, setting_options, show_failures


@click.command(cls=Command)
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all that was found as Markdown (FILE.md), or all pairs that share sound as csv.",
)
@setting_options("corpus", "microphones", "plugins-dir", "cache", config=False, quiet="Show the findings alone.")
def audit(
    data: Path | None, corpus: str | None, microphones: str | None, out: Path | None, quiet: bool, **given: Any
) -> None:
    """Look for what could fool the numbers of DATA, before anything is learned; without DATA of the demonstration.

    Findings come first to last by how much they can fool the numbers: sound or names shared between speakers; labels
    that a silent Side gives away; labels, levels and delays that go with speakers; silent, clipped and unusable
    recordings.

    \b
    bserkit audit corpora/emovo
    bserkit audit corpora/emovo --out emovo.md
    bserkit audit corpora/urdu --out shared.csv
    """
    from rich.console import Console

    from bserkit.cli.console import show_audit
    from bserkit.corpora.audit.audit import audit_data, duplicate_rows, markdown
    from bserkit.corpora.checking import read_microphones
    from bserkit.experiments.export import check_writable
    from bserkit.experiments.settings import reader_for
    from bserkit.text import csv_text

    if out:
        check_writable(out)
    plugins = given_plugins(given)
    show_failures(plugins)
    workspace, _ = given_workspace(given["cache"], quiet)
    found = audit_data(data, reader_for(data, corpus, plugins), read_microphones(microphones or "refuse"), workspace)
    show_audit(Console(highlight=False, width=None if sys.stdout.isatty() else 160), found, quiet)
    if out:
        page = out.suffix.lower() == ".md"
        out.write_text(markdown(found) if page else csv_text(duplicate_rows(found)), encoding="utf-8")
