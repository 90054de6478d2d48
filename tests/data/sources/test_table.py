"""Bad tables, files and arguments: one line that names the file and the row."""

from __future__ import annotations

import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from sdfsrn.data.sources.folder import FolderSource
from sdfsrn.data.sources.table import read_rows, read_table, write_rows

HEAD = "image,mask,split,shape,azimuth,elevation,theta,scale,x,y,world_to_camera,intrinsics,projection,convention"
POSE = "1 0 0 0 0 1 0 0 0 0 1 3"


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Pictures 0.png ... 9.png with alpha, a bare image and masks, good and bad."""
    root = tmp_path / "data"
    root.mkdir()
    image = np.full((12, 16, 4), 200, np.uint8)
    image[..., 3] = 0
    image[4:8, 4:8, 3] = 255
    for i in range(10):
        Image.fromarray(image).save(root / f"{i}.png")
    Image.fromarray(image[..., :3]).save(root / "bare.png")
    Image.fromarray(image[..., 3]).save(root / "mask.png")
    Image.fromarray(image[..., 3].T).save(root / "turned.png")
    Image.fromarray(np.arange(12 * 16, dtype=np.uint8).reshape(12, 16) // 2).save(root / "dark.png")
    (root / "text.png").write_text("hello")
    image[..., 3] = 0
    Image.fromarray(image).save(root / "empty.png")
    Image.fromarray(image).save(tmp_path / "outside.png")
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    np.save(root / "cloud.npy", np.full((5, 3), np.nan))
    (root / "mesh.obj").write_text("v 0 0\nf 1 2 3")
    (root / "cut.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 9\nproperty float x\nend_header\n")
    return root


def row(**cells: object) -> str:
    """A good row, but for the cells given; azimuth=None takes the angles out."""
    filled = {"image": "0.png", "azimuth": 1, "elevation": 2, "theta": 3, "convention": "nmr"} | cells
    return ",".join("" if filled.get(name) is None else str(filled[name]) for name in HEAD.split(","))


def matrices(**cells: object) -> str:
    angles = dict.fromkeys(("azimuth", "elevation", "theta"))
    return row(**{**angles, "world_to_camera": POSE, "intrinsics": "1 1 0 0"} | cells)


def use(root: pathlib.Path, *rows: str, head: str = HEAD, split: str = "train", **options) -> FolderSource:
    """Write the table, open the split, take everything."""
    (root / "cameras.csv").write_text("\n".join([head, *rows]) + "\n")
    source = FolderSource(str(root), split, **options)
    for index in range(len(source)):
        source.picture(index)
        source.points(index)
    return source


def test_the_good_rows_are_good(folder: pathlib.Path) -> None:
    assert len(use(folder, row(), row(image="1.png", scale=2, x=1, y=2), row(image="bare.png", mask="mask.png"))) == 3
    assert len(use(folder, matrices(), matrices(image="1.png", split="val"), split="val")) == 1


BAD_ROWS = {
    "no image": (row(image=""), "image"),
    "neither pose": (row(azimuth=None, elevation=None, theta=None), "neither"),
    "both poses": (matrices(azimuth=1, elevation=1, theta=1), "azimuth and world_to_camera"),
    "scale beside matrices": (matrices(scale=1), "scale and world_to_camera"),
    "no elevation": (row(elevation=None), "no elevation"),
    "no azimuth and no theta": (row(azimuth=None, theta=None), "no azimuth and no theta"),
    "x alone": (row(x=1), "no y"),
    "no intrinsics": (matrices(intrinsics=None), "no intrinsics"),
    "no matrix": (matrices(world_to_camera=None), "no world_to_camera"),
    "11 numbers": (matrices(world_to_camera=POSE[2:]), "12 numbers in world_to_camera, got 11"),
    "5 numbers": (matrices(intrinsics="1 1 0 0 0"), "4 or 9 numbers in intrinsics, got 5"),
    "words": (row(theta="left"), 'theta, got "left"'),
    "NaN angle": (row(theta="nan"), "finite numbers in theta"),
    "NaN matrix": (matrices(world_to_camera=POSE.replace("3", "nan")), "finite numbers in world_to_camera"),
    "infinite": (row(scale="inf"), "finite numbers in scale"),
    "zero scale": (row(scale=0), "positive scale"),
    "elevation beyond the pole": (row(elevation=91), "between -90 and 90"),
    "a mirror": (matrices(world_to_camera="-1" + POSE[1:]), "rotation"),
    "no rotation": (matrices(world_to_camera="2" + POSE[1:]), "rotation"),
    "skew": (matrices(intrinsics="1 0.1 0 0 1 0 0 0 1"), "no skew"),
    "no focal length": (matrices(intrinsics="0 1 0 0"), "positive fx"),
    "unknown projection": (matrices(projection="perspektive"), "did you mean perspective"),
    "perspective angles": (row(projection="perspective"), "orthographic, got perspective"),
    "unknown convention": (row(convention="opencvv"), "did you mean opencv"),
    "no convention": (row(convention=None), r"convention, opencv.*data\.convention"),
    "angles of opencv": (row(convention="opencv"), "nmr or pascal3d.*got opencv"),
    "unknown split": (row(split="tset"), "did you mean test"),
    "missing image": (row(image="ghost.png"), "ghost.png, which does not exist"),
    "missing mask": (row(mask="ghost.png"), "mask .*ghost.png, which does not exist"),
    "a folder": (row(image="."), "does not exist"),
    "absolute": (row(image="/etc/hostname"), "image below the folder, got /etc/hostname"),
    "absolute, but below": (row(image="ROOT/0.png"), "image below the folder"),
    "parent": (row(image="../outside.png"), "image below the folder, got ../outside.png"),
    "mask of the parent": (row(mask="a/../../outside.png"), "mask below the folder"),
    "link": (row(image="link.png"), "image below the folder, got link.png"),
    "no picture": (row(image="text.png"), "text.png"),
    "no alpha": (row(image="bare.png"), r"alpha channel in .*bare\.png"),
    "mask of another size": (row(image="bare.png", mask="turned.png"), r"bare\.png and \(12, 16\) in .*turned\.png"),
    "empty silhouette": (row(image="empty.png"), r"empty in .*empty\.png"),
    "a mask that says nothing": (row(image="bare.png", mask="dark.png"), r"mode L, values 0 to 95: .*dark\.png"),
    "too many cells": (row() + ",1", "14 cells.* got 15"),
}
NO_ROW = {"no picture"}  # the reader of files knows no rows


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_named(folder: pathlib.Path, case: str) -> None:
    bad, message = BAD_ROWS[case]
    with pytest.raises(ValueError, match=message) as caught:
        use(
            folder,
            row(image="1.png") if "world_to" not in message else matrices(image="1.png"),
            bad.replace("ROOT", str(folder)),
        )
    text = str(caught.value)
    assert "row 3" in text or case in NO_ROW
    assert str(folder) in text
    assert "\n" not in text
    assert len(text) < 400


BAD_TRUTH = {
    "missing": ("gone.obj", "gone.obj, which does not exist"),
    "outside": ("../outside.npy", "shape below the folder"),
    "NaN": ("cloud.npy", "cloud.npy"),
    "broken mesh": ("mesh.obj", "mesh.obj"),
    "broken cloud": ("cut.ply", "cut.ply"),
    "broken archive": ("text.npz", "text.npz"),
    "no shape at all": ("0.png", "0.png"),
}


@pytest.mark.parametrize("case", BAD_TRUTH)
def test_bad_truth_is_named(folder: pathlib.Path, case: str) -> None:
    (folder / "text.npz").write_text("hello")
    shape, message = BAD_TRUTH[case]
    with pytest.raises(ValueError, match=message) as caught:
        use(folder, row(split="val", shape=shape, scale=3), split="val")
    assert "\n" not in str(caught.value)


def test_truth_needs_a_scale(folder: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="row 2: expected a scale beside a shape"):
        use(folder, row(split="val", shape="cloud.npy"), split="val")
    use(folder, row(shape="cloud.npy"))  # in training it is not opened


def test_the_first_few_bad_rows_are_told_together(folder: pathlib.Path) -> None:
    rows = [row(image=f"{i}.png", theta="x" if i != 4 else 0) for i in range(10)]
    with pytest.raises(ValueError, match=r"row 2: .*row 7: .*and 4 more rows of .*cameras\.csv") as caught:
        use(folder, *rows)
    assert str(caught.value).count("row ") == 5
    missing = [row(image=f"ghost{i}.png") for i in range(7)]
    with pytest.raises(ValueError, match=r"row 2: .*row 6: .*and 2 more rows"):
        use(folder, *missing)


BAD_TABLES = {
    "empty": ((), {"head": ""}, "at least one row"),
    "no rows": ((), {}, "at least one row"),
    "unknown column": ((row(),), {"head": HEAD.replace("azimuth", "azimut")}, 'azimut".*did you mean azimuth'),
    "strange column": ((row(),), {"head": HEAD.replace("azimuth", "qqq")}, 'qqq".*known are image'),
    "a column twice": ((row(),), {"head": HEAD.replace("azimuth", "theta")}, "every column once"),
    "two conventions": (
        (row(), row(image="1.png", convention="pascal3d")),
        {},
        "one convention.*nmr in row 2 and pascal3d in row 3",
    ),
    "two kinds of camera": (
        (row(), matrices(image="1.png")),
        {},
        "one projection.*orthographic in row 2 and perspective in row 3",
    ),
    "two kinds in two splits": ((row(), matrices(image="1.png", split="val")), {}, "one projection"),
    "twice": ((row(), row(image="1.png"), row()), {}, "row 4: .*0.png as in row 2"),
    "twice with a mask": ((row(mask="mask.png"), row(mask="mask.png", split="val")), {}, "row 3: .*as in row 2"),
    "no rows of the split": ((row(), row(image="1.png", split="test")), {"split": "val"}, "split val.*only test, train"),
    "another convention": ((row(),), {"convention": "pascal3d"}, r"convention pascal3d as data\.convention says, got nmr"),
    "unknown convention": ((row(),), {"convention": "blender"}, r"data\.convention.*blender"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_is_named(folder: pathlib.Path, case: str) -> None:
    rows, options, message = BAD_TABLES[case]
    with pytest.raises(ValueError, match=message) as caught:
        use(folder, *rows, **options)
    assert "\n" not in str(caught.value)


def test_an_image_may_hold_two_objects(folder: pathlib.Path) -> None:
    Image.open(folder / "mask.png").save(folder / "other.png")
    assert len(use(folder, row(mask="mask.png"), row(mask="other.png"))) == 2


def test_missing_tables_and_folders(folder: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"either cameras.csv or cameras.json .*none"):
        FolderSource(str(folder), "train")
    (folder / "cameras.json").write_text("[]")
    with pytest.raises(ValueError, match=r"either cameras.csv or cameras.json .*both"):
        use(folder, row())
    with pytest.raises(ValueError, match=r"nowhere.*data\.root"):
        FolderSource(str(folder / "nowhere"), "train")


GOOD_JSON = {"image": "0.png", "azimuth": 1, "elevation": 2.5, "theta": 3}
BAD_JSON = {
    "broken": ("[{", "cameras.json"),
    "no list": ("{}", "list of objects"),
    "list of lists": ("[[1]]", "list of objects"),
    "empty": ("[]", "at least one row"),
    "word": (json.dumps([GOOD_JSON | {"theta": "left"}]), "row 1: .*left"),
    "truth value": (json.dumps([GOOD_JSON | {"theta": True}]), "row 1: .*True"),
    "NaN": (json.dumps([GOOD_JSON | {"theta": float("nan")}]), "row 1: .*finite"),
    "object": (json.dumps([GOOD_JSON | {"theta": {"a": 1}}]), "row 1: "),
    "unknown key": (json.dumps([GOOD_JSON | {"sacle": 1}]), "did you mean scale"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_json_is_named(folder: pathlib.Path, case: str) -> None:
    text, message = BAD_JSON[case]
    (folder / "cameras.json").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        FolderSource(str(folder), "train", convention="nmr")
    assert "cameras.json" in str(caught.value)


ARGUMENTS: dict[str, tuple[dict, str]] = {
    "split": ({"split": "trial"}, "train, val or test, got trial"),
    "size": ({"image_size": 0}, r"data\.image_size"),
    "crop": ({"crop": -1.0}, r"data\.crop"),
    "points": ({"num_points": 0}, r"data\.num_points"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments(folder: pathlib.Path, case: str) -> None:
    options, message = ARGUMENTS[case]
    with pytest.raises(ValueError, match=message):
        use(folder, row(), **options)


def test_a_folder_reached_through_a_link(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    link = tmp_path / "linked"
    link.symlink_to(folder)
    assert len(use(link, row())) == 1


def test_a_table_without_splits_is_divided(folder: pathlib.Path) -> None:
    names = [f"{number}.png" for number in range(12)]
    for name in names[10:]:
        shutil.copy(folder / "0.png", folder / name)
    rows = [row(image=name) for name in names]
    assert [record.image for record in use(folder, *rows).records] == [*names[:8], *names[10:]]
    assert [record.image for record in use(folder, *rows, split="val").records] == ["8.png"]
    assert [record.image for record in use(folder, *rows, split="test").records] == ["9.png"]
    assert len(use(folder, row(), row(image="1.png", split="val")).records) == 1
    with pytest.raises(ValueError, match="only train: name it in a column split"):
        use(folder, row(), split="val")


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig"])
def test_a_table_of_german_excel_is_that_of_points_and_commas(encoding: str, tmp_path: pathlib.Path) -> None:
    """Also after one of our commands has written it again."""
    english = 'image,azimuth,elevation,theta,scale,x,y,convention\n"Stühle, 1.png",12.5,-3.25,0,0.7,1.5,2,nmr\n'
    german = "image;azimuth;elevation;theta;scale;x;y;convention\r\nStühle, 1.png;12,5;-3,25;0;0,7;1,5;2;nmr\r\n"
    tables = {}
    for name, content in {"english": english.encode(), "german": german.encode(encoding)}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "cameras.csv").write_bytes(content)
        tables[name] = read_table(tmp_path / name, None)
    assert tables["german"] == tables["english"]
    path, rows = read_rows(tmp_path / "german")
    write_rows(path, rows)
    assert read_table(tmp_path / "german", None) == tables["english"]
