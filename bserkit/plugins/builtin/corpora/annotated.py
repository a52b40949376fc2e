"""Corpora of videos with annotation files that say who speaks and how: BAUM-1s and MELD."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar
from zipfile import BadZipFile

from bserkit import CorpusReader, CorpusTable, Skipped, UsageError, Utterance, audio_files, read_cells, read_table
from bserkit.plugins.builtin.corpora.common import files_like, folder, once

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence
    from pathlib import Path


class Baum1s(CorpusReader):
    """BAUM-1s, Turkish, spontaneous: videos with an annotation file (Zhalehpour et al., IEEE TAC 2017).

    Clips such as ``BAUM1s_MP4 - All/s001/S001_001.mp4``, named by subject and number; ``Annotations_BAUM1s.xlsx`` (or
    the same saved as ``.csv``) has a line a clip: its name, then the emotion or mental state, then its code: 1 anger, 2
    boredom, 3 bothered, 4 concentrating, 5 contempt, 6 disgust, 7 fear, 8 happiness, 9 neutral, 10 sadness, 11
    surprise, 12 thinking, 13 unsure. The six basic emotions are read, as in the paper: 521 clips of 31 subjects. The
    paper's protocol is ``--protocol losgo:groups=5``.
    """

    name = "baum1s"
    states: ClassVar[Mapping[str, str]] = {
        "1": "anger",
        "2": "boredom",
        "3": "bothered",
        "4": "concentrating",
        "5": "contempt",
        "6": "disgust",
        "7": "fear",
        "8": "happiness",
        "9": "neutral",
        "10": "sadness",
        "11": "surprise",
        "12": "thinking",
        "13": "unsure",
    }
    basic: ClassVar[frozenset[str]] = frozenset({"anger", "disgust", "fear", "happiness", "sadness", "surprise"})

    def recognises(self, root: Path) -> bool:
        """Say whether the annotation file is there."""
        return root.is_dir() and bool(self._files(root))

    def read(self, root: Path) -> CorpusTable:
        """Read every clip of a basic emotion; others, and clips without an annotation, are listed as skipped."""
        files = self._files(folder(root, self))
        if not files:
            raise UsageError(
                "The reader baum1s expects the annotation file Annotations_BAUM1s.xlsx (or .csv) beside the folder of "
                f"videos, such as BAUM1s_MP4 - All/s001/S001_001.mp4; {root} has none."
            )
        states = self._states(files[0])
        if not states:
            raise UsageError(
                f"{files[0]} has no line with a clip's name, such as S001_001, followed by its state and code."
            )
        found: list[tuple[Hashable, Utterance]] = []
        skipped: list[Skipped] = []
        seen: set[str] = set()
        for path in audio_files(root):
            clip = path.stem.upper()
            if objection := self._objection(path.relative_to(root), clip):
                skipped.append(Skipped(path.relative_to(root).as_posix(), objection))
                continue
            seen.add(clip)
            state, code = states.get(clip, ("", ""))
            word = self.states.get(code, "")
            item = path.relative_to(root).as_posix()
            if clip not in states:
                skipped.append(Skipped(item, f"{files[0].name} does not list it"))
            elif not word or state.lower()[:3] != word[:3]:
                skipped.append(Skipped(item, f"{files[0].name} says {state!r} but code {code!r}"))
            elif word not in self.basic:
                skipped.append(Skipped(item, f"its state is {word}; the six basic emotions are read"))
            else:
                found.append((clip, Utterance(path, word, clip[:4])))
        skipped += [Skipped(clip, f"{files[0].name} lists it, but there is no file") for clip in states.keys() - seen]
        return once(root, found, sorted(skipped, key=lambda one: one.item))

    def _objection(self, path: Path, clip: str) -> str:
        """Say why the annotation file cannot be about a clip of a name that it may well list, if so."""
        if any(part.lower().startswith("baum1a") for part in path.parts[:-1]):
            return "it is of BAUM-1a, the acted part, whose clips have the same names"
        if re.fullmatch(r"S\d{3}", path.parent.name.upper()) and not clip.startswith(path.parent.name.upper()):
            return f"its name says subject {clip[:4]}, its folder {path.parent.name}"
        return ""

    def _files(self, root: Path) -> list[Path]:
        return files_like(root, r"(?:[^/]*/)?Annotations_BAUM1s\.(?i:xlsx|csv)")

    def _states(self, file: Path) -> dict[str, tuple[str, str]]:
        """Return each clip's state as a word and as a code."""
        states: dict[str, tuple[str, str]] = {}
        for row in _xlsx_rows(file) if file.suffix.lower() == ".xlsx" else read_cells(file, errors="replace"):
            for position, cell in enumerate(row[:-2]):
                if re.fullmatch(r"S\d{3}_\d{3}", cell, flags=re.IGNORECASE):
                    state = row[position + 1], row[position + 2]
                    if states.setdefault(cell.upper(), state) != state:
                        raise UsageError(
                            f"{file} says of {cell.upper()} {' '.join(states[cell.upper()])} and {' '.join(state)}; "
                            "leave one of these lines."
                        )
        return states


