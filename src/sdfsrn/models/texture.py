"""CMR's texture head: from a latent code to a map of places in the picture."""

from __future__ import annotations

import itertools

from jaxtyping import Float
from torch import Tensor, nn

_CHANNELS = (256, 128, 64, 32, 16, 8)
_START = (4, 8)  # height and width of the first map; the last one is 32 times as large


class TextureFlow(nn.Module):
    """Two linear layers and five upsampling blocks: a 128 x 256 map of screen coordinates in [-1, 1]. 69M parameters.

    Kanazawa et al., Learning Category-Specific Mesh Reconstruction, ECCV 2018.

    Args:
        latent_dim: channels of the latent code.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        size = _CHANNELS[0] * _START[0] * _START[1]
        self.network = nn.Sequential(
            *_linear(latent_dim, size),
            *_linear(size, size),
            nn.Unflatten(1, (_CHANNELS[0], *_START)),
            *itertools.chain.from_iterable(_block(*channels) for channels in itertools.pairwise(_CHANNELS)),
            nn.Conv2d(_CHANNELS[-1], 2, 3, padding=1),
            nn.Tanh(),
        )
        self.network.apply(small_weights)

    def forward(self, latent: Float[Tensor, "b l"]) -> Float[Tensor, "b 2 p q"]:
        """The flows of latent codes."""
        flow: Tensor = self.network(latent)
        return flow


def small_weights(module: nn.Module) -> None:
    """Give linear layers and convolutions weights of N(0, 0.02^2) and biases of 0."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _linear(k_in: int, k_out: int) -> list[nn.Module]:
    return [nn.Linear(k_in, k_out), nn.BatchNorm1d(k_out), nn.LeakyReLU(0.2)]


def _block(k_in: int, k_out: int) -> list[nn.Module]:
    return [
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        nn.ReflectionPad2d(1),
        nn.Conv2d(k_in, k_out, 3),
        nn.LeakyReLU(0.2),
        nn.Conv2d(k_out, k_out, 3, padding=1),
        nn.BatchNorm2d(k_out),
        nn.LeakyReLU(0.2),
    ]
