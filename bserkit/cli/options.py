"""The options that commands share, and what becomes of them: plugins, the feature store, a run's settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bserkit.cli.completion import complete_choice, complete_component
from bserkit.experiments.declaration import spell
from bserkit.experiments.settings import SETTINGS, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from bserkit.cli.console import ConsoleReporter
    from bserkit.experiments.settings import Settings
    from bserkit.plugins.registry import Plugins
    from bserkit.workspace import Workspace


def given_plugins(given: dict[str, Any]) -> Plugins:
    """Load the plugins that a command's options, or the environment, ask for."""
    from bserkit.experiments import opening

    return opening.given_plugins(given.get("plugins_dir"), not given.get("no_plugins"))


def setting_option(key: str, several: bool = False, text: str = "") -> Callable[[Any], Any]:
    """Return the option of a setting, as the setting is declared; a shell completes what there is to choose from.

    Args:
        several: whether one that a sweep may vary may be given more than once.
        text: other words for what it does.
    """
    one = SETTINGS[key]
    several = several and one.axis is not None
    default = ", ".join((several and one.axis) or [spell(one.default)])
    if one.type is bool:
        how: dict[str, Any] = {"is_flag": True, "default": None}
    elif one.contract:
        completed = complete_component(key)
        how = {"metavar": "NAME[:KEY=VALUE,...]", "multiple": several, "shell_complete": completed}
    elif one.choices:
        how = {"metavar": one.metavar, "shell_complete": complete_choice(one.choices)}
    else:
        folder = click.Path(file_okay=one.several) if Path in one.types else None
        how = {"metavar": one.metavar, "type": int if one.type is int else folder}
    shown = "" if one.default is None or one.type is bool else f"  [default: {default}]"
    return click.option(f"--{key}", help=text or one.help + shown, **how)


def setting_options(
    *keys: str, several: bool = False, config: bool = True, quiet: str = "Show nothing but the result."
) -> Callable[[Any], Any]:
    """Return the options of some settings, by default of all that have one, and those that go with them."""
    added = [setting_option(key, several) for key in keys or SETTINGS if key != "data"]
    if config:
        text = "Read settings from a TOML file; options given here win."
        added.append(click.option("--config", metavar="FILE", help=text))
    added += [no_plugins_option, click.option("--quiet", "-q", is_flag=True, help=quiet)]

    def add(command: Any) -> Any:
        for option in reversed(added):
            command = option(command)
        return command

    return add


no_plugins_option = click.option("--no-plugins", is_flag=True, help="Use built-in components only.")


def show_failures(plugins: Plugins) -> None:
    """Show every plugin that could not be used, and why; with -v the traceback of each."""
    from bserkit.plugins.importing import WAY_OUT

    context = click.get_current_context(silent=True)
    for failure in plugins.failures:
        if context and context.find_root().params.get("verbose"):
            click.echo(failure.trace, err=True, nl=False)
        click.secho(f"failed: {failure.source}: {failure.reason}", fg="red", err=True)
    if plugins.failures:
        click.echo(f"All other components can be used. {WAY_OUT}.", err=True)


def given_workspace(cache: str | None, quiet: bool) -> tuple[Workspace, ConsoleReporter]:
    """Return a workspace that shows what goes on in the terminal, unless quiet."""
    from bserkit.cli.console import ConsoleReporter
    from bserkit.experiments.opening import given_store
    from bserkit.workspace import Workspace

    reporter = ConsoleReporter(quiet)
    return Workspace(given_store(cache), reporter), reporter


def given_settings(given: dict[str, Any]) -> tuple[Settings, Plugins, str | None]:
    """Merge a configuration file below the options; return the settings, the plugins and where features are kept."""
    values, loaded = given_values(given)
    return resolve(values, loaded), loaded, values.get("cache")


def given_values(given: dict[str, Any]) -> tuple[dict[str, Any], Plugins]:
    """Merge a configuration file below the options, not yet checked, and return the plugins with it."""
    from bserkit.experiments import opening

    values, loaded = opening.given_values(given)
    show_failures(loaded)
    return values, loaded
