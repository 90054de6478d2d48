"""From a signed distance function to triangles: sample a cube, run marching cubes, map vertices to the world frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sdfsrn.functional.triangulation import triangulate

_STRIDE = 4  # fine intervals per coarse one
_PROBED = 0.02  # share of the blocks left out that is evaluated as a check
_BLOCKS = 4096  # evaluated at a time

Function = Callable[[Float[Tensor, "n 3"]], Float[Tensor, " n"]]


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where and how finely a surface is extracted: a grid over the cube [low, high]^3, world frame.

    Args:
        resolution: intervals along an axis.
        low, high: of the cube.
        placement: `exact`, or `authors` for the released code's misplaced vertices.
        dense: evaluate every node; else only those near the surface, see `sparse_sdf_grid`.
    """

    resolution: int = 128
    low: float = -0.6
    high: float = 0.6
    placement: str = "exact"
    dense: bool = True

    def surface(
        self, sdf: Function, device: torch.device | str = "cpu"
    ) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
        """Vertices and faces of the closed surface {f = 0}, empty where there is none; see `marching_cubes`."""
        sample = sdf_grid if self.dense else sparse_sdf_grid
        values = sample(sdf, self.resolution, self.low, self.high, device)
        return marching_cubes(values, self.low, self.high, self.placement)


@torch.no_grad()
def sdf_grid(
    sdf: Function,
    resolution: int,
    low: float = -1.0,
    high: float = 1.0,
    device: torch.device | str = "cpu",
    chunk: int | None = None,
) -> Float[Tensor, "x y z"]:
    """Values of f at the (resolution + 1)^3 nodes of [low, high]^3: low + (i, j, k) / resolution (high - low).

    `resolution` counts intervals along an axis. World frame and unit; float32 on `device`, without gradient. At most
    `chunk` points are evaluated at a time; None takes what fits a CPU's cache, or fills a GPU. Raises ValueError for an
    empty cube, and when `sdf` does not return one number per point.
    """
    nodes = _Nodes(sdf, resolution, low, high, torch.device(device), chunk)
    values = torch.empty(nodes.side**3, device=device)
    for start in range(0, len(values), nodes.chunk):
        index = torch.arange(start, min(start + nodes.chunk, len(values)), device=device)
        values[start : start + nodes.chunk] = nodes(index)
    return values.reshape(nodes.side, nodes.side, nodes.side)


@torch.no_grad()
def sparse_sdf_grid(
    sdf: Function,
    resolution: int,
    low: float = -1.0,
    high: float = 1.0,
    device: torch.device | str = "cpu",
    chunk: int | None = None,
    seed: int = 0,
) -> Float[Tensor, "x y z"]:
    """`sdf_grid` for a mesh: f at the nodes around the surface, elsewhere a value of f's sign, from few evaluations.

    f is evaluated at every fourth node along an axis, and then at all nodes of the blocks of 4^3 cells between those

    - whose corners differ in sign, or that hold a part of the cube's side that lies inside;
    - of which a corner has |f| <= s d, d half of the block's diagonal, s the slope between coarse nodes around the block;
    - that share a face, with nodes of both signs, with a block that was evaluated; until there is none.

    Exact: every connected part of the dense grid's surface that reaches into an evaluated block is found whole, so that its
    triangles are the dense grid's (but for caps at the cube's side, within 1/1000 voxel). Not proven: that no separate part
    (an island, a bubble) lies within blocks that are left out. None does where f is nowhere steeper than s, which is
    measured, not a bound; a random fiftieth of those blocks is evaluated too, and if any of them holds surface, the result is
    the dense grid, as it is for fewer than 16 intervals. Arguments and errors as `sdf_grid`.
    """
    if resolution < 4 * _STRIDE:  # too few coarse nodes to tell a slope
        return sdf_grid(sdf, resolution, low, high, device, chunk)
    nodes = _Nodes(sdf, resolution, low, high, torch.device(device), chunk)
    ticks = torch.arange(0, resolution + _STRIDE, _STRIDE, device=device).clamp(max=resolution)
    coarse = nodes(nodes.index(ticks, ticks, ticks).reshape(-1)).reshape(3 * [len(ticks)])
    nearest = torch.arange(nodes.side, device=device) // _STRIDE
    values = coarse.index_select(0, nearest).index_select(1, nearest).index_select(2, nearest).reshape(-1)
    known = torch.zeros_like(values, dtype=torch.bool)
    todo, done = _suspects(coarse), torch.zeros(3 * [len(ticks) - 1], dtype=torch.bool, device=device)
    while todo.any():
        done |= todo
        todo = _evaluate(nodes, values, known, todo).beyond & ~done
    generator = torch.Generator().manual_seed(seed)
    probes = (torch.rand(done.shape, generator=generator) < _PROBED).to(device) & ~done
    if _evaluate(nodes, values, known, probes).surface.any():
        return sdf_grid(sdf, resolution, low, high, device, chunk)
    return values.reshape(nodes.side, nodes.side, nodes.side)


