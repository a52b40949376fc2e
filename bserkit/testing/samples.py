"""Samples: a small stereo corpus, signals, segments, views and a backbone without a network, for tests of plugins.

Each is drawn anew from its seed, so that it is the caller's own and the same at every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from bserkit.features.backbones import Backbone
from bserkit.learning.views import Views

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

#: The sample rate of samples that have one, Hz.
SAMPLE_RATE = 16000
#: The speakers of the small corpus.
SPEAKERS = ("ann", "bob", "cat", "dan")
#: How many takes each of them has of each emotion: not the same number, so that accuracy and UAR differ.
TAKES = {"calm": 4, "glad": 3, "mad": 2}
#: The channels of views, and the transform that each came from.
TRANSFORMS = {"left": "lr", "right": "lr", "mid": "ms", "side": "ms"}


class BandMeans(Backbone):
    """No network at all: the mean of each mel band of each plane. It takes no time."""

    name = "band-means"
    bands: int = Field(64, ge=1, description="into how many bands each plane is parted")

    def weights_digest(self) -> str:
        """Say that there are none."""
        return "none"

    def feature_size(self) -> int:
        """Return one number a band and plane."""
        return 3 * self.bands

    def load(self, device: str) -> torch.nn.Module:
        """Return what turns ``(segment, 3, mel, frame)`` into ``(segment, feature)``."""
        import torch

        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d((self.bands, 1)), torch.nn.Flatten()).to(device).eval()


def sample_stereo(seed: int = 0, seconds: float = 1.0, sample_rate: int = SAMPLE_RATE) -> torch.Tensor:
    """Return ``(2, time)``: one noise in both channels, and another in each."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    shared, own = (
        torch.randn(channels, round(seconds * sample_rate), generator=generator).mul_(0.1) for channels in (1, 2)
    )
    return shared + 0.5 * own


def sample_planes(seed: int = 0, segments: int = 6) -> torch.Tensor:
    """Return ``(segment, 3, 64, 64)``, as large as the frontend ``logmel`` makes them by default."""
    import torch

    return torch.randn(segments, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def sample_segments(seed: int = 0, segments: int = 7, features: int = 12) -> np.ndarray:
    """Return ``(segment, feature)`` as a rectifier gives them: none below zero, and the last always zero."""
    made = np.random.default_rng(seed).normal(size=(segments, features)).astype(np.float32).clip(0)
    made[:, -1] = 0
    return made


def sample_views(seed: int = 0, transforms: Mapping[str, str] = TRANSFORMS) -> Views:
    """Return 60 items of five speakers and three classes that can be told apart, with eight features a channel.

    The last feature is always zero, as some of every network are.
    """
    generator = np.random.default_rng(seed)
    labels = np.array([f"c{index % 3}" for index in range(60)])
    speakers = np.array([f"s{index // 12}" for index in range(60)])
    features = {}
    for channel in transforms:
        features[channel] = generator.normal(size=(60, 8)).astype(np.float32)
        features[channel][:, :3] += labels[:, None] == np.array(["c0", "c1", "c2"])
        features[channel][:, -1] = 0
    return Views(features, dict(transforms), ("c0", "c1", "c2"), labels, speakers)


def sample_corpus(folder: Path) -> Path:
    """Write 36 stereo recordings of four speakers and three emotions below ``folder``; return their manifest.

    The emotions can be told apart, if not well. Its reader is ``csv``.
    """
    import soundfile

    (folder / "wav").mkdir(parents=True, exist_ok=True)
    rows = ["path,label,speaker"]
    for speaker, speaker_name in enumerate(SPEAKERS):
        for emotion, (emotion_name, takes) in enumerate(TAKES.items()):
            for take in range(takes):
                name = f"wav/{speaker_name}-{emotion_name}-{take}.wav"
                soundfile.write(folder / name, _voice(speaker, emotion, take), SAMPLE_RATE, "PCM_16")
                rows.append(f"{name},{emotion_name},{speaker_name}")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return manifest


def _voice(speaker: int, emotion: int, take: int) -> np.ndarray:
    """Return ``(time, 2)``: a buzz that speaker and emotion give its pitch, later in one channel, and noise."""
    generator = np.random.default_rng((speaker, emotion, take))
    time = np.arange(int((0.9 + 0.1 * take) * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 200 + 50 * speaker + 40 * emotion + 30 * generator.normal()
    tone = np.sign(np.sin(2 * np.pi * pitch * time)) * (1 + 0.3 * np.sin(2 * np.pi * (2 + emotion) * time))
    stereo = 0.2 * np.stack([tone, 0.7 * np.roll(tone, 3 + speaker)], axis=1)
    made: np.ndarray = (stereo + generator.normal(0, 0.05, stereo.shape)).clip(-0.99, 0.99)
    return made
