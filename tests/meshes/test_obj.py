"""The colours of OBJ files as exporters and people leave them."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from PIL import Image

from sdfsrn.data.preparing.render_models import render_models
from sdfsrn.meshes.io import read_mesh
from sdfsrn.meshes.materials import GRAY
from sdfsrn.meshes.obj import picture_options

RED, GREEN, BLUE = np.eye(3)
VERTICES = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nvt 0.25 0\nvt 0.25 0.5\nvt 0.25 1\n"
FIRST, SECOND = "f 1/1 2/2 3/3\n", "f 1/1 2/2 4/3\n"
BOTH = FIRST + SECOND
PAINT = "newmtl red\nKd 1 0 0\n"
TEXTURE = "newmtl red\nKd 1 1 1\nmap_Kd {}\n"
CASES = {
    "usual": (PAINT, "mtllib Paint.mtl\n", "usemtl red\n" + BOTH, RED, []),
    "no usemtl": (PAINT, "mtllib Paint.mtl\n", BOTH, RED, []),
    "no usemtl at first": (PAINT, "mtllib Paint.mtl\n", FIRST + "usemtl red\n" + SECOND, RED, []),
    "no usemtl, in an object": (PAINT, "mtllib Paint.mtl\n", "o a\ng b\n" + BOTH, RED, []),
    "no usemtl, a picture": (TEXTURE.format("Half.png"), "mtllib Paint.mtl\n", BOTH, GREEN, []),
    "file in another case": (PAINT, "mtllib paint.MTL\n", "usemtl red\n" + BOTH, RED, []),
    "words in another case": (PAINT, "MTLLIB Paint.mtl\n", "USEMTL red\n" + BOTH, RED, []),
    "material in another case": (PAINT, "mtllib Paint.mtl\n", "usemtl RED\n" + BOTH, RED, []),
    "picture in another case": (TEXTURE.format("half.PNG"), "mtllib Paint.mtl\n", "usemtl red\n" + BOTH, GREEN, []),
    "in quotes": (TEXTURE.format('"Half.png"'), 'mtllib "Paint.mtl"\n', "usemtl red\n" + BOTH, GREEN, []),
    "of another computer": (TEXTURE.format("D:\\Half.png"), "mtllib C:\\me\\Paint.mtl\n", "usemtl red\n" + BOTH, GREEN, []),
    "two files": (PAINT, "mtllib other.mtl Paint.mtl\n", "usemtl red\n" + BOTH, RED, []),
    "two lines": (PAINT, "mtllib other.mtl\nmtllib Paint.mtl\n", "usemtl red\n" + BOTH, RED, []),
    "options": (TEXTURE.format("-s 1 1 1 -mm 0 1 -clamp on Half.png"), "mtllib Paint.mtl\n", "usemtl red\n" + BOTH, GREEN, []),
    "an offset": (TEXTURE.format("-o 0.5 0 0 Half.png"), "mtllib Paint.mtl\n", "usemtl red\n" + BOTH, BLUE, []),
    "a scale": (TEXTURE.format("-s 3 3 Half.png"), "mtllib Paint.mtl\n", "usemtl red\n" + BOTH, BLUE, []),
    "no file": (PAINT, "mtllib gone.mtl\n", "usemtl red\n" + BOTH, GRAY, ["gone.mtl", "red"]),
    "no such material": (PAINT, "mtllib Paint.mtl\n", "usemtl wood\n" + BOTH, GRAY, ["wood"]),
    "no such picture": (TEXTURE.format("gone.png"), "mtllib Paint.mtl\n", "usemtl red\n" + BOTH, np.ones(3), ["gone.png"]),
    "no usemtl, two materials": (
        PAINT + "newmtl green\nKd 0 1 0\n",
        "mtllib Paint.mtl\n",
        BOTH,
        GRAY,
        ["usemtl before the first faces"],
    ),
    "nothing at all": (PAINT, "", BOTH, GRAY, []),
}


def write(folder: pathlib.Path, materials: str, head: str, faces: str, vertices: str = VERTICES) -> pathlib.Path:
    """`a.obj`; its picture is green on the left and blue on the right."""
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4, 1] = picture[:, 4:, 2] = 255
    Image.fromarray(picture).save(folder / "Half.png")
    (folder / "Paint.mtl").write_text(materials)
    (folder / "other.mtl").write_text("newmtl white\nKd 1 1 1\n")
    (folder / "a.obj").write_text(head + vertices + faces)
    return folder / "a.obj"


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("case", CASES)
def test_colours_are_found(tmp_path: pathlib.Path, case: str, ending: str) -> None:
    materials, head, faces, color, missing = CASES[case]
    path = write(tmp_path, materials, head, faces)
    path.write_bytes(path.read_text().replace("\n", ending).encode())
    mesh = read_mesh(path)
    assert len(mesh.faces) == 2
    np.testing.assert_allclose(mesh.visual.at(np.arange(2), np.full((2, 3), 1 / 3)), [color, color], atol=1e-6)
    assert mesh.metadata["missing"] == missing


@pytest.mark.parametrize("head", ["", "mtllib gone.mtl\nusemtl gone\n"])
def test_vertices_with_colours_keep_them(tmp_path: pathlib.Path, head: str) -> None:
    vertices = "v 0 0 0 0 0 1\nv 1 0 0 0 0 1\nv 0 1 0 0 0 1\nv 0 0 1 0 0 1\n"
    mesh = read_mesh(write(tmp_path, PAINT, head, "f 1 2 3\nf 1 2 4\n", vertices))
    np.testing.assert_allclose(mesh.visual.at(np.arange(2), np.full((2, 3), 1 / 3)), [BLUE, BLUE], atol=1e-6)


def test_files_outside_are_not_read_in_any_case(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (tmp_path / "PAINT.mtl").write_text(PAINT)
    (folder / "a.obj").write_text("mtllib ../../paint.mtl\n" + VERTICES + "usemtl red\n" + BOTH)
    assert read_mesh(folder / "a.obj").metadata["missing"] == ["../../paint.mtl", "red"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("wood.png", ("wood.png", [1, 1], [0, 0])),
        ("-bm 0.3 -o 1 my wood.png", ("my wood.png", [1, 1], [1, 0])),
        ("-s 2 -t 1 1 1 3.png", ("3.png", [2, 1], [0, 0])),
        ("-type sphere -imfchan r a.png", ("a.png", [1, 1], [0, 0])),
        ("-odd", ("-odd", [1, 1], [0, 0])),
        ("", ("", [1, 1], [0, 0])),
    ],
)
def test_options_of_pictures(words: str, expected: tuple) -> None:
    assert picture_options(words) == expected


def test_what_a_model_lacks_is_in_the_summary(tmp_path: pathlib.Path) -> None:
    (tmp_path / "in").mkdir()
    materials, head, faces, *_ = CASES["no file"]
    write(tmp_path / "in", materials, head, faces)
    size = {"num_views": 1, "image_size": 16, "num_points": 10, "fractions": (1, 0, 0)}
    summary = render_models(str(tmp_path / "in"), str(tmp_path / "out"), "things", 0, **size)
    assert summary["incomplete"] == {"a": "gone.mtl, red"}
