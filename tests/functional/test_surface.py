from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from sdfsrn.functional.pointcloud import match
from sdfsrn.functional.surface import bootstrap_interval, f_score, intersection_over_union, normal_consistency, volume_samples
from sdfsrn.meshes.geometry import contains


def test_f_score_by_hand() -> None:
    predicted = torch.tensor([[0.0, 0, 0], [1, 0, 0], [5, 0, 0], [9, 0, 0]])
    truth = torch.tensor([[0.0, 0, 0], [1.2, 0, 0]])
    found = match(predicted, truth)
    assert f_score(found, 0.1).item() == pytest.approx(2 * 0.25 * 0.5 / 0.75)  # one of four, one of two
    assert f_score(found, 0.3).item() == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert f_score(found, 10.0) == 1
    assert f_score(match(predicted + 100, truth), 0.3) == 0
    assert f_score(match(truth, predicted), 0.3) == f_score(found, 0.3)


def test_normal_consistency_by_hand() -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0]])
    x, y = torch.eye(3)[:1], torch.eye(3)[1:2]
    found = match(points, points.flip(0))  # the second true point is the first predicted one
    normals = torch.cat([x, y])
    assert normal_consistency(found, normals, normals.flip(0)) == 1
    assert normal_consistency(found, normals, -normals.flip(0)) == 1
    assert normal_consistency(found, normals, normals) == 0
    diagonal = torch.nn.functional.normalize(x + y, dim=-1)
    assert normal_consistency(found, normals, diagonal.expand(2, 3)).item() == pytest.approx(math.sqrt(0.5))
    both = match(torch.zeros(1, 3), points)  # one direction 1, the other a half
    assert normal_consistency(both, x, normals).item() == pytest.approx((1 + 0.5) / 2)


def test_overlap_by_hand() -> None:
    a, b = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    assert intersection_over_union(a, b).item() == pytest.approx(1 / 3)
    assert intersection_over_union(a, a) == 1
    assert intersection_over_union(a, ~a) == 0
    assert intersection_over_union(a & ~a, b & ~b) == 1


def test_samples_are_the_same_whatever_became_of_earlier_ones() -> None:
    first = volume_samples(np.zeros(3), np.ones(3), 8)
    kept = first.copy()
    first[:] = 7
    np.testing.assert_array_equal(volume_samples(np.zeros(3), np.ones(3), 8), kept)
    np.testing.assert_array_equal(volume_samples(np.full(3, -1.0), np.full(3, 3.0), 8), 4 * kept - 1)


def test_what_a_mesh_contains() -> None:
    samples = volume_samples(np.full(3, -1.0), np.full(3, 1.0), 14)
    assert samples.min() >= -1
    assert samples.max() <= 1
    box = trimesh.creation.box((1.0, 0.6, 0.8))
    assert np.array_equal(contains(box, samples), (np.abs(samples) < [0.5, 0.3, 0.4]).all(1))
    assert contains(box, samples).mean() * 8 == pytest.approx(box.volume, rel=0.01)
    two = trimesh.util.concatenate([box, box.copy().apply_translation([0.2, 0.1, 0.3])])  # overlapping parts
    moved = (np.abs(samples - [0.2, 0.1, 0.3]) < [0.5, 0.3, 0.4]).all(1)
    assert np.array_equal(contains(two, samples), contains(box, samples) | moved)
    ball = trimesh.creation.icosphere(5, 0.5)
    expected = np.linalg.norm(samples, axis=1) < 0.5
    assert (contains(ball, samples) != expected).mean() < 1e-3
    assert not contains(trimesh.Trimesh(), samples).any()


def test_bootstrap_of_many_values_is_the_normal_interval_and_ignores_order() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.15 * half)
    assert bootstrap_interval(values[::-1].copy()) == (low, high)
    assert bootstrap_interval(values, seed=1) != (low, high)
    assert bootstrap_interval(np.array([0.3])) == (0.3, 0.3)
    assert bootstrap_interval(np.array([0.3, 0.3])) == (0.3, 0.3)


def test_recorded_intervals() -> None:
    """The figures of evaluations from before the interval was SciPy's."""
    values = np.random.default_rng(0).gamma(2.0, 0.05, size=30)
    assert bootstrap_interval(values) == pytest.approx((0.06842119691793895, 0.11363527463019985), abs=1e-12)


def test_bootstrap_holds_the_true_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    held = 0
    for i in range(200):
        low, high = bootstrap_interval(generator.normal(1.0, 1.0, size=40), seed=i, resamples=300)
        held += low <= 1.0 <= high
    assert 0.88 < held / 200 < 0.99
