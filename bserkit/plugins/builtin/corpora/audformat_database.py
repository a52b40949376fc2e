"""audformat databases: the tables that audb publishes and loads."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bserkit import CorpusReader, CorpusTable, Skipped, UsageError, Utterance, nearest
from bserkit.plugins.builtin.corpora.common import Located, folder

if TYPE_CHECKING:
    from collections.abc import Iterator


class Audformat(CorpusReader):
    """A database in audformat: ``db.yaml``, tables and media, as ``audb.load_to`` writes it.

    The format is audEERING's. Labels, speakers and splits are found as audformat finds them: by scheme, by a column's
    name, or by a scheme's labels, in tables of files and of segments. A file that is labelled both as a whole and in
    segments is read in segments, so that no sound is there twice. A table's split (train, dev, test) is that of its
    utterances. Needs ``bserkit[audformat]``. Tables are read from csv and parquet files; a pickle could run code and is
    never opened.
    """

    name = "audformat"
    label: str = Field("emotion", description="scheme or column of the emotion")
    speaker: str = Field("speaker", description="scheme or column of the speaker; empty where speakers are not known")
    table: str = Field("", description="read labels from this table only; empty means from every table that has them")

    def recognises(self, root: Path) -> bool:
        """Say whether ``root`` has a database's header."""
        return root.is_dir() and (root / "db.yaml").is_file()

    def read(self, root: Path) -> CorpusTable:
        """Read every labelled file or segment; those without a label or a file are listed as skipped."""
        if not (folder(root, self) / "db.yaml").is_file():
            raise UsageError(
                "The reader audformat expects a database's header, db.yaml, beside its tables and media, as "
                f"audb.load_to writes them; {root} has none."
            )
        with tempfile.TemporaryDirectory(prefix="bserkit-") as safe:
            return self._read(root, _database(root, Path(safe)))

    def _read(self, root: Path, database: Any) -> CorpusTable:
        tables = self._tables(database)
        speakers = dict(self._values(database, self.speaker)) if self.speaker else {}
        if self.speaker and not speakers:
            raise UsageError(
                f"{root} has no scheme or column {self.speaker!r} for the speaker{_known(self.speaker, database)} Say "
                "--corpus audformat:speaker=NAME, or audformat:speaker= where speakers are not known."
            )
        kept: dict[tuple[str, float, float | None], Utterance] = {}
        skipped: list[Skipped] = []
        files = Located(root)
        for table in tables:
            split = database.tables[table].split_id or ""
            for (file, start, end), label in self._values(database, self.label, table):
                path, missing = files.find(file)
                utterance = Utterance(
                    path,
                    label,
                    # A speaker is often said of the file, while emotions are of its segments.
                    speakers.get((file, start, end), speakers.get((file, 0.0, None), "")),
                    start,
                    end,
                    split=(database.splits[split].type or split) if split else "",
                )
                first = kept.get((file, start, end), utterance)
                if (first.label, first.split or utterance.split) != (label, utterance.split or first.split):
                    raise UsageError(
                        f"The tables of {root} disagree about {utterance.item(root)}: {first.label} {first.split} and "
                        f"{label} {utterance.split}. Choose one with --corpus audformat:table=NAME "
                        f"({', '.join(tables)})."
                    )
                if not label:
                    skipped.append(Skipped(utterance.item(root), f"{table} gives it no {self.label}"))
                elif missing:
                    skipped.append(Skipped(utterance.item(root), missing))
                else:
                    kept[file, start, end] = utterance if utterance.split else first
        cut = {file for file, *stretch in kept if stretch != [0.0, None]}
        for file in sorted(cut & {file for file, *stretch in kept if stretch == [0.0, None]}):
            whole = kept.pop((file, 0.0, None)).item(root)
            ways_out = " or ".join(f"audformat:table={table}" for table in tables)
            skipped.append(Skipped(whole, f"its segments are read; --corpus {ways_out} reads one table alone"))
        return CorpusTable(sorted(kept.values()), skipped)

    def _tables(self, database: Any) -> list[str]:
        """Return the tables that have labels."""
        names = [self.table] if self.table else list(database.tables)
        if self.table and self.table not in database.tables:
            raise UsageError(
                f"The database {database.name} has no table {self.table!r}{nearest(self.table, database.tables)}; it "
                f"has {', '.join(database.tables)}."
            )
        found = [name for name in names if next(self._values(database, self.label, name), None)]
        if not found:
            raise UsageError(
                f"No table of the database {database.name} has labels {self.label!r}{_known(self.label, database)} Say "
                "--corpus audformat:label=NAME."
            )
        return found

    def _values(
        self, database: Any, scheme: str, table: str = ""
    ) -> Iterator[tuple[tuple[str, float, float | None], str]]:
        """Yield each file or segment, times in seconds, and its value as a word, empty where it is missing."""
        import audformat
        import pandas

        try:
            values = database.get(scheme, tables=table or None)[scheme]
        except (ValueError, TypeError) as error:
            raise UsageError(f"The database {database.name} has no clear {scheme!r}: {error}") from None
        for (file, start, end), value in audformat.utils.to_segmented_index(values, allow_nat=True).items():
            stretch = start.total_seconds(), None if pandas.isna(end) else end.total_seconds()
            yield (file, *stretch), "" if pandas.isna(value) else str(value).strip()


def _database(root: Path, safe: Path) -> Any:
    """Load a database through a copy of its header and tables that can hold no code."""
    try:
        import audformat
        import yaml
    except ImportError:
        raise UsageError(
            f"{root} is an audformat database, and audformat is not installed: pip install 'bserkit[audformat]'"
        ) from None

    try:
        header = yaml.safe_load((root / "db.yaml").read_text(encoding="utf-8"))
        (safe / "db.yaml").write_text(yaml.safe_dump(header, allow_unicode=True), encoding="utf-8")
        tables = [*(header.get("tables") or {}), *(header.get("misc_tables") or {})]
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError) as error:
        raise UsageError(f"{root / 'db.yaml'} is no header of a database: {' '.join(str(error).split())}") from None
    for table in tables:
        files = [root / f"db.{table}.{ending}" for ending in ("parquet", "csv")]
        if not (there := [file for file in files if file.is_file()]):
            raise UsageError(
                f"The table {table} of {root} is not there as csv or parquet. A pickle is not read, since it could run "
                "code; audb.load_to(..., pickle_tables=False) and Database.save(storage_format='csv') write no pickle."
            )
        shutil.copyfile(there[0], safe / there[0].name)
    return audformat.Database.load(str(safe), load_data=True)


def _known(name: str, database: Any) -> str:
    known = sorted({*database.schemes, *(column for table in database.tables.values() for column in table.columns)})
    return f"{nearest(name, known)}; it has {', '.join(known) or 'none'}."
