"""The reference that deep features should beat: openSMILE's functionals, hand-made features of a whole utterance.

openSMILE is not part of this package and has a licence of its own: its source can be read, but only non-commercial
use, such as research, teaching and private use, is free. It is installed by ``pip install 'bserkit[opensmile]'``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from bserkit import Backbone, BserkitError, hookimpl

if TYPE_CHECKING:
    import torch

_SIZES = {"eGeMAPSv02": 88, "ComParE_2016": 6373}
#: The largest value of 16 bits: openSMILE is given whole numbers, and what lies beyond would wrap around.
_FULL_SCALE = 1 - 2**-15
#: The share of an utterance's samples that may lie beyond full scale and be limited to it.
_LIMITED_SHARE = 0.001


class OpenSmile(Backbone):
    """openSMILE functionals of each utterance; its own licence: non-commercial and research use only.

    Exactly what ``opensmile.Smile(feature_set, feature_level="func").process_signal`` gives of the same waveform. A
    silent channel has openSMILE's values of silence. A recording too short for openSMILE, about 60 ms, is refused by
    name. openSMILE reads 16 bits: samples beyond full scale, where it would wrap around, are limited to it; a recording
    that has more than 0.1% of them, as Mid = L + R may, is refused by name, and ``gain=0.5`` for all is the way out.
    """

    name = "opensmile"
    reads = "waveform"
    concurrent = True
    features: Literal["eGeMAPSv02", "ComParE_2016"] = Field(
        "eGeMAPSv02", description="the feature set: 88 or 6373 numbers"
    )
    sample_rate: int = Field(16000, gt=0, description="of the waveform, Hz; the frontend resamples to it")
    gain: float = Field(1.0, gt=0, description="the waveform is multiplied by it first, to keep Mid below full scale")

    def weights_digest(self) -> str:
        """Name openSMILE's version and its configuration files by their content."""
        from importlib.metadata import version

        configs = _package() / "core" / "config"
        whole = hashlib.sha256()
        for path in sorted(configs.rglob("*.conf*")):
            whole.update(path.relative_to(configs).as_posix().encode() + b"\0" + path.read_bytes())
        return f"opensmile {version('opensmile')}, {whole.hexdigest()}"

    def feature_size(self) -> int:
        """Return how many functionals the set has."""
        return _SIZES[self.features]

    def load(self, device: str) -> torch.nn.Module:
        """Return what turns ``(1, time)`` into ``(1, feature)``; it computes on the processor whatever the device."""
        _package()
        return _network(self)


def _package() -> Path:
    """Return where openSMILE is installed, without importing it.

    Raises:
        BserkitError: it is not installed.
    """
    # Not this module: names are absolute.
    found = importlib.util.find_spec("opensmile")
    if found is None or not found.submodule_search_locations:
        raise BserkitError(
            "backbone opensmile needs the package opensmile, which is not installed: pip install 'bserkit[opensmile]'. "
            "openSMILE has a licence of its own: non-commercial and research use only."
        )
    return Path(next(iter(found.submodule_search_locations)))


def _network(recipe: OpenSmile) -> torch.nn.Module:
    import numpy as np
    import opensmile
    import torch

    # It says by a warning that a recording is too short; forward says so by an error. Filters are not a thread's own.
    warnings.filterwarnings("ignore", "Segment too short", UserWarning)
    smile = opensmile.Smile(opensmile.FeatureSet[recipe.features], opensmile.FeatureLevel.Functionals)

    class Functionals(torch.nn.Module):
        def forward(self, waveform: torch.Tensor) -> torch.Tensor:
            signal = waveform[0].cpu().numpy() * np.float32(recipe.gain)
            if (beyond := np.mean(np.abs(signal) > 1)) > _LIMITED_SHARE:
                raise BserkitError(
                    f"{beyond:.1%} of its samples lie beyond full scale, up to {np.abs(signal).max():.2f}, which "
                    "openSMILE's 16 bits cannot hold. Use a smaller gain for all: --backbone opensmile:gain=0.5."
                )
            # The same numbers as of process_signal, but not in a table: (1, feature, 1).
            features = smile(np.clip(signal, -1, _FULL_SCALE), recipe.sample_rate)[:, :, 0]
            if not np.isfinite(features).all():
                seconds = len(signal) / recipe.sample_rate
                raise BserkitError(
                    f"openSMILE makes no numbers of its {1000 * seconds:.0f} ms; it needs about 60. Leave it out."
                )
            return torch.tensor(features, dtype=torch.float32)

    return Functionals().eval()


@hookimpl
def bserkit_backbones() -> list[type[Backbone]]:
    """Return the backbone that calls openSMILE."""
    return [OpenSmile]
