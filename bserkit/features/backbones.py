"""Backbones: pretrained networks that turn a segment into a feature vector (paper, section II-B)."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import SerializeAsAny

from bserkit.component import Component, identity
from bserkit.identity.content import file_digest

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from bserkit.features.frontends import Input


class Backbone(Component):
    """A network up to the layer whose output is the feature.

    Resizing the planes and mapping them into the range that the weights were trained on is the network's own business.
    One that ``reads`` waveforms has a parameter ``sample_rate``, Hz, is given one whole utterance at a time, and always
    computes in fp32, since a waveform in half precision is mostly noise. Where its network may be called in several
    threads at a time, and leaves processors idle in one, it says that it is ``concurrent``. Where its network does the
    same operations at each step of fine-tuning, so that a GPU may replay them, it says that it is ``replayable``: no
    choice is made in Python, by chance or by what was computed.
    """

    kind = "backbone"
    reads: ClassVar[Input] = "planes"
    concurrent: ClassVar[bool] = False
    replayable: ClassVar[bool] = False

    @abstractmethod
    def weights_digest(self) -> str:
        """Name the weights by their content, such as a file's SHA-256, without loading the network.

        Raises:
            BserkitError: the weights cannot be had; the message names the ways out.
        """

    def recipe(self) -> dict[str, Any]:
        """Return everything beside the weights that features depend on: by default every parameter."""
        return self.parameters

    @abstractmethod
    def feature_size(self) -> int:
        """Return how many numbers describe one segment."""

    @abstractmethod
    def load(self, device: str) -> torch.nn.Module:
        """Return the network in evaluation mode: ``(segment, 3, mel, frame) -> (segment, feature)``, differentiable.

        One that reads waveforms turns ``(1, time)`` into ``(1, feature)``: one vector a recording. What it computes
        must be finite and ``feature_size`` long.

        Raises:
            BserkitError: the weights cannot be had or do not fit the architecture.
        """

    def state(self, network: torch.nn.Module) -> dict[str, torch.Tensor]:
        """Return what a weights file must hold for ``with_weights`` to give a fine-tuned ``load`` again."""
        return network.state_dict()

    def with_weights(self, path: Path) -> Backbone:
        """Return this backbone with the values of a safetensors file that holds what ``state`` returned."""
        return FineTuned(base=self, weights=str(path))


class FineTuned(Backbone):
    """A backbone whose values were fine-tuned, where it has no parameter of its own to name them by."""

    name = "fine-tuned"
    base: SerializeAsAny[Backbone]
    weights: str

    def weights_digest(self) -> str:
        """Return the file's SHA-256."""
        return file_digest(self.weights)

    def recipe(self) -> dict[str, Any]:
        """Return what the backbone does beside its values."""
        return {"base": identity(self.base, self.base.recipe())}

    def feature_size(self) -> int:
        """Return the backbone's own."""
        return self.base.feature_size()

    def load(self, device: str) -> torch.nn.Module:
        """Return the backbone with the file's values."""
        from safetensors.torch import load_file

        network = self.base.load(device)
        network.load_state_dict(load_file(self.weights))
        return network
