"""The table of an annotated folder: what is there stays, and `data=folder` reads the same poses as before."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import torch

from photographs import write_discs
from sdfsrn.annotating.drafts import Pose
from sdfsrn.annotating.table import CameraTable
from sdfsrn.data.conventions import camera_from_angles
from sdfsrn.data.cropping import Window
from sdfsrn.data.sources.table import Angles, read_table


def test_a_new_table_and_its_rows(tmp_path: pathlib.Path) -> None:
    table = CameraTable(tmp_path)
    size = (200, 100)
    poses = {"a.jpg": Pose(10, 20, -3), "b,#= [ü].jpg": Pose(359.75, -90, 180, 0.5, -0.25, 0.125)}
    for name, pose in poses.items():
        row = {"image": name, "mask": f"masks/{name}.png", "split": table.next_split()}
        table.put(name, row | table.cells(pose, size))
    head = (tmp_path / "cameras.csv").read_text().splitlines()[0]
    assert head == "image,mask,split,azimuth,elevation,theta,scale,x,y,convention"
    again = CameraTable(tmp_path)
    assert {row["image"]: again.pose(row, size) for row in again.rows} == poses
    records = read_table(tmp_path, None)
    assert [(r.image, r.mask, r.split, r.convention) for r in records] == [
        ("a.jpg", "masks/a.jpg.png", "train", "nmr"),
        ("b,#= [ü].jpg", "masks/b,#= [ü].jpg.png", "val", "nmr"),
    ]
    again.put("a.jpg", None)
    again.put("gone.jpg", None)
    assert [record.image for record in read_table(tmp_path, None)] == ["b,#= [ü].jpg"]
    again.put("b,#= [ü].jpg", None)
    assert CameraTable(tmp_path).rows == []


def test_other_rows_and_columns_are_kept(tmp_path: pathlib.Path) -> None:
    head = "image,shape,azimuth,elevation,theta,scale,split\n"
    text = f"{head}./a.jpg,true.ply,1,2,3,0.5,val\nother.jpg,,4,5,6,,\nb.jpg,,7,8,9,,test\n"
    (tmp_path / "cameras.csv").write_text("\ufeff" + text)
    table = CameraTable(tmp_path, "nmr")
    (row,) = table.find("a.jpg")
    table.put("a.jpg", {**row, **table.cells(Pose(100, 2, 3, 0.5), (10, 10))})
    lines = (tmp_path / "cameras.csv").read_text().splitlines()
    assert lines == [
        "image,split,shape,azimuth,elevation,theta,scale,x,y,convention",
        "./a.jpg,val,true.ply,100,2,3,0.5,,,nmr",
        "other.jpg,,,4,5,6,,,,nmr",
        "b.jpg,test,,7,8,9,,,,nmr",
    ]


def test_splits_that_follow_from_the_place_of_a_row_are_written_down(tmp_path: pathlib.Path) -> None:
    """The ninth of ten rows is val and the tenth test, also when another row comes with a split of its own."""
    (tmp_path / "cameras.csv").write_text(
        "image,azimuth,elevation,theta,convention\n" + "".join(f"{i}.jpg,{i},0,0,nmr\n" for i in range(10))
    )
    before = [record.split for record in read_table(tmp_path, None)]
    table = CameraTable(tmp_path)
    table.put("new.jpg", {"image": "new.jpg", "split": table.next_split(), **table.cells(Pose(0, 0, 0), (10, 10))})
    assert [record.split for record in read_table(tmp_path, None)] == [*before, "train"]


def test_splits_are_eight_to_one_to_one_and_all_there_from_three_on(tmp_path: pathlib.Path) -> None:
    table = CameraTable(tmp_path)
    for i in range(40):
        table.put(str(i), {"image": str(i), "split": table.next_split(), **table.cells(Pose(0, 0, 0), (10, 10))})
    splits = [row["split"] for row in table.rows]
    assert set(splits[:3]) == {"train", "val", "test"}
    assert [splits.count(split) for split in ("train", "val", "test")] == [32, 4, 4]


def test_poses_of_pascal3d_stay_in_its_convention(tmp_path: pathlib.Path) -> None:
    """The camera of a row is that of the pose on the page, whatever the table's convention."""
    (tmp_path / "cameras.csv").write_text(
        "image,azimuth,elevation,theta,scale,x,y,convention\na.jpg,130,25,7,70,60.5,40,pascal3d\n"
    )
    table, size = CameraTable(tmp_path), (120, 90)
    pose = table.pose(table.rows[0], size)
    expected = read_table(tmp_path, None)[0].pose
    assert isinstance(expected, Angles)
    true = expected.camera("pascal3d", size, Window(0, 0, 1), (0.0, 0.0))  # which scale and origin replace
    shown = camera_from_angles(pose[:3], pose.scale, (pose.x, pose.y), "nmr", size)
    torch.testing.assert_close(shown, true)
    table.put("a.jpg", {**table.rows[0], **table.cells(pose._replace(azimuth=10), size)})
    row = table.rows[0]
    assert [float(row[name]) for name in ("azimuth", "elevation", "theta", "scale", "x", "y")] == pytest.approx(
        [350, 25, 7, 70, 60.5, 40]
    )
    assert row["convention"] == "pascal3d"


def test_a_table_that_another_program_changes_is_read_again(tmp_path: pathlib.Path) -> None:
    write_discs(tmp_path, ["a.png"])
    table = CameraTable(tmp_path)
    table.put("a.png", {"image": "a.png", **table.cells(Pose(1, 2, 3), (10, 10))})
    text = (tmp_path / "cameras.csv").read_text()
    (tmp_path / "cameras.csv").write_text(text + text.splitlines()[1].replace("a.png", "b.png") + "\n")
    table.put("a.png", {"image": "a.png", **table.cells(Pose(5, 2, 3), (10, 10))})
    assert [(row["image"], float(row["azimuth"])) for row in CameraTable(tmp_path).rows] == [("a.png", 5), ("b.png", 1)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("cameras.json", "[]", "cameras.json"),
        (
            "cameras.csv",
            f"image,world_to_camera,intrinsics,convention\na,{' '.join(map(str, np.eye(4)[:3].flatten()))},1 1 0 0,nmr",
            "matrices",
        ),
        ("cameras.csv", "image,azimut\na,1", "did you mean azimuth"),
        ("cameras.csv", "image,azimuth,elevation,theta\na,1,2,3", "convention"),
    ],
)
def test_other_tables_are_refused_and_not_touched(tmp_path: pathlib.Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        CameraTable(tmp_path)
    assert (tmp_path / name).read_text() == text
