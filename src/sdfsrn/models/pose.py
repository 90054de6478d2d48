"""Poses of the training pictures: as annotated, or corrected while the shapes are learned."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sdfsrn.functional.camera import Camera
from sdfsrn.functional.rotation import flipped, turned
from sdfsrn.functional.schedules import cosine
from sdfsrn.structures import Views

BETAS, EPS = (0.9, 0.99), 1e-8  # of Adam: a row forgets its past within its next hundred batches


@runtime_checkable
class ShapeLearner(Protocol):
    """What a treatment of poses asks of the model that it is a part of."""

    whole_pictures: bool

    def __call__(self, image: Float[Tensor, "b 3 h w"]) -> Any:
        """The shapes of the objects in the images."""
        ...

    def compare(self, shape: Any, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """The losses of shapes, seen from the cameras of the views: their sum, and what is logged beside it."""
        ...


class GivenPose(nn.Module):
    """The annotated poses as they are. Other treatments are subclasses.

    Attributes:
        names: of the training pictures, where poses are learned for each; else None.
        scheduled: something depends on the share of the training that is done, so that a training needs an end.
        estimates: poses come from the pictures, in evaluation as well.
    """

    names: list[str] | None = None
    scheduled = False
    estimates = False

    def forward(self, views: Views) -> Views:
        """The views of training pictures, seen from the poses that this part takes for right."""
        return views

    def estimate(self, views: Views) -> Views:
        """The views of other pictures, seen from the poses that this part takes for right."""
        return views

    def step(self, model: ShapeLearner, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a training step, and what is logged beside it. Tensors alone, so that it can be a CUDA graph."""
        views = self(views)
        loss, terms = model.compare(model(views.image), views)
        if (penalty := self.penalty(views)) is None:
            return loss, terms
        return loss + penalty, {**terms, "pose": penalty}

    def code(self, latent: Float[Tensor, "b l"]) -> Float[Tensor, "b l"]:
        """The latent code as shapes are made of it."""
        return latent

    def check(self, model: ShapeLearner) -> None:
        """Refuse a model that this part can't be trained with."""

    def own_parameters(self) -> list[nn.Parameter]:
        """Those that `update` changes; the model's optimizer leaves them alone."""
        return list(self.parameters())

    def penalty(self, views: Views) -> Float[Tensor, ""] | None:
        """The addition to the loss, logged as `train/pose`; None for none."""
        return None

    def attach(self, names: Sequence[str]) -> None:
        """Take the names of all training pictures, in the order of `views.index`, before the training starts."""

    def schedule(self, done: float) -> None:
        """Set what depends on the share of the training that is done."""

    def update(self) -> None:
        """Change the poses by the gradients of a step, when those of the weights are there."""


