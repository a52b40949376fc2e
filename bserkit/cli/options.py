"""The options that commands share, and what becomes of them: plugins, the feature store, a run's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bserkit.cli.completion import complete_component

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


#: What --corpus does, in every command that reads one.
CORPUS_HELP = (
    "How to read DATA; found from its files where that is clear. A value that holds a comma goes in double quotes: "
    r"""'folders:speaker="s(\d{1,3})_"'."""
)


def component_option(flag: str, kind: str, text: str, several: bool = False) -> Callable[[Any], Any]:
    """Return an option that names a component, whose name and parameters a shell completes.

    Args:
        several: whether the option may be given more than once.
    """
    return click.option(
        flag,
        metavar="NAME[:KEY=VALUE,...]",
        multiple=several,
        shell_complete=complete_component(kind, given_plugins),
        help=text,
    )


def plugin_options(command: Any) -> Any:
    """Add the options that say where plugins come from."""
    command = click.option("--no-plugins", is_flag=True, help="Use built-in components only.")(command)
    return click.option(
        "--plugins-dir",
        metavar="DIR",
        type=click.Path(),
        help="Load the single-file plugins in this folder (also BSERKIT_PLUGINS_DIR).",
    )(command)


def cache_option(command: Any) -> Any:
    """Add the option that says where features are kept."""
    return click.option(
        "--cache",
        metavar="DIR",
        type=click.Path(file_okay=False),
        help="Where features are kept (also BSERKIT_CACHE; default: the user's cache folder).",
    )(command)


def microphones_option(command: Any) -> Any:
    """Add the option that chooses two channels of recordings that have more."""
    return click.option(
        "--microphones",
        metavar="LEFT,RIGHT",
        help="For files with more than two channels: which are left and right, such as 1,3; refuse, skip.",
    )(command)


def learning_options(command: Any, several: bool = False) -> Any:
    """Add the options of everything behind segment features; ``several`` makes those of components repeatable."""
    poolers, fusions = ("all four", "two-stage:tune=oracle, feature") if several else ("block-max", "two-stage")
    options = [
        component_option(
            "--finetune",
            "finetune",
            "Fine-tune the backbone in each fold (sgd), or take an earlier run's (from:run=RUN).  [default: not]",
            several,
        ),
        component_option(
            "--pooler", "pooler", f"From an utterance's segments to one vector.  [default: {poolers}]", several
        ),
        component_option("--classifier", "classifier", "From vector to class scores.  [default: linear-svm]", several),
        component_option("--fusion", "fusion", f"From channels to one decision.  [default: {fusions}]", several),
        component_option(
            "--protocol", "protocol", "loso, losgo:groups=N, predefined, stratified or folds:path=CSV.  [default: loso]"
        ),
        click.option(
            "--allow-speaker-overlap",
            is_flag=True,
            default=None,
            help="Evaluate folds with a speaker both in training and in test too; the run is tagged with their names.",
        ),
        click.option("--experiment", metavar="NAME", help="MLflow experiment.  [default: bserkit]"),
        click.option("--run-name", metavar="NAME", help="MLflow run name."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def feature_options(command: Any, several: bool = False) -> Any:
    """Add the options of everything up to segment features; ``several`` makes those of components repeatable."""
    options = [
        component_option("--corpus", "corpus", CORPUS_HELP),
        component_option("--channels", "channels", "Channel transforms, comma-separated.  [default: lr,ms]", several),
        component_option("--frontend", "frontend", "From waveform to segments.  [default: logmel]", several),
        component_option("--backbone", "backbone", "From segment to feature.  [default: alexnet]", several),
        click.option("--config", metavar="FILE", help="Read settings from a TOML file; options given here win."),
        click.option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N.  [default: auto]"),
        click.option("--precision", metavar="NAME", help="fp32, bf16, fp16; auto: the fastest here.  [default: fp32]"),
        click.option("--seed", metavar="N", type=int, help="Seed of every component that has one.  [default: 0]"),
        click.option("--mono", metavar="POLICY", help="For files without stereo: refuse, duplicate, skip."),
        microphones_option,
        cache_option,
        plugin_options,
        click.option("--quiet", "-q", is_flag=True, help="Show nothing but the result."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def show_failures(plugins: Plugins) -> None:
    """Show every plugin that could not be used, and why."""
    for failure in plugins.failures:
        click.secho(f"failed: {failure.source.name} ({failure.source.location}): {failure.reason}", fg="red", err=True)


def given_workspace(cache: str | None, quiet: bool) -> tuple[Workspace, ConsoleReporter]:
    """Return a workspace that shows what goes on in the terminal, unless quiet."""
    from bserkit.cli.console import ConsoleReporter
    from bserkit.experiments.opening import given_store
    from bserkit.workspace import Workspace

    reporter = ConsoleReporter(quiet)
    return Workspace(given_store(cache), reporter), reporter


def given_settings(given: dict[str, Any]) -> tuple[Settings, Plugins, str | None]:
    """Merge a configuration file below the options; return the settings, the plugins and where features are kept."""
    from bserkit.experiments.settings import resolve

    values, loaded = given_values(given)
    return resolve(values, loaded), loaded, values.get("cache")


def given_values(given: dict[str, Any]) -> tuple[dict[str, Any], Plugins]:
    """Merge a configuration file below the options, not yet checked, and return the plugins with it."""
    from bserkit.experiments import opening

    values, loaded = opening.given_values(given)
    show_failures(loaded)
    return values, loaded
