from __future__ import annotations

import csv
import json
import pathlib

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from sdfsrn.data import FolderSource
from sdfsrn.data.conventions import CONVENTIONS
from sdfsrn.poses.table import PoseRecord, moved_sheet, read_poses, take_over, write_poses

PERSPECTIVE = [("opencv", "matrices"), ("opengl", "matrices"), ("nmr", "matrices"), ("pascal3d", "matrices")]


def rotations(count: int, seed: int = 0) -> np.ndarray:
    return Rotation.random(count, random_state=seed).as_matrix()


def folder(root: pathlib.Path, convention: str, kind: str) -> pathlib.Path:
    """A folder of three pictures with poses of one convention."""
    rng = np.random.default_rng(0)
    rows = []
    for i, pose in enumerate(rotations(3)):
        rgba = np.zeros((20, 24, 4), np.uint8)
        rgba[5:15, 6:18] = [*rng.integers(255, size=3), 255]
        (root / "sub").mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgba).save(root / f"sub/{i}.png")
        row = {"image": f"sub/{i}.png", "split": "train", "convention": convention}
        if kind == "angles":
            row |= {"azimuth": 30 * i, "elevation": 20 - i, "theta": 5 * i, "scale": 0.8, "x": 0.1, "y": 0}
        else:
            frame = CONVENTIONS[convention]
            matrix = frame.to_opencv.T @ np.column_stack([pose, [0, 0, 3]])
            row |= {"world_to_camera": " ".join(map(repr, matrix.flatten().tolist())), "intrinsics": "30 30 12 10"}
            row["projection"] = "perspective"
        rows.append(row)
    with (root / "cameras.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return root


@pytest.mark.parametrize(("convention", "kind"), [("nmr", "angles"), ("pascal3d", "angles"), *PERSPECTIVE])
def test_refined_poses_are_taken_over(tmp_path: pathlib.Path, convention: str, kind: str) -> None:
    """What `FolderSource` reads after it are the refined rotations, and nothing else has changed."""
    root = folder(tmp_path / "birds", convention, kind)
    source = FolderSource(str(root), "train", image_size=16)
    cameras = [source.picture(i).camera for i in range(3)]
    annotated = [camera.world_to_camera[:, :3].double().numpy() for camera in cameras]
    refined = Rotation.from_rotvec([[0.1, 0.2, -0.1], [0, 0, 0], [0.4, 0, 0]]).as_matrix() @ annotated
    records = [PoseRecord(source.names[i], annotated[i], refined[i], False, 0.5, 0.6) for i in (0, 2)]
    write_poses(tmp_path, records, np.eye(3), True)
    before = (root / "cameras.csv").read_bytes()
    moved = root.rename(tmp_path / "moved")  # the folder may be somewhere else by then
    assert take_over(moved, read_poses(tmp_path / "poses.csv")) == 2
    assert (moved / "cameras_before.csv").read_bytes() == before
    again = FolderSource(str(moved), "train", image_size=16)
    for i, old in enumerate(cameras):
        new = again.picture(i).camera
        expected = annotated[1] if i == 1 else refined[i]
        np.testing.assert_allclose(new.world_to_camera[:, :3].numpy(), expected, atol=1e-4 if i != 1 else 0)
        np.testing.assert_allclose(new.world_to_camera[:, 3], old.world_to_camera[:, 3], atol=1e-6)
        np.testing.assert_allclose(new.intrinsics, old.intrinsics, atol=1e-6)
    take_over(moved, read_poses(tmp_path / "poses.csv"))
    assert (moved / "cameras_before.csv").read_bytes() == before  # the first one stays


def test_the_table_and_the_sheet(tmp_path: pathlib.Path) -> None:
    root = folder(tmp_path / "birds", "nmr", "angles")
    source = FolderSource(str(root), "train", image_size=16)
    annotated = [source.picture(i).camera.world_to_camera[:, :3].double().numpy() for i in range(3)]
    turn = Rotation.from_rotvec([0, np.radians(12), 0]).as_matrix()
    records = [
        PoseRecord(name, pose, turn @ pose if i else pose, i == 2, 0.5, 0.75)
        for i, (name, pose) in enumerate(zip(source.names, annotated, strict=True))
    ]
    write_poses(tmp_path, records, np.eye(3), True)
    rows = list(csv.DictReader((tmp_path / "poses.csv").open()))
    assert [row["moved_by"] for row in rows] == ["0.000", "12.000", "12.000"]
    assert [row["flipped"] for row in rows] == ["0", "0", "1"]
    assert (rows[1]["annotated_azimuth"], rows[1]["iou_before"], rows[1]["iou_after"]) == ("30.0000", "0.5000", "0.7500")
    summary = json.loads((tmp_path / "poses.json").read_text())
    assert (summary["pictures"], summary["flipped"], summary["refined"]) == (3, 1, True)
    assert summary["median_moved_by"] == pytest.approx(6)
    sheet = np.asarray(moved_sheet(source, records, count=1))
    left, right = sheet[8:200, 8:200], sheet[8:200, 208:400]
    assert (left != right).any()  # the box is turned


def test_poses_that_cannot_be_taken_over(tmp_path: pathlib.Path) -> None:
    root = folder(tmp_path / "birds", "nmr", "angles")
    path = tmp_path / "poses.csv"
    with pytest.raises(ValueError, match="Could not read refined poses from"):
        read_poses(path)
    path.write_text("image,azimuth\na,1\n")
    with pytest.raises(ValueError, match="Expected refined poses with the columns image, azimuth, elevation, theta in"):
        read_poses(path)
    path.write_text("image,azimuth,elevation,theta\nother.png,1,2,x\n")
    with pytest.raises(ValueError, match="Expected numbers for azimuth, elevation, theta in every row of"):
        read_poses(path)
    path.write_text("image,azimuth,elevation,theta\nother.png,1,2,3\n")
    before = (root / "cameras.csv").read_bytes()
    with pytest.raises(ValueError, match=r"Expected refined poses of pictures in .*cameras\.csv, got those of other pictures"):
        take_over(root, read_poses(path))
    assert (root / "cameras.csv").read_bytes() == before
