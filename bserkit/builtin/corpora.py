"""Built-in corpus readers: four corpora by their original file names, folders of classes, and manifests."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from bserkit import CorpusReader, CorpusTable, Skipped, UsageError, Utterance, audio_files, hookimpl
from bserkit.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class _NamedFiles(CorpusReader):
    """A corpus whose files' names say everything: who speaks and how."""

    #: Matches a file's name without its ending; has the groups ``speaker`` and ``label``.
    pattern: ClassVar[re.Pattern[str]]
    #: The word for each label code.
    words: ClassVar[Mapping[str, str]]
    #: The scheme as a reader would write it, for messages.
    scheme: ClassVar[str]

    def recognises(self, root: Path) -> bool:
        """Say whether nine in ten audio files below ``root`` are named by this scheme."""
        paths = audio_files(root) if root.is_dir() else []
        return bool(paths) and sum(bool(self.pattern.fullmatch(path.stem)) for path in paths) >= 0.9 * len(paths)

    def read(self, root: Path) -> CorpusTable:
        """Find every file named by the scheme; others are listed as skipped."""
        utterances: list[Utterance] = []
        skipped: list[Skipped] = []
        for path in audio_files(_folder(root, self)):
            match = self.pattern.fullmatch(path.stem)
            reason = self._objection(path, match) if match else f"its name is not {self.scheme}"
            if match and not reason:
                utterances.append(Utterance(path, self.words[match["label"]], self._speaker(match)))
            else:
                skipped.append(Skipped(path.relative_to(root).as_posix(), reason))
        return CorpusTable(utterances, skipped)

    def _speaker(self, match: re.Match[str]) -> str:
        return match["speaker"]

    def _objection(self, path: Path, match: re.Match[str]) -> str:
        """Say why a file that is named by the scheme cannot be used, if so."""
        if match["label"] not in self.words:
            return f"unknown emotion code {match['label']!r}; known: {', '.join(self.words)}"
        return ""


class Emovo(_NamedFiles):
    """EMOVO, Italian, acted: ``EMOTION-SPEAKER-SENTENCE``, such as ``rab-f1-b1`` (Costantini et al., LREC 2014).

    Six speakers (f1 to f3, m1 to m3), each with a folder; emotions dis disgust, gio joy, neu neutral, pau fear, rab
    anger, sor surprise, tri sadness; sentences b, d, l and n with a number.
    """

    name = "emovo"
    pattern = re.compile(r"(?P<label>[a-z]{3})-(?P<speaker>[fm]\d+)-[bdln]\d+")
    scheme = "EMOTION-SPEAKER-SENTENCE, such as rab-f1-b1"
    words: ClassVar[Mapping[str, str]] = {
        "dis": "disgust",
        "gio": "joy",
        "neu": "neutral",
        "pau": "fear",
        "rab": "anger",
        "sor": "surprise",
        "tri": "sadness",
    }

    def _objection(self, path: Path, match: re.Match[str]) -> str:
        folder = path.parent.name
        if re.fullmatch(r"[fm]\d+", folder) and folder != match["speaker"]:
            return f"its name says speaker {match['speaker']}, its folder {folder}"
        return super()._objection(path, match)


class Urdu(_NamedFiles):
    """URDU, talk shows: ``SPEAKER_FILE_EMOTION``, such as ``SM1_F10_A010`` (Latif et al., 2018).

    A folder an emotion. Speakers SM and SF with a number; emotions A angry, H happy, N neutral, S sad, with a number.
    """

    name = "urdu"
    pattern = re.compile(r"(?P<speaker>S[MF]\d+)_F\d+_(?P<label>[A-Z])\d+")
    scheme = "SPEAKER_FILE_EMOTION, such as SM1_F10_A010"
    words: ClassVar[Mapping[str, str]] = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}

    def _objection(self, path: Path, match: re.Match[str]) -> str:
        folder = path.parent.name.lower()
        if folder in self.words.values() and folder != self.words.get(match["label"]):
            return f"its name says emotion {match['label']}, its folder {path.parent.name}"
        return super()._objection(path, match)


