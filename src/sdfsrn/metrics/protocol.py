"""The evaluation protocol: the grid of meshes, the points on them, their alignment with the ground truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from sdfsrn.functional.alignment import Affine, box_alignment, identity, scale_alignment, yaw_alignment
from sdfsrn.functional.isosurface import Grid
from sdfsrn.functional.pointcloud import icp
from sdfsrn.meshes.geometry import sample_surface

_ICP_POINTS = 10_000  # predicted points that ICP uses
_ALIGNMENTS = {
    "none": lambda predicted, truth: identity(truth),
    "view": lambda predicted, truth: identity(truth),  # of meshes, before they are measured: `sdfsrn.evaluation.placing`
    "yaw": yaw_alignment,
    "scale": scale_alignment,
    "anisotropic": box_alignment,
}


@dataclasses.dataclass(frozen=True)
class EvaluationProtocol:
    """Settings of an evaluation. Section 4, arXiv:2010.10505.

    Args:
        resolution: intervals of the SDF grid along an axis.
        num_points: samples of the predicted surface.
        num_truth: samples of the true one, at most, its first ones.
        low, high: the grid's cube [low, high]^3, world frame.
        placement: `exact`, or `authors` for the released code's misplaced vertices.
        seed: of the sampling.
        icp_iterations: steps of rigid ICP from the prediction to the truth; 0 leaves ICP out. Appendix B.2.
        alignment: before ICP: `none`; `yaw`, a rotation about the vertical axis; `scale`, size and position;
            `anisotropic`, size along each axis and position. See `sdfsrn.functional.alignment`. Views are never aligned.
            `view`, for worlds learned without poses: the mesh is laid over the truth through the camera that fits it to the
            picture and the true camera, see `sdfsrn.evaluation.placing`; views are measured after it, validation without it.
        rotation: of the predicted world to the true one, 9 numbers row by row, such as a run's `world_rotation`; meshes are
            turned by it before anything is measured. None leaves them as they are.
        thresholds: of the F-scores, in the world's unit.
        squared: measure squared Chamfer distances as well.
        dense: evaluate the field at all nodes of the grid; else only near its surface, which may miss small separate parts,
            see `sdfsrn.functional.isosurface.sparse_sdf_grid`.

    Raises:
        ValueError: an unknown alignment; numbers that are no rotation.
    """

    resolution: int = 128
    num_points: int = 100_000
    num_truth: int = 30_000
    low: float = -0.6
    high: float = 0.6
    placement: str = "exact"
    seed: int = 0
    icp_iterations: int = 0
    alignment: str = "none"
    thresholds: Sequence[float] = (0.01, 0.02, 0.05)
    squared: bool = False
    dense: bool = True
    rotation: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.alignment not in _ALIGNMENTS:
            raise ValueError(f"Expected protocol.alignment of {', '.join(_ALIGNMENTS)}, got {self.alignment}.")
        object.__setattr__(self, "thresholds", tuple(self.thresholds))  # configs hand over lists
        if self.rotation is not None:
            object.__setattr__(self, "rotation", tuple(_checked_rotation(self.rotation)))

    @property
    def grid(self) -> Grid:
        """The grid on which surfaces are extracted."""
        return Grid(self.resolution, self.low, self.high, self.placement, self.dense)

    def sample(self, mesh: trimesh.Trimesh) -> Float[Tensor, "n 3"]:
        """Points uniform over the mesh; none on an empty one."""
        if len(mesh.faces) == 0:
            return torch.zeros(0, 3)
        return torch.from_numpy(sample_surface(mesh, self.num_points, self.seed)[0]).float()

    def ground_truth(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "k 3"]:
        """The first `num_truth` points of the ground truth, without padding."""
        points = points[points.isfinite().all(-1)]
        return points[: self.num_truth]

    @property
    def aligns(self) -> bool:
        """Whether predictions are aligned with the ground truth before they are measured."""
        return self.icp_iterations > 0 or self.alignment != "none"

    def register(self, predicted: Float[Tensor, "n 3"], truth: Float[Tensor, "k 3"]) -> Affine:
        """The protocol's map from a prediction (points in random order) to the ground truth; identity if either is empty."""
        predicted = predicted.to(truth.device)
        if len(predicted) == 0 or len(truth) == 0:
            return identity(truth)
        alignment = _ALIGNMENTS[self.alignment](predicted, truth)
        if self.icp_iterations > 0:
            motion = icp(alignment.apply(predicted[:_ICP_POINTS]), truth, self.icp_iterations)
            alignment = Affine(motion.rotation, motion.translation).after(alignment)
        return alignment

    def align(self, predicted: Float[Tensor, "n 3"], truth: Float[Tensor, "k 3"]) -> Float[Tensor, "n 3"]:
        """The predicted points after `register`, on the truth's device."""
        predicted = predicted.to(truth.device)
        return self.register(predicted, truth).apply(predicted) if self.aligns else predicted


def _checked_rotation(numbers: Sequence[float]) -> list[float]:
    """Raises ValueError unless they are a rotation, row by row."""
    values = torch.tensor(list(numbers), dtype=torch.float64)
    matrix = values.reshape(3, 3) if len(values) == 9 else torch.zeros(3, 3, dtype=torch.float64)
    if not torch.allclose(matrix @ matrix.T, torch.eye(3).to(matrix), atol=1e-3) or torch.det(matrix) < 0:
        raise ValueError(f"Expected protocol.rotation to be the 9 numbers of a rotation, row by row, got {list(numbers)}.")
    return [float(value) for value in values]
