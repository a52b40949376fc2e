"""IEMOCAP: dialogues of ten actors, evaluated turn by turn."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from bserkit import CorpusReader, CorpusTable, Skipped, UsageError, Utterance, nearest
from bserkit.plugins.builtin.corpora.common import folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

#: A turn's line, such as ``[6.2901 - 8.2357]	Ses01F_impro01_F000	neu	[2.5000, 2.5000, 2.5000]``.
_TURN = re.compile(
    r"\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\s+(?P<turn>(?P<dialog>Ses\d\d[FM]_\w+)_(?P<actor>[FM])\w?\d+)\s+"
    r"(?P<code>[a-z]{3})\s+\["
)


class Iemocap(CorpusReader):
    """IEMOCAP, acted dialogues: five sessions of a woman and a man each (Busso et al., LRE 2008).

    The labels of ``Session1/dialog/EmoEvaluation/Ses01F_impro01.txt`` are of the turns
    ``Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav``: F or M before the number is who speaks (that
    before the underscore, who wore markers), so the speaker is ``Ses01F``. Codes: ang anger, dis disgust, exc
    excitement, fea fear, fru frustration, hap happiness, neu neutral, oth other, sad sadness, sur surprise, xxx no
    agreement.

    The recordings of whole dialogues are stereo; ``sound=dialogs`` reads the turns from these.
    """

    name = "iemocap"
    labels: str = Field(
        "ang hap+exc neu sad",
        description="codes of the classes to read; + joins codes to one class that is called by the first",
    )
    sound: Literal["sentences", "dialogs"] = Field(
        "sentences", description="the turns' own files, or their stretches of the stereo dialogues"
    )
    words: ClassVar[Mapping[str, str]] = {
        "ang": "anger",
        "dis": "disgust",
        "exc": "excitement",
        "fea": "fear",
        "fru": "frustration",
        "hap": "happiness",
        "neu": "neutral",
        "oth": "other",
        "sad": "sadness",
        "sur": "surprise",
        "xxx": "no agreement",
    }

    @field_validator("labels")
    @classmethod
    def _known(cls, value: str) -> str:
        codes = re.split(r"[\s+]+", value.strip())
        for code in codes:
            if code not in cls.words:
                raise ValueError(f"unknown code {code!r}{nearest(code, cls.words)}; known: {', '.join(cls.words)}")
        if len(codes) != len(set(codes)):
            raise ValueError("a code stands in two classes")
        return value

    def recognises(self, root: Path) -> bool:
        """Say whether ``root`` has evaluations where IEMOCAP has them."""
        return root.is_dir() and any(self._evaluations(root))

    def read(self, root: Path) -> CorpusTable:
        """Read every turn's evaluation; turns of other classes or without a file are listed as skipped."""
        classes = {
            code: self.words[joined.split("+")[0]] for joined in self.labels.split() for code in joined.split("+")
        }
        utterances: list[Utterance] = []
        skipped: list[Skipped] = []
        evaluations = list(self._evaluations(folder(root, self)))
        if not evaluations:
            raise UsageError(
                "The reader iemocap expects Session1 to Session5, each with dialog/EmoEvaluation/*.txt and "
                f"sentences/wav; {root} has no such evaluations."
            )
        for evaluation in evaluations:
            session = evaluation.parents[2]
            for turn in _TURN.finditer(evaluation.read_text(encoding="utf-8", errors="replace")):
                path = self._path(session, turn)
                if turn["code"] not in classes:
                    word = self.words.get(turn["code"], f"unknown code {turn['code']!r}")
                    reason = f"it is evaluated as {word}; labels={self.labels} are read"
                    skipped.append(Skipped(turn["turn"], reason))
                elif not path.is_file():
                    skipped.append(Skipped(turn["turn"], f"there is no file {path.relative_to(root).as_posix()}"))
                else:
                    whole = self.sound == "sentences"
                    start, end = (0.0, None) if whole else (float(turn["start"]), float(turn["end"]))
                    speaker = turn["dialog"][:5] + turn["actor"]
                    label = classes[turn["code"]]
                    utterances.append(Utterance(path, label, speaker, start, end, session=session.name))
        return CorpusTable(utterances, skipped)

    def _evaluations(self, root: Path) -> Iterator[Path]:
        found = sorted(root.glob("Session[1-5]/dialog/EmoEvaluation/Ses0*.txt"))
        return (path for path in found if path.is_file())

    def _path(self, session: Path, turn: re.Match[str]) -> Path:
        if self.sound == "dialogs":
            return session / "dialog" / "wav" / f"{turn['dialog']}.wav"
        return session / "sentences" / "wav" / turn["dialog"] / f"{turn['turn']}.wav"
