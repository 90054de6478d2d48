"""Each convention against its own textbook formula, written out here once more, and back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from sdfsrn.data.conventions import (
    CAD_TO_WORLD,
    CONVENTIONS,
    angles_from_camera,
    angles_from_rotation,
    camera_from_angles,
    camera_from_matrices,
    crop_camera,
    matrices_from_camera,
    pascal3d_rotation,
    rotation_from_angles,
)
from sdfsrn.functional.camera import Camera, OrthographicCamera, PerspectiveCamera, look_at_origin

SIZE = (480, 360)
X = np.array([0.1, -0.4, 0.05])
PASCAL = {"a": 220.893503, "e": 4.948197, "theta": 8.335473, "d": 5.405864, "px": 259.901125, "py": 266.329463, "m": 3000.0}


def project_3d(x: np.ndarray, a: float, e: float, theta: float, d: float, px: float, py: float, m: float) -> np.ndarray:
    """project_3d.m of PASCAL3D+, line by line: CAD point to MATLAB's pixels."""
    a, e, theta = np.deg2rad([a, e, theta])
    c = d * np.array([np.cos(e) * np.sin(a), -np.cos(e) * np.cos(a), np.sin(e)])
    a, e = -a, -(np.pi / 2 - e)
    rz = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    rx = np.array([[1, 0, 0], [0, np.cos(e), -np.sin(e)], [0, np.sin(e), np.cos(e)]])
    r = rx @ rz
    p = np.diag([m, m, -1]) @ np.column_stack([r, -r @ c])
    h = p @ [*x, 1]
    x2 = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]]) @ (h[:2] / h[2])
    return np.array([x2[0] + px, -x2[1] + py])


