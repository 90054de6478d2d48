"""Opinions of a checkpoint on annotated pictures: poses by its shapes, and how well given poses fit them."""

from __future__ import annotations

import hashlib
import math
import threading
from typing import NamedTuple

import numpy as np
import torch
import trimesh
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

from sdfsrn.annotating.drafts import Opinion, Pose
from sdfsrn.data.conventions import angles_from_rotation, camera_from_angles
from sdfsrn.data.cropping import crop_window, object_box
from sdfsrn.data.images import Cutout
from sdfsrn.data.preprocessing import cropped
from sdfsrn.data.source import ImageSample
from sdfsrn.poses.search import PoseCandidate, PoseSearch, predicted_mesh
from sdfsrn.system import ShapeModel

CROP = 1.35  # side of the network's window over the object's longer side, where training took whole pictures
MARGIN = 0.02  # of scores: poses that differ less fit equally well
APART = 45.0  # degrees between poses that are not the same
GRID = 48  # intervals per axis at which shapes are meshed


class Subject(NamedTuple):
    """A picture with a mask, to be looked at."""

    image: UInt8[np.ndarray, "h w 3"]
    mask: UInt8[np.ndarray, "h w"]
    name: str  # of the mask
    pose: Pose | None
    frame: Pose  # whose scale, x and y hold where the pose has none; its angles are not used


class Expert:
    """A model that is asked about pictures; one thread at a time.

    Shapes of a model that was trained on a folder are in the world's unit of `FolderSource`; those of others are scaled and
    moved so that their outlines span the silhouette.

    Args:
        model: in evaluation mode.
        search: for poses.
    """

    def __init__(self, model: ShapeModel, search: PoseSearch | None = None) -> None:
        self.model = model
        self.search = search or PoseSearch()
        weights = hashlib.sha256()
        for name, value in sorted(model.state_dict().items()):
            weights.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        self.name = weights.hexdigest()[:16]
        data = model.config.get("data") or {}
        self.fits_folders = str(data.get("_target_", "")).endswith("FolderDataModule")
        self._lock = threading.Lock()

    def __call__(self, subject: Subject) -> Opinion:
        """The pose that fits best, and whether that of the subject does.

        Raises:
            ValueError: the mask is empty.
        """
        opinion = Opinion(self.name, subject.name, subject.pose)
        picture = self._picture(subject, None)
        mesh = self._mesh(picture)
        begun = self.search(mesh if self.fits_folders else _about_as_large(mesh, picture, self.search.grid()), picture)
        candidates = self._fit(mesh, picture, [candidate.rotation for candidate in begun])
        if not candidates:
            return opinion
        best = max(candidates, key=_score)
        opinion = opinion._replace(proposal=_pose(best), proposal_iou=best.iou, clear=_is_clear(best, candidates))
        return opinion if subject.pose is None else self._judge(subject, mesh, opinion)

    def shape(self, subject: Subject) -> trimesh.Trimesh:
        """The predicted mesh, in the world frame and unit of the subject's pose."""
        picture = self._picture(subject, subject.pose)
        mesh = self._mesh(picture)
        if self.fits_folders or len(mesh.faces) == 0:
            return mesh
        rotation = picture.camera.world_to_camera[:, :3].double().numpy()
        return _spanning(mesh, picture, rotation)

    def _judge(self, subject: Subject, mesh: trimesh.Trimesh, opinion: Opinion) -> Opinion:
        """The opinion with what there is to say about the subject's pose."""
        picture = self._picture(subject, subject.pose)
        given = picture.camera.world_to_camera[:, :3].double().numpy()
        shown = mesh if self.fits_folders else _spanning(mesh, picture, given)
        (as_given,) = self.search.score(shown, picture, given[None])
        turned = [given @ Rotation.from_euler("y", turn, degrees=True).as_matrix() for turn in (0, 90, 180, 270)]
        kept, *others = self._fit(mesh, picture, turned)
        better = max(others, key=_score)
        opinion = opinion._replace(iou=as_given.iou)
        if better.score <= kept.score + MARGIN:
            return opinion
        return opinion._replace(better=_pose(better), better_iou=better.iou)

    def _fit(self, mesh: trimesh.Trimesh, picture: ImageSample, rotations: list[np.ndarray]) -> list[PoseCandidate]:
        """The best candidate near each rotation, in their order; none for a mesh without faces."""
        fitted = (mesh if self.fits_folders else _spanning(mesh, picture, rotation) for rotation in rotations)
        found = (self.search.refine(each, picture, rotation) for each, rotation in zip(fitted, rotations, strict=True))
        return [candidate for candidate in found if candidate is not None]

    def _mesh(self, picture: ImageSample) -> trimesh.Trimesh:
        with self._lock:
            return predicted_mesh(self.model, picture, GRID)

    def _picture(self, subject: Subject, pose: Pose | None) -> ImageSample:
        """The window that the network sees, with the camera of a pose, or of azimuth and elevation 0."""
        preprocessing = self.model.preprocessing
        alpha = subject.mask.astype(np.float32) / 255
        window = crop_window(alpha, preprocessing.crop or CROP, preprocessing.crop_side)
        size = alpha.shape[1], alpha.shape[0]
        pose, frame = pose or Pose(0, 0, 0), subject.frame
        scale = pose.scale or frame.scale or 1.0
        x, y = (frame.x, frame.y) if pose.x is None or pose.y is None else (pose.x, pose.y)
        whole = camera_from_angles(pose[:3], scale, (x or 0.0, y or 0.0), "nmr", size)
        return cropped(Cutout(subject.image, alpha), whole, window, preprocessing.image_size)


