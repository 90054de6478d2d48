from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import trimesh

from sdfsrn import EvaluationProtocol
from sdfsrn.data import Preprocessing
from sdfsrn.data.source import ImageSample
from sdfsrn.data.sources.synthetic import SyntheticSource
from sdfsrn.evaluation.measuring import Cloud, TrueShape, color_error, depth_error, measure, metric_names, read_truth
from sdfsrn.functional.camera import Camera, OrthographicCamera, PerspectiveCamera, look_at_origin
from sdfsrn.meshes.geometry import sample_surface
from sdfsrn.meshes.rendering import render_mask
from sdfsrn.structures import March

PROTOCOL = EvaluationProtocol(num_points=20_000, squared=True)


def camera(kind: type = PerspectiveCamera, azimuth: float = 0.4) -> Camera:
    pose = look_at_origin(torch.tensor([azimuth]), torch.tensor([0.5]), 2.732)[0]
    focal = 3.7 if kind is PerspectiveCamera else 1.4
    return kind(pose, torch.diag(torch.tensor([focal, focal, 1.0])))


def truth_of(mesh: trimesh.Trimesh, radius: float | None = None, count: int = 20_000) -> TrueShape:
    points, normals = (torch.from_numpy(array).float() for array in sample_surface(mesh, count, seed=1))
    views = [
        ImageSample(np.zeros((64, 64, 3), np.uint8), render_mask(mesh, camera(azimuth=a), 64), camera(azimuth=a))
        for a in (0.4, 2.0)
    ]
    inside = (lambda x: None) if radius is None else lambda x: np.linalg.norm(x, axis=1) < radius
    return TrueShape(points, normals, inside, views)


def ball(radius: float = 0.4) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(5, radius)


def test_a_sphere_against_itself_scores_the_sampling_noise() -> None:
    """The nearest of n points a unit of area is 1 / (2 sqrt(n)) away on average."""
    status, found = measure(ball(), truth_of(ball(), 0.4), PROTOCOL)
    noise = 0.5 / math.sqrt(20_000 / (4 * math.pi * 0.4**2))
    assert status == "ok"
    assert [*found, "color_error"] == metric_names(PROTOCOL)  # of renderings, not of meshes
    assert found["accuracy"] == pytest.approx(noise, rel=0.02)
    assert found["coverage"] == pytest.approx(noise, rel=0.02)
    assert found["chamfer_squared"] == pytest.approx(4 / math.pi * noise**2, rel=0.03)
    within = 1 - math.exp(-math.pi * 0.01**2 * 20_000 / (4 * math.pi * 0.4**2))  # a Poisson process
    assert found["fscore@0.01"] == pytest.approx(within, abs=0.01)
    assert found["normal_consistency"] > 0.999
    assert found["volume_iou"] > 0.995
    assert found["silhouette_iou"] == found["novel_silhouette_iou"] == 1
    assert found["depth_error"] < 3e-3  # the outline is steep


def test_a_larger_ball_by_formula() -> None:
    found = measure(ball(0.5), truth_of(ball(0.4), 0.4), PROTOCOL).values
    assert found["chamfer"] == pytest.approx(0.1, abs=2e-3)
    assert found["chamfer_squared"] == pytest.approx(0.01, abs=2e-4)
    assert found["fscore@0.05"] == 0
    assert found["volume_iou"] == pytest.approx(0.8**3, abs=0.01)
    seen = [r**2 / (2.732**2 - r**2) for r in (0.4, 0.5)]  # squared slope of the tangent
    assert found["silhouette_iou"] == pytest.approx(seen[0] / seen[1], abs=0.02)


def test_what_is_not_known_is_not_measured() -> None:
    full = truth_of(ball(), 0.4)
    bare = full._replace(normals=torch.zeros(0, 3), occupancy=lambda x: None, views=full.views[:1])
    assert set(measure(ball(), full, PROTOCOL).values) - set(measure(ball(), bare, PROTOCOL).values) == {
        "normal_consistency",
        "volume_iou",
        "novel_silhouette_iou",
    }
    status, found = measure(ball(), full._replace(points=torch.zeros(0, 3), normals=torch.zeros(0, 3)), PROTOCOL)
    assert status == "no ground truth"
    assert list(found) == ["silhouette_iou", "novel_silhouette_iou"]
    cloud = measure(Cloud(full.points, full.normals), full, PROTOCOL).values
    assert cloud["accuracy"] == 0
    assert cloud["normal_consistency"] == pytest.approx(1)
    assert "silhouette_iou" not in cloud
    opened = trimesh.Trimesh(ball().vertices, ball().faces[1:])
    assert "volume_iou" not in measure(opened, full, PROTOCOL).values


def test_the_input_is_no_novel_view() -> None:
    full = truth_of(ball(), 0.4)
    seen, other = full.views
    free = other._replace(alpha=np.zeros((64, 64), np.float32))
    found = measure(ball(), full._replace(views=[seen, free, other]), PROTOCOL).values
    assert (found["silhouette_iou"], found["novel_silhouette_iou"]) == (1, 0.5)


