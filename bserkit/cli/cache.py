"""``bserkit cache``: what the feature store holds."""

from __future__ import annotations

from typing import Any

import click

from bserkit.cli.group import Command
from bserkit.cli.options import setting_option


@click.group(invoke_without_command=True)
@setting_option("cache")
@click.pass_context
def cache(ctx: click.Context, cache: str | None) -> None:
    """Show what the feature store holds and how much room it takes; 'prune' deletes."""
    from datetime import datetime

    from bserkit.experiments.opening import given_store

    store = given_store(cache)
    ctx.obj = store
    if ctx.invoked_subcommand:
        return
    entries = list(store.entries())
    for entry in entries:
        used = datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M")
        click.echo(f"{entry.size / 1e6:9.1f} MB  {entry.files:6d} files  used {used}  {entry.described()}")
    click.echo(f"{sum(entry.size for entry in entries) / 1e6:9.1f} MB in {store.root}")


@cache.command(cls=Command)
@click.option(
    "--older-than", "days", metavar="DAYS", type=float, default=0.0, help="Keep what was used within so many days."
)
@click.option("--old-formats", is_flag=True, help="Delete nothing but what earlier versions kept, which is not read.")
@click.pass_obj
def prune(store: Any, days: float, old_formats: bool) -> None:
    """Delete features, all or those not used for some days. They are computed anew when needed."""
    files, size = store.prune(days, old_formats)
    click.echo(f"Deleted {files} files, {size / 1e6:.1f} MB.")
