"""The group of commands: failures become one paragraph and an exit code, interrupts end the process at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from io import TextIOWrapper
from typing import Any

import click

from bserkit.errors import BserkitError, is_interrupt


class Command(click.Command):
    """A command that takes ``-v`` behind its name too, where people type it."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)

        def remember(ctx: click.Context, _: click.Parameter, given: bool) -> None:
            if given:
                ctx.find_root().params["verbose"] = True

        text = "Show the traceback of a failure."
        self.params.append(
            click.Option(["-v", "--verbose"], is_flag=True, expose_value=False, callback=remember, help=text)
        )


class Commands(click.Group):
    """Turns failures into one paragraph and an exit code: 1 a run failed, 2 wrong usage."""

    def main(self, *args: Any, **settings: Any) -> Any:
        """Enter the command line."""
        for stream in (sys.stdout, sys.stderr):
            # What a console cannot show, such as ± on one of ASCII alone, becomes a question mark.
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="replace")
        # Python lets the main thread alone choose what signals do.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)
            sys.unraisablehook = _send_again
        return super().main(*args, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        """Do the command and tell of its failure."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:
            if ctx.find_root().params.get("verbose"):
                traceback.print_exc()
            code = _told(error)
            if is_interrupt(error):
                _leave(code)
            ctx.exit(code)


def _told(error: BaseException) -> int:
    """Tell a failure in one paragraph and return its exit code."""
    notes = "".join(f"{note}\n" for note in getattr(error, "__notes__", ()))
    if is_interrupt(error):
        click.echo("Interrupted. Features computed so far are kept; the same command goes on from there.", err=True)
        click.echo(notes, err=True, nl=False)
        return 1
    click.secho("Error: ", err=True, fg="red", bold=True, nl=False)
    if isinstance(error, BserkitError):
        click.echo(str(error), err=True)
        return error.exit_code
    click.echo(
        f"{type(error).__name__}: {error}\n{notes}The same command with -v before it shows where: bserkit -v ...",
        err=True,
    )
    return 1


def _leave(code: int) -> None:
    """End the process where threads are still at work, for which Python would wait; what they write is whole or not."""
    if any(not one.daemon and one is not threading.main_thread() for one in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _send_again(lost: sys.UnraisableHookArgs) -> None:
    """Repeat an interrupt that fell into a destructor or a callback, whose exceptions Python can only print."""
    if lost.exc_type is KeyboardInterrupt:
        main_thread = threading.main_thread().ident or 0
        threading.Timer(0.1, signal.pthread_kill, (main_thread, signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(lost)
