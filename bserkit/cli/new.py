"""``bserkit new``: a plugin to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bserkit.cli.completion import complete_choice
from bserkit.cli.group import Command
from bserkit.cli.options import given_plugins

#: The kinds of components that a plugin may add.
KINDS = ("corpus", "channels", "frontend", "backbone", "pooler", "normaliser", "classifier", "fusion")


@click.command(cls=Command)
@click.argument("kind", metavar="KIND", shell_complete=complete_choice(KINDS))
@click.argument("name", metavar="NAME")
@click.option("--single-file", is_flag=True, help="Write one file instead of an installable package.")
@click.option("--into", metavar="DIR", type=click.Path(path_type=Path), default=Path(), help="Where to write it.")
def new(kind: str, name: str, single_file: bool, into: Path, **given: Any) -> None:
    """Write a plugin with a component NAME of a KIND: corpus, channels, frontend, backbone, pooler, normaliser,
    classifier or fusion.

    It works, is typed and tested, and passes 'bserkit check' as it is; change its code into your own.

    \b
    bserkit new pooler my-pooler                  # an installable package, bserkit-my-pooler
    bserkit new pooler my-pooler --single-file    # my_pooler.py, for --plugins-dir
    """
    from bserkit.plugins.scaffold import new_plugin

    files = new_plugin(kind, name, into, given_plugins(given), single_file)
    for path in files:
        click.echo(f"wrote {path}")
    if single_file:
        file = files[0]
        click.echo(f"Try it:  bserkit check {file}\n         python -m pytest --doctest-modules {file}")
    else:
        root = into / f"bserkit-{name}"
        click.echo(
            f"Try it:  bserkit check {root}\n         (cd {root} && python -m pytest)\n         pip install {root}"
        )