class EmoDb(_NamedFiles):
    """EMO-DB, Berlin, acted: speaker, text, emotion, version, such as ``03a01Fa`` (Burkhardt et al., 2005).

    Two digits for the speaker, a letter and two digits for the text; emotions by their German initials: W anger (Wut),
    L boredom (Langeweile), E disgust (Ekel), A fear (Angst), F happiness (Freude), T sadness (Trauer), N neutral; a
    letter for the version where there are several.
    """

    name = "emodb"
    pattern = re.compile(r"(?P<speaker>\d{2})[a-z]\d{2}(?P<label>[A-Z])[a-z]?")
    scheme = "speaker, text, emotion and version, such as 03a01Fa"
    words: ClassVar[Mapping[str, str]] = {
        "W": "anger",
        "L": "boredom",
        "E": "disgust",
        "A": "fear",
        "F": "happiness",
        "T": "sadness",
        "N": "neutral",
    }


class Ravdess(_NamedFiles):
    """RAVDESS, acted: seven two-digit fields, such as ``03-01-06-01-02-01-12`` (Livingstone & Russo, 2018).

    Modality (03 audio only), vocal channel (01 speech, 02 song), emotion (01 neutral, 02 calm, 03 happy, 04 sad,
    05 angry, 06 fearful, 07 disgust, 08 surprised), intensity, statement, repetition, actor.
    """

    name = "ravdess"
    vocal: Literal["speech", "song", "both"] = Field("speech", description="which vocal channel to read")
    pattern = re.compile(r"\d{2}-(?P<vocal>\d{2})-(?P<label>\d{2})-\d{2}-\d{2}-\d{2}-(?P<speaker>\d{2})")
    scheme = "seven two-digit fields, such as 03-01-06-01-02-01-12"
    words: ClassVar[Mapping[str, str]] = {
        "01": "neutral",
        "02": "calm",
        "03": "happy",
        "04": "sad",
        "05": "angry",
        "06": "fearful",
        "07": "disgust",
        "08": "surprised",
    }

    def read(self, root: Path) -> CorpusTable:
        """Find every file; a copy of the whole corpus inside it, as some archives hold, is listed as skipped."""
        table = super().read(root)
        first: dict[str, Utterance] = {}
        for utterance in sorted(table.utterances, key=lambda one: (len(one.path.parts), one.path)):
            first.setdefault(utterance.path.stem, utterance)
        kept = set(first.values())
        copies = [
            Skipped(
                utterance.path.relative_to(root).as_posix(),
                f"the corpus has it already: {first[utterance.path.stem].path.relative_to(root).as_posix()}",
            )
            for utterance in table.utterances
            if utterance not in kept
        ]
        return CorpusTable(sorted(kept), [*table.skipped, *copies])

    def _speaker(self, match: re.Match[str]) -> str:
        return f"actor{match['speaker']}"

    def _objection(self, path: Path, match: re.Match[str]) -> str:
        vocal = {"01": "speech", "02": "song"}.get(match["vocal"], match["vocal"])
        if self.vocal not in ("both", vocal):
            return f"its vocal channel is {vocal}; {self.vocal} is read (--corpus ravdess:vocal=both reads all)"
        folder = re.fullmatch(r"Actor_(\d{2})", path.parent.name)
        if folder and folder[1] != match["speaker"]:
            return f"its name says actor {match['speaker']}, its folder {path.parent.name}"
        return super()._objection(path, match)


