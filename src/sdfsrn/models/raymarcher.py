"""Ray marchers: from a field and rays to the surface that each ray meets first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sdfsrn.functional.camera import Rays
from sdfsrn.functional.raymarch import bisect, implicit_depth
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
