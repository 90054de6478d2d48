"""Ray marchers: from a field and rays to the surface that each ray meets first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sdfsrn.functional.camera import Rays
from sdfsrn.functional.raymarch import bisect, implicit_depth, secant
from sdfsrn.models.field import Field
from sdfsrn.structures import March


class LSTMRayMarcher(nn.Module):
    """dz = |h(x; eta)|, z <- z + dz: steps predicted by an LSTM from the features seen so far. Eq. (6), arXiv:2010.10505.

    Args:
        feature_width: width of the field's backbone.
        start: depth z^(0) of the first point.
        hidden_width: of the LSTM.
        num_steps: N.
        num_bisections: halvings between the last two points.
        implicit_gradient: give z* its true derivative at the surface; otherwise, as in the paper's unrolled form, it has that
            of the last two points only.
    """

    def __init__(
        self,
        feature_width: int,
        start: float,
        hidden_width: int = 32,
        num_steps: int = 10,
        num_bisections: int = 10,
        implicit_gradient: bool = False,
    ) -> None:
        super().__init__()
        self.feature_width, self.hidden_width = feature_width, hidden_width
        self.start = start
        self.num_steps = num_steps
        self.num_bisections = num_bisections
        self.implicit_gradient = implicit_gradient
        self.cell = nn.LSTMCell(feature_width, hidden_width)
        self.step = nn.Linear(hidden_width, 1)
        with torch.no_grad():  # the forget gate is open at the start
            self.cell.bias_ih[hidden_width : 2 * hidden_width] = 1.0
            self.cell.bias_hh[hidden_width : 2 * hidden_width] = 0.0

    def forward(self, field: Field, rays: Rays) -> March:
        """March all rays of all objects."""
        depth = torch.full_like(rays.direction[..., 0], self.start)
        depths, sdfs, state = [depth], [], None
        for _ in range(self.num_steps):
            sdf, feature = field(rays.at(depth))
            state = self.cell(feature.flatten(0, 1), state)
            depth = depth + self.step(state[0]).abs().view_as(depth)
            depths.append(depth)
            sdfs.append(sdf)
        sdfs.append(field.sdf(rays.at(depth)))
        visited, visited_sdf = torch.stack(depths, -1), torch.stack(sdfs, -1)
        return _surface(field, rays, visited, visited_sdf, self.num_bisections, self.implicit_gradient)


class SphereTracer(nn.Module):
    """dz = f(x) / |direction|: steps as long as the signed distance allows (Hart 1996); nothing is learned.

    The last step goes `overshoot` deeper than f says, so that it ends inside a surface that was reached, and bisection finds
    the crossing. The visited depths are constants: only f gets a gradient there.

    Args:
        start: depth of the first point.
        num_steps: N, the overshooting one included.
        num_bisections: halvings between the last two points.
        overshoot: in the unit of depth.
        implicit_gradient: give z* its true derivative; otherwise it is a constant.
    """

    def __init__(
        self,
        start: float,
        num_steps: int = 32,
        num_bisections: int = 14,
        overshoot: float = 0.05,
        implicit_gradient: bool = True,
    ) -> None:
        super().__init__()
        self.start = start
        self.num_steps = num_steps
        self.num_bisections = num_bisections
        self.overshoot = overshoot
        self.implicit_gradient = implicit_gradient

    def forward(self, field: Field, rays: Rays) -> March:
        """March all rays of all objects."""
        depths = self._trace(field, rays)
        sdfs = field.sdf(rays.at(depths).flatten(1, 2)).view_as(depths)
        return _surface(field, rays, depths, sdfs, self.num_bisections, self.implicit_gradient)

    @torch.no_grad()
    def _trace(self, field: Field, rays: Rays) -> Tensor:
        length = torch.linalg.vector_norm(rays.direction, dim=-1)
        depth = torch.full_like(length, self.start)
        sdf = field.sdf(rays.at(depth))
        depths = [depth]
        for _ in range(self.num_steps - 1):
            ahead = depth + sdf.clamp(min=0) / length
            ahead_sdf = field.sdf(rays.at(ahead))
            outside = ahead_sdf > 0  # a step that lands inside, by rounding or where |grad f| > 1, is not taken
            depth, sdf = torch.where(outside, ahead, depth), torch.where(outside, ahead_sdf, sdf)
            depths.append(depth)
        depths.append(depth + sdf.clamp(min=0) / length + self.overshoot)
        return torch.stack(depths, -1)


class DenseRayMarcher(nn.Module):
    """Looks at all depths at once; nothing is learned, and nothing but the rays' own range of depths bounds where surfaces are.

    f is evaluated without gradient at one random depth in each of `num_samples` equal parts of the range. Between the first
    sample inside the shape and the one before it, the secant method finds z*, to which implicit differentiation gives its true
    derivative, so that colours move surfaces. Gradients are taken at two visited points of a ray:

    - the sample before the first one inside;
    - the sample where f is least, which is what has to be negative inside a silhouette and positive outside of it. A first
      sample inside would do harm in its place: it often lies just below the surface, which the margin of eq. (7) then
      pulls towards the camera, a little in each step.

    A ray without a sample inside has its surface's colour taken where f is least.

    Args:
        start, end: range of depths.
        num_samples: in training.
        num_test_samples: in evaluation, in the middles of the parts.
        num_secants: iterations of the secant method.
        implicit_gradient: give z* its true derivative; otherwise it is a constant.

    Raises:
        ValueError: an impossible range, or no samples.
    """

    def __init__(
        self,
        start: float,
        end: float,
        num_samples: int = 32,
        num_test_samples: int = 64,
        num_secants: int = 3,
        implicit_gradient: bool = True,
    ) -> None:
        super().__init__()
        if not 0 <= start < end or min(num_samples, num_test_samples) < 2:
            got = f"{start=}, {end=}, {num_samples=}, {num_test_samples=}"
            raise ValueError(f"Expected 0 <= start < end and at least two samples a ray, got {got}.")
        self.start, self.end = start, end
        self.num_samples, self.num_test_samples = num_samples, num_test_samples
        self.num_secants, self.implicit_gradient = num_secants, implicit_gradient

    def forward(self, field: Field, rays: Rays) -> March:
        """March all rays of all objects."""
        frozen = field.detach()
        depths, depth, hit = self._search(frozen, rays)
        points = torch.cat([depths, depth[..., None]], -1)
        sdfs, features = field(rays.at(points).flatten(1, 2))
        sdfs, feature = sdfs.view_as(points), features.unflatten(1, points.shape[1:])[..., -1, :]
        if self.implicit_gradient and torch.is_grad_enabled():
            with torch.no_grad():
                slope = (frozen.gradient(rays.at(depth)) * rays.direction).sum(-1)
            depth = implicit_depth(depth, sdfs[..., -1], slope, hit)
            _, feature = field(rays.at(depth))
        return March(depths, sdfs[..., :-1], depth, feature, field.color(feature), hit)

    @torch.no_grad()
    def _search(self, field: Field, rays: Rays) -> tuple[Tensor, Tensor, Tensor]:
        """The two visited depths (b, r, 2), z*, and which rays have a surface."""
        depths = self._samples(rays.direction[..., 0])
        sdfs = field.sdf(rays.at(depths).flatten(1, 2)).view_as(depths)
        inside, least = sdfs < 0, sdfs.argmin(-1, keepdim=True)
        first = torch.where(inside.any(-1, keepdim=True), inside.to(sdfs.dtype).argmax(-1, keepdim=True), least)
        before = (first - 1).clamp(min=0)
        (near, far), (near_sdf, far_sdf) = ((x.gather(-1, before)[..., 0], x.gather(-1, first)[..., 0]) for x in (depths, sdfs))
        hit = (near_sdf > 0) & (far_sdf < 0)
        found = secant(lambda z: field.sdf(rays.at(z)), near, far, near_sdf, far_sdf, self.num_secants)
        return depths.gather(-1, torch.cat([before, least], -1)), torch.where(hit, found, far), hit

    def _samples(self, like: Tensor) -> Tensor:
        """Depths (b, r, n), rising."""
        count = self.num_samples if self.training else self.num_test_samples
        place = torch.rand(*like.shape, count, dtype=like.dtype, device=like.device) if self.training else 0.5
        part = (torch.arange(count, dtype=like.dtype, device=like.device) + place) / count
        return (self.start + (self.end - self.start) * part).expand(*like.shape, count)


def _surface(
    field: Field,
    rays: Rays,
    depths: Tensor,
    sdfs: Tensor,
    num_bisections: int,
    implicit_gradient: bool,
) -> March:
    """Bisect between the last two points and look at the surface there."""
    near, far = depths[..., -2], depths[..., -1]
    hit = (sdfs[..., -2] > 0) & (sdfs[..., -1] < 0)
    frozen = field.detach()
    depth = near + bisect(lambda z: frozen.sdf(rays.at(z)), near, far, sdfs[..., -2], num_bisections) * (far - near)
    if implicit_gradient:
        points = rays.at(depth.detach())
        slope = (frozen.gradient(points) * rays.direction).sum(-1)
        depth = implicit_depth(depth, field.sdf(points), slope, hit)
    _, feature = field(rays.at(depth))
    return March(depths, sdfs, depth, feature, field.color(feature), hit)
