import numpy as np
import pytest
import trimesh
from scipy.stats import chisquare

from sdfsrn.meshes.scanning import outer_surface


def test_points_of_a_box_are_uniform_on_it_with_outward_normals():
    extents = np.array([1.0, 2.0, 3.0])
    box = trimesh.creation.box(extents)
    points, normals = outer_surface(box, 20_000)
    assert points.dtype == normals.dtype == np.float32
    face = 2 * abs(normals).argmax(1) + (normals.sum(1) > 0)
    np.testing.assert_allclose(abs(normals).max(1), 1, atol=1e-6)
    np.testing.assert_allclose((points * normals).sum(1), extents[face // 2] / 2, atol=1e-6)
    assert (abs(points) <= extents / 2 + 1e-6).all()
    area = np.repeat(extents.prod() / extents, 2)
    assert chisquare(np.bincount(face), area / area.sum() * len(points)).pvalue > 1e-3
    cell = np.floor((points[face // 2 == 0][:, 1:] / extents[1:] + 0.5) * 5).astype(int) @ [5, 1]  # of the faces across x
    assert chisquare(np.bincount(cell, minlength=25)).pvalue > 1e-3


def test_order_is_random_and_follows_the_seed():
    ball = trimesh.creation.icosphere(subdivisions=3)
    first, again, other = (outer_surface(ball, 2000, seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.isin(first, other).all(1).any()
    assert np.linalg.norm(first[:1000].mean(0) - first[1000:].mean(0)) < 0.2


def test_normals_of_a_ball_point_outward_even_if_it_is_inside_out():
    ball = trimesh.creation.icosphere(subdivisions=4)
    mixed = trimesh.Trimesh(ball.vertices, np.where(np.arange(len(ball.faces))[:, None] % 2, ball.faces, ball.faces[:, ::-1]))
    points, normals = outer_surface(mixed, 5000)
    assert (points * normals).sum(1).min() > 0.99


@pytest.mark.parametrize("subdivisions", [0, 3])
def test_nothing_inside_a_sealed_box_is_seen(subdivisions):
    """60,000 candidates inside, 6 million rays, through up to 800 seams a face."""
    outer, inner = trimesh.creation.box((1, 1, 1)), trimesh.creation.box((0.99, 0.99, 0.99))
    for _ in range(subdivisions):
        outer = outer.subdivide()
    points, _ = outer_surface(trimesh.util.concatenate([outer, inner]), 60_000)
    assert abs(points).max(1).min() > 0.4999


def test_inside_of_an_open_box_is_seen_and_its_normals_point_inward():
    box = trimesh.creation.box((1, 1, 1))
    inner = trimesh.creation.box((0.9, 0.9, 0.9))
    both = trimesh.util.concatenate([box, inner])
    both.update_faces(both.triangles_center[:, 1] < 0.44)  # both lids
    points, normals = outer_surface(both, 20_000)
    inside = abs(points).max(1) < 0.46
    assert inside.mean() == pytest.approx(5 * 0.81 / (5 + 5 * 0.81), abs=0.02)
    floor = abs(points[:, 1] + 0.45) < 1e-6
    assert (normals[floor, 1] == 1).all()
    assert (normals[abs(points[:, 1] + 0.5) < 1e-6, 1] == -1).all()


def test_where_two_sealed_shapes_touch_nothing_is_seen():
    left, right = (trimesh.creation.box((1, 1, 1)).apply_translation((side, 0, 0)) for side in (-0.5, 0.5))
    points, _ = outer_surface(trimesh.util.concatenate([left, right]), 50_000)
    assert abs(points[:, 0]).min() < 1e-3
    between = (abs(points[:, 0]) < 1e-6) & (abs(points[:, 1:]) < 0.499).all(1)
    assert not between.any()


def test_a_sheet_is_seen():
    sheet = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    points, normals = outer_surface(sheet, 1000)
    assert abs(points[:, 2]).max() == 0
    assert abs(normals[:, 2]).min() == 1


@pytest.mark.parametrize("scale", [1e-5, 1e5])
def test_scale_and_place_do_not_matter(scale):
    box = trimesh.util.concatenate([trimesh.creation.box((1, 1, 1)), trimesh.creation.box((0.9, 0.9, 0.9))])
    points, normals = outer_surface(box.apply_scale(scale).apply_translation([3 * scale, 0, 0]), 5000)
    np.testing.assert_allclose(abs(points / scale - [3, 0, 0]).max(1), 0.5, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)


def test_degenerate_faces_do_no_harm_but_only_such_ones_do():
    box = trimesh.creation.box()
    more = trimesh.Trimesh(box.vertices, [*box.faces, [0, 0, 1], [2, 2, 2]], process=False)
    points, normals = outer_surface(more, 1000)
    np.testing.assert_allclose(abs(points).max(1), 0.5, atol=1e-6)
    assert np.isfinite(normals).all()
    with pytest.raises(ValueError, match="have an area, got 2 without"):
        outer_surface(trimesh.Trimesh(box.vertices, [[0, 0, 1], [2, 2, 2]], process=False), 10)


def test_nothing_seen_is_an_error():
    with pytest.raises(ValueError, match="hides all its faces"):
        outer_surface(trimesh.creation.box(), 10, min_directions=101)