class PoseResidual(GivenPose):
    """A rotation for each training picture, beside its annotated pose, learned with the shapes.

    R = exp([w]x) R0 turns the object about the camera's axes; its place in the picture and its size stay. As each object is
    seen once, only what the network has learned from all others can tell that a pose is wrong. So the rows stay at 0 at
    first, and their rate then falls to 0 in a cosine.

    Each row has its own Adam, which moves it only by batches that hold its picture. w is kept shorter than `bound` sigmas,
    and |w|^2 / sigma^2, times `prior`, is added to the loss.

    Args:
        sigma: error of the annotated poses that is expected about each axis, degrees.
        lr: of the rows' Adam at first, radians.
        frozen: share of the training in which the rows stay at 0.
        prior: weight of the squared length.
        bound: greatest length of w, in sigmas.

    Attributes:
        rows: w of all pictures, radians about the camera's axes x, y, z.
        flipped: pictures whose object is first turned by 180 degrees about the world's y axis.
        evidence: that the annotated pose is flipped, the sum of all looks; see `weigh`.
        looks: how many there were.
        moving: the rows may move, until `stay` forbids it.
    """

    scheduled = True
    rows: nn.Parameter
    mean: Tensor
    square: Tensor
    count: Tensor
    flipped: Tensor
    evidence: Tensor
    looks: Tensor
    moving: Tensor

    def __init__(
        self, sigma: float = 5.0, lr: float = 0.02, frozen: float = 0.25, prior: float = 1e-3, bound: float = 3.0
    ) -> None:
        super().__init__()
        if not (0 < sigma <= 60 and lr > 0 and prior >= 0 and bound > 0):
            raise ValueError(
                "Expected model.pose.sigma above 0 and at most 60 degrees, lr and bound above 0, and prior of at least 0, "
                f"got {sigma}, {lr}, {bound} and {prior}."
            )
        if not 0 <= frozen < 1:
            raise ValueError(f"Expected model.pose.frozen of at least 0 and less than 1, got {frozen}.")
        self.sigma, self.lr, self.frozen, self.prior, self.bound = sigma, lr, frozen, prior, bound
        self._rate = 0.0
        self.register_buffer("moving", torch.ones((), dtype=torch.bool))
        self.register_buffer("looks", torch.zeros((), dtype=torch.int64))
        self._allocate(0)

    def _allocate(self, count: int) -> None:
        like = self.rows if "rows" in self._parameters else torch.zeros(0)
        self.rows = nn.Parameter(like.new_zeros(count, 3))
        for name, shape in {"mean": (count, 3), "square": (count, 3), "count": (count, 1), "evidence": (count,)}.items():
            self.register_buffer(name, like.new_zeros(shape))
        self.register_buffer("flipped", torch.zeros(count, dtype=torch.bool, device=like.device))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        stored = state_dict.get(f"{prefix}rows")
        if stored is not None and len(self.rows) == 0:
            self._allocate(len(stored))
        for name in ("evidence", "looks"):  # which older checkpoints lack
            state_dict.setdefault(f"{prefix}{name}", torch.zeros_like(getattr(self, name)))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def attach(self, names: Sequence[str]) -> None:
        """Make a row for each picture, unless a checkpoint has brought them; kept without the folder that all names share.

        Raises:
            ValueError: the checkpoint's rows belong to other pictures.
        """
        names = names_below(names)
        if self.names is not None and names != self.names:
            changed = next(pair for pair in zip([*self.names, "none"], [*names, "none"], strict=False) if pair[0] != pair[1])
            raise ValueError(
                f"Expected the training pictures of the checkpoint, whose poses are being refined, got {changed[1]} in the "
                f"place of {changed[0]}: restore the folder, or begin a new training."
            )
        if self.names is None or len(self.rows) != len(names):
            self._allocate(len(names))
        self.names = names

    def schedule(self, done: float) -> None:
        """Set the rate of the rows."""
        running = (done - self.frozen) / (1 - self.frozen)
        self._rate = 0.0 if running < 0 else self.lr * cosine(running)

    def forward(self, views: Views) -> Views:
        """The views with corrected cameras."""
        rows = self.rows[views.index]
        in_mirror = 2 * torch.eye(3, dtype=rows.dtype, device=rows.device)[0] - 1  # of a turn: y and z are turned about
        vector = rows * torch.where(views.mirrored[:, None], in_mirror, 1.0)
        return views._replace(camera=turned(self.start(views), vector))

    def start(self, views: Views) -> Camera:
        """The cameras that the rows turn: as annotated, or flipped."""
        chosen = self.flipped[views.index][:, None, None]
        pose = torch.where(chosen, flipped(views.camera).world_to_camera, views.camera.world_to_camera)
        return views.camera._replace(world_to_camera=pose)

    def penalty(self, views: Views) -> Float[Tensor, ""]:
        """`prior` times the mean of |w|^2 / sigma^2."""
        return self.prior * rotation_prior(self.rows[views.index], self.sigma)

    @torch.no_grad()
    def weigh(self, evidence: Float[Tensor, " n"], least: float) -> None:
        """Turn the objects of the pictures about whose mean evidence of all looks is above `least`.

        Looks at the same pictures agree in part, so that their log-likelihood ratios are averaged and not added up.

        Args:
            evidence: of this look, that the pose as it is now is flipped: see `flip_evidence`.
            least: mean log-likelihood ratio.
        """
        now = torch.where(self.flipped, -1.0, 1.0)
        self.evidence += now * evidence
        self.looks += 1
        self.flip(now * self.evidence > least * self.looks)

    @torch.no_grad()
    def flip(self, chosen: Bool[Tensor, " n"]) -> None:
        """Turn the objects of some pictures about; their rows begin anew."""
        self.flipped.logical_xor_(chosen)
        self._reset(chosen)

    @torch.no_grad()
    def stay(self) -> None:
        """Go back to the poses as annotated, or flipped, for good."""
        self.moving.fill_(False)
        self._reset(torch.ones_like(self.flipped))

    def _reset(self, chosen: Bool[Tensor, " n"]) -> None:
        for values in (self.rows, self.mean, self.square, self.count):
            values.masked_fill_(chosen[:, None], 0)

    @torch.no_grad()
    def update(self) -> None:
        """One step of the Adam of each row that has a gradient. Kingma, Ba 2015."""
        grad, self.rows.grad = self.rows.grad, None
        if grad is None or self._rate == 0:
            return
        used = self.moving & (grad != 0).any(1, keepdim=True) & grad.isfinite().all(1, keepdim=True)
        grad = torch.where(used, grad, 0.0)
        self.count += used
        self.mean.copy_(torch.where(used, self.mean.lerp(grad, 1 - BETAS[0]), self.mean))
        self.square.copy_(torch.where(used, self.square.lerp(grad.square(), 1 - BETAS[1]), self.square))
        count = self.count.clamp(min=1)
        scale = (self.square / (1 - BETAS[1] ** count)).sqrt() + EPS
        moved = self.rows - self._rate * self.mean / (1 - BETAS[0] ** count) / scale
        longest = math.radians(self.bound * self.sigma)
        moved = moved * (longest / moved.norm(dim=1, keepdim=True).clamp(min=longest))
        self.rows.copy_(torch.where(used, moved, self.rows))


def rotation_prior(vectors: Float[Tensor, "b 3"], sigma: float) -> Float[Tensor, ""]:
    """The mean of |w|^2 / sigma^2; w in radians, sigma in degrees."""
    return vectors.square().sum(-1).mean() / math.radians(sigma) ** 2


def names_below(names: Sequence[str]) -> list[str]:
    """Names without the folder that all of them share, so that they stay the same when the data set is moved.

    >>> names_below(["/data/birds/a/1.png", "/data/birds/b/1.png"])
    ['a/1.png', 'b/1.png']
    """
    folder = os.path.commonpath([os.path.dirname(name) for name in names])  # noqa: PTH120  # names need not be paths
    return [name[len(folder) :].lstrip("/") for name in names]
