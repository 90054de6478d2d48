import tracemalloc

import numpy as np
import pytest
import torch
import trimesh

from sdfsrn.functional import isosurface
from sdfsrn.functional.isosurface import marching_cubes, sdf_grid, sparse_sdf_grid
from sdfsrn.models import FieldConfig, Hypernetwork


def ball(radius, center=(0.0, 0.0, 0.0)):
    return lambda points: (points - torch.tensor(center)).norm(dim=-1) - radius


def box(center, half):
    def sdf(points):
        q = (points - torch.tensor(center)).abs() - torch.tensor(half)
        return q.clamp(min=0).norm(dim=-1) + q.amax(-1).clamp(max=0)

    return sdf


def union(*parts):
    return lambda points: torch.stack([part(points) for part in parts]).amin(0)


def torus(radius, tube):
    return lambda p: torch.hypot(torch.hypot(p[:, 0], p[:, 1]) - radius, p[:, 2] - 0.013) - tube


def gyroid(k):
    return lambda p: ((k * p).sin() * (k * p.roll(-1, -1)).cos()).sum(-1) / k


def untrained(seed, frequencies):
    torch.manual_seed(seed)
    field = Hypernetwork(16, 16, 1, FieldConfig(width=16, num_frequencies=frequencies))(3 * torch.randn(1, 16))
    middle = field.sdf(torch.rand(1, 2000, 3) - 0.5).median()
    return lambda points: field.sdf(points[None])[0] - middle


def counted(sdf):
    """The function, and how many points it is asked for."""
    sizes = []
    return lambda points: sizes.append(len(points)) or sdf(points), sizes


VOXEL = 1.2 / 48
SHAPES = {
    "torus": torus(0.3, 0.06),
    "ring": torus(0.4, VOXEL),
    "plate of a voxel": box([0.1, 0.0, 0.003], [0.3, 0.25, VOXEL / 2]),
    "two small balls": union(ball(1.5 * VOXEL, (0.41, -0.33, 0.27)), ball(1.5 * VOXEL, (-0.37, 0.29, -0.46))),
    "a bubble in a ball": lambda p: torch.maximum(ball(0.4)(p), -ball(1.5 * VOXEL, (0.03, 0.05, -0.02))(p)),
    "surface through nodes": box([0.0, 0.0, 0.0], [0.3, 0.15, 0.075]),
    "leaves the cube": ball(0.7),
    "fills the cube": ball(9.0),
    "nothing": ball(-1.0),
    "gyroid": gyroid(16),
}


@pytest.mark.parametrize("resolution", [48, 37, 3])
@pytest.mark.parametrize("name", SHAPES)
def test_a_sparse_grid_gives_the_triangles_of_the_dense_one(name, resolution):
    dense, sparse = (marching_cubes(grid(SHAPES[name], resolution, -0.6, 0.6)) for grid in (sdf_grid, sparse_sdf_grid))
    if resolution == 48 and name != "nothing":
        assert len(dense[1]) > 100
    for ours, expected in zip(sparse, dense, strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("frequencies", [2, 4, 6])
def test_parts_that_a_sparse_grid_finds_are_whole_and_the_dense_ones(frequencies):
    """Of noise, small parts of which it may miss."""
    dense, sparse = (mesh_of(grid(untrained(0, frequencies), 40), closed=False) for grid in (sdf_grid, sparse_sdf_grid))
    assert set(map(bytes, sparse.vertices)) <= set(map(bytes, dense.vertices))
    assert len(sparse.faces) > 0.95 * len(dense.faces)


def test_a_sparse_grid_asks_for_few_points_none_of_them_twice():
    sdf, sizes = counted(ball(0.35))
    asked = []
    grid = sparse_sdf_grid(lambda points: asked.append(points) or sdf(points), 128, chunk=5000)
    assert sum(sizes) < 0.15 * grid.numel()
    assert max(sizes) <= 5000
    points = torch.cat(asked)
    coarse = 33**3  # they are asked for first
    assert len(points[coarse:].unique(dim=0)) == len(points) - coarse


def test_a_wall_is_followed_where_its_slope_does_not_tell(monkeypatch):
    """Between the coarse nodes, but for one end: the rest is found across the faces of blocks."""
    monkeypatch.setattr(isosurface, "_PROBED", 0.0)
    needle = box([0.0, 0.02, 0.02], [0.5, 0.012, 0.012])
    knob = ball(0.1, (0.5, 0.02, 0.02))

    def sdf(points):  # flat but for the needle's own voxels
        return union(needle, knob)(points).clamp(max=0.004) + 1e-3 * (points[:, 1] > 9)

    dense, sparse = (marching_cubes(grid(sdf, 64)) for grid in (sdf_grid, sparse_sdf_grid))
    np.testing.assert_array_equal(sparse[1], dense[1])


def test_surface_found_by_a_probe_makes_the_grid_dense(monkeypatch):
    def sdf(points):  # a spike, nothing of which is felt two voxels away
        return torch.where((points - 0.047).norm(dim=-1) < 0.03, -1.0, 1.0)

    assert marching_cubes(sdf_grid(sdf, 64))[1].size > 0
    monkeypatch.setattr(isosurface, "_PROBED", 0.0)
    assert marching_cubes(sparse_sdf_grid(sdf, 64))[1].size == 0  # what is not promised
    monkeypatch.setattr(isosurface, "_PROBED", 1.0)
    assert torch.equal(sparse_sdf_grid(sdf, 64), sdf_grid(sdf, 64))


def test_values_of_a_sparse_grid_have_the_sign_of_the_dense_one():
    dense, sparse = (grid(SHAPES["torus"], 50, -0.6, 0.6) for grid in (sdf_grid, sparse_sdf_grid))
    assert torch.equal(sparse > 0, dense > 0)
    near = dense.abs() < 2 * 1.2 / 50
    assert torch.equal(sparse[near], dense[near])


def mesh_of(*args, **options):
    vertices, faces = marching_cubes(*args, **options)
    return trimesh.Trimesh(vertices, faces, process=False)


@pytest.mark.parametrize("chunk", [1000, 2**18])
def test_grid_holds_the_function_at_its_nodes_whatever_the_chunk(chunk):
    grid = sdf_grid(lambda p: p @ torch.tensor([1.0, 10.0, 100.0]), 12, -1.0, 2.0, chunk=chunk)
    axis = torch.linspace(-1, 2, 13)
    expected = axis[:, None, None] + 10 * axis[None, :, None] + 100 * axis[None, None, :]
    assert grid.dtype == torch.float32
    torch.testing.assert_close(grid, expected, rtol=1e-6, atol=1e-4)


def test_grid_asks_for_few_points_at_a_time_and_no_gradient():
    sizes, radius = [], torch.tensor(0.4, requires_grad=True)

    def sdf(points):
        sizes.append(len(points))
        return points.norm(dim=-1) - radius

    assert not sdf_grid(sdf, 10, chunk=500).requires_grad
    assert sizes == [500, 500, 331]


def test_grid_refuses_an_empty_cube_and_values_of_another_shape():
    with pytest.raises(ValueError, match="low < high"):
        sdf_grid(ball(0.4), 8, 1.0, -1.0)
    with pytest.raises(ValueError, match="one number per point"):
        sdf_grid(lambda p: p, 8)
    with pytest.raises(ValueError, match="one number per point"):
        sparse_sdf_grid(lambda p: p, 8)


@pytest.mark.parametrize(("low", "high"), [(-0.6, 0.6), (-0.5, 1.5)])
def test_ball_has_its_radius_and_centre(low, high):
    resolution, center = 64, (0.1, 0.05, -0.02)
    mesh = mesh_of(sdf_grid(ball(0.4, center), resolution, low, high), low, high)
    voxel = (high - low) / resolution
    radius = np.linalg.norm(mesh.vertices - center, axis=-1)
    assert mesh.is_watertight
    assert abs(radius - 0.4).max() < voxel**2 / 2  # linear interpolation: the error is of second order
    assert abs((mesh.bounds[0] + mesh.bounds[1]) / 2 - center).max() < voxel**2
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.4**3, rel=5e-3)  # positive: faces look outward


