"""Poses from nothing: a network that proposes several poses for a picture, learned together with the shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sdfsrn.functional.camera import Rays, look_at_origin
from sdfsrn.functional.rotation import with_rotation
from sdfsrn.models.implicit import ImplicitShape
from sdfsrn.models.pose import GivenPose, ShapeLearner
from sdfsrn.structures import Views

ALL = 2**31 - 1  # latent dimensions
TINY = 1e-6  # probability, error


class Candidates(NamedTuple):
    """One pose in each of a bins of azimuths, for each picture. Angles in radians, as in the convention nmr."""

    azimuth: Float[Tensor, "b a"]
    elevation: Float[Tensor, "b a"]
    theta: Float[Tensor, "b a"]
    probability: Float[Tensor, "b a"]

    def rotations(self) -> Float[Tensor, "b a 3 3"]:
        """World to camera."""
        looking = look_at_origin(self.azimuth.flatten(), self.elevation.flatten(), 0.0)[..., :3].unflatten(0, self.theta.shape)
        cos, sin = self.theta.cos()[..., None], self.theta.sin()[..., None]
        right, down, forward = looking.unbind(-2)
        return torch.stack([cos * right + sin * down, cos * down - sin * right, forward], -2)

    def mirrored(self) -> Candidates:
        """Those of the pictures' mirror images, of objects that are their own mirror images in the world's plane x = 0."""
        count = self.azimuth.shape[1]
        bins = -torch.arange(count, device=self.azimuth.device) % count
        azimuth, elevation, theta, probability = (value[:, bins] for value in self)
        return Candidates(-azimuth, elevation, -theta, probability)


class PoseCandidates(GivenPose):
    """A network proposes one pose in each of K bins of azimuths, with its probability; annotated azimuths are never read.

    Each step trains both parts on one batch, and the loss of one has no gradient in the other. L_k compares silhouettes and
    colours along rays under candidate k, see `errors`, and q_k is how well it fits beside the others, see `fit`:

    - the shapes, each seen from one candidate that is drawn with q_k, by the model's losses;
    - the network, with the shapes as they are, by sum_k q_k L_k for the angles; by the cross-entropy of its probabilities
      against q_k; and, for symmetric objects, by the agreement with what it proposes for mirrored pictures.

    Of the annotation remain the lens, the position of the object's origin before the camera, and, if asked for, the elevation.
    The latent code grows: in equal parts of the training it has as many dimensions as `latent_dims` says, in the last part all.

    Bins, probabilities and the growing code are those of Monnier et al., Share With Thy Neighbors (UNICORN), ECCV 2022. They
    weigh L_k by p_k instead, as `fit` explains.

    Args:
        encoder: image to features, with `latent_dim`.
        near, far: depths between which rays are looked at.
        candidates: K; bin k is centred on the azimuth k 360 / K degrees.
        elevation: `given` for that of the annotated camera; else the lowest and the highest one, degrees.
        theta: greatest turn of the camera about its axis, degrees.
        mirror: objects are their own mirror images in the plane x = 0.
        latent_dims: of the latent code, before it has all.
        weights: of `color` in L_k, of `probability`, the cross-entropy, and of `mirror`, the agreement.
        num_rays: per picture, under each candidate, at most.
        num_samples: depths per ray.
        softness: tau in `errors`, world unit.
        sharpness: beta in `fit`.

    Attributes:
        dims: dimensions of the latent code that are in use.

    Raises:
        ValueError: settings out of range.
    """

    scheduled = True
    estimates = True
    dims: Int[Tensor, ""]

    def __init__(
        self,
        encoder: nn.Module,
        near: float,
        far: float,
        candidates: int = 6,
        elevation: str | Sequence[float] = "given",
        theta: float = 0.0,
        mirror: bool = False,
        latent_dims: Sequence[int] = (0, 2, 8),
        weights: dict[str, float] | None = None,
        num_rays: int = 64,
        num_samples: int = 12,
        softness: float = 0.05,
        sharpness: float = 2.0,
    ) -> None:
        super().__init__()
        self.encoder, self.near, self.far, self.candidates = encoder, near, far, candidates
        self.elevation, self.theta, self.mirror, self.latent_dims = elevation, theta, mirror, list(latent_dims)
        self.weights = {"color": 1.0, "probability": 0.1, "mirror": 0.1, **(weights or {})}
        self.num_rays, self.num_samples, self.softness, self.sharpness = num_rays, num_samples, softness, sharpness
        self._check()
        self.head = nn.Linear(encoder.latent_dim, 4 * candidates)  # type: ignore[arg-type]
        self.register_buffer("dims", torch.tensor([*self.latent_dims, ALL][0]))

    def _check(self) -> None:
        if not 0 <= self.near < self.far or min(self.num_rays, self.num_samples, self.softness, self.sharpness) <= 0:
            got = f"{self.near}, {self.far}, {self.num_rays}, {self.num_samples}, {self.softness} and {self.sharpness}"
            raise ValueError(
                f"Expected 0 <= model.pose.near < far, and num_rays, num_samples, softness and sharpness above 0, got {got}."
            )
        if self.candidates < 2 or not 0 <= self.theta < 90:
            raise ValueError(
                "Expected model.pose.candidates of at least 2 and theta of at least 0 and less than 90 degrees, got "
                f"{self.candidates} and {self.theta}."
            )
        low, high = (0.0, 0.0) if self.elevation == "given" else _pair(self.elevation)
        if not -90 < low <= high < 90:
            raise ValueError(
                f"Expected model.pose.elevation=given, or [LOW, HIGH] in degrees between -90 and 90, got {self.elevation}."
            )
        if self.latent_dims != sorted(self.latent_dims) or min(self.latent_dims, default=0) < 0:
            raise ValueError(f"Expected rising model.pose.latent_dims of at least 0, got {self.latent_dims}.")
        if set(self.weights) != {"color", "probability", "mirror"}:
            raise ValueError(f"Expected model.pose.weights of color, probability and mirror, got {sorted(self.weights)}.")

    def check(self, model: ShapeLearner) -> None:
        """Refuse a model whose shapes are no functions of a point.

        Raises:
            ValueError: with the model's class.
        """
        if model.whole_pictures:
            name = type(model).__name__
            raise ValueError(f"Expected a model of implicit shapes with model/pose=candidates, got {name}, of meshes.")

    def own_parameters(self) -> list[nn.Parameter]:
        """None: the network is trained by the model's optimizer."""
        return []

    def schedule(self, done: float) -> None:
        """Set the length of the latent code."""
        stages = [*self.latent_dims, ALL]
        self.dims.fill_(stages[min(int(done * len(stages)), len(stages) - 1)])

    def code(self, latent: Float[Tensor, "b l"]) -> Float[Tensor, "b l"]:
        """The latent code with zeros in the dimensions that are not in use."""
        return latent * (torch.arange(latent.shape[-1], device=latent.device) < self.dims)

    def propose(self, image: Float[Tensor, "b 3 h w"], views: Views) -> Candidates:
        """The candidates for an image; of the views only the elevations of the cameras are read, if they are given."""
        features = self.encoder(image)
        offset, elevation, theta, logit = self.head(features.to(self.head.weight.dtype)).to(views.uv.dtype).chunk(4, -1)
        width = 2 * math.pi / self.candidates
        azimuth = width * torch.arange(self.candidates, dtype=offset.dtype, device=offset.device)
        if self.elevation == "given":
            elevation = _elevation(views.camera.world_to_camera)[:, None].expand_as(offset)
        else:
            low, high = (math.radians(angle) for angle in _pair(self.elevation))
            elevation = low + (high - low) * elevation.sigmoid()
        theta = math.radians(self.theta) * theta.tanh()
        return Candidates(azimuth + width / 2 * offset.tanh(), elevation, theta, logit.softmax(-1))

    def forward(self, views: Views) -> Views:
        """The views from their most probable candidates, without gradient."""
        candidates = self.propose(views.image, views)
        return _seen(views, candidates, candidates.probability.argmax(-1))

    def estimate(self, views: Views) -> Views:
        """The views of any pictures from their most probable candidates, without gradient."""
        return self.forward(views)

    def step(self, model: ShapeLearner, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of both parts' losses, and their terms.

        Those of the network are `pose`, `pose_probability` and `pose_mirror`; `pose_spread` is how far L_k differ.
        """
        candidates = self.propose(views.image, views)
        shape = model(views.image)
        with torch.autocast(views.uv.device.type, enabled=False):
            errors = self.errors(shape.detach(), views, candidates)
        fitting, spread = fit(errors, self.sharpness)
        loss, terms = model.compare(shape, _seen(views, candidates, draw(fitting)))
        pose = {"pose": (fitting * errors).sum(-1).mean()}
        pose["pose_probability"] = -(fitting * candidates.probability.clamp(min=TINY).log()).sum(-1).mean()
        if self.mirror:
            reflected = self.propose(views.image.flip(-1), views).mirrored()
            pose["pose_mirror"] = disagreement(candidates, reflected, math.pi / self.candidates)
        weights = {"pose": 1.0, **{f"pose_{name}": weight for name, weight in self.weights.items()}}
        return loss + sum(weights[name] * value for name, value in pose.items()), {**terms, **pose, "pose_spread": spread}

    def errors(self, shape: ImplicitShape, views: Views, candidates: Candidates) -> Float[Tensor, "b a"]:
        """L_k = mean_u ((s(u) - S(u))^2 + lambda_color S(u) |I^(u) - I(u)|^2), the mean over rays weighted by inverse density.

        s = sigmoid(-min_z f / tau) is the ray's soft silhouette, from the least f of its samples, S the true one. The colour
        I^ is taken between the first sample inside the shape and the one before it; rays without one have no colour error.
        Samples are random in training, at the same depths under all candidates of a ray; else the middles of equal parts of the
        range.
        """
        if self.num_rays < views.uv.shape[1]:
            drawn = torch.rand(views.uv.shape[1], device=views.uv.device).argsort()[: self.num_rays]  # also in a CUDA graph
            views = views.select_rays(drawn)
        rays, count = candidate_rays(views, candidates.rotations()), candidates.azimuth.shape[1]
        depths, hit = self._search(shape, rays, _repeat(self._samples(views.uv[..., 0]), count))
        sdf, feature = shape(rays.at(depths).flatten(1, 2))
        covered = torch.sigmoid(-sdf.view_as(depths)[..., 0] / self.softness)
        color = shape.color(feature.unflatten(1, depths.shape[1:])[..., 1, :])
        inside, true = (_repeat(x, count) for x in (views.inside.to(sdf), views.color))
        error = (covered - inside).square() + self.weights["color"] * hit * inside * (color - true).square().mean(-1)
        weight = views.inverse_density[:, None]
        total: Tensor = (weight * error.unflatten(1, (count, -1))).sum(-1)
        return total / weight.sum(-1)

    def _samples(self, like: Float[Tensor, "b r"]) -> Float[Tensor, "b r m"]:
        """Depths, rising."""
        place = torch.rand(*like.shape, self.num_samples, dtype=like.dtype, device=like.device) if self.training else 0.5
        part = (torch.arange(self.num_samples, dtype=like.dtype, device=like.device) + place) / self.num_samples
        return (self.near + (self.far - self.near) * part).expand(*like.shape, -1)

    @torch.no_grad()
    def _search(
        self, shape: ImplicitShape, rays: Rays, depths: Float[Tensor, "b n m"]
    ) -> tuple[Float[Tensor, "b n 2"], Float[Tensor, "b n"]]:
        """Depths of the least f and of the first surface of each ray, and 1 where there is one, else 0."""
        sdfs = shape.sdf(rays.at(depths).flatten(1, 2)).view_as(depths)
        inside = sdfs < 0
        first = inside.to(sdfs).argmax(-1, keepdim=True).clamp(min=1)
        pairs = [x.gather(-1, first - i)[..., 0] for x in (depths, sdfs) for i in (1, 0)]
        before, behind, before_sdf, behind_sdf = pairs
        hit = (before_sdf > 0) & (behind_sdf < 0)
        share = torch.where(hit, before_sdf / (before_sdf - behind_sdf), 0.0)
        nearest = depths.gather(-1, sdfs.argmin(-1, keepdim=True))[..., 0]
        return torch.stack([nearest, before + share * (behind - before)], -1), hit.to(sdfs)


def candidate_rays(views: Views, rotations: Float[Tensor, "b a 3 3"]) -> Rays:
    """The rays of the views under all candidates side by side, (b, a r): those of the first candidate come first."""
    count = rotations.shape[1]
    translation = views.camera.world_to_camera[:, None, :, 3:].expand(-1, count, -1, -1)
    intrinsics = views.camera.intrinsics.repeat_interleave(count, 0)
    camera = type(views.camera)(torch.cat([rotations, translation], -1).flatten(0, 1), intrinsics)
    origin, direction = camera.rays(views.uv.repeat_interleave(count, 0))
    return Rays(*(x.reshape(len(views.uv), -1, 3) for x in (origin, direction)))


@torch.no_grad()
def fit(errors: Float[Tensor, "b a"], sharpness: float) -> tuple[Float[Tensor, "b a"], Float[Tensor, ""]]:
    """q_k = softmax(-beta e_k / s): how well each candidate of a picture fits beside the others; and s.

    e are the errors L_k without the means of each picture and of each candidate over the batch, s is their standard deviation.
    No candidate can become the best one for all pictures, then, and q is as sharp while shapes are still alike from all sides,
    where weights p_k that follow the gradient of sum_k p_k L_k would stay even.
    """
    error = errors - errors.mean(0)
    error = error - error.mean(1, keepdim=True)
    spread = error.square().mean().sqrt()
    return (-sharpness * error / spread.clamp(min=TINY)).softmax(-1), spread


def draw(probability: Float[Tensor, "b a"]) -> Int[Tensor, " b"]:
    """One candidate of each picture, drawn with these probabilities."""
    return (probability / torch.empty_like(probability).exponential_()).argmax(-1)  # the first of a race


def disagreement(first: Candidates, second: Candidates, half: float) -> Float[Tensor, ""]:
    """Mean squared differences of probabilities, summed over candidates, and of angles, in units of `half` a bin.

    The square of an angle d is 2 - 2 cos d here, which whole turns do not change.
    """
    angles = sum((2 - 2 * (x - y).cos()).mean() for x, y in zip(first[:3], second[:3], strict=True)) / half**2
    return (first.probability - second.probability).square().sum(-1).mean() + angles


def _seen(views: Views, candidates: Candidates, choice: Int[Tensor, " b"]) -> Views:
    """The views from one candidate each, without gradient."""
    rotation = candidates.rotations()[torch.arange(len(choice), device=choice.device), choice].detach()
    return views._replace(camera=with_rotation(views.camera, rotation))


def _elevation(world_to_camera: Float[Tensor, "b 3 4"]) -> Float[Tensor, " b"]:
    """How far the camera stands above the object, radians: no azimuth changes what is read here."""
    return -world_to_camera[:, 2, 1].clamp(-1, 1).asin()


def _repeat(value: Float[Tensor, "b r *c"], count: int) -> Float[Tensor, "b n *c"]:
    """What the rays of all candidates share, side by side."""
    return value.repeat(1, count, *[1] * (value.ndim - 2))


def _pair(elevation: str | Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest elevation; a pair out of range for anything else."""
    try:
        low, high = (float(angle) for angle in elevation)
    except (TypeError, ValueError):
        return 90.0, -90.0
    return low, high
