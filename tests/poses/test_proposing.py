"""Proposals for a folder: which pictures get one, what the table keeps, and a second round."""

from __future__ import annotations

import csv
import pathlib

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from posed import Knowing, globe, photograph
from sdfsrn.data.conventions import rotation_from_angles
from sdfsrn.data.preprocessing import Preprocessing
from sdfsrn.data.sources.folder import FolderSource
from sdfsrn.functional.camera import OrthographicCamera
from sdfsrn.poses.proposing import propose_folder, read_proposals
from sdfsrn.poses.search import PoseSearch

SEARCH = PoseSearch(azimuths=12, elevations=(15.0,), refined=1, steps=40)
ANGLES = {"a.png": (30.0, 10.0), "sub/b.png": (140.0, 20.0), "c.png": (265.0, 5.0)}


def write_picture(path: pathlib.Path, angles: tuple[float, float], mask: pathlib.Path | None = None) -> None:
    """A photograph of a globe in the middle of a larger picture, with an alpha channel or with a mask beside it."""
    picture = photograph(globe(0.4), OrthographicCamera, (*angles, 0.0))
    alpha = np.round(picture.alpha * 255).astype(np.uint8)
    for file in (path, mask or path):
        file.parent.mkdir(parents=True, exist_ok=True)
    if mask is None:
        Image.fromarray(np.concatenate([picture.image, alpha[..., None]], -1)).save(path)
    else:
        Image.fromarray(picture.image).save(path)
        Image.fromarray(alpha).save(mask)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    write_picture(tmp_path / "a.png", ANGLES["a.png"])
    write_picture(tmp_path / "sub/b.png", ANGLES["sub/b.png"], tmp_path / "masks/sub/b.png")
    write_picture(tmp_path / "c.png", ANGLES["c.png"])
    write_picture(tmp_path / ".annotations/hidden.png", (0.0, 0.0))
    Image.new("RGB", (20, 20)).save(tmp_path / "bare.png")  # without a silhouette
    (tmp_path / "cameras.csv").write_text("image,split,azimuth,elevation,theta,convention\na.png,val,30,10,0,nmr\n")
    return tmp_path


@pytest.fixture
def model() -> Knowing:
    """Knows the globe in the unit of the pictures: half of a window that is 1.2 times as wide."""
    model = Knowing(globe(1 / 1.2))
    model.preprocessing = Preprocessing(crop=1.2)
    return model


def table(root: pathlib.Path) -> dict[str, dict[str, str]]:
    return {row["image"]: row for row in csv.DictReader((root / "cameras.csv").read_text().splitlines())}


def apart(row: dict[str, str], angles: tuple[float, float]) -> float:
    found, true = (
        rotation_from_angles(*values, row["convention"])
        for values in ([float(row[name]) for name in ("azimuth", "elevation", "theta")], (*angles, 0.0))
    )
    return float(np.degrees(Rotation.from_matrix(found @ true.T).magnitude()))


def test_pictures_without_a_pose_get_one(folder: pathlib.Path, model: Knowing) -> None:
    before = (folder / "cameras.csv").read_bytes()
    rows = propose_folder(model, folder, SEARCH)
    assert [(row["image"], row["mask"]) for row in rows] == [("c.png", ""), ("sub/b.png", "masks/sub/b.png")]
    assert (folder / "cameras.csv").read_bytes() == before
    stored = read_proposals(folder)
    assert [row["image"] for row in stored] == ["c.png", "sub/b.png"]
    for row in stored:
        assert apart(row, ANGLES[row["image"]]) < 4
        assert 0.5 < float(row["iou"]) <= 1
        assert row["accepted"] == "0"


def test_accepted_proposals_are_training_pictures(folder: pathlib.Path, model: Knowing) -> None:
    propose_folder(model, folder, SEARCH, accept=True)
    rows = table(folder)
    assert list(rows) == ["a.png", "c.png", "sub/b.png"]
    assert rows["a.png"]["azimuth"] == "30"
    assert rows["a.png"]["split"] == "val"
    source = FolderSource(str(folder), "train", crop=1.2)
    assert len(source) == 2
    assert source.picture(1).alpha.max() == 1


def test_a_second_round_keeps_what_was_done_by_hand(folder: pathlib.Path, model: Knowing) -> None:
    propose_folder(model, folder, SEARCH, accept=True)
    lines = (folder / "cameras.csv").read_text().splitlines()
    header = lines[0].split(",")
    corrected = [line.split(",") for line in lines[1:]]
    row = next(row for row in corrected if row[header.index("image")] == "c.png")
    row[header.index("azimuth")] = "266.5"
    (folder / "cameras.csv").write_text("\n".join(",".join(row) for row in [header, *corrected]) + "\n")
    rows = propose_folder(model, folder, SEARCH, accept=True)
    assert [row["image"] for row in rows] == ["sub/b.png"]
    assert table(folder)["c.png"]["azimuth"] == "266.5"
    assert list(table(folder)) == ["a.png", "c.png", "sub/b.png"]


def test_the_tables_convention_is_kept(folder: pathlib.Path, model: Knowing) -> None:
    (folder / "cameras.csv").write_text("image,split,azimuth,elevation,theta,convention\na.png,val,330,10,0,pascal3d\n")
    propose_folder(model, folder, SEARCH, accept=True)
    row = table(folder)["c.png"]
    assert row["convention"] == "pascal3d"
    found = rotation_from_angles(*(float(row[name]) for name in ("azimuth", "elevation", "theta")), "pascal3d")
    true = rotation_from_angles(*ANGLES["c.png"], 0.0, "nmr")
    assert np.degrees(Rotation.from_matrix(found @ true.T).magnitude()) < 4


def test_a_folder_without_a_table_gets_one(folder: pathlib.Path, model: Knowing) -> None:
    (folder / "cameras.csv").unlink()
    assert len(propose_folder(model, folder, SEARCH, accept=True)) == 3
    assert {row["convention"] for row in table(folder).values()} == {"nmr"}


def test_tables_of_matrices_are_refused(folder: pathlib.Path, model: Knowing) -> None:
    before = "image,world_to_camera,intrinsics,convention\na.png,1 0 0 0 0 1 0 0 0 0 1 2,1 1 0 0,nmr\n"
    (folder / "cameras.csv").write_text(before)
    with pytest.raises(ValueError, match="Expected poses as azimuth, elevation, theta"):
        propose_folder(model, folder, SEARCH, accept=True)
    assert (folder / "cameras.csv").read_text() == before
    assert not (folder / "proposals.csv").exists()
