"""Image encoders: from an image to a latent code."""

from __future__ import annotations

import itertools
import pathlib
import urllib.error
from collections.abc import Sequence

import torch
import torch.nn.functional as F
import torchvision
from jaxtyping import Float
from torch import Tensor, nn

from sdfsrn.runtime.files import reason

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class ResNetEncoder(nn.Module):
    """A torchvision ResNet whose classifier is replaced by a linear layer to the latent code. Section 4, arXiv:2010.10505.

    Args:
        latent_dim: channels of the latent code.
        depth: 18, 34 or 50.
        weights: `imagenet` (fetched by torchvision), a path to a ResNet state dict, or None to start from scratch.
        normalize: bring images to the statistics of ImageNet first (the released code feeds [-1, 1] as it is).
        resize: side to which images are enlarged first (DVR's released code takes 224); None leaves them.

    Raises:
        ValueError: unknown depth, or weights that don't fit.
        RuntimeError: ImageNet weights that cannot be downloaded, with what to do.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        latent_dim: int,
        depth: int = 18,
        weights: str | None = "imagenet",
        normalize: bool = True,
        resize: int | None = None,
    ) -> None:
        super().__init__()
        if depth not in (18, 34, 50):
            raise ValueError(f"Expected encoder.depth of 18, 34 or 50, got {depth}.")
        self.latent_dim, self.depth, self.weights, self.normalize = latent_dim, depth, weights, normalize
        self.resize = resize
        self.network = torchvision.models.get_model(f"resnet{depth}", weights=None)
        if weights is not None:
            self.network.load_state_dict(load_weights(weights, depth))
        self.network.fc = nn.Linear(self.network.fc.in_features, latent_dim)
        mean, std = normalization() if normalize else (torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b l"]:
        """Latent codes of images with colours in [-1, 1]."""
        if self.resize is not None:
            image = F.interpolate(image, (self.resize, self.resize), mode="bilinear", align_corners=False)
        latent: Tensor = self.network((image - self.mean) / self.std)
        return latent


class ConvEncoder(nn.Module):
    """Strided convolutions with batch norm, averaged over the picture: a small encoder for small pictures, from scratch.

    With pictures of 64 x 64 it takes less than a fifth of the operations of ResNet-18, so a CPU sees more of them.

    Args:
        latent_dim: channels of the latent code.
        widths: channels of the convolutions, each of which halves the picture's size.
    """

    def __init__(self, latent_dim: int, widths: Sequence[int] = (32, 64, 128, 256)) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"Expected encoder.widths of at least 1, got {list(widths)}.")
        self.latent_dim, self.widths = latent_dim, tuple(widths)
        blocks = [_convolution(*channels) for channels in itertools.pairwise((3, *self.widths))]
        self.network = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self.widths[-1], latent_dim))

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b l"]:
        """Latent codes of images with colours in [-1, 1]."""
        latent: Tensor = self.network(image)
        return latent


def _convolution(k_in: int, k_out: int) -> nn.Module:
    size = 5 if k_in == 3 else 3
    return nn.Sequential(
        nn.Conv2d(k_in, k_out, size, stride=2, padding=size // 2, bias=False), nn.BatchNorm2d(k_out), nn.ReLU()
    )


def normalization() -> tuple[Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"]]:
    """Mean and standard deviation of ImageNet's colours, in [-1, 1]."""
    return 2 * torch.tensor(_IMAGENET_MEAN)[:, None, None] - 1, 2 * torch.tensor(_IMAGENET_STD)[:, None, None]


def load_weights(weights: str, depth: int) -> dict[str, Tensor]:
    """The state dict of a torchvision ResNet: `imagenet` or a file; errors as `ResNetEncoder`."""
    state: dict[str, Tensor]
    if weights == "imagenet":
        try:
            state = torchvision.models.get_model_weights(f"resnet{depth}").DEFAULT.get_state_dict(check_hash=True)
            return state
        except (urllib.error.URLError, OSError, RuntimeError) as error:
            raise RuntimeError(
                f"Could not download the ImageNet weights of ResNet-{depth} ({error}). Give a file that you have with "
                "model.encoder.weights=/path/to/resnet.pth, or start from scratch with model.encoder.weights=null."
            ) from error
    path = pathlib.Path(weights)
    if not path.is_file():
        raise ValueError(f"Expected model.encoder.weights to be imagenet, null or a file, got {weights}, which is none.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        torchvision.models.get_model(f"resnet{depth}", weights=None).load_state_dict(state)
    except Exception as error:
        raise ValueError(f"Expected the state dict of a torchvision ResNet-{depth} in {path}: {reason(error)}.") from error
    return state
