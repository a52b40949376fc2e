"""``bserkit ui``: the MLflow UI on the runs of this folder."""

from __future__ import annotations

import subprocess

import click

from bserkit.cli.group import Command


@click.command(cls=Command)
@click.option("--port", default=5000, show_default=True, help="Port on this machine.")
def ui(port: int) -> None:
    """Open the MLflow UI on the runs of this folder, at http://127.0.0.1:PORT, for this machine alone."""
    from bserkit.tracking.runs import tracking_uri, ui_command

    if tracking_uri().startswith("http"):
        click.echo(f"Runs are kept by the MLflow server at {tracking_uri()}: open that address in a browser.")
        return
    click.echo(f"MLflow UI at http://127.0.0.1:{port} (stop it with Ctrl-C)")
    raise SystemExit(subprocess.call(ui_command(port)))