class Folders(CorpusReader):
    """A folder a class: the first folder below the root is the label."""

    name = "folders"
    speaker: str = Field(
        "",
        description="regular expression that finds the speaker in the path below the root",
    )

    @field_validator("speaker")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"it is not a regular expression: {error}") from None
        return value

    def read(self, root: Path) -> CorpusTable:
        """Find every audio file in a class's folder."""
        utterances: list[Utterance] = []
        skipped: list[Skipped] = []
        for path in audio_files(_folder(root, self)):
            relative = path.relative_to(root)
            found = re.search(self.speaker, relative.as_posix())
            if len(relative.parts) < 2:
                skipped.append(Skipped(relative.as_posix(), "it lies in no class's folder"))
            elif not found:
                skipped.append(Skipped(relative.as_posix(), f"speaker={self.speaker} finds nothing in its path"))
            else:
                speaker = found[1] if found.re.groups else found[0]
                utterances.append(Utterance(path, relative.parts[0], speaker or ""))
        return CorpusTable(utterances, skipped)


class Manifest(CorpusReader):
    """A table with a header: path, label and speaker; optionally start and end (seconds), session and split.

    Comma-separated, or tab-separated if it is named ``.tsv``; UTF-8. Relative paths begin where the manifest lies. The
    speaker may be left empty where it is not known.
    """

    name = "csv"

    def recognises(self, root: Path) -> bool:
        """Say whether ``root`` is a file that is named like a manifest."""
        return root.is_file() and root.suffix.lower() in {".csv", ".tsv"}

    def read(self, root: Path) -> CorpusTable:
        """Read every line; lines without a file or a label are listed as skipped."""
        if not root.is_file():
            raise UsageError(f"The reader csv reads a manifest, a file; {root} is none.")
        utterances: list[Utterance] = []
        skipped: list[Skipped] = []
        for number, row in self._rows(root):
            path = root.parent / row["path"]
            if not row["path"] or not path.is_file():
                skipped.append(Skipped(f"line {number}", f"there is no file {row['path']!r}"))
            elif not row["label"]:
                skipped.append(Skipped(f"line {number}", "it has no label"))
            else:
                start, end = (_seconds(root, number, name, row.get(name, "")) for name in ("start", "end"))
                if end is not None and end <= (start or 0.0):
                    raise UsageError(f"{root}, line {number}: end {end:g} s is not after start {start or 0.0:g} s.")
                utterances.append(
                    Utterance(
                        path.resolve(),
                        row["label"],
                        row["speaker"],
                        start or 0.0,
                        end,
                        row.get("session", ""),
                        row.get("split", ""),
                    )
                )
        return CorpusTable(utterances, skipped)

    def _rows(self, root: Path) -> Iterator[tuple[int, dict[str, str]]]:
        required, optional = ("path", "label", "speaker"), ("start", "end", "session", "split")
        try:
            text = root.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise UsageError(f"{root} is not UTF-8 text ({error.reason} at byte {error.start}).") from None
        reader = csv.DictReader(text.splitlines(), delimiter="\t" if root.suffix.lower() == ".tsv" else ",")
        columns = [str(name).strip() for name in reader.fieldnames or ()]
        if missing := [name for name in required if name not in columns]:
            near = "".join(nearest(name, columns) for name in missing)
            raise UsageError(
                f"{root} lacks the column {', '.join(missing)}{near}; it has {', '.join(columns) or 'no header'}. "
                f"Needed: {', '.join(required)}; optional: {', '.join(optional)}."
            )
        for row in reader:
            cells = {
                str(name).strip(): (value or "").strip() for name, value in row.items() if isinstance(value, str | None)
            }
            yield reader.line_num, {name: cells.get(name, "") for name in (*required, *optional)}


def _folder(root: Path, reader: CorpusReader) -> Path:
    if not root.is_dir():
        raise UsageError(f"The reader {reader.name} reads a folder; {root} is none.")
    return root


def _seconds(root: Path, number: int, name: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise UsageError(
            f"{root}, line {number}: {name} is {text!r}; expected seconds from the file's start, 0 or more."
        )
    return value


@hookimpl
def bserkit_corpora() -> list[type[CorpusReader]]:
    """Return the built-in readers."""
    return [Emovo, Urdu, EmoDb, Ravdess, Folders, Manifest]
