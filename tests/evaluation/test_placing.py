"""Meshes of turned worlds, moved into the true one."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from posed import Knowing, photograph, seat
from scenes import CAMERAS
from sdfsrn import EvaluationProtocol
from sdfsrn.cli.loading import load_protocol
from sdfsrn.evaluation.measuring import TrueShape, measure
from sdfsrn.evaluation.placing import in_true_world, lay_over
from sdfsrn.functional.camera import PerspectiveCamera
from sdfsrn.meshes.geometry import sample_surface

PROTOCOL = EvaluationProtocol(resolution=16, num_points=3000, num_truth=3000)


def truth(picture) -> TrueShape:
    points = torch.from_numpy(sample_surface(seat(), 3000, seed=1)[0]).float()
    return TrueShape(points, torch.zeros(0, 3), lambda x: None, [picture])


def turned(angle: float, axis: str = "y"):
    mesh = seat()
    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_euler(axis, angle, degrees=True).as_matrix()
    return mesh.apply_transform(transform)


@CAMERAS
def test_a_turned_world_is_no_error_through_cameras(kind: type) -> None:
    picture = photograph(seat(), kind, (37.0, 22.0, 0.0))
    true = truth(picture)
    wrong = turned(115.0)
    found = measure(lay_over(wrong, picture), true, PROTOCOL).values
    assert found["chamfer"] < 1.3 * measure(seat(), true, PROTOCOL).values["chamfer"]
    assert measure(wrong, true, PROTOCOL).values["chamfer"] > 5 * found["chamfer"]
    assert found["silhouette_iou"] > 0.93


def test_another_shape_stays_an_error() -> None:
    """Only the world is turned: a chair without a back does not become right."""
    picture = photograph(seat(), PerspectiveCamera, (37.0, 22.0, 0.0))
    stool = turned(115.0)
    stool.update_vertices(stool.vertices[:, 1] < 0.05)
    assert measure(lay_over(stool, picture), truth(picture), PROTOCOL).values["coverage"] > 0.05


def test_the_common_rotation_is_applied() -> None:
    picture = photograph(seat(), PerspectiveCamera, (37.0, 22.0, 0.0))
    back = Rotation.from_euler("y", -30, degrees=True).as_matrix()
    placed = in_true_world(turned(30.0), picture, dataclasses.replace(PROTOCOL, rotation=back.flatten().tolist()))
    np.testing.assert_allclose(placed.vertices, seat().vertices, atol=1e-9)
    np.testing.assert_array_equal(placed.visual.vertex_colors, seat().visual.vertex_colors)


def test_a_mesh_stays_the_same_without_either() -> None:
    mesh = seat()
    assert in_true_world(mesh, photograph(mesh, PerspectiveCamera, (0.0, 0.0, 0.0)), PROTOCOL) is mesh


def test_a_file_of_a_run_tells_the_rotation(tmp_path: pathlib.Path) -> None:
    rotation, model = Rotation.from_euler("yx", [20, 5], degrees=True).as_matrix(), Knowing(seat())
    (tmp_path / "poses.json").write_text(json.dumps({"world_rotation": rotation.tolist()}))
    protocol = load_protocol({"rotation": str(tmp_path / "poses.json")}, model)
    np.testing.assert_allclose(np.reshape(protocol.rotation, (3, 3)), rotation)
    for text in ("{}", "no", '{"world_rotation": [1, 2]}'):
        (tmp_path / "poses.json").write_text(text)
        with pytest.raises(ValueError, match="Expected a JSON file with 9 numbers as world_rotation"):
            load_protocol({"rotation": str(tmp_path / "poses.json")}, model)
