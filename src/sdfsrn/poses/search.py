"""The rotation of a picture's camera, found by a shape: silhouettes and colours of renderings against the picture's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import trimesh
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from torch import Tensor

from sdfsrn.data.conventions import rotation_from_angles
from sdfsrn.data.cropping import crop_window, object_box
from sdfsrn.data.images import ImageLike, read_cutout
from sdfsrn.data.preprocessing import Preprocessing, cropped
from sdfsrn.data.source import ImageSample
from sdfsrn.data.sources.table import Angles
from sdfsrn.functional.camera import pixel_centers
from sdfsrn.functional.isosurface import Grid
from sdfsrn.functional.rotation import with_rotation
from sdfsrn.meshes.io import mesh_colors
from sdfsrn.system import ShapeModel

COLOR_WEIGHT = 0.5  # of the colours' difference beside the silhouettes' IoU, by default
MAX_RAYS = 400_000  # cast at once; about 80 MB


class PoseCandidate(NamedTuple):
    """A rotation of the camera, and how well the shape fits the picture under it."""

    rotation: Float[np.ndarray, "3 3"]  # world to camera
    iou: float  # of the silhouettes, by alpha: thin parts, half covered, keep that of a perfect fit at about 0.85
    color_error: float  # mean |difference| of colours in [0, 1] inside both silhouettes; 0 where a side has none
    score: float  # iou - color_weight * color_error


@dataclasses.dataclass(frozen=True)
class PoseSearch:
    """Search for the camera's rotation that fits a shape to a picture; translation and intrinsics stay.

    A grid of rotations with theta 0, then a simplex search of the rotation vector w from the best ones, R = exp([w]x) R0.

    Args:
        azimuths: number of them, evenly spaced all around.
        elevations: in degrees. Mirror-symmetric shapes have nearly the same silhouette from (a, e) and (180 - a, -e): leave
            out elevations that the pictures do not have.
        size: lines of sight along each side of the picture.
        color_weight: of the colour error in the score.
        refined: number of the grid's rotations that are refined.
        steps: evaluations of each refinement; 0 leaves it out.
        reach: of each refinement, degrees; further away lies the other pose of the same silhouette.
    """

    azimuths: int = 24
    elevations: Sequence[float] = (0.0, 15.0, 30.0, 45.0)
    size: int = 48
    color_weight: float = COLOR_WEIGHT
    refined: int = 3
    steps: int = 60
    reach: float = 20.0

    def __call__(self, mesh: trimesh.Trimesh, picture: ImageSample) -> list[PoseCandidate]:
        """The refined candidates, best first; none for a mesh without faces."""
        scorer = _Scorer(mesh, picture, self)
        best = sorted(scorer(self.grid()), key=_score, reverse=True)[: self.refined]
        return sorted((self._refine(scorer, candidate) for candidate in best), key=_score, reverse=True)

    def grid(self) -> Float[np.ndarray, "n 3 3"]:
        """The rotations to begin with."""
        azimuths = np.arange(self.azimuths) * 360 / self.azimuths
        angles = [(azimuth, elevation, 0.0) for elevation in self.elevations for azimuth in azimuths]
        return np.stack([rotation_from_angles(*angle, "nmr") for angle in angles])

    def score(self, mesh: trimesh.Trimesh, picture: ImageSample, rotations: Float[np.ndarray, "n 3 3"]) -> list[PoseCandidate]:
        """The given rotations (world to camera) as candidates, in their order; none for a mesh without faces."""
        return _Scorer(mesh, picture, self)(rotations)

    def refine(self, mesh: trimesh.Trimesh, picture: ImageSample, rotation: Float[np.ndarray, "3 3"]) -> PoseCandidate | None:
        """The best candidate near a rotation; None for a mesh without faces."""
        scorer = _Scorer(mesh, picture, self)
        return next((self._refine(scorer, candidate) for candidate in scorer(rotation[None])), None)

    def _refine(self, scorer: _Scorer, start: PoseCandidate) -> PoseCandidate:
        if self.steps == 0:
            return start

        def turned(vector: np.ndarray) -> PoseCandidate:
            return scorer((Rotation.from_rotvec(vector, degrees=True).as_matrix() @ start.rotation)[None])[0]

        def loss(vector: np.ndarray) -> float:
            return 1.0 + float(excess) if (excess := np.linalg.norm(vector) - self.reach) > 0 else -turned(vector).score

        corners = np.concatenate([np.zeros((1, 3)), 8 * np.eye(3)])
        options = {"maxfev": self.steps, "initial_simplex": corners, "xatol": 0.2, "fatol": 1e-4}
        found = minimize(loss, np.zeros(3), method="Nelder-Mead", options=options)
        return max(turned(found.x), start, key=_score)


def flip_test(
    mesh: trimesh.Trimesh,
    picture: ImageSample,
    turns: Sequence[float] = (180.0,),
    margin: float = 0.02,
    search: PoseSearch | None = None,
) -> PoseCandidate | None:
    """The picture's pose turned about the world's vertical, refined, if its score is better by `margin`; else None.

    Args:
        mesh: the shape; world frame.
        picture: its camera holds the pose to be tested.
        turns: in degrees; (90, 180, 270) also finds quarter turns.
        margin: of the score, both poses refined.
        search: settings; the defaults if None.
    """
    search = search or PoseSearch()
    given = picture.camera.world_to_camera[:, :3].double().numpy()
    rotations = [given @ Rotation.from_euler("y", turn, degrees=True).as_matrix() for turn in (0.0, *turns)]
    found = [candidate for rotation in rotations if (candidate := search.refine(mesh, picture, rotation)) is not None]
    if len(found) < 2:
        return None
    kept, best = found[0], max(found[1:], key=_score)
    return best if best.score > kept.score + margin else None


def propose_pose(model: ShapeModel, picture: ImageSample, search: PoseSearch | None = None) -> list[PoseCandidate]:
    """Rotations of a picture's camera, best first, by the shape that a model sees in it; none where it sees no surface.

    Args:
        model: in evaluation mode.
        picture: its camera's translation and intrinsics are kept, its rotation is not used; see `unposed_picture`.
        search: settings; the defaults if None.
    """
    return (search or PoseSearch())(predicted_mesh(model, picture), picture)


@torch.no_grad()
def predicted_mesh(model: ShapeModel, picture: ImageSample, resolution: int = 48) -> trimesh.Trimesh:
    """The coarse mesh, with colours, that a model sees in a picture, which is prepared as its training pictures were."""
    views = model.preprocessing.views(_OnePicture(picture), [0], model.device)
    grid: Grid = dataclasses.replace(model.protocol.grid, resolution=resolution)
    return model(views.image).mesh(grid)


def unposed_picture(image: ImageLike, mask: ImageLike | None = None, preprocessing: Preprocessing | None = None) -> ImageSample:
    """A picture cropped as for training with `data=folder`, with a weak-perspective camera of azimuth and elevation 0.

    The world's unit is half the side of the window and its origin lies in the middle of the silhouette's box, as for a row of
    the table without `scale`, `x` and `y`.

    Raises:
        ValueError: an unreadable image or mask, no mask at all, an empty one, or one of another size.
    """
    preprocessing = preprocessing or Preprocessing(crop=1.2)
    cutout = read_cutout(image, mask)
    window, box = crop_window(cutout.alpha, preprocessing.crop, preprocessing.crop_side), object_box(cutout.alpha)
    assert box is not None  # `read_cutout` has checked it
    size = cutout.alpha.shape[1], cutout.alpha.shape[0]
    camera = Angles((0.0, 0.0, 0.0), None, None).camera("nmr", size, window, box.middle)
    return cropped(cutout, camera, window, preprocessing.image_size)


class _OnePicture:
    """A data set of one picture."""

    names = ["the picture"]

    def __init__(self, picture: ImageSample) -> None:
        self._picture = picture

    def __len__(self) -> int:
        return 1

    def picture(self, index: int) -> ImageSample:
        return self._picture

    def points(self, index: int) -> np.ndarray:
        return np.zeros((0, 3), np.float32)


class _Scorer:
    """Rotations to candidates, for one mesh and one picture.

    Lines of sight are made once, in the world turned by R: there they do not depend on R.
    """

    def __init__(self, mesh: trimesh.Trimesh, picture: ImageSample, search: PoseSearch) -> None:
        self.mesh, self.weight = mesh, search.color_weight
        colors = mesh_colors(mesh) if len(mesh.faces) else None
        self.face_color = None if colors is None else colors[mesh.faces, :3].mean(1) / 255
        self.alpha, self.color = _shrunk(picture, search.size)
        camera = picture.camera.map(lambda matrix: matrix.detach().cpu().double()[None])
        camera = with_rotation(camera, torch.eye(3, dtype=torch.float64)[None])
        screen = pixel_centers(search.size, search.size, dtype=torch.float64)[None]
        rays = camera.rays(camera.image_plane(screen))
        self.origin, self.direction = rays.origin[0].numpy(), rays.direction[0].numpy()

    def __call__(self, rotations: Float[np.ndarray, "n 3 3"]) -> list[PoseCandidate]:
        if len(self.mesh.faces) == 0:
            return []
        step = max(1, MAX_RAYS // len(self.origin))
        parts = [self._score(rotations[i : i + step]) for i in range(0, len(rotations), step)]
        return [candidate for part in parts for candidate in part]

    def _score(self, rotations: Float[np.ndarray, "n 3 3"]) -> list[PoseCandidate]:
        origin, direction = ((value @ rotations).reshape(-1, 3) for value in (self.origin, self.direction))
        face = self.mesh.ray.intersects_first(origin, direction).reshape(len(rotations), -1)
        hit = face >= 0
        iou = np.minimum(hit, self.alpha).sum(1) / np.maximum(hit, self.alpha).sum(1)
        error = np.zeros(len(rotations))
        if self.face_color is not None:
            both = hit & (self.alpha >= 0.5)
            difference = np.abs(self.face_color[face] - self.color).mean(-1)
            error = (difference * both).sum(1) / both.sum(1).clip(1)
        score = iou - self.weight * error
        return [PoseCandidate(rotations[i], float(iou[i]), float(error[i]), float(score[i])) for i in range(len(rotations))]


def _shrunk(picture: ImageSample, size: int) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, "r 3"]]:
    """Alpha and colours in [0, 1] of size x size pixels, row by row: means over their part of the picture."""
    alpha = torch.from_numpy(picture.alpha)[None]
    color = torch.from_numpy(picture.image).movedim(-1, 0) / 255
    layers: Tensor = F.interpolate(torch.cat([alpha, color * alpha])[None], (size, size), mode="area")[0].flatten(1)
    return layers[0].double().numpy(), (layers[1:] / layers[0].clamp(min=1e-6)).mT.double().numpy()


def _score(candidate: PoseCandidate) -> float:
    return candidate.score
