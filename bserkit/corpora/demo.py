"""The demonstration corpus: synthetic stereo voices, made the same way every time, so that a first run needs no data.

It shows that the machinery works and how results look. It says nothing about speech: four "emotions" differ in pitch,
rate, loudness and brightness by construction.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bserkit.store import write_whole

if TYPE_CHECKING:
    from pathlib import Path

#: The name of its reader.
DEMO_CORPUS = "demo"
_SAMPLE_RATE = 16000
_TAKES = 4
_VERSION = 1


@dataclass(frozen=True)
class _Manner:
    """How an emotion is spoken: multiples of the speaker's own habits, and the slope of pitch over the utterance."""

    pitch: float
    pitch_range: float
    slope: float
    rate: float
    brightness: float


_MANNERS = {
    "anger": _Manner(1.25, 0.22, -0.05, 1.25, 1.5),
    "joy": _Manner(1.35, 0.30, 0.15, 1.10, 1.2),
    "neutral": _Manner(1.00, 0.08, -0.05, 1.00, 1.0),
    "sadness": _Manner(0.85, 0.05, -0.15, 0.75, 0.6),
}
#: (speaker, pitch in Hz, length of the vocal tract relative to the mean, direction from -1 left to 1 right)
_SPEAKERS = (
    ("f1", 205.0, 0.86, -0.5),
    ("f2", 190.0, 0.90, 0.3),
    ("f3", 225.0, 0.84, 0.6),
    ("m1", 110.0, 1.06, -0.2),
    ("m2", 125.0, 1.02, 0.5),
    ("m3", 98.0, 1.10, -0.6),
)
#: Formants of five vowels, Hz.
_VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))


def demo_corpus(folder: Path) -> Path:
    """Write the corpus below ``folder``, unless it is there already, and return its manifest."""
    import soundfile

    root = folder / f"demo-{_VERSION}"
    manifest = root / "manifest.csv"
    if manifest.exists():
        return manifest
    rows = ["path,label,speaker"]
    generator = np.random.default_rng(2020)
    for speaker, pitch, tract, direction in _SPEAKERS:
        for emotion, manner in _MANNERS.items():
            for take in range(1, _TAKES + 1):
                voice = _utterance(generator, pitch, tract, manner)
                encoded = io.BytesIO()
                soundfile.write(
                    encoded, _two_microphones(generator, voice, direction), _SAMPLE_RATE, "PCM_16", format="WAV"
                )
                name = f"{speaker}/{emotion}-{take}.wav"
                write_whole(root / name, encoded.getvalue())
                rows.append(f"{name},{emotion},{speaker}")
    # The manifest comes last: where it is, everything is.
    write_whole(manifest, ("\n".join(rows) + "\n").encode())
    return manifest


def _utterance(generator: np.random.Generator, pitch: float, tract: float, manner: _Manner) -> np.ndarray:
    """Return ``(time,)`` of syllables: a pitched buzz shaped by the formants of changing vowels."""
    syllables = generator.integers(6, 9)
    pieces = []
    phase = 0.0
    for index in range(syllables):
        seconds = generator.uniform(0.16, 0.24) / manner.rate
        time = np.arange(int(seconds * _SAMPLE_RATE)) / _SAMPLE_RATE
        position = index / syllables + time / (seconds * syllables)
        wave = np.sin(2 * np.pi * (2.1 * position + generator.uniform(0, 0.3)))
        frequency = pitch * manner.pitch * (1 + manner.slope * (position - 0.5) + manner.pitch_range * wave)
        turns = phase + np.cumsum(frequency) / _SAMPLE_RATE
        phase = float(turns[-1])
        formants = np.array(_VOWELS[generator.integers(len(_VOWELS))]) / tract
        voiced = np.zeros_like(time)
        for harmonic in range(1, 36):
            height = harmonic * frequency
            resonance = sum(np.exp(-(((height - centre) / (90 + 0.06 * centre)) ** 2)) for centre in formants)
            tilt = harmonic ** (-1.4 / manner.brightness)
            voiced += np.where(height < 7600, tilt * (0.03 + resonance), 0) * np.sin(2 * np.pi * harmonic * turns)
        envelope = np.sin(np.pi * np.clip(time / seconds, 0, 1)) ** 0.6
        pieces += [voiced * envelope, np.zeros(int(generator.uniform(0.01, 0.05) * _SAMPLE_RATE / manner.rate))]
    voice = np.concatenate(pieces)
    return voice / np.abs(voice).max()


def _two_microphones(generator: np.random.Generator, voice: np.ndarray, direction: float) -> np.ndarray:
    """Return ``(time, 2)``: the voice from its direction in a small room, each side with its own echoes and noise."""
    delay = round(abs(direction) * 0.0005 * _SAMPLE_RATE)
    room = 1200
    sides = []
    for side in (-1, 1):
        late = delay if side * direction < 0 else 0
        echoes = np.zeros(room)
        echoes[late] = 1 + 0.3 * side * direction
        places = generator.integers(60, room, size=24)
        echoes[places] += generator.normal(0, 0.12, size=24) * np.exp(-places / 400)
        heard = np.convolve(voice, echoes)
        sides.append(heard + generator.normal(0, 0.003, size=len(heard)))
    stereo = np.stack(sides, axis=1)
    return 0.5 * stereo / np.abs(stereo).max()
