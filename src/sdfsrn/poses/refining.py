"""How well poses fit the shapes that a model predicts, and nearby poses that fit better, by the model's own rendering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sdfsrn.functional.camera import Camera
from sdfsrn.functional.rotation import turned
from sdfsrn.functional.schedules import cosine
from sdfsrn.models.pose import BETAS, rotation_prior
from sdfsrn.poses.search import COLOR_WEIGHT
from sdfsrn.structures import Views
from sdfsrn.system import ShapeModel

SIDE = 32  # silhouettes are compared on at most so many rows and columns
REFINED_RAYS = 256  # per picture and step
LEAST_SPREAD = 0.05  # of gains in the score that is believed: they have longer tails than a normal distribution


class PoseFit(NamedTuple):
    """How well k poses of each picture fit."""

    iou: Float[Tensor, "k b"]  # of the silhouettes
    score: Float[Tensor, "k b"]  # minus COLOR_WEIGHT times the mean difference of the colours inside both, in [0, 1]


class RefinedPoses(NamedTuple):
    """Poses that were turned to fit their pictures."""

    turn: Float[Tensor, "b 3"]  # w of R = exp([w]x) R0, radians about the camera's axes
    camera: Camera


def pose_fit(model: ShapeModel, views: Views, cameras: Sequence[Camera]) -> PoseFit:
    """How well the predicted shapes, seen by each of k cameras per picture, fit the pictures.

    `views` hold all pixels; about SIDE rows and columns of them are compared, all of them where a model renders whole pictures.
    """
    was_training = model.training
    model.eval()
    with torch.no_grad():
        shape = model(views.image)
        part = views if model.whole_pictures else views.select_rays(_grid(views))
        seen = [model.render(shape, part._replace(camera=camera)) for camera in cameras]
    model.train(was_training)
    predicted = torch.stack([rendering.opacity >= 0.5 for rendering in seen])
    both = predicted & part.inside
    iou = both.sum(-1) / (predicted | part.inside).sum(-1).clamp(min=1)
    difference = (torch.stack([rendering.color for rendering in seen]) - part.color).abs().mean(-1) / 2
    error = torch.where(both, difference.nan_to_num(), 0.0).sum(-1) / both.sum(-1).clamp(min=1)
    return PoseFit(iou, iou - COLOR_WEIGHT * error)


def flip_evidence(gain: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """How much speaks for a flip of each of n poses: the log-likelihood ratio of flipped to right.

    Turned by 180 degrees, a right pose becomes a flipped one, and a flipped one right. So if the gains of right poses scatter
    about -mu, those of flipped ones scatter about mu. With normal distributions of standard deviation s the ratio is
    2 mu gain / s^2. As most poses are taken for right, mu is minus the median of all gains, and s 1.4826 times their median
    absolute deviation, at least LEAST_SPREAD. A model that tells no front from a back has mu near 0, and nothing speaks for a
    flip.

    Args:
        gain: in the score of `pose_fit`, by a flip.
    """
    center = gain.median()
    spread = 1.4826 * (gain - center).abs().median()
    return 2 * (-center).clamp(min=0) * gain / spread.clamp(min=LEAST_SPREAD) ** 2


def refine_poses(
    model: ShapeModel, views: Views, steps: int = 40, lr: float = 0.02, sigma: float = 5.0, prior: float = 1e-3, seed: int = 0
) -> RefinedPoses:
    """Turn the cameras of some pictures to fit the shapes that the model predicts for them; no weight changes.

    Adam under the training losses, as `PoseResidual` has it in training, with a rate that falls to 0 in a cosine. The same
    seed gives the same poses, and leaves torch's random state alone.

    Args:
        model: trained or in training.
        views: with all pixels.
        steps: of Adam.
        lr: at first, radians.
        sigma: see `PoseResidual`.
        prior: see `PoseResidual`.
        seed: of the rays.
    """
    was_training = model.training
    model.eval()
    with torch.random.fork_rng([views.image.device] if views.image.is_cuda else []), torch.enable_grad():
        torch.manual_seed(seed)
        with torch.no_grad():
            latent = model.encode(views.image).to(views.image.dtype)
        turn = torch.zeros_like(views.camera.world_to_camera[:, :, 3]).requires_grad_()
        optimizer = torch.optim.Adam([turn], lr, betas=BETAS)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = lr * cosine(step / steps)
            part = views
            if not model.whole_pictures:
                part = views.select_rays(torch.randperm(views.uv.shape[1], device=views.uv.device)[:REFINED_RAYS])
            part = part._replace(camera=turned(views.camera, turn))
            shape = model.decode(latent)
            loss, _ = model.losses(shape, model.render(shape, part), part)
            loss = loss + prior * rotation_prior(turn, sigma)
            turn.grad = torch.autograd.grad(loss, turn)[0]
            optimizer.step()
    model.train(was_training)
    return RefinedPoses(turn.detach(), turned(views.camera, turn.detach()))


def _grid(views: Views) -> Tensor:
    """Every so many pixels of every so many rows of a picture, counted row by row."""
    height, width = views.image.shape[-2:]
    rows, columns = (torch.arange(0, size, -(-size // SIDE), device=views.uv.device) for size in (height, width))
    return (rows[:, None] * width + columns).flatten()
