"""``bserkit extract``: features in a Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bserkit.cli.group import Command
from bserkit.cli.options import given_settings, given_workspace, setting_option, setting_options

#: The settings that features depend on.
FEATURES = ("corpus", "mono", "microphones", "channels", "frontend", "backbone", "seed", "device", "precision")


@click.command(cls=Command)
@click.argument("data", type=click.Path())
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@setting_option("pooler", text="Write one vector an utterance and channel instead of one a segment.")
@setting_options(*FEATURES, "plugins-dir", "cache")
def extract(data: str, out: Path, **given: Any) -> None:
    """Write the features of DATA with their metadata to OUT, a Parquet file.

    One row a segment and channel, a frame where the backbone makes such, or with --pooler one an utterance and channel.
    pandas, polars and DuckDB read it.

    \b
    bserkit extract corpora/emovo emovo.parquet --mono duplicate
    bserkit extract corpora/emovo pooled.parquet --mono duplicate --pooler block-max
    """
    from bserkit.experiments.export import check_writable, export

    check_writable(out)
    pooled = given.pop("pooler")
    settings, _, cache = given_settings({"data": data, "pooler": pooled, **given})
    workspace, _ = given_workspace(cache, given["quiet"])
    rows, utterances = export(out, settings, settings.pooler if pooled else None, workspace)
    click.echo(f"{rows} rows of {utterances} utterances in {out}")
