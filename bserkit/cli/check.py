"""``bserkit check``: whether plugins and components keep the rules that the built-in ones keep."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bserkit.cli.group import Command
from bserkit.cli.options import given_plugins, no_plugins_option, setting_option

if TYPE_CHECKING:
    from bserkit.testing import Check


@click.command(cls=Command)
@click.argument("target", metavar="[NAME | FILE | PACKAGE]", required=False)
@click.option("--data", metavar="PATH", type=click.Path(path_type=Path), help="A corpus to try readers of corpora on.")
@setting_option("plugins-dir")
@no_plugins_option
def check(target: str | None, data: Path | None, **given: Any) -> None:
    """Check that a component or a plugin keeps the rules that the built-in ones keep; without a name all plugins.

    Shows every rule that was checked, of which plugin and component, and the traceback of each that is broken. The
    exit code is 1 where one is broken, or where there was nothing to check. docs/plugins.md explains the rules.

    \b
    bserkit check my_plugins/quantiles.py
    bserkit check quantiles:low=0.05 --plugins-dir my_plugins
    bserkit check bserkit-vote                       # installed
    bserkit check examples/bserkit-vote              # or not yet
    bserkit check block-max:blocks=3
    """
    from bserkit.testing.targets import checks_at, checks_named, checks_of_all

    if target is None:
        checks = checks_of_all(given_plugins(given), data)
    elif target.endswith(".py") or ("/" in target and Path(target).is_dir()):
        checks = checks_at(Path(target), data)
    else:
        checks = checks_named(target, given_plugins(given), data)
    asked = broken = skipped = 0
    subject = ""
    for one in checks:
        if one.subject != subject:
            subject = one.subject
            click.secho(f"{subject}  [{one.source.name}: {one.source.location}]" if one.source else subject, bold=True)
        outcome = _asked(one)
        asked, broken, skipped = asked + 1, broken + (outcome == "BROKEN"), skipped + (outcome == "skipped")
    click.echo(f"{asked} checks: {asked - broken - skipped} kept, {broken} broken, {skipped} skipped.")
    if not asked - skipped:
        click.secho(
            "Nothing was checked: there is no plugin, or none of what it brings can be tried.", fg="red", err=True
        )
    if broken or not asked - skipped:
        raise SystemExit(1)


def _asked(one: Check) -> str:
    """Run a check and show what came of it."""
    from unittest import SkipTest

    try:
        one()
    except SkipTest as error:
        click.echo(f"  skipped  {one.name}: {error}")
        return "skipped"
    # A component may fail in any way at all, a call of sys.exit included.
    except (Exception, SystemExit) as error:
        click.secho(f"  BROKEN   {one.name}: {one.rule}", fg="red")
        click.echo(f"{''.join(traceback.format_exception(error))}In {one.place(error)}")
        return "BROKEN"
    click.echo(f"  ok       {one.name}")
    return "ok"
