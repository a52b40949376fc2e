"""Importing what anybody wrote: whatever a plugin prints, calls or waits for while it loads spoils nothing else."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
import sys
import threading
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

#: After how many seconds of loading a plugin is named as the one that is waited for.
PATIENCE_SECONDS = 10.0
#: What to do about a plugin that does not load.
WAY_OUT = "Mend it, remove it, or leave outside plugins out with --no-plugins"


@contextmanager
def guarded(plugin: str) -> Iterator[None]:
    """Run code of a plugin so that what it prints goes where errors go, and ``os._exit`` raises ``SystemExit``.

    One that takes long is named in the log, and in a note of the interrupt that ends it.

    Args:
        plugin: its name and place, for people.
    """
    said = (
        f"Plugin {plugin} has been loading for {PATIENCE_SECONDS:.0f} s. To go on without it press Ctrl-C. {WAY_OUT}."
    )
    timer = threading.Timer(PATIENCE_SECONDS, logging.getLogger(__name__).warning, [said])
    timer.daemon = True
    timer.start()
    try:
        with _printing_aside(), _staying():
            yield
    except KeyboardInterrupt as error:
        error.add_note(f"Plugin {plugin} was being loaded. {WAY_OUT}.")
        raise
    finally:
        timer.cancel()


@contextmanager
def _printing_aside() -> Iterator[None]:
    """Have what Python, and what processes that it starts, print go where errors go."""
    if sys.stdout:
        sys.stdout.flush()
    with redirect_stdout(sys.stderr):
        kept = None
        # Where there is no such stream nothing can be spoilt.
        with suppress(OSError):
            kept = os.dup(1)
            os.dup2(2, 1)
        try:
            yield
        finally:
            if kept is not None:
                os.dup2(kept, 1)
                os.close(kept)


@contextmanager
def _staying() -> Iterator[None]:
    """Have this process stay whatever a plugin calls; a process that it forks may leave."""
    leave, process = os._exit, os.getpid()
    staying = True

    def refuse(status: int) -> NoReturn:
        if staying and os.getpid() == process:
            raise SystemExit(f"os._exit({status})")
        leave(status)

    setattr(os, "_exit", refuse)  # noqa: B010
    try:
        yield
    finally:
        staying = False
        setattr(os, "_exit", leave)  # noqa: B010


def real(path: Path) -> Path:
    """Return a path with its links followed; one that goes round in a circle stays as it is."""
    return Path(os.path.realpath(path))


def module_name(path: Path) -> str:
    """Return the name that a file's module is kept under, one of its own, so that its components can be pickled."""
    stem = re.sub(r"\W", "_", path.stem)
    return f"bserkit_plugin_{stem}_{hashlib.sha256(str(real(path)).encode()).hexdigest()[:8]}"


def import_file(path: Path) -> ModuleType:
    """Import a single-file plugin, anew at each call, under a name of its own."""
    name = module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
