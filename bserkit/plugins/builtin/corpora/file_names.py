"""Corpora whose files' names say everything: who speaks and how."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from bserkit import CorpusReader, CorpusTable, Skipped, Utterance, audio_files, audio_names
from bserkit.plugins.builtin.corpora.common import folder, once

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
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
        matches = self._matches(root)
        return bool(matches) and sum(map(bool, matches)) >= 0.9 * len(matches)

    def matches(self, root: Path) -> tuple[int, int]:
        """Count the audio files below ``root`` whose names have a speaker and a known label, and all of them."""
        matches = self._matches(root)
        return sum(bool(match and match["label"] in self.words) for match in matches), len(matches)

    def _matches(self, root: Path) -> list[re.Match[str] | None]:
        return [self._match(name) for name in audio_names(root)] if root.is_dir() else []

    def read(self, root: Path) -> CorpusTable:
        """Find every file named by the scheme; others, and copies of a take, are listed as skipped."""
        found: list[tuple[Hashable, Utterance]] = []
        skipped: list[Skipped] = []
        for path in audio_files(folder(root, self)):
            match = self._match(str(path))
            reason = self._objection(path, match) if match else f"its name is not {self.scheme}"
            if match and not reason:
                found.append((self._take(match), Utterance(path, self.words[match["label"]], self._speaker(match))))
            else:
                skipped.append(Skipped(path.relative_to(root).as_posix(), reason))
        return once(root, found, skipped)

    def _match(self, name: str) -> re.Match[str] | None:
        """Find who speaks and how in a file's path, a text."""
        return self.pattern.fullmatch(_stem(name))

    def _take(self, match: re.Match[str]) -> Hashable:
        """Name the take, so that copies of it are found, whatever their folders and endings."""
        return match.group()

    def _speaker(self, match: re.Match[str]) -> str:
        return match["speaker"]

    def _objection(self, path: Path, match: re.Match[str]) -> str:
        """Say why a file that is named by the scheme cannot be used, if so."""
        if match["label"] not in self.words:
            return f"unknown emotion code {match['label']!r}; known: {', '.join(self.words)}"
        return ""


