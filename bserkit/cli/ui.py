"""``bserkit ui``: the MLflow UI on the runs of this folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import click

from bserkit.cli.group import Command


@click.command(cls=Command)
@click.option("--port", default=5000, show_default=True, help="Port on this machine.")
def ui(port: int) -> None:
    """Open the MLflow UI on the runs of this folder, at http://127.0.0.1:PORT, for this machine alone."""
    from bserkit.tracking.place import shown_uri, tracking_uri, ui_command

    if tracking_uri().startswith("http"):
        click.echo(f"Runs are kept by the MLflow server at {shown_uri()}: open that address in a browser.")
        return
    click.echo(f"MLflow UI at http://127.0.0.1:{port} (stop it with Ctrl-C)")
    command, environment = ui_command(port)
    server = subprocess.Popen(command, env=environment | {"PYTHONSAFEPATH": "1"}, start_new_session=True)
    try:
        raise SystemExit(server.wait())
    except KeyboardInterrupt:
        click.echo("Stopped.")
    finally:
        _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server with all processes that it started, so that none keeps the port."""
    if sys.platform == "win32":
        server.terminate()
        return
    try:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
