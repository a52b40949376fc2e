"""Corpora whose folders say what is in them: any corpus with a folder a class, and AFEW."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from bserkit import CorpusReader, CorpusTable, Skipped, UsageError, Utterance, audio_files
from bserkit.plugins.builtin.corpora.common import LabelNames, folder, once, renamed

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from pathlib import Path


class Folders(CorpusReader):
    """A folder a class: the first folder below the root is the label, or what an expression finds in the path.

    Expressions are searched in the path below the root, such as ``joy/s1/take2.wav``; what is found is the first group
    that is not empty, or all of it where there is no group. One that holds a comma goes in double quotes:
    ``'folders:speaker="s(\\d{1,3})_"'``.
    """

    name = "folders"
    label: str = Field(
        "", description="regular expression that finds the label in the path below the root; empty: the first folder"
    )
    speaker: str = Field(
        "",
        description="regular expression that finds the speaker in the path below the root",
    )
    names: LabelNames = ""

    @field_validator("label", "speaker")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"it is not a regular expression: {error}") from None
        return value

    def read(self, root: Path) -> CorpusTable:
        """Find every audio file in a class's folder."""
        found: list[tuple[str, Utterance]] = []
        skipped: list[Skipped] = []
        for path in audio_files(folder(root, self)):
            item = Utterance(path, "", "").item(root)
            first, _, below = item.partition("/")
            label = _search(self.label, item) if self.label else first if below else ""
            speaker = _search(self.speaker, item)
            if not label and not self.label:
                skipped.append(Skipped(item, "it lies in no class's folder"))
            elif not label:
                skipped.append(Skipped(item, f"label={self.label} finds nothing in its path"))
            elif self.speaker and not speaker:
                skipped.append(Skipped(item, f"speaker={self.speaker} finds nothing in its path"))
            else:
                found.append((item, Utterance(path, label, speaker)))
        return CorpusTable([one for _, one in renamed(found, self.names)], skipped)


def _search(pattern: str, item: str) -> str:
    """Return what an expression finds: its first group that is not empty, or all where it has none."""
    match = re.search(pattern, item)
    if not match:
        return ""
    return next((group for group in match.groups() if group), "") if match.re.groups else match[0]


class Afew5(CorpusReader):
    """AFEW 5.0, film clips: a folder a split, in it one an emotion, such as ``Train/Angry/000046280.avi``.

    Of the EmotiW challenge of 2015 (Dhall et al., ICMI 2015); seven emotions by their folders' names. The splits'
    folders may also be called ``Train_AFEW`` and ``Val_AFEW``. The Test set's labels were never given out. A clip's
    name does not say who speaks, so the corpus is evaluated by its own split: ``--protocol predefined``.
    """

    name = "afew5"
    splits: ClassVar[Mapping[str, str]] = {"train": "train", "train_afew": "train", "val": "val", "val_afew": "val"}
    emotions: ClassVar[frozenset[str]] = frozenset({"angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"})

    def recognises(self, root: Path) -> bool:
        """Say whether both splits' folders are there and hold folders named by the seven emotions."""
        parts = self._parts(root) if root.is_dir() else {}
        return set(parts.values()) == {"train", "val"} and all(
            self.emotions <= {path.name.lower() for path in part.iterdir() if path.is_dir()} for part in parts
        )

    def read(self, root: Path) -> CorpusTable:
        """Find every clip of both splits; what lies elsewhere is listed as skipped."""
        parts = self._parts(folder(root, self))
        if not parts:
            there = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
            raise UsageError(
                "The reader afew5 expects the folders Train and Val, in each a folder an emotion (Angry, Disgust, "
                f"Fear, Happy, Neutral, Sad, Surprise); {root} has {there}."
            )
        found: list[tuple[Hashable, Utterance]] = []
        skipped: list[Skipped] = []
        for path in audio_files(root):
            relative = path.relative_to(root)
            split = parts.get(root / relative.parts[0], "")
            label = relative.parts[1].lower() if len(relative.parts) == 3 else ""
            if not split:
                skipped.append(Skipped(relative.as_posix(), "it lies neither in Train nor in Val"))
            elif label not in self.emotions:
                skipped.append(Skipped(relative.as_posix(), "it lies in no emotion's folder"))
            else:
                found.append(((split, label, path.stem), Utterance(path, label, "", split=split)))
        return once(root, found, skipped)

    def _parts(self, root: Path) -> dict[Path, str]:
        """Return the splits' folders and which split each is."""
        named = ((path, self.splits.get(path.name.lower(), "")) for path in root.iterdir() if path.is_dir())
        return {path: split for path, split in named if split}
