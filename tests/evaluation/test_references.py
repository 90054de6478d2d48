"""Reference shapes: chosen from the candidates alone, aligned like the model, and as large as the silhouette allows."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import pytest
import torch
import trimesh

from scenes import ball, points_only, surface_points, wedge
from sdfsrn import EvaluationProtocol
from sdfsrn.data.source import ImageSample
from sdfsrn.data.sources.synthetic import SyntheticSource
from sdfsrn.evaluation import references
from sdfsrn.evaluation.measuring import measure
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, look_at_origin
from sdfsrn.meshes.geometry import contains, sample_surface
from sdfsrn.meshes.rendering import render_mask

PROTOCOL = EvaluationProtocol(resolution=32, num_points=5000)
REGISTERED = dataclasses.replace(PROTOCOL, icp_iterations=50)


def test_a_constant_shape_is_chosen_from_the_candidates_alone() -> None:
    clouds = {place: surface_points(ball(r), 2000) for place, r in enumerate((0.2, 0.3, 0.35, 0.4, 0.6), 10)}
    assert references.best_constant(clouds, PROTOCOL) == 12
    assert references.best_constant({7: clouds[10]}, PROTOCOL) == 7
    assert references.best_constant({}, PROTOCOL) is None


def test_the_constant_shape_comes_with_its_normals_and_no_other_ones_are_read(tmp_path: pathlib.Path) -> None:
    settings = {"num_objects": 4, "views_per_object": 2, "image_size": 16, "num_points": 500, "cache": str(tmp_path)}
    source, asked = SyntheticSource("chair", "val", **settings), []
    normals = source.normals
    source.normals = lambda index: asked.append(index) or normals(index)
    found = references.reference_shapes(source, dataclasses.replace(PROTOCOL, num_truth=300))["best constant shape"]
    (chosen,) = asked
    cloud = found.predict(points_only(torch.zeros(1, 3)))
    np.testing.assert_array_equal(cloud.points, source.points(chosen)[:300])
    np.testing.assert_array_equal(cloud.normals, normals(chosen)[:300])
    assert found.notes == {"name": f"chair-val-{chosen:04d}_{source.records[chosen][1]:02d}", "chosen_from": 4}


@pytest.mark.parametrize("protocol", [PROTOCOL, dataclasses.replace(PROTOCOL, alignment="anisotropic")])
def test_the_sphere_is_measured_as_its_mesh(protocol: EvaluationProtocol) -> None:
    """Its points are moved by up to 1.5e-4, the height of the sphere over the middle of a face."""
    truth = points_only(surface_points(wedge(), 3000))
    reference = references.reference_shapes(None, protocol)["untrained sphere"]
    radius = reference.cloud.points.norm(dim=-1)
    np.testing.assert_allclose(radius, 0.5, rtol=1e-15)
    torch.testing.assert_close(reference.cloud.normals, 2 * reference.cloud.points)
    mesh = reference.predict(truth)
    moved = reference.cloud.points.numpy() - sample_surface(mesh, protocol.num_points, protocol.seed)[0]
    assert np.linalg.norm(moved, axis=-1).max() < 1.5e-4
    sampled, known = (measure(mesh, truth, protocol, cloud).values for cloud in (None, reference.cloud))
    assert list(sampled) == list(known)
    assert known == pytest.approx(sampled, abs=1e-3)  # scores, of points on either side of a threshold
    for name in ("accuracy", "coverage", "chamfer"):
        assert known[name] == pytest.approx(sampled[name], abs=1.5e-4)


def test_references_are_registered_like_the_model() -> None:
    away = torch.tensor([0.1, -0.05, 0.08])
    truth = points_only(surface_points(ball(0.5), 5000) + away)
    assert measure(references.sphere(), truth, PROTOCOL).values["coverage"] > 0.03
    assert measure(references.sphere(), truth, REGISTERED).values["coverage"] == pytest.approx(
        0.0125, rel=0.05
    )  # the sampling noise, 1 / (2 sqrt(density))
    turned = [surface_points(wedge(), 2000) @ rotation(angle) for angle in (-0.2, 0.0, 0.2)]
    assert references.best_constant(dict(enumerate([*turned, turned[1] * 1.1 + 0.02])), REGISTERED) != 3


def rotation(angle: float) -> torch.Tensor:
    return torch.from_numpy(trimesh.transformations.rotation_matrix(angle, [0, 1, 0])[:3, :3]).float()


@pytest.mark.parametrize("kind", [PerspectiveCamera, OrthographicCamera])
def test_the_visual_hull_is_what_the_silhouette_leaves(kind: type) -> None:
    focal = 3.7 if kind is PerspectiveCamera else 1.4
    pose = look_at_origin(torch.tensor([0.7]), torch.tensor([0.3]), 2.732)[0]
    camera = kind(pose, torch.diag(torch.tensor([focal, focal, 1.0])))
    coverage = render_mask(wedge(), camera, 64)
    picture = ImageSample(np.zeros((64, 64, 3), np.uint8), coverage, camera)
    hull = references.visual_hull(picture, EvaluationProtocol(resolution=48))
    assert hull.is_watertight
    assert hull.volume > 2 * wedge().volume
    assert np.abs(hull.bounds).max() <= 0.6 + 1e-3
    assert contains(hull, surface_points(wedge(), 2000).double().numpy() * 0.97).mean() > 0.99
    again = render_mask(hull, camera, 64) >= 0.5
    assert (again & (coverage >= 0.5)).sum() / (again | (coverage >= 0.5)).sum() > 0.95


def test_candidates_are_spread_over_large_splits() -> None:
    class Source:
        names = [f"{i}/image/0000.png" for i in range(1000)]
        asked: list[int] = []

        def __len__(self) -> int:
            return 1000

        def points(self, index: int) -> np.ndarray:
            self.asked.append(index)
            return np.full((5, 3), index, np.float32)

        def picture(self, index: int) -> ImageSample:
            raise AssertionError("No picture is needed.")

    source = Source()
    assert len(references.candidate_points(source, PROTOCOL)) == len(source.asked) == references.CANDIDATES
    assert (source.asked[0], source.asked[-1]) == (0, 999)
    assert np.ptp(np.diff(source.asked)) <= 1
