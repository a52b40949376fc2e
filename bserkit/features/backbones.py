"""Backbones: pretrained networks that turn a segment into feature vectors (paper, section II-B)."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import SerializeAsAny

from bserkit.component import Component, identity
from bserkit.identity.content import file_digest

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch

    from bserkit.features.frontends import Input

#: How many waveforms a network takes at a time: one; several of equal length; or several that are filled up with zeros
#: to one length, with a mask.
Batching = Literal["one", "equal", "masked"]


class Backbone(Component):
    """A network up to the layer whose output is the feature.

    Resizing the planes and mapping them into the range that the weights were trained on is the network's own business.
    One that ``reads`` waveforms has a parameter ``sample_rate``, Hz, and always computes in fp32, since a waveform in
    half precision is mostly noise. Its ``batching`` says how many its network takes at a time. Several keep a GPU busy,
    and where they are short a processor too; what it makes of one must not depend on the others, and of one that is
    filled up be what it makes of it alone, up to rounding. A batch's shape follows from a waveform's length alone and
    batches are always full, so that no bit depends on which others came along.

    Where its network takes one waveform at a time, may be called in several threads and leaves processors idle in one,
    it says that it is ``concurrent``. Where its network does the same operations at each step of fine-tuning, so that a
    GPU may replay them, it says that it is ``replayable``: no choice is made in Python, by chance or by what was
    computed.
    """

    kind = "backbone"
    reads: ClassVar[Input] = "planes"
    batching: ClassVar[Batching] = "one"
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
        """Return how many numbers a vector has."""

    def frame_bounds(self, length: int) -> np.ndarray | None:
        """Return ``(frame, 2)``: where in a segment what each of its vectors describes begins and ends.

        None, the default, where one vector describes the whole segment; for every length or for none.

        Args:
            length: of the segment along its last axis, in steps: samples of a waveform, columns of planes. Bounds count
                the same steps. The frames of a longer segment begin with those of a shorter one.
        """
        return None

    @abstractmethod
    def load(self, device: str) -> torch.nn.Module:
        """Return the network in evaluation mode: ``(segment, 3, mel, frame) -> (segment, feature)``, differentiable.

        One that reads waveforms is given ``(segment, time)``, of one segment where its ``batching`` is ``one``; where
        it is ``masked``, also a mask ``(segment, time)``, true where the waveform is no filling. One that has
        ``frame_bounds`` makes ``(segment, frame, feature)``. What it computes must be finite and ``feature_size`` long.

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
