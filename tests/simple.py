"""An encoder that learns nothing of shapes and pictures of no known shape: for tests of what happens around them."""

from __future__ import annotations

import numpy as np
import torch

from scenes import disc
from sdfsrn.data.source import ImageSample
from sdfsrn.functional.camera import PerspectiveCamera, look_at_origin

ENCODER = ["model.encoder._target_=simple.PixelEncoder"]


class PixelEncoder(torch.nn.Sequential):
    """The mean colour, normalised over the batch, mapped linearly."""

    def __init__(self, latent_dim: int, widths: object) -> None:
        super().__init__(torch.nn.BatchNorm1d(3), torch.nn.Linear(3, latent_dim))
        self.latent_dim = latent_dim

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image.mean((2, 3)))


class Outlines:
    """Pictures of a ball from six sides, 16 x 16; its shape is not known."""

    names = [f"ball/{i}" for i in range(6)]

    def __len__(self) -> int:
        return len(self.names)

    def picture(self, index: int) -> ImageSample:
        pose = look_at_origin(torch.tensor([float(index)]), torch.tensor([0.5]), 2.732)[0]
        camera = PerspectiveCamera(pose, torch.diag(torch.tensor([3.7, 3.7, 1.0])))
        return disc(PerspectiveCamera, 16, 0.6, (0.0, 0.0))._replace(camera=camera)

    def points(self, index: int) -> np.ndarray:
        return np.zeros((0, 3), np.float32)