class _Nodes:
    """f at nodes of the grid, numbered row by row. Arguments as `sdf_grid`."""

    def __init__(
        self, sdf: Function, resolution: int, low: float, high: float, device: torch.device, chunk: int | None
    ) -> None:
        chunk = chunk or (2**13 if device.type == "cpu" else 2**18)
        if resolution < 1 or chunk < 1 or not low < high:
            got = f"{resolution}, {chunk}, {low}, {high}"
            raise ValueError(f"Expected resolution >= 1, chunk >= 1 and low < high, got {got}")
        self.sdf, self.chunk, self.side = sdf, chunk, resolution + 1
        self.axis = torch.linspace(low, high, self.side, device=device)

    def __call__(self, index: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        return torch.cat([self._values(part) for part in index.split(self.chunk)])

    def _values(self, index: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        places = (index // self.side**2, index // self.side % self.side, index % self.side)
        value = self.sdf(torch.stack([self.axis[place] for place in places], -1))
        if value.shape != index.shape:
            raise ValueError(f"Expected one number per point, {tuple(index.shape)}, from sdf, got {tuple(value.shape)}")
        return value.to(self.axis.dtype)

    def index(self, x: Int[Tensor, "*n a"], y: Int[Tensor, "*n b"], z: Int[Tensor, "*n c"]) -> Int[Tensor, "*n a b c"]:
        """Numbers of the nodes at all combinations of places along the axes."""
        return (x[..., :, None, None] * self.side + y[..., None, :, None]) * self.side + z[..., None, None, :]


def _suspects(coarse: Float[Tensor, "x y z"]) -> Bool[Tensor, "a b c"]:
    """Blocks that may hold surface, by the values at their corners."""
    low, high = -_pool(-coarse, 2), _pool(coarse, 2)
    steps = [F.pad(coarse.diff(dim=axis).abs(), [0, 0] * (2 - axis) + [0, 1]) for axis in range(3)]
    slope: Tensor = torch.stack([_pool(_pool(step, 2), 3, padding=1) for step in steps]).norm(dim=0)  # per coarse step
    near = torch.minimum(low.abs(), high.abs()) <= slope * 3**0.5 / 2
    side = torch.ones_like(near)
    side[1:-1, 1:-1, 1:-1] = False
    return ~((low > 0) | (high < 0)) | near | (side & (low <= 0))


def _pool(values: Tensor, size: int, padding: int = 0) -> Tensor:
    pooled: Tensor = F.max_pool3d(values[None, None], size, stride=1, padding=padding)
    return pooled[0, 0]


class _Found(NamedTuple):
    """What evaluated blocks hold."""

    surface: Bool[Tensor, "a b c"]  # blocks with nodes of both signs
    beyond: Bool[Tensor, "a b c"]  # neighbours across a face with nodes of both signs


def _evaluate(nodes: _Nodes, values: Float[Tensor, " n"], known: Bool[Tensor, " n"], blocks: Bool[Tensor, "a b c"]) -> _Found:
    """Write f into `values` at all nodes of the blocks that are not yet `known`, and mark them as known."""
    found = _Found(torch.zeros_like(blocks), torch.zeros_like(blocks))
    reach = torch.arange(_STRIDE + 1, device=blocks.device)
    for part in blocks.nonzero().split(_BLOCKS):
        index = nodes.index(*(part[..., None] * _STRIDE + reach).clamp(max=nodes.side - 1).unbind(1))
        fresh = index[~known[index]].unique()
        values[fresh], known[fresh] = nodes(fresh), True
        inside = values[index] <= 0  # as marching cubes takes it
        found.surface[part[_both(inside)].unbind(-1)] = True
        for axis in range(3):
            for side, step in ((0, -1), (_STRIDE, 1)):
                beyond = part[_both(inside.select(axis + 1, side))]
                beyond[:, axis] += step
                beyond = beyond[(beyond[:, axis] >= 0) & (beyond[:, axis] < len(blocks))]
                found.beyond[beyond.unbind(-1)] = True
    return found


def _both(inside: Bool[Tensor, "n ..."]) -> Bool[Tensor, " n"]:
    inside = inside.flatten(1)
    return inside.any(-1) & ~inside.all(-1)


def marching_cubes(
    grid: Float[Tensor, "x y z"],
    low: float = -1.0,
    high: float = 1.0,
    placement: str = "exact",
    closed: bool = True,
) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """Vertices (float64, world frame) and faces (int64, anticlockwise seen from outside) of {f = 0}, f < 0 inside.

    A vertex at index (i, j, k) of the grid lies at low + (i, j, k) / (nodes - 1) (high - low). `placement="authors"`
    divides by the number of nodes, as the released code does, which shifts and shrinks: only to reproduce its numbers.
    `closed` caps a surface that leaves the cube, within 1/1000 voxel of the cube's side; else it stays open there. A
    grid without surface gives empty (0, 3) arrays. A surface that has to be capped takes the memory of one more grid, 0.5 GB
    for a float32 one of 512 intervals. Raises ValueError for a grid that is not finite or not a cube.
    """
    values = _checked(grid)
    nodes = len(values)
    divisor = {"exact": nodes - 1, "authors": nodes}.get(placement)
    if divisor is None:
        raise ValueError(f'Expected placement "exact" or "authors", got "{placement}"')
    depth = -min(values.take([0, -1], axis).min() for axis in range(3))
    leaves = closed and depth >= 0  # the cube
    if leaves:
        values = np.pad(values, 1, constant_values=1000 * depth + 1e-30)
    index, faces = triangulate(values)
    if leaves:
        index = index - 1
    return low + index / divisor * (high - low), faces


def _checked(grid: Tensor) -> np.ndarray:
    if grid.ndim != 3 or len(set(grid.shape)) != 1 or len(grid) < 2:
        raise ValueError(f"Expected a cubic grid with at least 2 nodes per axis, got {tuple(grid.shape)}")
    values = grid.detach().cpu().numpy()
    if not (np.isfinite(values.min()) and np.isfinite(values.max())):  # either is NaN if any value is
        count = f"{(~np.isfinite(values)).sum()} of {values.size}"
        raise ValueError(f"Expected a finite grid, got {count} values nan or infinite: did training diverge?")
    return values
