"""Encoders of SoftRas and CMR: feature maps that are flattened, not averaged, so that pictures have a fixed size."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torchvision
from jaxtyping import Float
from torch import Tensor, nn

from sdfsrn.models.encoder import load_weights, normalization
from sdfsrn.models.texture import small_weights


class FlatConvEncoder(nn.Module):
    """SoftRas's encoder: three strided convolutions and three linear layers, from scratch. Liu et al., ICCV 2019.

    Args:
        latent_dim: channels of the latent code.
        image_size: height and width of the pictures.
        widths: channels of the convolutions.
        hidden_width: of the linear layers.
    """

    def __init__(
        self,
        latent_dim: int = 512,
        image_size: int = 64,
        widths: Sequence[int] = (64, 128, 256),
        hidden_width: int = 1024,
    ) -> None:
        super().__init__()
        self.latent_dim, self.image_size, self.widths, self.hidden_width = latent_dim, image_size, tuple(widths), hidden_width
        side = image_size
        blocks: list[nn.Module] = []
        for k_in, k_out in itertools.pairwise((3, *self.widths)):
            blocks += [nn.Conv2d(k_in, k_out, 5, stride=2, padding=2), nn.BatchNorm2d(k_out), nn.ReLU()]
            side = (side + 1) // 2
        blocks.append(nn.Flatten())
        for k_in, k_out in itertools.pairwise((self.widths[-1] * side**2, hidden_width, hidden_width, latent_dim)):
            blocks += [nn.Linear(k_in, k_out), nn.ReLU()]
        self.network = nn.Sequential(*blocks)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b l"]:
        """Latent codes of images with colours in [-1, 1]."""
        _check_size(image, self.image_size)
        latent: Tensor = self.network((image + 1) / 2)
        return latent


class FlatResNetEncoder(nn.Module):
    """CMR's encoder: ResNet-18 to its last map, one convolution, two linear layers. Kanazawa et al., ECCV 2018.

    Args:
        latent_dim: channels of the latent code.
        image_size: height and width of the pictures, at least 64.
        weights: `imagenet` (fetched by torchvision), a path to a ResNet-18 state dict, or None to start from scratch.

    Raises:
        ValueError: pictures that are too small, or weights that don't fit.
        RuntimeError: ImageNet weights that cannot be downloaded, with what to do.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, latent_dim: int = 200, image_size: int = 64, weights: str | None = "imagenet") -> None:
        super().__init__()
        side = -(-image_size // 32) // 2  # of the map after the convolution
        if side < 1:
            raise ValueError(f"Expected pictures of more than 32 pixels for CMR's encoder, got {image_size}.")
        self.latent_dim, self.image_size, self.weights = latent_dim, image_size, weights
        self.network = torchvision.models.resnet18(weights=None)
        if weights is not None:
            self.network.load_state_dict(load_weights(weights, 18))
        self.network.avgpool = _block(nn.Conv2d(512, 256, 4, stride=2, padding=1), nn.BatchNorm2d(256))
        self.network.fc = nn.Sequential(
            _block(nn.Linear(256 * side**2, latent_dim), nn.BatchNorm1d(latent_dim)),
            _block(nn.Linear(latent_dim, latent_dim), nn.BatchNorm1d(latent_dim)),
        )
        for head in (self.network.avgpool, self.network.fc):
            head.apply(small_weights)
        mean, std = normalization()
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b l"]:
        """Latent codes of images with colours in [-1, 1]."""
        _check_size(image, self.image_size)
        latent: Tensor = self.network((image - self.mean) / self.std)
        return latent


def _block(layer: nn.Module, norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(layer, norm, nn.LeakyReLU(0.2))


def _check_size(image: Tensor, size: int) -> None:
    """Raise ValueError for pictures of another size."""
    if image.shape[-2:] != (size, size):
        height, width = image.shape[-2:]
        raise ValueError(f"Expected pictures of model.encoder.image_size={size}, got {height} x {width}.")