class Meld(CorpusReader):
    """MELD, the television series Friends: videos of turns and an annotation file a split (Poria et al., ACL 2019).

    ``train_sent_emo.csv``, ``dev_sent_emo.csv`` and ``test_sent_emo.csv`` have a line an utterance with Speaker,
    Emotion (anger, disgust, fear, joy, neutral, sadness, surprise), Dialogue_ID, Utterance_ID, Season and Episode; its
    video is ``dia0_utt0.mp4`` in ``train_splits``, ``dev_splits_complete`` or ``output_repeated_splits_test``. The
    latter holds some clips a second time as ``final_videos_testdia0_utt0.mp4``; these are not read.

    Speakers are the characters, and the six main ones speak in every split. So ``--protocol predefined`` is refused
    with their names, and ``losgo`` or ``loso`` splits anew by speaker.
    """

    name = "meld"
    splits: ClassVar[tuple[str, ...]] = ("train", "dev", "test")
    columns: ClassVar[tuple[str, ...]] = ("Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")

    def recognises(self, root: Path) -> bool:
        """Say whether a split's annotation file is there."""
        return root.is_dir() and bool(self._annotations(root))

    def read(self, root: Path) -> CorpusTable:
        """Read every line of every split's annotation file; those without a video are listed as skipped."""
        annotations = self._annotations(folder(root, self))
        if not annotations:
            raise UsageError(
                "The reader meld expects train_sent_emo.csv, dev_sent_emo.csv or test_sent_emo.csv, beside the folders "
                f"train_splits, dev_splits_complete and output_repeated_splits_test; {root} has none."
            )
        skipped: list[Skipped] = []
        files: dict[tuple[str, str], list[Path]] = {}
        for path in audio_files(root):
            files.setdefault((self._split(path, root), path.stem), []).append(path)
        found: list[tuple[Hashable, Utterance]] = []
        for split, table in annotations.items():
            # Some transcripts hold characters that are not UTF-8; nothing of them is read.
            for number, row in read_table(table, self.columns, ("Season", "Episode"), errors="replace"):
                name = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
                session = f"s{row['Season'].zfill(2)}e{row['Episode'].zfill(2)}"
                paths = files.pop((split, name), [])
                if not paths:
                    skipped.append(Skipped(f"{table.name}, line {number}", f"there is no {split} video {name}"))
                for path in paths:
                    label = row["Emotion"].lower()
                    found.append(((split, name), Utterance(path, label, row["Speaker"], session=session, split=split)))
        for (split, name), paths in files.items():
            again = name.startswith("final_videos_test")
            reason = (
                "it is another take of a clip" if again else f"no annotation file lists it among {split or 'any split'}"
            )
            skipped += [Skipped(path.relative_to(root).as_posix(), reason) for path in paths]
        return once(root, found, skipped)

    def _annotations(self, root: Path) -> dict[str, Path]:
        found = {split: files_like(root, rf"(?:.*/)?{split}_sent_emo\.csv") for split in self.splits}
        return {split: paths[0] for split, paths in found.items() if paths}

    def _split(self, path: Path, root: Path) -> str:
        """Return the split whose folder a video lies in."""
        for part in reversed(path.relative_to(root).parts[:-1]):
            for split in self.splits:
                if part.lower().startswith((split, f"output_repeated_splits_{split}")):
                    return split
        return ""


def _xlsx_rows(file: Path) -> Iterator[Sequence[str]]:
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise UsageError(
            f"{file.name} is read by openpyxl, which is not installed: pip install 'bserkit[xlsx]'; or save the file "
            "as .csv beside it."
        ) from None
    try:
        with closing(load_workbook(file, read_only=True, data_only=True)) as book:
            for row in book.worksheets[0].iter_rows(values_only=True):
                yield [_text(cell) for cell in row]
    except (BadZipFile, KeyError, ValueError) as error:
        raise UsageError(f"{file} is no .xlsx workbook that can be read: {error}.") from None


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return "" if cell is None else str(cell).strip()
