"""The torch side of the built-in backbones; imported only when a network is needed, since it imports torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torchvision import models

from bserkit import BserkitError, UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchvision.models import WeightsEnum

#: How many classes ImageNet has: what marks a network's last layer.
_IMAGENET_CLASSES = 1000


class PlaneReader(nn.Module):
    """Makes pictures from planes: into the range of photographs, then to the network's size by bilinear interpolation.

    Interpolating is linear along either axis, so it is written as two matrix products, which are faster than the
    general routine and equal to it up to rounding.
    """

    def __init__(self, size: int, picture: str, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.size = size
        self.picture = picture
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, planes: Tensor) -> Tensor:
        """Turn ``(segment, 3, mel, frame)`` into ``(segment, 3, size, size)``."""
        grey = stretched(planes) if self.picture == "stretch" else 0.5 + planes.clamp(-3, 3) / 6
        picture = (grey - self.mean) / self.std
        rows, columns = (interpolation(length, self.size, picture) for length in picture.shape[-2:])
        return rows @ picture @ columns.T


class Embedding(nn.Module):
    """A cut network that reads planes."""

    def __init__(self, reader: PlaneReader, network: nn.Module) -> None:
        super().__init__()
        self.reader = reader
        self.network = network

    def forward(self, planes: Tensor) -> Tensor:
        """Turn ``(segment, 3, mel, frame)`` into ``(segment, feature)``."""
        made = self.network(self.reader(planes))
        # Some networks also give what side branches decide, while they are trained.
        features: Tensor = made if isinstance(made, Tensor) else made[0]
        return features.flatten(1)


def stretched(planes: Tensor) -> Tensor:
    """Bring each plane of ``(segment, 3, mel, frame)`` into 0 to 1, from its lowest to its highest value.

    A plane without contrast, such as that of a silent channel, becomes black.
    """
    low, high = planes.amin((-2, -1), keepdim=True), planes.amax((-2, -1), keepdim=True)
    contrast = high - low
    return (planes - low) / torch.where(contrast > 1e-4, contrast, torch.ones_like(contrast))


def interpolation(length: int, size: int, like: Tensor) -> Tensor:
    """Return the ``(size, length)`` matrix of bilinear interpolation along one axis."""
    identity = torch.eye(length, dtype=torch.float32, device=like.device).unsqueeze(0)
    matrix = nn.functional.interpolate(identity, size=size, mode="linear", align_corners=False)[0].T
    return matrix.to(like.dtype)


def publication(architecture: str) -> WeightsEnum:
    """Return torchvision's record of the weights that it publishes for a network.

    Raises:
        UsageError: torchvision has no such classification network.
    """
    known = models.list_models(module=models)
    if architecture not in known:
        raise UsageError(
            f"torchvision has no classification network {architecture!r}{nearest(architecture, known)}. "
            f"Known: {', '.join(known)}."
        )
    return models.get_model_weights(architecture).DEFAULT


def untrained(architecture: str, seed: int) -> nn.Module:
    """Return a network with the initial values that the seed draws, leaving the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build(architecture)


def published(architecture: str) -> nn.Module:
    """Return a network with torchvision's own weights, which have been downloaded before."""
    network: nn.Module = models.get_model(architecture, weights=publication(architecture))
    return network


def trained(architecture: str, path: Path, described: str) -> nn.Module:
    """Return a network with the values of a state dict, read without running any code that it might hold.

    Raises:
        BserkitError: the file is no state dict, or one of another architecture.
    """
    try:
        state = _read_state(path)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BserkitError(
            f"backbone {described}: {path} is not a state dict that can be read safely ({first})."
        ) from None
    expected = shapes_only(architecture).state_dict()
    # Files from before torch 0.4.1 do not count the batches, which only training needs.
    state = {name: value for name, value in expected.items() if name.endswith("num_batches_tracked")} | state
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    reshaped = [
        f"{name} is {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name].shape
    ]
    if missing or unknown or reshaped:
        wrong = [f"lacks {name}" for name in missing] + [f"has an unknown {name}" for name in unknown] + reshaped
        raise BserkitError(
            f"backbone {described}: {path} does not fit {architecture}: it {'; '.join(wrong[:3])}"
            + (f", and {len(wrong) - 3} more." if len(wrong) > 3 else ".")
        )
    network = _build(architecture)
    network.load_state_dict({name: value for name, value in state.items() if not value.is_meta}, strict=False)
    return network


def shapes_only(architecture: str) -> nn.Module:
    """Return a network for its shapes, at no cost where it can be built without values."""
    try:
        with torch.device("meta"):
            return _build(architecture)
    except NotImplementedError:
        # RegNets compute their widths with tensors.
        return _build(architecture)


def cut_before_classes(network: nn.Module) -> int:
    """Take the last layer out of an ImageNet network, in place, and return the size of what went into it.

    Raises:
        BserkitError: no layer with ImageNet's 1000 outputs is found.
    """
    for name, module in reversed(list(network.named_modules())):
        if isinstance(module, nn.Linear) and module.out_features == _IMAGENET_CLASSES:
            network.set_submodule(name, nn.Identity())
            return module.in_features
        if isinstance(module, nn.Conv2d) and module.out_channels == _IMAGENET_CLASSES:
            network.set_submodule(name, nn.Identity())
            return module.in_channels
    raise BserkitError(f"{type(network).__name__} has no last layer of {_IMAGENET_CLASSES} classes to cut before.")


def _build(architecture: str) -> nn.Module:
    publication(architecture)
    with warnings.catch_warnings():
        # Two architectures announce a change of their default initialisation; the seed pins what is drawn here.
        warnings.simplefilter("ignore", FutureWarning)
        network: nn.Module = models.get_model(architecture, weights=None)
    return network


def _read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise TypeError("it holds something else than named tensors")
    return state
