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

from bserkit.identity.modules import PROJECT, find, top_of
from bserkit.identity.syntax import parse, read

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


def plugin_files(path: Path) -> list[Path]:
    """Return the files of the plugins in a folder, or of the one that a path is; of a package its ``__init__.py``.

    What begins with an underscore or a dot is no plugin; nor is a link to a folder that it lies in.
    """
    own = path / "__init__.py"
    if path.is_file():
        return [path]
    if own.is_file() and any(word in own.read_bytes() for word in (b"hookimpl", b"bserkit_")):
        return [own]
    packages = [one for one in path.glob("[!_.]*/__init__.py") if not real(path).is_relative_to(real(one.parent))]
    return sorted([*path.glob("[!_.]*.py"), *packages])


def plugin_name(path: Path) -> str:
    """Return what the plugin of a file is called: as the file, or as the package whose ``__init__.py`` it is."""
    return path.parent.name if _is_package(path) else path.stem


def files_of(path: Path) -> list[Path]:
    """Return all files of a plugin: those of its package, or a single one and what it imports that lies beside it."""
    if _is_package(path):
        return sorted(path.parent.rglob("*.py"))
    found, todo = {path: None}, [path]
    while todo:
        for one in _beside(todo.pop()).values():
            new = [file for file in files_of(one) if file not in found]
            found |= dict.fromkeys(new)
            todo += [file for file in new if file.parent == path.parent]
    return list(found)


def named_files(path: Path) -> list[tuple[Path, Path]]:
    """Return all files of a plugin, before each its path in the folder of plugins."""
    folder = path.parent.parent if _is_package(path) else path.parent
    return [(one.relative_to(folder), one) for one in files_of(path)]


def module_name(path: Path) -> str:
    """Return the name that a plugin's module is kept under, one of its own, so that its components can be pickled."""
    where = path.parent if _is_package(path) else path
    stem = re.sub(r"\W", "_", plugin_name(path))
    return f"bserkit_plugin_{stem}_{hashlib.sha256(str(real(where)).encode()).hexdigest()[:8]}"


def import_file(path: Path) -> ModuleType:
    """Import the plugin of a file, anew at each call, under a name of its own; a single file finds those beside it.

    Raises:
        ImportError: a module that lies beside it was imported from elsewhere.
    """
    name = module_name(path)
    folders = [str(path.parent)] if _is_package(path) else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if not folders and (beside := str(path.parent.absolute())) not in sys.path:
        # At the end: no file of a plugin stands for a library.
        sys.path.append(beside)
    try:
        spec.loader.exec_module(module)
        _check_beside(path)
    except BaseException:
        for one in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
            del sys.modules[one]
        raise
    return module


def _is_package(path: Path) -> bool:
    return path.name == "__init__.py"


def _beside(path: Path) -> dict[str, Path]:
    """Return by name the files of the modules that a single file imports and that lie beside it."""
    tree = parse(path.read_bytes())
    names = {top_of(one.module) for one in read(tree.body).imports if not one.level} if tree else set()
    places = {one: find(one, path.parent) for one in sorted(names - sys.stdlib_module_names - {PROJECT})}
    return {one: place.file for one, place in places.items() if place and place.file and place.file.suffix == ".py"}


def _check_beside(path: Path) -> None:
    """Refuse a plugin whose import of a module beside it means that of another folder."""
    for name, file in _beside(path).items() if not _is_package(path) else ():
        place = find(name)
        if not place or not place.file or place.installed or real(place.file) == real(file):
            continue
        # A copy is as good, such as the one that a run keeps.
        if _is_package(file) or place.content() != file.read_bytes():
            raise ImportError(f"{name} was imported from {place.file}, not from {file}; rename one of them")
