"""PyMCubes and scikit-image give the same mesh; another library called mcubes is not taken for PyMCubes."""

from __future__ import annotations

import importlib
import types

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from sdfsrn.functional import triangulation
from sdfsrn.functional.triangulation import choose_library, triangulate


def grid(resolution: int, half: float = 1.0) -> tuple[np.ndarray, ...]:
    axis = np.linspace(-half, half, resolution, dtype=np.float32)
    return np.meshgrid(axis, axis, axis, indexing="ij")


def wavy_ball(resolution: int = 65) -> np.ndarray:
    x, y, z = grid(resolution)
    return np.sqrt(x**2 + y**2 + z**2) - 0.6 + 0.05 * np.sin(9 * x) * np.sin(7 * y + 1) * np.sin(8 * z)


def box_through_nodes() -> np.ndarray:
    x, y, z = grid(17)
    return np.maximum(np.maximum(abs(x - 0.25) - 0.25, abs(y + 0.125) - 0.5), abs(z) - 0.125)


def open_ball() -> np.ndarray:
    x, y, z = grid(24)
    return np.sqrt(x**2 + y**2 + z**2) - 1.2


SHAPES = {"wavy ball": wavy_ball, "box through nodes": box_through_nodes, "ball that leaves the cube": open_ball}


@pytest.fixture(params=["mcubes", "skimage.measure"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Each library that is installed, in place of the one chosen."""
    found = pytest.importorskip(request.param)
    monkeypatch.setattr(triangulation, "LIBRARY", found)
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_both_libraries_give_the_same_mesh(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To 1e-5 of a voxel, since one computes in float32; they divide squares into triangles along other diagonals."""
    found = []
    for name in ("mcubes", "skimage.measure"):
        monkeypatch.setattr(triangulation, "LIBRARY", pytest.importorskip(name))
        found.append(trimesh.Trimesh(*triangulate(SHAPES[shape]()), process=False))
    mesh, other = found
    assert len(mesh.vertices) == len(other.vertices) > 100
    assert len(mesh.faces) == len(other.faces)
    assert mesh.is_watertight == other.is_watertight == (shape != "ball that leaves the cube")
    assert mesh.area == pytest.approx(other.area, rel=1e-6)
    assert mesh.volume == pytest.approx(other.volume, rel=5e-5)
    assert cKDTree(mesh.vertices).query(other.vertices)[0].max() < 1e-5
    assert cKDTree(other.vertices).query(mesh.vertices)[0].max() < 1e-5


def test_faces_look_outwards(library: types.ModuleType) -> None:
    mesh = trimesh.Trimesh(*triangulate(wavy_ball(49)), process=False)
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * (0.6 * 24) ** 3, rel=0.03)  # positive
    outward = (mesh.triangles_center - 24) * mesh.face_normals
    assert (outward.sum(-1) > 0).all()


@pytest.mark.parametrize("values", [1.0, -1.0, 0.0])
def test_a_grid_of_one_sign_has_no_triangles(values: float, library: types.ModuleType) -> None:
    vertices, faces = triangulate(np.full((4, 4, 4), values, np.float32))
    assert vertices.shape == faces.shape == (0, 3)
    assert (vertices.dtype, faces.dtype) == (np.float64, np.int64)


def test_a_single_node_of_value_zero_is_no_error(library: types.ModuleType) -> None:
    values = np.ones((4, 4, 4), np.float32)
    values[1, 2, 1] = 0
    vertices, _ = triangulate(values)
    assert np.allclose(vertices, [1, 2, 1])


def module(**content: object) -> types.ModuleType:
    made = types.ModuleType("made")
    made.__dict__.update(content)
    return made


def test_pymcubes_comes_first_and_scikit_image_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"mcubes": module(marching_cubes=None), "skimage.measure": module()}
    monkeypatch.setattr(triangulation, "_installed", installed.get)
    assert choose_library() is installed["mcubes"]
    del installed["mcubes"]
    assert choose_library() is installed["skimage.measure"]
    installed.clear()
    with pytest.raises(ImportError, match=r"PyMCubes or, from Python 3\.13 on, scikit-image"):
        choose_library()


def test_the_other_library_called_mcubes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry's mcubes has `MarchingCubes` and `Mesh`."""
    installed = {"mcubes": module(MarchingCubes=None, Mesh=None), "skimage.measure": module()}
    monkeypatch.setattr(triangulation, "_installed", installed.get)
    with pytest.warns(UserWarning, match="pip uninstall --yes mcubes"):
        assert choose_library() is installed["skimage.measure"]
    del installed["skimage.measure"]
    with pytest.raises(ImportError, match="pip uninstall --yes mcubes"):
        choose_library()


def test_what_this_python_uses_is_installed() -> None:
    assert importlib.import_module(triangulation.LIBRARY.__name__) is triangulation.LIBRARY
    assert triangulation.LIBRARY.__name__ in ("mcubes", "skimage.measure")
    assert hasattr(triangulation.LIBRARY, "marching_cubes")
