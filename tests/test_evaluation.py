from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from sdfsrn import Protocol, baselines
from sdfsrn.evaluation import Row, measure, summarize
from sdfsrn.models import Field, Linear


def ball(radius: float) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=4, radius=radius)


PROTOCOL = Protocol(resolution=32, num_points=5000)


def test_distances_between_two_balls_are_their_difference() -> None:
    truth = torch.from_numpy(trimesh.sample.sample_surface(ball(0.5), 20_000, seed=1)[0]).float()
    row = measure("ball", ball(0.4), truth, PROTOCOL)
    assert row.status == "ok"
    assert row.accuracy == pytest.approx(0.1, abs=2e-3)
    assert row.coverage == pytest.approx(0.1, abs=2e-3)
    assert row.chamfer == pytest.approx((row.accuracy + row.coverage) / 2)


def test_failures_and_missing_truth_are_reported_not_scored() -> None:
    truth = torch.rand(100, 3)
    empty = measure("empty", trimesh.Trimesh(), truth, PROTOCOL)
    lost = measure("lost", ball(0.4), torch.zeros(0, 3), PROTOCOL)
    good = Row("good", 0.1, 0.3, 0.2, "ok", 3, 1)
    summary = summarize([empty, lost, good], PROTOCOL)
    assert empty.status.startswith("failure")
    assert math.isnan(empty.accuracy)
    assert lost.status == "no ground truth"
    assert (summary["objects"], summary["measured"], summary["failures"]) == (3, 1, 1)
    assert (summary["accuracy"], summary["coverage_x10"]) == (0.1, pytest.approx(3.0))
    assert summarize([empty], PROTOCOL)["accuracy"] is None


def test_best_constant_is_the_best() -> None:
    clouds = {str(r): torch.from_numpy(np.array(ball(r).vertices)).float() for r in (0.3, 0.4, 0.5)}
    truths = [torch.from_numpy(np.array(ball(r).vertices)).float() for r in (0.38, 0.42)]
    best = baselines.best_constant(clouds, truths)
    assert best["name"] == "0.4"
    assert best["accuracy"] == pytest.approx(0.02, abs=1e-3)
    sphere = baselines.sphere(truths)
    assert sphere["accuracy"] == pytest.approx(0.1, abs=5e-3)
    assert baselines.best_constant({}, truths) is None
    assert baselines.sphere([torch.zeros(0, 3)]) is None


def test_authors_placement_shifts_and_shrinks() -> None:
    class Ball(Field):
        def __init__(self) -> None:
            self.sdf_head = Linear(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))

        def sdf(self, points: torch.Tensor) -> torch.Tensor:
            return points.norm(dim=-1) - 0.4  # without weights

    exact, authors = (Protocol(resolution=64, placement=p).mesh(Ball()) for p in ("exact", "authors"))
    np.testing.assert_allclose(exact.bounds, [[-0.4] * 3, [0.4] * 3], atol=1e-3)
    assert exact.volume == pytest.approx(4 / 3 * math.pi * 0.4**3, rel=0.01)
    np.testing.assert_allclose(authors.bounds.mean(0), -0.6 / 65, atol=1e-4)
    np.testing.assert_allclose(np.ptp(authors.bounds, axis=0), 0.8 * 64 / 65, atol=2e-3)
