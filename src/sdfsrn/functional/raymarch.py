"""Intersection of rays and surface."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sdfsrn.functional.camera import Rays
from sdfsrn.functional.hull import cube_interval


def search_interval(
    rays: Rays, half_side: float, missed: float
) -> tuple[Float[Tensor, "b r"], Float[Tensor, "b r"], Bool[Tensor, "b r"]]:
    """Depths where rays enter and leave the cube [-half_side, half_side]^3, else 0 and `missed`; and which rays meet it."""
    near, far = cube_interval(rays, half_side)
    meets = near < far
    return torch.where(meets, near, 0.0), torch.where(meets, far, missed), meets


def first_crossing(sdf: Float[Tensor, "b r s"]) -> tuple[Int[Tensor, "b r"], Bool[Tensor, "b r"]]:
    """The first i at which f falls from above 0 to below 0 at i + 1, with f > 0 at the start; and whether there is one."""
    falls = (sdf[..., :-1] > 0) & (sdf[..., 1:] < 0)
    return falls.to(torch.uint8).argmax(-1), falls.any(-1) & (sdf[..., 0] > 0)


def compact(mask: Bool[Tensor, "b r"]) -> Int[Tensor, "b k"]:
    """Indices of the marked rays, k the most that an object has; objects with fewer get others behind them.

    All rays on a GPU, which would have to be waited for to know k.

    >>> compact(torch.tensor([[False, True, True], [False, False, True]])).tolist()
    [[1, 2], [2, 0]]
    """
    rows = mask.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
    return rows if mask.is_cuda else rows[:, : int(mask.sum(-1).max())]


@torch.no_grad()
def bisect(
    sdf: Callable[[Float[Tensor, "b r"]], Float[Tensor, "b r"]],
    near: Float[Tensor, "b r"],
    far: Float[Tensor, "b r"],
    near_sdf: Float[Tensor, "b r"],
    num_steps: int,
) -> Float[Tensor, "b r"]:
    """t in [0, 1] such that z* = near + t (far - near) is where f loses the sign that it has at `near`.

    `sdf` gives f at one depth per ray, `near_sdf` is f at `near`. Where the sign never changes t tends to 1. Comparisons carry
    no gradient, so none is recorded: the gradient of z* is that of `near` and `far` at fixed t, exactly as if the loop had
    been unrolled. Section 3.2, arXiv:2010.10505.
    """
    t, step = torch.full_like(near, 0.5), 0.5
    for _ in range(num_steps):
        step /= 2
        t = t + torch.where(sdf(near + t * (far - near)) * near_sdf > 0, step, -step)
    return t


@torch.no_grad()
def secant(
    sdf: Callable[[Float[Tensor, "b r"]], Float[Tensor, "b r"]],
    near: Float[Tensor, "b r"],
    far: Float[Tensor, "b r"],
    near_sdf: Float[Tensor, "b r"],
    far_sdf: Float[Tensor, "b r"],
    num_steps: int,
    guard: float = 0.05,
) -> Float[Tensor, "b r"]:
    """A depth z* between `near` and `far` where f is 0.

    Each step puts a line through f at both ends and replaces the end that has the sign of f at the line's root (regula falsi),
    which stays `guard` of the interval away from both. Where f has one sign, or does not fall, the result lies between the
    two all the same.
    """
    for _ in range(num_steps):
        middle = near + _root(near_sdf, far_sdf).clamp(guard, 1 - guard) * (far - near)
        value = sdf(middle)
        outside = value > 0
        near, near_sdf = torch.where(outside, middle, near), torch.where(outside, value, near_sdf)
        far, far_sdf = torch.where(outside, far, middle), torch.where(outside, far_sdf, value)
    return near + _root(near_sdf, far_sdf).clamp(0, 1) * (far - near)


def _root(near_sdf: Tensor, far_sdf: Tensor) -> Tensor:
    """The part of the interval at which the line through f at both ends falls to 0."""
    return near_sdf / (near_sdf - far_sdf).clamp(min=torch.finfo(near_sdf.dtype).tiny)


def implicit_depth(
    depth: Float[Tensor, "b r"],
    sdf: Float[Tensor, "b r"],
    slope: Float[Tensor, "b r"],
    hit: Bool[Tensor, "b r"],
    max_slope: float = -0.05,
) -> Float[Tensor, "b r"]:
    """z* with its true derivative, dz* = -df / (df/dz), at a depth that was found without gradient.

    Args:
        depth: z*, whose own gradient is dropped where there is a surface.
        sdf: f at z*, with gradient to the weights.
        slope: df/dz at z*, taken as a constant.
        hit: rays with a surface; the others keep `depth` as it is.
        max_slope: slopes above it count as it, so that rays that graze the surface keep a bounded derivative.

    From f(z*(theta); theta) = 0 by implicit differentiation; eq. (5), arXiv:2010.10505, defines z*.
    """
    slope = slope.detach().clamp(max=max_slope)
    return torch.where(hit, depth.detach() - (sdf - sdf.detach()) / slope, depth)
