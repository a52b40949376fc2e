"""A project's folder may be moved or copied: what MLflow's database says of its runs' files follows."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

#: Where MLflow's database says that files lie: table, its key, the column.
_PLACES = (
    ("experiments", "experiment_id", "artifact_location"),
    ("runs", "run_uuid", "artifact_uri"),
    ("logged_models", "model_id", "artifact_location"),
)
#: What lies beside the database: the files of our experiments and those of MLflow's own, which has the number 0.
_ROOTS = ("artifacts", "0")


class _Correction(NamedTuple):
    """What a row should say, and the folder that it named so far."""

    table: str
    key: str
    column: str
    identity: str
    place: str
    before: str


def follow(database: Path) -> str:
    """Correct the places of files in a database that was moved together with them, and return where it was before.

    A run's place is corrected where its files lie beside the database now, or lie no longer where they were; so a copy
    of a project reads and writes its own. What lies anywhere else on purpose is left alone.
    """
    from filelock import FileLock

    if not _corrections(database):
        return ""
    with FileLock(database.with_name(f"{database.name}.lock")):
        corrections = _corrections(database)
        with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
            for one in corrections:
                connection.execute(
                    f"UPDATE {one.table} SET {one.column} = ? WHERE {one.key} = ?",  # noqa: S608
                    (one.place, one.identity),
                )
    return corrections[0].before if corrections else ""


def _corrections(database: Path) -> list[_Correction]:
    here = database.resolve().parent
    found = []
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table, key, column in _PLACES:
            if table not in tables:
                continue
            right = tuple(start for root in _ROOTS for start in (str(here / root), (here / root).as_uri()))
            for identity, place in connection.execute(f"SELECT {key}, {column} FROM {table}"):  # noqa: S608
                if not place or place.startswith(right):
                    continue
                if moved := _moved(place, here, always=table == "experiments"):
                    found.append(_Correction(table, key, column, identity, *moved))
    return found


def _moved(place: str, here: Path, always: bool) -> tuple[str, str] | None:
    """Return where files lie now that lay below a folder of this name elsewhere, and that folder."""
    is_uri = place.startswith("file:")
    path = Path(unquote(urlsplit(place).path)) if is_uri else Path(place)
    for root in path.parents:
        if root.name == here.name and root != here and path.is_absolute():
            below = path.relative_to(root)
            now = here / below
            if below.parts[0] in _ROOTS and (always or now.exists() or not path.exists()):
                return now.as_uri() if is_uri else str(now), str(root)
            return None
    return None
