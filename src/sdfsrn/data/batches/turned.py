"""Wrong poses made on purpose, to see what they cost and what corrects them."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from sdfsrn.data.source import GroundTruth, ImageSample, Source

HALF_TURN = np.diag([-1.0, 1.0, -1.0])  # about the world's y axis


class TurnedSource(GroundTruth):
    """The pictures of a source with wrong poses: R = E R0, or E R0 after half a turn of the object about its vertical.

    The same seed gives the same errors. Points stay as they are, in the true world.

    Args:
        source: with the right poses.
        sigma: E turns about the camera's axes by a vector with this standard deviation along each, degrees.
        flips: share of the pictures whose object is turned by 180 degrees.
        seed: of the errors.

    Attributes:
        errors: E of each picture, as a rotation.
        flipped: which pictures are turned.

    Raises:
        ValueError: a negative sigma, or a share that is none.
    """

    def __init__(self, source: Source, sigma: float, flips: float = 0.0, seed: int = 0) -> None:
        if sigma < 0 or not 0 <= flips <= 1:
            raise ValueError(f"Expected data.pose_noise of at least 0 and data.pose_flips in [0, 1], got {sigma} and {flips}.")
        self.source, self.names = source, source.names
        rng = np.random.default_rng(seed)
        self.errors = Rotation.from_rotvec(np.radians(sigma) * rng.standard_normal((len(source), 3)))
        self.flipped = np.isin(np.arange(len(source)), rng.permutation(len(source))[: round(flips * len(source))])

    def __len__(self) -> int:
        return len(self.source)

    def picture(self, index: int) -> ImageSample:
        """The picture with its wrong camera."""
        picture = self.source.picture(index)
        pose = picture.camera.world_to_camera.double().numpy()
        turned = pose[:, :3] @ HALF_TURN if self.flipped[index] else pose[:, :3]
        wrong = torch.from_numpy(np.column_stack([self.errors[index].as_matrix() @ turned, pose[:, 3]]))
        camera = picture.camera._replace(world_to_camera=wrong.to(picture.camera.world_to_camera))
        return picture._replace(camera=camera)

    def points(self, index: int) -> np.ndarray:
        """See the source."""
        return self.source.points(index)
