"""Content: files and folders are named by what is in them, wherever they lie."""

from __future__ import annotations

import hashlib
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

#: A file that was changed within so many seconds is read anew each time: two changes may bear the same time.
_SETTLED_SECONDS = 2


def file_digest(path: Path | str) -> str:
    """Return a file's SHA-256; one that stays as it is is read once.

    Raises:
        OSError: it cannot be read.
    """
    digest: str = file_hash(path).hexdigest()
    return digest


def file_hash(path: Path | str) -> Any:
    """Return the SHA-256 object of a file's bytes, the caller's own, to go on with; otherwise as ``file_digest``."""
    state = file_state(path)
    changed = max(state[-2:])
    read = _hash if time.time_ns() - changed > _SETTLED_SECONDS * 1e9 else _hash.__wrapped__
    return read(os.fspath(path), *state).copy()


def file_state(path: Path | str) -> tuple[int, ...]:
    """Return what changes when a file is written to or replaced: where it lies on the disk, its size, its times."""
    found = Path(path).stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@lru_cache(maxsize=4096)
def _hash(path: str, *state: int) -> Any:
    """Return the SHA-256 object of a file in a state."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256")


def content_name(path: Path) -> str:
    """Name a file by its content, or a folder by the names below it and the content of each.

    Raises:
        OSError: something cannot be read.
    """
    if not path.is_dir():
        return f"sha256:{file_digest(path)}"
    whole = hashlib.sha256()
    for below in sorted(one for one in path.rglob("*") if one.is_file()):
        whole.update(f"{below.relative_to(path).as_posix()}\0{file_digest(below)}\n".encode())
    return f"sha256 of a folder:{whole.hexdigest()}"