def _stem(name: str) -> str:
    return os.path.splitext(os.path.basename(name))[0]  # noqa: PTH119, PTH122 (texts are many times as fast as paths)


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

    Modality (01 video with sound, 02 video alone, 03 sound alone), vocal channel (01 speech, 02 song), emotion (01
    neutral, 02 calm, 03 happy, 04 sad, 05 angry, 06 fearful, 07 disgust, 08 surprised), intensity, statement,
    repetition, actor.
    """

    name = "ravdess"
    vocal: Literal["speech", "song", "both"] = Field("speech", description="which vocal channel to read")
    modality: Literal["audio", "video"] = Field("audio", description="read the sound files or the videos' sound")
    pattern = re.compile(r"(?P<modality>\d{2})-(?P<vocal>\d{2})-(?P<label>\d{2})-\d{2}-\d{2}-\d{2}-(?P<speaker>\d{2})")
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

    def _speaker(self, match: re.Match[str]) -> str:
        return f"actor{match['speaker']}"

    def _objection(self, path: Path, match: re.Match[str]) -> str:
        modality = {"01": "video with sound", "02": "video without sound", "03": "audio"}.get(
            match["modality"], "unknown"
        )
        if match["modality"] != {"audio": "03", "video": "01"}[self.modality]:
            other = " (--corpus ravdess:modality=video reads videos)" if match["modality"] == "01" else ""
            return f"its modality is {modality}; {self.modality} is read{other}"
        vocal = {"01": "speech", "02": "song"}.get(match["vocal"], match["vocal"])
        if self.vocal not in ("both", vocal):
            return f"its vocal channel is {vocal}; {self.vocal} is read (--corpus ravdess:vocal=both reads all)"
        folder = re.fullmatch(r"Actor_(\d{2})", path.parent.name)
        if folder and folder[1] != match["speaker"]:
            return f"its name says actor {match['speaker']}, its folder {path.parent.name}"
        return super()._objection(path, match)


class CremaD(_NamedFiles):
    """CREMA-D, acted: actor, sentence, emotion, level, such as ``1001_DFA_ANG_XX`` (Cao et al., IEEE TAC 2014).

    Actors 1001 to 1091; twelve sentences by three letters; emotions ANG anger, DIS disgust, FEA fear, HAP happiness,
    NEU neutral, SAD sadness; levels LO, MD, HI and XX unspecified. Of AudioWAV, AudioMP3 and VideoFlash, which hold the
    same takes, the first that is there is read. The label is what was acted, not what raters heard.
    """

    name = "cremad"
    pattern = re.compile(r"(?P<speaker>\d{4})_[A-Z]{3}_(?P<label>[A-Z]{3})_(?:LO|MD|HI|XX?)")
    scheme = "ACTOR_SENTENCE_EMOTION_LEVEL, such as 1001_DFA_ANG_XX"
    words: ClassVar[Mapping[str, str]] = {
        "ANG": "anger",
        "DIS": "disgust",
        "FEA": "fear",
        "HAP": "happiness",
        "NEU": "neutral",
        "SAD": "sadness",
    }


class Savee(_NamedFiles):
    """SAVEE, acted: a folder a speaker, emotion and sentence, such as ``DC/sa01`` (Haq & Jackson, 2009).

    Four men: DC, JE, JK, KL; emotions a anger, d disgust, f fear, h happiness, n neutral, sa sadness, su surprise. Also
    all in one folder, as ``DC_sa01``. Of AudioData and AudioVisualClip, which hold the same takes, the sound is read.
    """

    name = "savee"
    pattern = re.compile(r"(?P<speaker>DC|JE|JK|KL)[/_](?P<label>[a-z]{1,2})(?P<sentence>\d{1,2})")
    scheme = "a speaker's folder with emotion and sentence, such as DC/sa01 or DC_sa01"
    words: ClassVar[Mapping[str, str]] = {
        "a": "anger",
        "d": "disgust",
        "f": "fear",
        "h": "happiness",
        "n": "neutral",
        "sa": "sadness",
        "su": "surprise",
    }

    def _match(self, name: str) -> re.Match[str] | None:
        folder = os.path.basename(os.path.dirname(name))  # noqa: PTH119, PTH120
        return super()._match(name) or self.pattern.fullmatch(f"{folder}/{_stem(name)}")

    def _take(self, match: re.Match[str]) -> Hashable:
        # Sound files count 01, 02, ...; videos 1, 2, ...
        return match["speaker"], match["label"], int(match["sentence"])


class Tess(_NamedFiles):
    """TESS, Toronto, acted: speaker, word, emotion, such as ``OAF_back_angry`` (Pichora-Fuller & Dupuis, 2020).

    Two women, OAF (64 years) and YAF (26); emotions angry, disgust, fear, happy, neutral, ps pleasant surprise, sad.
    One file of the published corpus, ``OA_bite_neutral``, lacks a letter and is of OAF.
    """

    name = "tess"
    pattern = re.compile(r"(?P<speaker>OAF?|YAF)_[A-Za-z]+_(?P<label>[a-z]+)")
    scheme = "SPEAKER_WORD_EMOTION, such as OAF_back_angry"
    words: ClassVar[Mapping[str, str]] = {
        "angry": "angry",
        "disgust": "disgust",
        "fear": "fear",
        "happy": "happy",
        "neutral": "neutral",
        "ps": "pleasant surprise",
        "sad": "sad",
    }

    def _speaker(self, match: re.Match[str]) -> str:
        return {"OA": "OAF"}.get(match["speaker"], match["speaker"])


class Nemo(_NamedFiles):
    """nEMO, Polish, acted: speaker, emotion, sentence, such as ``WR0_surprised_64`` (Christop, LREC-COLING 2024).

    The folder ``samples`` beside ``data.tsv``, which says of each file what its name says. Nine speakers by two letters
    and a digit; emotions anger, fear, happiness, neutral, sadness, surprised.
    """

    name = "nemo"
    pattern = re.compile(r"(?P<speaker>[A-Z]{2}\d)_(?P<label>[a-z]+)_\d+")
    scheme = "SPEAKER_EMOTION_SENTENCE, such as WR0_surprised_64"
    words: ClassVar[Mapping[str, str]] = {
        "anger": "anger",
        "fear": "fear",
        "happiness": "happiness",
        "neutral": "neutral",
        "sadness": "sadness",
        "surprised": "surprise",
    }
