"""Built-in backbones: the paper's AlexNet and every other torchvision classification network (paper, section II-B)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from bserkit import Backbone, BserkitError, UsageError, file_digest, hookimpl

if TYPE_CHECKING:
    import torch


class _TorchvisionBackbone(Backbone):
    """What all torchvision networks share: where weights come from and what pictures they want."""

    replayable = True
    weights: str = Field("imagenet", description="imagenet (torchvision's own file), random, or a PATH to a state dict")
    seed: int = Field(0, description="of the initial values where weights=random")
    picture: Literal["stretch", "clip"] = Field(
        "stretch",
        description="grey levels: each plane of each segment from its own lowest to its own highest value, "
        "or clipped at three deviations either side of zero",
    )

    @field_validator("weights")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return value if value in {"imagenet", "random"} else str(Path(value).expanduser().absolute())

    def architecture(self) -> str:
        """Return torchvision's name of the network."""
        raise AssertionError("set by each backbone")

    def picture_size(self) -> int:
        """Return the side of the square picture that the network reads, pixels."""
        from bserkit.plugins.builtin import networks

        return int(networks.publication(self.architecture()).transforms().crop_size[0])

    def weights_digest(self) -> str:
        """Name the weights: the file's SHA-256, or the seed and the torch version that draw them."""
        if self.weights == "random":
            from importlib.metadata import version

            return f"random, seed {self.seed}, torch {version('torch')}"
        return file_digest(self._file())

    def recipe(self) -> dict[str, Any]:
        """Return every parameter but where the weights came from, which their digest replaces."""
        return {name: value for name, value in self.parameters.items() if name not in {"weights", "seed"}}

    def load(self, device: str) -> torch.nn.Module:
        """Return the network up to its features, in evaluation mode."""
        from bserkit.plugins.builtin import networks

        network = self._whole()
        self._cut(network)
        transforms = networks.publication(self.architecture()).transforms()
        reader = networks.PlaneReader(self.picture_size(), self.picture, transforms.mean, transforms.std)
        return networks.Embedding(reader, network).to(device).eval()

    def state(self, network: torch.nn.Module) -> dict[str, torch.Tensor]:
        """Return a state dict of the whole network: what was cut off has the values that it had before fine-tuning."""
        from bserkit.plugins.builtin import networks

        # A network that torchvision publishes may lack side branches that the architecture has: they are not used.
        everything = networks.untrained(self.architecture(), self.seed).state_dict()
        return everything | self._whole().state_dict() | network.get_submodule("network").state_dict()

    def with_weights(self, path: Path) -> Backbone:
        """Return the same network with the values of a file."""
        return self.model_copy(update={"weights": str(path)})

    def feature_size(self) -> int:
        """Return how many numbers the cut network gives."""
        from bserkit.plugins.builtin import networks

        return self._cut(networks.shapes_only(self.architecture()))

    def _whole(self) -> torch.nn.Module:
        """Return the network with all its layers."""
        from bserkit.plugins.builtin import networks

        if self.weights == "random":
            return networks.untrained(self.architecture(), self.seed)
        if self.weights == "imagenet":
            self._file()
            return networks.published(self.architecture())
        return networks.trained(self.architecture(), self._file(), described=self.spec)

    def _cut(self, network: torch.nn.Module) -> int:
        """Replace what follows the feature by nothing, in place; return the feature's size."""
        from bserkit.plugins.builtin import networks

        return networks.cut_before_classes(network)

    def _file(self) -> Path:
        if self.weights == "imagenet":
            return _imagenet_file(self)
        path = Path(self.weights)
        if not path.is_file():
            raise UsageError(
                f"backbone {self.name}: there is no weights file at {path}. weights= takes a PATH, imagenet or random."
            )
        return path


class AlexNet(_TorchvisionBackbone):
    """The paper's network: torchvision's AlexNet at 227 x 227 pixels, up to fc7 or fc6, of 4096 numbers."""

    name = "alexnet"
    layer: Literal["fc6", "fc7"] = Field("fc7", description="the fully connected layer whose output is the feature")
    relu: Literal["after", "before"] = Field("after", description="take the feature after or before the rectifier")

    def architecture(self) -> str:
        """Return torchvision's name of the network."""
        return "alexnet"

    def picture_size(self) -> int:
        """Return 227, as in the paper."""
        return 227

    def _cut(self, network: torch.nn.Module) -> int:
        # classifier: dropout, fc6, rectifier, dropout, fc7, rectifier, fc8
        end = {"fc6": 2, "fc7": 5}[self.layer] + (self.relu == "after")
        network.classifier = network.classifier[:end]  # type: ignore[index]
        return 4096


class Torchvision(_TorchvisionBackbone):
    """Any torchvision classification network, up to the input of its last layer, at its own picture size."""

    name = "torchvision"
    arch: str = Field(description="torchvision's name of the network, such as squeezenet1_1 or resnet18")

    def architecture(self) -> str:
        """Return torchvision's name of the network."""
        return self.arch

    def weights_digest(self) -> str:
        """Name the weights; an untrained network has no file whose absence would tell that there is no such network."""
        if self.weights == "random":
            from bserkit.plugins.builtin import networks

            networks.publication(self.arch)
        return super().weights_digest()


def _imagenet_file(backbone: _TorchvisionBackbone) -> Path:
    """Return torchvision's own weights file, downloading it if it is not there yet.

    Raises:
        BserkitError: it is not there and cannot be downloaded.
    """
    import torch

    from bserkit.plugins.builtin import networks

    url = networks.publication(backbone.architecture()).url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Downloads beside the file, compares with the digest in its name, and only then gives it that name.
            torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2])
        except (OSError, RuntimeError) as error:
            arch = f"arch={backbone.arch}," if isinstance(backbone, Torchvision) else ""
            raise BserkitError(
                f"The ImageNet weights of {backbone.architecture()} are not on this machine and could not be "
                f"downloaded ({error}). Fetch {url} where there is a network and put it at {path}; or name a file of "
                f"your own with --backbone {backbone.name}:{arch}weights=PATH; or take an untrained network, which is "
                f"good for trying things out only, with --backbone {backbone.name}:{arch}weights=random."
            ) from None
    return path


@hookimpl
def bserkit_backbones() -> list[type[Backbone]]:
    """Return the built-in backbones."""
    return [AlexNet, Torchvision]
