"""``bserkit components`` and ``bserkit plugins``: what there is to choose from, and where it comes from."""

from __future__ import annotations

from typing import Any

import click

from bserkit.cli.group import Command
from bserkit.cli.options import given_plugins, no_plugins_option, setting_option, show_failures


@click.command(cls=Command)
@click.argument("kind", required=False)
@setting_option("plugins-dir")
@no_plugins_option
def components(kind: str | None, **given: Any) -> None:
    """List the components of every KIND, or of one, with their parameters and defaults.

    \b
    bserkit components
    bserkit components pooler
    """
    from bserkit.errors import UsageError, nearest
    from bserkit.plugins.registry import KINDS

    plugins = given_plugins(given)
    if kind and kind not in KINDS:
        raise UsageError(f"There is no kind {kind!r}{nearest(kind, KINDS)}. Known: {', '.join(KINDS)}.")
    for one in (kind,) if kind else KINDS:
        click.secho(one, bold=True)
        for registered in plugins.of_kind(one).values():
            for entry in registered:
                summary = (entry.component.__doc__ or "").strip().splitlines()
                origin = f"  [{entry.source.name}: {entry.source.location}]" if entry.source.is_outside else ""
                name = plugins.name_of(entry)
                click.echo(f"  {name:<14} {summary[0] if summary else ''}{origin}")
                for parameter, default, type_, text in entry.component.describe_parameters():
                    click.echo(f"      {parameter}={default}  ({type_})  {text}")
    show_failures(plugins)


@click.command(cls=Command)
@setting_option("plugins-dir")
@no_plugins_option
def plugins(**given: Any) -> None:
    """List where components come from, and the plugins that failed to load and why; then the exit code is 1."""
    loaded = given_plugins(given)
    for source in loaded.sources:
        names = [f"{one.component.kind} {one.component.name}" for one in loaded.registered if one.source == source]
        click.echo(f"{source.name} {source.version}  {source.location}")
        click.echo(f"    {', '.join(names) or 'nothing'}")
    for several in loaded.clashes():
        called = f"{several[0].component.kind} {several[0].component.name}"
        asked = ", ".join(map(loaded.name_of, several))
        click.echo(f"{len(several)} are called {called}; ask for them by {asked}")
    show_failures(loaded)
    if loaded.failures:
        raise SystemExit(1)