def pixels(camera: Camera, x: np.ndarray, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Where our camera sees a world point, in pixels from the outer corner of the first one."""
    screen = camera.screen(camera.project(torch.from_numpy(x)[None])[0])[0].numpy()
    return (screen + 1) / 2 * size


def random_rotation(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def test_the_worked_example_of_pascal3d() -> None:
    rotation = pascal3d_rotation(PASCAL["a"], PASCAL["e"], PASCAL["theta"])
    weak = camera_from_angles(
        (PASCAL["a"], PASCAL["e"], PASCAL["theta"]), 3000 / PASCAL["d"], (PASCAL["px"], PASCAL["py"]), "pascal3d", SIZE
    )
    assert pixels(weak, CAD_TO_WORLD @ X) + 0.5 == pytest.approx([355.620, 206.570], abs=1e-3)
    pose = np.column_stack([rotation, [0, 0, PASCAL["d"]]])
    intrinsics = np.array([[3000, 0, PASCAL["px"]], [0, 3000, PASCAL["py"]], [0, 0, 1.0]])
    full = camera_from_matrices(pose, intrinsics, "pascal3d", SIZE)
    assert pixels(full, CAD_TO_WORLD @ X) + 0.5 == pytest.approx([349.610, 210.322], abs=1e-3)
    assert pixels(full, CAD_TO_WORLD @ X) + 0.5 == pytest.approx(project_3d(X, **PASCAL), abs=1e-9)


def test_pascal3d_is_project_3d_for_any_pose() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        a, e, theta = generator.uniform(-180, 180), generator.uniform(-90, 90), generator.uniform(-180, 180)
        pose = np.column_stack([pascal3d_rotation(a, e, theta), [0, 0, 6.0]])
        camera = camera_from_matrices(pose, np.array([[900, 0, 200], [0, 900, 150], [0, 0, 1.0]]), "pascal3d", SIZE)
        x = generator.normal(size=3)
        expected = project_3d(x, a, e, theta, 6.0, 200, 150, 900)
        assert pixels(camera, CAD_TO_WORLD @ x) + 0.5 == pytest.approx(expected, abs=1e-6)


def test_the_cads_frame_turns_into_ours_without_mirroring() -> None:
    assert np.linalg.det(CAD_TO_WORLD) == pytest.approx(1)
    assert (CAD_TO_WORLD @ [0, 0, 1]).tolist() == [0, 1, 0]  # up
    assert (CAD_TO_WORLD @ [0, -1, 0]).tolist() == [0, 0, -1]  # front


def test_opencv_opengl_and_nmr_by_their_own_formulas() -> None:
    generator = np.random.default_rng(1)
    fx, fy, cx, cy = 300, 280, 200, 170
    for seed in range(20):
        pose = np.column_stack([random_rotation(seed), [0.1, -0.2, 5]])
        x = generator.normal(size=3)
        intrinsics = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
        eye = pose @ [*x, 1]
        expected = np.array([fx * eye[0] / eye[2] + cx, fy * eye[1] / eye[2] + cy])
        # OpenCV and NMR share their axes; OpenCV counts from the middle of a pixel.
        assert pixels(camera_from_matrices(pose, intrinsics, "opencv", SIZE), x) == pytest.approx(expected + 0.5)
        on_screen = np.array([[1.5, 0, 0.1], [0, 2, -0.2], [0, 0, 1]])
        expected = [1.5 * eye[0] / eye[2] + 0.1, 2 * eye[1] / eye[2] - 0.2]
        assert pixels(camera_from_matrices(pose, on_screen, "nmr", SIZE), x) * 2 / SIZE - 1 == pytest.approx(expected)
        # OpenGL's camera looks along its own -z, y up; rows still count downward.
        pose = np.column_stack([random_rotation(seed), [0.1, -0.2, -5]])
        eye = pose @ [*x, 1]
        expected = np.array([cx + fx * eye[0] / -eye[2], cy - fy * eye[1] / -eye[2]])
        assert pixels(camera_from_matrices(pose, intrinsics, "opengl", SIZE), x) == pytest.approx(expected)
        expected = np.array([cx + fx * eye[0], cy - fy * eye[1]])
        assert pixels(camera_from_matrices(pose, intrinsics, "opengl", SIZE, "orthographic"), x) == pytest.approx(expected)


@pytest.mark.parametrize(("convention", "projection"), list(itertools.product(CONVENTIONS, ["perspective", "orthographic"])))
def test_matrices_come_back(convention: str, projection: str) -> None:
    pose = np.column_stack([random_rotation(3), [0.1, -0.2, 4]])
    intrinsics = np.array([[300, 0, 20], [0, 280, 17], [0, 0, 1.0]])
    camera = camera_from_matrices(pose, intrinsics, convention, SIZE, projection)
    assert isinstance(camera, OrthographicCamera if projection == "orthographic" else PerspectiveCamera)
    assert np.linalg.det(camera.world_to_camera[:, :3].numpy()) == pytest.approx(1)
    back = matrices_from_camera(camera, convention, SIZE)
    np.testing.assert_allclose(back[0], pose, atol=1e-6)
    np.testing.assert_allclose(back[1], intrinsics, atol=1e-6)


@pytest.mark.parametrize("convention", ["nmr", "pascal3d"])
def test_angles_come_back(convention: str) -> None:
    for a, e, theta in itertools.product([0, 75, 180, 300.5], [-80, 0, 33, 89], [-170, 0, 45]):
        camera = camera_from_angles((a, e, theta), 1.3, (20, 30), convention, SIZE)
        angles, scale, origin = angles_from_camera(camera, convention, SIZE)
        assert np.cos(np.deg2rad(np.subtract(angles, (a, e, theta)))) == pytest.approx(1, abs=1e-9)
        assert (angles[1], scale) == pytest.approx((e, 1.3), abs=1e-6)
        assert origin == pytest.approx((20, 30), abs=1e-6)
        moved = camera._replace(world_to_camera=camera.world_to_camera + torch.tensor([[0, 0, 0, 0.1]] * 3))
        again = camera_from_angles(*angles_from_camera(moved, convention, SIZE), convention, SIZE)
        assert pixels(again, X) == pytest.approx(pixels(moved, X), abs=1e-6)


@pytest.mark.parametrize(("convention", "elevation"), list(itertools.product(["nmr", "pascal3d"], [-90, 90])))
def test_from_straight_above_the_rotation_comes_back(convention: str, elevation: float) -> None:
    rotation = rotation_from_angles(40, elevation, 25, convention)
    angles = angles_from_rotation(rotation, convention)
    assert angles[2] == 0
    np.testing.assert_allclose(rotation_from_angles(*angles, convention), rotation, atol=1e-9)


def test_nmr_angles_are_those_of_look_at_origin_and_minus_those_of_pascal3d() -> None:
    for a, e in itertools.product([0, 30, 200], [-40, 0, 60]):
        angles = torch.deg2rad(torch.tensor([a, e], dtype=torch.float64))
        expected = look_at_origin(angles[:1], angles[1:], 2.5)[0]
        camera = camera_from_angles((a, e, 0), 1, (0, 0), "nmr", SIZE)
        torch.testing.assert_close(camera.world_to_camera, expected)
        np.testing.assert_allclose(
            rotation_from_angles(-a, e, 12, "pascal3d"), rotation_from_angles(a, e, 12, "nmr"), atol=1e-12
        )


@pytest.mark.parametrize("convention", ["nmr", "pascal3d"])
def test_theta_turns_the_picture_counterclockwise(convention: str) -> None:
    x = np.array([-1.0, 0, 0])  # seen from the front, -x is to the right
    straight, turned = (camera_from_angles((0, 0, theta), 1, (0, 0), convention, (2, 2)) for theta in (0, 90))
    origin = pixels(straight, np.zeros(3), (2, 2))
    right, up = pixels(straight, x, (2, 2)) - origin, pixels(turned, x, (2, 2)) - origin
    assert right[0] > 0
    assert right[1] == pytest.approx(0)
    assert up == pytest.approx([0, -right[0]], abs=1e-12)


@pytest.mark.parametrize("convention", ["nmr", "pascal3d"])
def test_pixels_of_a_weak_perspective_camera_are_square(convention: str) -> None:
    camera = camera_from_angles((0, 0, 0), 50, (10, 10), convention, SIZE)
    steps = [np.linalg.norm(pixels(camera, x) - pixels(camera, np.zeros(3))) for x in (np.eye(3)[0], np.eye(3)[1])]
    assert steps[0] == pytest.approx(steps[1])
    assert steps[0] == pytest.approx(50 if convention == "pascal3d" else 50 * SIZE[0] / 2)


@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_a_window_moves_the_screen(projection: str) -> None:
    pose = np.column_stack([random_rotation(4), [0, 0, 4]])
    camera = camera_from_matrices(pose, np.array([[90, 0, 200], [0, 80, 150], [0, 0, 1.0]]), "opengl", SIZE, projection)
    left, top, side = -12.25, 30.5, 77.125
    cropped = crop_camera(camera, SIZE, left, top, side)
    expected = 2 * (pixels(camera, X) - [left, top]) / side - 1
    assert pixels(cropped, X, (2, 2)) - 1 == pytest.approx(expected)


def test_conventions_without_angles_say_so() -> None:
    for convention in ("opencv", "opengl"):
        with pytest.raises(ValueError, match=f"nmr or pascal3d.*{convention}"):
            rotation_from_angles(0, 0, 0, convention)
