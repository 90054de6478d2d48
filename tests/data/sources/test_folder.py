"""A folder of pictures: what is read, and where world points fall in it."""

from __future__ import annotations

import csv
import json
import pathlib
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from sdfsrn.data.batches.datasets import PictureDataset
from sdfsrn.data.conventions import CAD_TO_WORLD, pascal3d_rotation
from sdfsrn.data.source import check_picture
from sdfsrn.data.sources.folder import FolderSource
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera

POINTS = {"red": np.array([0.3, 0.2, -0.1]), "green": np.array([-0.25, -0.1, 0.3])}  # in the convention's world
INKS = {"red": (220, 0, 0), "green": (0, 220, 0)}
WIDTH, HEIGHT = 150, 110
ANGLES = {"azimuth": 30, "elevation": 20, "theta": 10}


def write_table(root: pathlib.Path, rows: list[dict[str, Any]]) -> None:
    with (root / "cameras.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def numbers(matrix: np.ndarray) -> str:
    return " ".join(map(repr, np.asarray(matrix).flatten().tolist()))


def discs(places: dict[str, np.ndarray], width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """An RGBA picture of discs in red and green; places in pixels from the outer corner of the first."""
    y, x = np.mgrid[:height, :width] + 0.5
    image = np.full((height, width, 4), 90, np.uint8)
    image[..., 3] = 0
    for ink, (column, row) in places.items():
        image[np.hypot(x - column, y - row) < 6] = (*INKS[ink], 255)
    return Image.fromarray(image)


def found(picture) -> dict[str, np.ndarray]:
    """Screen coordinates of the middles of the discs."""
    size = picture.alpha.shape[0]
    at = (2 * np.arange(size) + 1) / size - 1
    result = {}
    for channel, ink in enumerate(INKS):
        other = picture.image[..., 1 - channel].astype(float)
        weight = picture.alpha * (picture.image[..., channel] > other)
        result[ink] = np.array([weight.sum(0) @ at, weight.sum(1) @ at]) / weight.sum()
    return result


def look(point: np.ndarray, pose: np.ndarray) -> np.ndarray:
    return pose @ [*point, 1]


ROTATION = pascal3d_rotation(130, 25, 7)  # any will do
CV_POSE = np.column_stack([ROTATION, [0.05, 0.1, 3]])
GL_POSE = np.column_stack([ROTATION, [0.05, 0.1, -3]])
FX, FY, CX, CY = 190.0, 180.0, 70.0, 60.0


def opencv(point: np.ndarray) -> np.ndarray:
    x, y, z = look(point, CV_POSE)
    return np.array([FX * x / z + CX, FY * y / z + CY]) + 0.5


def opengl(point: np.ndarray) -> np.ndarray:
    x, y, z = look(point, GL_POSE)
    return np.array([CX + FX * x / -z, CY - FY * y / -z])


def nmr(point: np.ndarray) -> np.ndarray:
    x, y, z = look(point, CV_POSE)
    return (np.array([2.5 * x / z, 3 * y / z + 0.1]) + 1) / 2 * [WIDTH, HEIGHT]


def orthographic(point: np.ndarray) -> np.ndarray:
    x, y, _ = look(point, CV_POSE)
    return np.array([60 * x + CX, 60 * y + CY]) + 0.5


def pascal3d(point: np.ndarray) -> np.ndarray:
    return (pascal3d_rotation(130, 25, 7) @ point)[:2] * 70 + [CX, CY] - 0.5


CASES = {
    "opencv": (opencv, {"world_to_camera": numbers(CV_POSE), "intrinsics": "190 180 70 60", "convention": "opencv"}),
    "opengl": (opengl, {"world_to_camera": numbers(GL_POSE), "intrinsics": "190 0 70 0 180 60 0 0 1", "convention": "opengl"}),
    "nmr": (nmr, {"world_to_camera": numbers(CV_POSE), "intrinsics": "2.5 3 0 0.1", "convention": "nmr"}),
    "orthographic": (
        orthographic,
        {
            "world_to_camera": numbers(CV_POSE),
            "intrinsics": "60 60 70 60",
            "convention": "opencv",
            "projection": "orthographic",
        },
    ),
    "pascal3d": (
        pascal3d,
        {"azimuth": 130, "elevation": 25, "theta": 7, "scale": 70, "x": CX, "y": CY, "convention": "pascal3d"},
    ),
}


@pytest.mark.parametrize("crop", [None, 1.3, 0.8])
@pytest.mark.parametrize("case", CASES)
def test_world_points_fall_where_the_conventions_formula_puts_them(
    tmp_path: pathlib.Path, case: str, crop: float | None
) -> None:
    formula, row = CASES[case]
    discs({ink: formula(point) for ink, point in POINTS.items()}).save(tmp_path / "a.png")
    np.save(tmp_path / "truth.npy", np.stack(list(POINTS.values())))
    write_table(tmp_path, [{"image": "a.png", "split": "val", "shape": "truth.npy", **row}])
    source = FolderSource(str(tmp_path), "val", image_size=200, crop=crop)
    picture, truth = source.picture(0), torch.from_numpy(source.points(0))
    assert picture.image.shape == (200, 200, 3)
    assert isinstance(picture.camera, OrthographicCamera if case in ("orthographic", "pascal3d") else PerspectiveCamera)
    turn = CAD_TO_WORLD if case == "pascal3d" else np.eye(3)
    expected = {tuple((turn @ point).round(5)): ink for ink, point in POINTS.items()}
    middles = found(picture)
    for point in truth:
        ink = expected[tuple(point.double().numpy().round(5))]
        screen = picture.camera.screen(picture.camera.project(point[None])[0])[0].numpy()
        if crop != 0.8:  # which cuts the discs
            assert screen == pytest.approx(middles[ink], abs=0.006)
        else:
            assert np.abs(screen - middles[ink]).max() < 0.2
    check_picture(picture, "a")
    assert picture.camera.world_to_camera.dtype == picture.camera.intrinsics.dtype == torch.float32


def silhouette(root: pathlib.Path, **row: Any) -> None:
    """One picture whose silhouette's box is [30, 70] x [20, 80]."""
    image = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    image[..., 3] = 0
    image[20:80, 30:70, 3] = 255
    Image.fromarray(image).save(root / "a.png")
    write_table(root, [{"image": "a.png", **ANGLES, "convention": "nmr", **row}])


@pytest.mark.parametrize("convention", ["nmr", "pascal3d"])
def test_without_scale_the_unit_is_half_the_window(tmp_path: pathlib.Path, convention: str) -> None:
    silhouette(tmp_path, convention=convention)
    camera = FolderSource(str(tmp_path), "train", crop=1.2).picture(0).camera
    torch.testing.assert_close(camera.intrinsics, torch.eye(3))
    torch.testing.assert_close(camera.world_to_camera[:, 3], torch.tensor([0, 0, 2.5]))
    whole = FolderSource(str(tmp_path), "train").picture(0).camera.intrinsics  # 150 x 150, from row -20 on
    torch.testing.assert_close(whole, torch.tensor([[1, 0, 2 * 50 / 150 - 1], [0, 1, 2 * 70 / 150 - 1], [0, 0, 1]]))


def test_a_given_origin_and_scale_are_kept(tmp_path: pathlib.Path) -> None:
    silhouette(tmp_path, convention="pascal3d", x=40.5, y=65.5)
    camera = FolderSource(str(tmp_path), "train", crop=1.2).picture(0).camera
    torch.testing.assert_close(camera.intrinsics[:2, 2], torch.tensor([-10 / 36, 15 / 36]))
    silhouette(tmp_path, convention="pascal3d", scale=18)
    camera = FolderSource(str(tmp_path), "train", crop=1.2).picture(0).camera
    torch.testing.assert_close(camera.intrinsics, torch.diag(torch.tensor([0.5, 0.5, 1])))


def test_csv_and_json_agree(tmp_path: pathlib.Path) -> None:
    rows: list[dict[str, Any]] = []
    for i in range(3):
        discs({"red": np.array([40, 50]), "green": np.array([90, 60 + i])}).save(tmp_path / f"{i}.png")
        pose = np.column_stack([pascal3d_rotation(30 * i, 10, 1 / 3), [0, 0.1, 3]])
        rows.append({"image": f"{i}.png", "world_to_camera": pose.tolist(), "intrinsics": [190.5, 180, 70, 60]})
    rows[1]["intrinsics"] = [[190, 0, 70], [0, 180, 60.5], [0, 0, 1]]
    rows[1]["shape"] = None
    (tmp_path / "cameras.json").write_text(json.dumps(rows))
    one = FolderSource(str(tmp_path), "train", 32, 1.1, "opencv")
    by_json = [one.picture(i) for i in range(3)]
    (tmp_path / "cameras.json").unlink()
    flat = [row | {k: numbers(row[k]) for k in ("world_to_camera", "intrinsics")} for row in rows]
    write_table(tmp_path, flat)
    text = (tmp_path / "cameras.csv").read_text().replace(",", " , ").replace("\n", "\n\n")
    (tmp_path / "cameras.csv").write_text("\ufeff" + text, encoding="utf-8")  # as a spreadsheet may save it
    two = FolderSource(str(tmp_path), "train", 32, 1.1, "opencv")
    assert two.names == one.names == [str(tmp_path / f"{i}.png") for i in range(3)]
    for index, picture in enumerate(by_json):
        other = two.picture(index)
        assert np.array_equal(picture.image, other.image)
        torch.testing.assert_close(picture.camera, other.camera, rtol=0, atol=0)


def test_a_mask_beside_the_image_is_as_good_as_alpha(tmp_path: pathlib.Path) -> None:
    image = discs({"red": np.array([40, 50]), "green": np.array([90, 60])})
    image.save(tmp_path / "alpha.png")
    image.convert("RGB").save(tmp_path / "image.png")
    image.getchannel("A").save(tmp_path / "mask.png")
    image.getchannel("A").convert("1").save(tmp_path / "bits.png")
    masks = [("alpha.png", ""), ("image.png", "mask.png"), ("image.png", "bits.png")]
    write_table(tmp_path, [{"image": image, "mask": mask, **ANGLES} for image, mask in masks])
    source = FolderSource(str(tmp_path), "train", crop=1.2, convention="nmr")
    first = source.picture(0)
    for index in (1, 2):
        assert np.array_equal(first.image, source.picture(index).image)
        assert np.array_equal(first.alpha, source.picture(index).alpha)
    # One photo of two objects: their masks tell them apart.
    assert [pathlib.Path(name).name for name in source.names] == ["alpha.png", "mask.png", "bits.png"]


def test_a_photo_is_turned_upright(tmp_path: pathlib.Path) -> None:
    """Orientation 6: the camera was held with its right side down; poses and masks are of the upright picture."""
    upright = discs({"red": np.array([40, 50]), "green": np.array([90, 60])})
    upright.getchannel("A").save(tmp_path / "mask.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.convert("RGB").transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.jpg", exif=exif, quality=98, subsampling=0)
    assert Image.open(tmp_path / "a.jpg").size == (HEIGHT, WIDTH)
    write_table(tmp_path, [{"image": "a.jpg", "mask": "mask.png", **ANGLES}])
    middles = found(FolderSource(str(tmp_path), "train", 150, convention="nmr").picture(0))
    for ink, place in {"red": (40, 50), "green": (90, 60)}.items():
        expected = np.array([place[0], place[1] + (WIDTH - HEIGHT) / 2]) / WIDTH * 2 - 1
        assert middles[ink] == pytest.approx(expected, abs=0.01)


def test_webp(tmp_path: pathlib.Path) -> None:
    discs({"red": np.array([40, 50]), "green": np.array([90, 60])}).save(tmp_path / "a.webp", lossless=True)
    write_table(tmp_path, [{"image": "a.webp", **ANGLES}])
    picture = FolderSource(str(tmp_path), "train", 150, convention="nmr").picture(0)
    assert found(picture)["red"] == pytest.approx([2 * 40 / 150 - 1, 2 * 70 / 150 - 1], abs=0.01)


def test_a_large_photo(tmp_path: pathlib.Path) -> None:
    """12 megapixels to 64 x 64: the silhouette keeps its area, and the camera its place to a hundredth of a pixel."""
    width, height = 4000, 3000
    y, x = np.ogrid[:height, :width]
    disc = (np.hypot(x + 0.5 - 2500.0, y + 0.5 - 900.0) < 600).astype(np.uint8) * 255
    Image.fromarray(disc).save(tmp_path / "mask.png", compress_level=1)
    Image.new("RGB", (width, height), (10, 200, 30)).save(tmp_path / "a.jpg")
    pose = numbers(np.column_stack([np.eye(3), [0, 0, 3]]))
    row = {"image": "a.jpg", "mask": "mask.png", "world_to_camera": pose, "intrinsics": "5000 5000 2499.5 899.5"}
    write_table(tmp_path, [row])
    picture = FolderSource(str(tmp_path), "train", 64, 1.25, "opencv").picture(0)
    assert picture.alpha.sum() == pytest.approx(np.pi * 32**2 / 1.25**2, rel=1e-3)
    torch.testing.assert_close(picture.camera.intrinsics, torch.diag(torch.tensor([10000 / 1500, 10000 / 1500, 1])))
    assert np.abs(picture.image.astype(int) - [10, 200, 30]).max() <= 2


SHAPES = {
    "cube.obj": lambda path: trimesh.creation.box((1, 1, 1)).export(path),
    "cube.ply": lambda path: trimesh.creation.box((1, 1, 1)).export(path),
    "cube.off": lambda path: trimesh.creation.box((1, 1, 1)).export(path),
    "cube.glb": lambda path: trimesh.creation.box((1, 1, 1)).export(path),
    "cube.stl": lambda path: trimesh.creation.box((1, 1, 1)).export(path),
    "points.npy": lambda path: np.save(path, trimesh.creation.box((1, 1, 1)).sample(500)),
    "points.npz": lambda path: np.savez(path, points=trimesh.creation.box((1, 1, 1)).sample(500)),
    "points.ply": lambda path: trimesh.PointCloud(trimesh.creation.box((1, 1, 1)).sample(500)).export(path),
}


@pytest.mark.parametrize("name", SHAPES)
def test_truth_is_a_mesh_or_a_cloud(tmp_path: pathlib.Path, name: str) -> None:
    SHAPES[name](tmp_path / name)
    silhouette(tmp_path, split="test", shape=name, scale=1)
    source = FolderSource(str(tmp_path), "test", num_points=300)
    points = source.points(0)
    assert points.shape == (300, 3)
    assert points.dtype == np.float32
    assert np.abs(points).max(1) == pytest.approx(0.5, abs=1e-5)
    assert np.array_equal(points, source.points(0))
    assert not np.array_equal(points, FolderSource(str(tmp_path), "test", num_points=300, seed=1).points(0))
    assert PictureDataset(source).views([0]).points.shape == (1, 300, 3)


def test_training_never_opens_shapes(tmp_path: pathlib.Path) -> None:
    silhouette(tmp_path, shape="gone.obj")
    assert FolderSource(str(tmp_path), "train").points(0).shape == (0, 3)
    silhouette(tmp_path, split="val")
    assert FolderSource(str(tmp_path), "val").points(0).shape == (0, 3)


def test_a_true_mesh_knows_its_normals_and_its_inside(tmp_path: pathlib.Path) -> None:
    """In our world: boxes of three sides, one in the frame of PASCAL3D+, with corners that faces do not share."""
    box = trimesh.creation.box((0.6, 0.2, 0.4))
    loose = trimesh.Trimesh(box.triangles.reshape(-1, 3), np.arange(36).reshape(-1, 3), process=False)
    for convention, turn in (("nmr", np.eye(3)), ("pascal3d", CAD_TO_WORLD)):
        silhouette(tmp_path, split="test", shape="true.ply", scale=1, convention=convention)
        loose.export(tmp_path / "true.ply")
        source = FolderSource(str(tmp_path), "test", num_points=500)
        points, normals = source.points(0), source.normals(0)
        height = (normals * points).sum(-1)  # of the plane over the middle: half a side
        np.testing.assert_allclose(height, np.abs(normals @ turn) @ [0.3, 0.1, 0.2], atol=1e-6)
        queries = np.random.default_rng(0).uniform(-0.4, 0.4, (2000, 3))
        expected = (np.abs(queries @ turn) < [0.3, 0.1, 0.2]).all(1)
        assert np.array_equal(source.occupancy(0, queries), expected)
        loose.update_faces(np.arange(12) > 0)
        loose.export(tmp_path / "true.ply")
        assert FolderSource(str(tmp_path), "test").occupancy(0, queries) is None
        loose = trimesh.Trimesh(box.triangles.reshape(-1, 3), np.arange(36).reshape(-1, 3), process=False)
    np.save(tmp_path / "true.npy", np.zeros((5, 3)) + 0.1)
    silhouette(tmp_path, split="test", shape="true.npy", scale=1)
    source = FolderSource(str(tmp_path), "test")
    assert source.normals(0).shape == (0, 3)
    assert source.occupancy(0, queries) is None
