"""Backbones: pretrained networks that turn a segment into a feature vector (paper, section II-B)."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from bserkit.component import Component

if TYPE_CHECKING:
    import torch


class Backbone(Component):
    """A network up to the layer whose output is the feature.

    Resizing the planes and mapping them into the range that the weights were trained on is the network's own business.
    """

    kind = "backbone"

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

        Raises:
            BserkitError: the weights cannot be had or do not fit the architecture.
        """
