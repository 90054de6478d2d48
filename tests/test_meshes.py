import json
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh

from sdfsrn.meshes import largest_component, sample_surface, write_mesh


@pytest.fixture
def mesh():
    ball = trimesh.creation.icosphere(subdivisions=2)
    color = np.random.default_rng(0).integers(0, 256, (len(ball.vertices), 4), dtype=np.uint8)
    color[:, 3] = 255
    return trimesh.Trimesh(ball.vertices + np.array([0.5, 2, 0]), ball.faces, vertex_colors=color, process=False)


def read(path: Path) -> trimesh.Trimesh:
    """The file's only mesh; a scene's, since trimesh drops attributes when it joins a scene's meshes."""
    (mesh,) = trimesh.load(path, process=False, maintain_order=True, force="scene").geometry.values()
    return mesh


@pytest.mark.parametrize("name", ["a.ply", "a.obj", "A.PLY"])
def test_file_keeps_vertices_faces_and_srgb_colors(mesh, tmp_path, name):
    write_mesh(mesh, tmp_path / name)
    again = read(tmp_path / name)
    np.testing.assert_allclose(again.vertices, mesh.vertices, atol=1e-6)
    np.testing.assert_array_equal(again.faces, mesh.faces)
    np.testing.assert_array_equal(again.visual.vertex_colors, mesh.visual.vertex_colors)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_glb_keeps_vertices_faces_and_linear_colors(mesh, tmp_path):
    write_mesh(mesh, tmp_path / "a.glb")
    again = read(tmp_path / "a.glb")
    np.testing.assert_allclose(again.vertices, mesh.vertices, atol=1e-6)
    np.testing.assert_array_equal(again.faces, mesh.faces)
    linear = again.visual.vertex_attributes["color"][:, :3] / 255
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    error = abs(srgb - mesh.visual.vertex_colors[:, :3])
    assert error.max() < 0.5 / 255 * 12.92 * 255 + 0.01  # half a linear step, at the curve's steepest
    assert error[mesh.visual.vertex_colors[:, :3] > 60].max() < 2.1


def test_glb_material_and_attributes(mesh, tmp_path):
    write_mesh(mesh, tmp_path / "a.glb")
    content = (tmp_path / "a.glb").read_bytes()
    (length,) = struct.unpack("<I", content[12:16])
    tree = json.loads(content[20 : 20 + length])
    (primitive,) = tree["meshes"][0]["primitives"]
    material = tree["materials"][primitive["material"]]
    assert {"POSITION", "NORMAL", "COLOR_0"} == set(primitive["attributes"])
    assert material["doubleSided"] is True
    assert material["pbrMetallicRoughness"]["metallicFactor"] == 0
    assert material["pbrMetallicRoughness"]["roughnessFactor"] == 1
    color = tree["accessors"][primitive["attributes"]["COLOR_0"]]
    assert (color["type"], color["normalized"]) == ("VEC4", True)


def test_mesh_without_colors_is_written_without(mesh, tmp_path):
    plain = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    for suffix in (".ply", ".obj", ".glb"):
        write_mesh(plain, tmp_path / f"a{suffix}")
        assert read(tmp_path / f"a{suffix}").visual.kind not in ("vertex", "face")


def test_writing_leaves_the_mesh_as_it_was(mesh, tmp_path):
    before = mesh.visual.vertex_colors.copy()
    write_mesh(mesh, tmp_path / "a.glb")
    np.testing.assert_array_equal(mesh.visual.vertex_colors, before)


def test_file_appears_whole_or_not_at_all(mesh, tmp_path, monkeypatch):
    (tmp_path / "a.ply").write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_mesh(mesh, tmp_path / "a.ply")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.ply", b"old")]


def test_unknown_suffix_and_empty_mesh_are_refused(mesh, tmp_path):
    with pytest.raises(ValueError, match=r"a\.stl"):
        write_mesh(mesh, tmp_path / "a.stl")
    with pytest.raises(ValueError, match=r"empty one for .*a\.ply"):
        write_mesh(trimesh.Trimesh(), tmp_path / "a.ply")
    assert not list(tmp_path.iterdir())


def test_samples_lie_on_the_surface_with_its_normals(mesh):
    points, normals = sample_surface(mesh, 500, seed=3)
    height = np.einsum("nfc,fc->nf", points[:, None] - mesh.triangles[:, 0], mesh.face_normals)  # over each face's plane
    assert points.shape == normals.shape == (500, 3)
    assert abs(height.max(1)).max() < 1e-8  # the mesh is convex
    np.testing.assert_allclose(normals, mesh.face_normals[height.argmax(1)], atol=1e-6)
    assert ((points - [0.5, 2, 0]) * normals).sum(-1).min() > 0.9  # outward


def test_samples_are_uniform_over_the_area():
    tall = trimesh.creation.box(extents=(1, 3, 1))
    points, _ = sample_surface(tall, 20_000, seed=0)
    on_end = (abs(points[:, 1]) > 1.5 - 1e-6).mean()
    assert on_end == pytest.approx(2 / 14, abs=0.01)


def test_samples_depend_on_the_seed_only(mesh):
    first, second, other = (sample_surface(mesh, 50, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_empty_mesh_has_empty_samples_and_component():
    points, normals = sample_surface(trimesh.Trimesh(), 10)
    assert points.shape == normals.shape == (0, 3)
    assert len(largest_component(trimesh.Trimesh()).faces) == 0


def test_largest_component_is_the_one_of_greatest_area_with_its_colors(mesh):
    crumb = trimesh.creation.icosphere(subdivisions=4, radius=0.05)  # more faces, less area
    crumb.visual.vertex_colors = [0, 0, 0, 255]
    both = trimesh.util.concatenate([crumb, mesh])
    count = len(both.faces)
    largest = largest_component(both)
    np.testing.assert_allclose(largest.vertices, mesh.vertices)
    np.testing.assert_array_equal(largest.visual.vertex_colors, mesh.visual.vertex_colors)
    assert len(both.faces) == count