def test_authors_placement_shifts_and_shrinks_as_measured():
    grid = sdf_grid(ball(0.4), 128, -0.6, 0.6)
    exact, authors = mesh_of(grid, -0.6, 0.6), mesh_of(grid, -0.6, 0.6, placement="authors")
    assert authors.bounds.mean(0) == pytest.approx([-0.6 / 129] * 3, abs=1e-5)  # -0.0047
    assert authors.extents / exact.extents == pytest.approx([128 / 129] * 3, abs=1e-6)  # 0.8 % small
    assert exact.bounds.mean(0) == pytest.approx([0] * 3, abs=1e-5)


def test_box_off_centre_on_its_own_axes():
    low, high = np.array([0.05, -0.6, -0.21]), np.array([0.5, 0.33, 0.12])
    center, half = (low + high) / 2, (high - low) / 2
    mesh = mesh_of(sdf_grid(box(center.tolist(), half.tolist()), 80))
    assert mesh.is_watertight
    assert mesh.bounds == pytest.approx(np.stack([low, high]), abs=1e-3)
    assert mesh.volume == pytest.approx((high - low).prod(), rel=0.02)


def test_surface_through_the_nodes_is_watertight():
    mesh = mesh_of(sdf_grid(box([0.25, -0.125, 0.0], [0.25, 0.5, 0.125]), 16))
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(0.125)


def test_surface_that_leaves_the_cube_is_capped_at_its_sides():
    grid, voxel = sdf_grid(ball(1.2), 32), 2 / 32
    closed, opened = mesh_of(grid), mesh_of(grid, closed=False)
    assert closed.is_watertight
    assert abs(closed.bounds - [[-1] * 3, [1] * 3]).max() < voxel / 1000
    cap = np.pi * 0.2**2 * (3 * 1.2 - 0.2) / 3
    assert closed.volume == pytest.approx(4 / 3 * np.pi * 1.2**3 - 6 * cap, rel=5e-3)
    assert not opened.is_watertight
    on_the_ball = (abs(closed.vertices) < 1 - voxel / 1000).all(-1).sum()
    assert on_the_ball == (abs(opened.vertices) < 1 - voxel / 1000).all(-1).sum()


def test_memory_is_bounded_by_one_more_grid():
    grid = sdf_grid(box([0.0, 0.0, 0.0], [0.3, 0.3, 0.3]), 127)
    tracemalloc.start()
    try:
        marching_cubes(grid)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.6 * grid.nbytes  # the faces of this box take half a grid; of 512 intervals, an eighth


@pytest.mark.parametrize("closed", [True, False])
def test_no_surface_gives_empty_arrays(closed):
    vertices, faces = marching_cubes(torch.ones(5, 5, 5), closed=closed)
    assert vertices.shape == faces.shape == (0, 3)
    assert np.issubdtype(faces.dtype, np.integer)


def test_bad_grids_are_refused_in_words():
    grid = torch.ones(5, 5, 5)
    grid[0, 1, 2] = float("nan")
    with pytest.raises(ValueError, match="finite grid, got 1 of 125"):
        marching_cubes(grid)
    with pytest.raises(ValueError, match="cubic grid"):
        marching_cubes(torch.ones(5, 5, 6))
    with pytest.raises(ValueError, match="paper"):
        marching_cubes(torch.ones(5, 5, 5), placement="paper")
