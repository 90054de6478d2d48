"""From one image to a coloured mesh; and, where the camera is known, to a latent code that fits the picture better."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from sdfsrn.checkpoints.loading import load
from sdfsrn.data.images import ImageLike, name_of, read_cutout
from sdfsrn.functional.isosurface import Grid
from sdfsrn.models.shape import Shape
from sdfsrn.structures import Views
from sdfsrn.system import ShapeModel

log = logging.getLogger(__name__)

CUT = "The object touches the border of %s, where it may go on: the model has seen whole objects."
REFINED_RAYS = 1024  # random ones of a picture, a step, as in training


def reconstruct(
    image: ImageLike,
    model: ShapeModel | str | pathlib.Path | None = None,
    mask: ImageLike | None = None,
    grid: Grid | None = None,
    trusted: Sequence[str] = (),
    **preprocessing: Any,
) -> trimesh.Trimesh:
    """A closed, coloured mesh of the object in a picture, in the frame of the model's training shapes.

    Args:
        image: a file, PIL image, array or tensor, see `sdfsrn.data.images.open_image`; an alpha channel is the mask.
        model: a trained model, or the path of its checkpoint; None takes the model that ships with the package.
        mask: likewise, of the picture's size, bright where the object is, see `sdfsrn.data.images.read_mask`.
        grid: how the surface is extracted; the model's own if None.
        trusted: modules whose classes the checkpoint may name, see `sdfsrn.load`.
        preprocessing: changes of the model's `Preprocessing`, such as `crop=1.2`.

    Returns:
        The mesh, with vertex colours; without faces where the model sees no surface.

    Raises:
        ValueError: an unreadable image or mask, no mask, one of another size, or one that is empty or covers everything.
    """
    if not isinstance(model, ShapeModel):
        model = load(model, trusted)
    cutout = read_cutout(image, mask)
    if cutout.cut:
        log.warning(CUT, name_of(image, "the picture"))
    picture = dataclasses.replace(model.preprocessing, **preprocessing).prepare(cutout)
    model.eval()
    with torch.no_grad():
        return model(picture[None].to(model.device)).mesh(grid)


class Refinement(NamedTuple):
    """Latent codes that were adapted to their pictures."""

    latent: Float[Tensor, "b l"]
    shape: Shape  # of the adapted code
    losses: list[float]  # before every step


def check_refinable(model: ShapeModel) -> None:
    """Raise ValueError for a model without test-time optimization."""
    if model.whole_pictures:
        raise ValueError(
            f"Expected a model that renders single rays for test-time optimization, got {type(model).__name__}, which renders "
            "whole pictures: evaluate it with test_time_optimization=false."
        )


def refine(model: ShapeModel, views: Views, steps: int = 100, lr: float = 1e-3, seed: int = 0) -> Refinement:
    """Fit the latent codes of some pictures, whose cameras are known, under the training losses; no weight changes.

    Adam from the encoder's codes on, with new random rays every step; `views` hold all pixels. The same seed gives the same
    codes, and leaves torch's random state alone. Last row of Table 3, arXiv:2010.10505.

    Raises:
        ValueError: a model that cannot be fitted, see `check_refinable`.
    """
    check_refinable(model)
    was_training = model.training
    model.eval()
    with torch.random.fork_rng([views.image.device] if views.image.is_cuda else []), torch.enable_grad():
        torch.manual_seed(seed)
        latent = model.encode(views.image).detach().requires_grad_()
        optimizer, losses = torch.optim.Adam([latent], lr), []
        for _ in range(steps):
            part = views.select_rays(torch.randperm(views.uv.shape[1], device=views.uv.device)[:REFINED_RAYS])
            shape = model.decode(latent)
            loss, _ = model.losses(shape, model.render(shape, part), part)
            latent.grad = torch.autograd.grad(loss, latent)[0]  # and no gradient is left on a weight
            optimizer.step()
            losses.append(loss.detach())
    latent = latent.detach()
    with torch.no_grad():
        shape = model.decode(latent)
    model.train(was_training)
    return Refinement(latent, shape, [float(loss) for loss in losses])