def needs_look(opinion: Opinion, usual: float) -> str | None:
    """Why a person should look at a picture, in one line; None if it seems right. `usual` is the median IoU of others."""
    if opinion.better is not None and opinion.pose is not None:
        turn = 90 * round(abs((opinion.better.azimuth - opinion.pose.azimuth + 180) % 360 - 180) / 90)
        return f"turned by {turn} degrees it fits better: IoU {opinion.better_iou:.2f} instead of {opinion.iou or 0:.2f}"
    iou = opinion.proposal_iou if opinion.pose is None else opinion.iou
    if iou is None or (opinion.pose is None and opinion.proposal is None):
        return "the model sees no shape"
    if iou < usual:
        return f"the shape fits the silhouette less than others: IoU {iou:.2f}"
    return "another pose fits as well" if opinion.pose is None and not opinion.clear else None


def _is_clear(best: PoseCandidate, candidates: list[PoseCandidate]) -> bool:
    """Whether a candidate is better than all that differ from it."""
    for other in candidates:
        apart = math.degrees(Rotation.from_matrix(best.rotation.T @ other.rotation).magnitude())
        if apart > APART and other.score > best.score - MARGIN:
            return False
    return True


def _score(candidate: PoseCandidate) -> float:
    return candidate.score


def _pose(candidate: PoseCandidate) -> Pose:
    return Pose(*angles_from_rotation(candidate.rotation, "nmr"))


def _spanning(mesh: trimesh.Trimesh, picture: ImageSample, rotation: np.ndarray) -> trimesh.Trimesh:
    """The mesh scaled and moved so that, under a rotation, its outline and the silhouette have one middle and longer side."""
    plane = _object_corners(picture)
    seen = mesh.vertices @ rotation.T
    low, high = seen.min(0), seen.max(0)
    scale = np.ptp(plane, axis=0).max() / (high - low)[:2].max()
    shift = np.append(plane.mean(0) - scale * (low + high)[:2] / 2, 0.0)
    moved = mesh.copy()
    moved.vertices = scale * mesh.vertices + shift @ rotation
    return moved


def _about_as_large(mesh: trimesh.Trimesh, picture: ImageSample, rotations: Float[np.ndarray, "n 3 3"]) -> trimesh.Trimesh:
    """The mesh about the origin, its outline as large as the silhouette under the median of some rotations."""
    if len(mesh.faces) == 0:
        return mesh
    moved = mesh.copy()
    moved.vertices = mesh.vertices - mesh.bounds.mean(0)
    sides = np.ptp(moved.vertices @ rotations[:, :2].transpose(0, 2, 1), axis=1).max(1)
    moved.vertices *= np.ptp(_object_corners(picture), axis=0).max() / np.median(sides)
    return moved


def _object_corners(picture: ImageSample) -> Float[np.ndarray, "2 2"]:
    """Upper left and lower right corner of the silhouette's box in the image plane, from the origin's place on it."""
    box = object_box(picture.alpha)
    if box is None:
        raise ValueError("Expected an object in the mask, but it is empty.")
    height, width = picture.alpha.shape
    corners = torch.tensor([[box.left, box.top], [box.right, box.bottom]], dtype=torch.float64)
    camera = picture.camera.map(torch.Tensor.double)
    plane = camera.image_plane(2 * corners / torch.tensor([width, height]) - 1)
    return plane.numpy() - camera.world_to_camera[:2, 3].numpy()
