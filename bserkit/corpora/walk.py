"""The one walk through a folder: what a user sees in it, links followed, and what cannot be followed said."""

from __future__ import annotations

import os
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Folders that programs keep beside what was recorded, in small letters; others of theirs begin with a dot.
SYSTEM_FOLDERS = frozenset(
    {
        "__macosx",
        "__pycache__",
        "@eadir",
        "@recycle",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "lost+found",
    }
)


@dataclass(frozen=True)
class Walk:
    """What lies below a folder.

    Attributes:
        files: every file, by the path that a user sees, in the order of these. They are texts, which are made and
            compared many times as fast as paths.
        unread: what could not be followed, by its path, and why.
    """

    files: Sequence[str]
    unread: Mapping[Path, str]


def walk(root: Path) -> Walk:
    """Find every file below a folder, but what is hidden or a system's own.

    Links are followed: a file has the path that leads to it, not the one that a link points to. A folder that two
    paths lead to is found by both, since these may say different things of it; a link to a folder that it lies in is
    not followed.
    """
    found = _Search()
    found.search(str(root), os.path.realpath(root))
    while links := sorted(found.links):
        # Links come after all else, so that a folder is known by its own path first.
        found.links = []
        for link in links:
            found.follow(*link)
    return Walk(found.all_files(), {Path(name): why for name, why in sorted(found.unread.items())})


def absence(path: Path) -> str:
    """Say why there is no file at a path."""
    if not path.is_symlink():
        return "there is no such file"
    target = path.readlink()
    if "annex/objects" in target.as_posix():
        return "its content is not here; git annex get fetches it"
    return f"it links to {target}, which is not there"


class _Search:
    """A walk under way."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.unread: dict[str, str] = {}
        self.links: list[tuple[str, str]] = []
        #: The name under which each folder was searched, by its real path.
        self.names: dict[str, str] = {}
        #: Other names of such folders.
        self.aliases: list[tuple[str, str]] = []

    def search(self, name: str, real: str) -> None:
        """Search a folder and those in it."""
        waiting = [(name, real)]
        while waiting:
            name, real = waiting.pop()
            if real in self.names:
                self.aliases.append((name, self.names[real]))
                continue
            self.names[real] = name
            try:
                with os.scandir(name) as entries:
                    for entry in entries:
                        if _is_hidden(entry.name):
                            continue
                        if entry.is_file():
                            self.files.append(entry.path)
                        elif entry.is_symlink():
                            self.links.append((entry.path, real))
                        elif entry.is_dir():
                            waiting.append((entry.path, os.path.join(real, entry.name)))  # noqa: PTH118
            except OSError as error:
                self.unread[name] = f"the folder cannot be read: {error.strerror}"

    def follow(self, name: str, folder: str) -> None:
        """Follow a link, not one to a file, that lies in a folder of this real path."""
        if not os.path.isdir(name):  # noqa: PTH112
            self.unread[name] = absence(Path(name))
        elif Path(folder).is_relative_to(real := os.path.realpath(name)):
            self.unread[name] = "it links to a folder that it lies in"
        else:
            self.search(name, real)

    def all_files(self) -> list[str]:
        """Return all files, in order, those of a folder of several names by each name."""
        files = sorted(self.files)
        for alias, name in self.aliases:
            first, end = (bisect_left(files, f"{name}{after}") for after in (os.sep, chr(ord(os.sep) + 1)))
            self.files += [f"{alias}{file[len(name) :]}" for file in files[first:end]]
        return sorted(self.files)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS
