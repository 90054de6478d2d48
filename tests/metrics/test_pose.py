"""Pose errors against scipy's rotations, and what a common turn of the world must not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from sdfsrn.data.conventions import rotation_from_angles
from sdfsrn.functional.rotation import common_rotation, geodesic_angle
from sdfsrn.metrics import PoseError


def random_rotations(count: int, seed: int = 0) -> np.ndarray:
    return Rotation.random(count, random_state=seed).as_matrix()


def measured(estimated: np.ndarray, true: np.ndarray) -> dict[str, float]:
    metric = PoseError()
    for part in np.array_split(np.arange(len(true)), 3):
        metric.update(torch.from_numpy(estimated[part]), torch.from_numpy(true[part]))
    return {name: float(value) for name, value in metric.compute().items()}


def test_angle_is_that_of_scipy() -> None:
    first, second = random_rotations(200, 1), random_rotations(200, 2)
    expected = np.degrees((Rotation.from_matrix(first).inv() * Rotation.from_matrix(second)).magnitude())
    np.testing.assert_allclose(geodesic_angle(torch.from_numpy(first), torch.from_numpy(second)), expected, atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3, 90.0, 179.99999, 180.0])
def test_angle_is_exact_where_the_cosine_is_not(angle: float) -> None:
    turn = Rotation.from_rotvec(angle * np.array([0.6, 0.0, 0.8]), degrees=True).as_matrix()
    assert float(geodesic_angle(torch.eye(3, dtype=torch.double), torch.from_numpy(turn))) == pytest.approx(angle, abs=1e-9)


def test_common_rotation_is_that_of_scipy() -> None:
    """`Rotation.align_vectors` on the cameras' axes solves the same problem."""
    true = random_rotations(30)
    noise = Rotation.from_rotvec(np.random.default_rng(0).normal(0, 0.3, (30, 3))).as_matrix()
    estimated = noise @ true @ random_rotations(1, 5)[0]
    rotation = common_rotation(torch.from_numpy(estimated), torch.from_numpy(true))
    expected = Rotation.align_vectors(true.reshape(-1, 3), estimated.reshape(-1, 3))[0].as_matrix()
    np.testing.assert_allclose(rotation, expected, atol=1e-9)
    assert float(torch.det(rotation)) == pytest.approx(1)


def test_common_rotation_of_mirrored_looking_cameras_is_a_rotation() -> None:
    true = np.stack([np.eye(3), np.diag([-1.0, -1, 1])])
    estimated = np.stack([np.diag([1.0, -1, -1]), np.diag([-1.0, 1, -1])])  # their sum alone would be singular
    assert float(torch.det(common_rotation(torch.from_numpy(estimated), torch.from_numpy(true)))) == pytest.approx(1)


def test_common_turn_of_the_world_is_no_error() -> None:
    true, turn = random_rotations(20), random_rotations(1, 7)[0]
    values = measured(true @ turn, true)
    assert values["mean"] == pytest.approx(0, abs=1e-6)
    assert values["under_10"] == 1
    angle = np.degrees(Rotation.from_matrix(turn).magnitude())
    assert values["common"] == pytest.approx(angle)
    assert values["raw_mean"] == pytest.approx(angle)


def test_common_turn_of_the_world_changes_no_value() -> None:
    true, turn = random_rotations(50), random_rotations(1, 7)[0]
    estimated = Rotation.from_rotvec(np.random.default_rng(0).normal(0, 0.4, (50, 3))).as_matrix() @ true
    plain, turned = measured(estimated, true), measured(estimated @ turn, true)
    for name in ("mean", "median", "under_10", "under_30", "over_90", "azimuth", "elevation", "roll"):
        assert turned[name] == pytest.approx(plain[name], abs=1e-6), name


def test_known_perturbations_are_measured() -> None:
    """Errors that cancel in the mean: half of the cameras turned by +12 degrees about their axis of sight, half by -12."""
    true = random_rotations(40)
    turns = Rotation.from_rotvec(np.where(np.arange(40) % 2, 12.0, -12.0)[:, None] * [0, 0, 1], degrees=True).as_matrix()
    true = np.concatenate([true[:20], true[:20]])
    values = measured(np.concatenate([turns[:1], turns[1:2]]).repeat(20, 0) @ true, true)
    assert values["common"] == pytest.approx(0, abs=1e-6)
    assert values["mean"] == pytest.approx(12)
    assert values["median"] == pytest.approx(12)
    assert values["under_10"] == 0
    assert values["under_30"] == 1
    assert values["roll"] == pytest.approx(12)
    assert values["azimuth"] == pytest.approx(0, abs=1e-6)
    assert values["elevation"] == pytest.approx(0, abs=1e-6)


def test_flips_are_counted() -> None:
    true = np.stack([rotation_from_angles(36.0 * i, 30, 0, "nmr") for i in range(10)])
    estimated = true.copy()
    estimated[3] = rotation_from_angles(36.0 * 3 + 180, 30, 0, "nmr")
    values = measured(estimated, true)
    assert values["over_90"] == pytest.approx(0.1)
    assert values["raw_over_90"] == pytest.approx(0.1)
    assert values["under_10"] == pytest.approx(0.9)
    assert values["median"] == pytest.approx(0, abs=1e-6)


def test_azimuths_differ_around_the_circle() -> None:
    true = np.stack([rotation_from_angles(a, 20, 0, "nmr") for a in (1.0, 359.0)])
    estimated = np.stack([rotation_from_angles(a, 20, 0, "nmr") for a in (357.0, 3.0)])
    assert measured(estimated, true)["raw_azimuth"] == pytest.approx(4)


def test_nothing_without_a_pose() -> None:
    assert PoseError().compute() == {}


def test_single_precision_poses_are_measured_in_double() -> None:
    metric = PoseError()
    metric.update(torch.eye(3)[None], torch.eye(3)[None])
    assert metric.compute()["mean"].dtype == torch.double


def test_merged_states_give_the_value_of_all() -> None:
    """What another process contributes: its states are concatenated."""
    true = random_rotations(10)
    estimated = Rotation.from_rotvec(np.random.default_rng(0).normal(0, 0.4, (10, 3))).as_matrix() @ true
    first, second = PoseError(), PoseError()
    first.update(torch.from_numpy(estimated[:4]), torch.from_numpy(true[:4]))
    second.update(torch.from_numpy(estimated[4:]), torch.from_numpy(true[4:]))
    first.merge_state(second)
    expected = measured(estimated, true)
    assert {name: pytest.approx(float(value)) for name, value in first.compute().items()} == expected