@pytest.mark.parametrize("vertex", [math.nan, math.inf])
def test_failures_say_why(vertex: float) -> None:
    broken = ball()
    vertices = np.array(broken.vertices)
    vertices[3] = vertex
    for mesh, reason in (
        (trimesh.Trimesh(), "no surface"),
        (trimesh.Trimesh(vertices, broken.faces, process=False), "NaN or infinite"),
        (trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False), "without area"),
        (Cloud(torch.zeros(0, 3), torch.zeros(0, 3)), "no points"),
    ):
        status, values = measure(mesh, truth_of(ball()), PROTOCOL)
        assert status.startswith("failure: ")
        assert reason in status
        assert values == {}


def test_ten_true_points_are_enough() -> None:
    status, found = measure(ball(), truth_of(ball(), 0.4, count=10), dataclasses.replace(PROTOCOL, icp_iterations=5))
    assert status == "ok"
    assert all(math.isfinite(value) for value in found.values())
    assert found["coverage"] < 0.02


@pytest.mark.parametrize("kind", [PerspectiveCamera, OrthographicCamera])
def test_depth_error_is_along_the_line_of_sight(kind: type) -> None:
    """A slanted box that is moved away from the camera along its axis; and the far side does not count."""
    box, view = trimesh.creation.box((0.5, 0.4, 0.6)), camera(kind)
    points = torch.from_numpy(sample_surface(box, 30_000, seed=1)[0]).float()
    assert depth_error(box, points, view, (64, 64)) < 2e-3
    away = view.world_to_camera[2, :3].numpy() * 0.05
    shifted = depth_error(box.copy().apply_translation(away), points, view, (64, 64))
    if kind is OrthographicCamera:
        coarse = depth_error(box.copy().apply_translation(away), points, view, (16, 16))
        assert shifted == pytest.approx(0.05, abs=2e-3)
        assert coarse == pytest.approx(0.05, abs=2e-3)  # no matter how slanted the surface is within a pixel
    assert 0.04 < shifted < 0.06
    assert math.isnan(depth_error(box.copy().apply_translation([5, 0, 0]), points, view, (64, 64)))
    assert math.isnan(depth_error(box, points[:0], view, (64, 64)))


def test_color_error_is_over_all_pixels_and_channels(tmp_path) -> None:
    """A rendering in the picture's colours, but for one channel in a quarter of its pixels."""
    source = SyntheticSource("chair", "test", num_objects=1, image_size=16, num_points=100, cache=str(tmp_path))
    views = Preprocessing(16).views(source, [0], torch.device("cpu"))
    inside = -torch.ones(1, 256, 1)
    march = March(inside, inside, torch.zeros(1, 256), torch.zeros(1, 256, 1), views.color, views.inside)
    assert color_error(march, views, 1.0) == 0
    wrong = views.color.clone()
    wrong[:, ::4, 1] -= 0.6
    assert color_error(march._replace(color=wrong), views, 1.0) == pytest.approx(0.36 / 12)
    for background in (1.0, -0.2):  # without a surface, whatever colour there is
        missing = march._replace(visited_sdf=-inside, color=wrong)
        expected = (background - views.color).square().mean().item()
        assert color_error(missing, views, background) == pytest.approx(expected)


def test_views_are_not_aligned_but_shapes_are() -> None:
    moved = ball().apply_translation([0.1, 0, 0])
    plain, forgiven = (
        measure(moved, truth_of(ball(), 0.4), dataclasses.replace(PROTOCOL, alignment=name)).values
        for name in ("none", "scale")
    )
    assert forgiven["volume_iou"] > 0.98 > plain["volume_iou"] + 0.2
    assert forgiven["silhouette_iou"] == plain["silhouette_iou"] < 0.9


def test_a_synthetic_object_knows_all_of_itself(tmp_path) -> None:
    source = SyntheticSource("chair", "test", num_objects=1, views_per_object=6, num_points=3000, cache=str(tmp_path))
    truth = read_truth(source, 0, EvaluationProtocol(num_truth=2000))
    assert truth.points.shape == truth.normals.shape == (2000, 3)
    torch.testing.assert_close(truth.normals.norm(dim=-1), torch.ones(2000))
    step = 2e-3 * truth.normals
    outside, inside = (truth.occupancy((truth.points + sign * step).numpy()).mean() for sign in (1, -1))
    assert outside < 0.02
    assert inside > 0.98
    assert len(truth.views) == 5
    for view in truth.views:  # the input's, from the file, and the others alike
        uv, _ = view.camera.project(truth.points)
        pixel = ((view.camera.screen(uv) + 1) * 32).long()
        assert view.alpha[pixel[:, 1], pixel[:, 0]].astype(bool).mean() > 0.97  # thin edges may slip between rays
    cameras = {tuple(view.camera.world_to_camera.flatten().tolist()) for view in truth.views}
    assert len(cameras) == 5
