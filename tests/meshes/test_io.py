import json
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from sdfsrn.meshes.geometry import largest_component, sample_surface
from sdfsrn.meshes.io import read_mesh, write_mesh
from sdfsrn.meshes.materials import GRAY


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


MIDDLE = np.full((1, 3), 1 / 3)
GREEN, RED = [0, 1, 0], [1, 0, 0]


def middle_colors(mesh: trimesh.Trimesh) -> np.ndarray:
    return mesh.visual.at(np.arange(len(mesh.faces)), MIDDLE.repeat(len(mesh.faces), 0))


@pytest.mark.parametrize("colored", [True, False])
def test_an_obj_is_what_trimesh_writes(tmp_path, colored):
    ball = trimesh.creation.icosphere(2, 0.4)
    if colored:
        ball.visual.vertex_colors = np.random.default_rng(0).integers(0, 256, (len(ball.vertices), 4)).astype(np.uint8)
    write_mesh(ball, tmp_path / "ours.obj")
    lines = ball.export(file_type="obj", include_normals=False).splitlines()
    assert (tmp_path / "ours.obj").read_text().split() == " ".join(line for line in lines if line[:1] in ("v", "f")).split()


@pytest.mark.parametrize("name", ["a.obj", "a.off", "a.ply", "a.glb", "a.gltf", "a.stl", "b.STL", "b.Obj"])
def test_every_format_gives_the_same_shape(mesh, tmp_path, name):
    plain = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    content = plain.export(file_type=name[2:].lower())
    for key, value in (content if isinstance(content, dict) else {name: content}).items():
        (tmp_path / key.replace("model.gltf", name)).write_bytes(value if isinstance(value, bytes) else value.encode())
    again = read_mesh(tmp_path / name)
    np.testing.assert_allclose(np.sort(again.triangles.reshape(-1, 9), 0), np.sort(mesh.triangles.reshape(-1, 9), 0), atol=1e-6)
    assert again.volume == pytest.approx(mesh.volume, rel=1e-5)
    assert (again.visual.color == GRAY).all()


@pytest.mark.parametrize(("name", "error"), [("a.ply", 0), ("a.obj", 0), ("a.glb", 8)])
def test_written_vertex_colors_are_read_again(mesh, tmp_path, name, error):
    write_mesh(mesh, tmp_path / name)
    colors = np.round(read_mesh(tmp_path / name).visual.color * 255)
    expected = mesh.visual.vertex_colors[mesh.faces, :3]
    assert abs(colors - expected)[expected > 30].max() <= error  # glTF's are linear, 8 bits: dark ones suffer


def test_face_colors_are_read(tmp_path):
    box = trimesh.creation.box()
    box.visual.face_colors = np.random.default_rng(0).integers(0, 256, (12, 4), dtype=np.uint8)
    box.export(tmp_path / "a.ply")
    np.testing.assert_allclose(middle_colors(read_mesh(tmp_path / "a.ply")), box.visual.face_colors[:, :3] / 255)


def test_parts_of_a_scene_are_placed_also_mirrored_ones(tmp_path):
    scene = trimesh.Scene()
    for sign in (1, -1):
        part = trimesh.creation.box()
        part.visual = trimesh.visual.TextureVisuals(
            material=trimesh.visual.material.PBRMaterial(baseColorFactor=[255 * (sign > 0), 55, 0, 255])
        )
        matrix = np.diag([2.0 * sign, 1, 1, 1])
        matrix[0, 3] = 3 * sign
        scene.add_geometry(part, transform=matrix)
    scene.export(tmp_path / "a.glb")
    mesh = read_mesh(tmp_path / "a.glb")
    np.testing.assert_allclose(mesh.bounds, [[-4, -0.5, -0.5], [4, 0.5, 0.5]], atol=1e-6)
    assert mesh.volume == pytest.approx(4)
    red = middle_colors(mesh)[:, 0]
    np.testing.assert_array_equal(red > 0.5, mesh.triangles_center[:, 0] > 0)
    np.testing.assert_allclose(middle_colors(mesh)[:, 1], 1.055 * (55 / 255) ** (1 / 2.4) - 0.055, atol=1e-6)  # linear there


def quad(folder: Path, material: str, name: str = "models/a.obj") -> Path:
    """Two triangles, the first with the material."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".mtl").write_text(f"newmtl one\n{material}\nnewmtl two\nKd 0 0 1\n")
    corners = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0.1 0.1\nvt 0.3 0.1\nvt 0.2 0.3\n"
    path.write_text(f"mtllib {path.stem}.mtl\n{corners}usemtl one\nf 1/1 2/2 3/3\nusemtl two\nf 1/1 3/2 4/3\n")
    return path


def first_color(path: Path) -> np.ndarray:
    colors = middle_colors(read_mesh(path))
    assert sorted(colors.tolist())[0] == [0, 0, 1]
    return sorted(colors.tolist())[-1]


@pytest.fixture
def green(tmp_path):
    """A picture, green at its lower left and red elsewhere, where ShapeNet has its own."""
    (tmp_path / "images").mkdir()
    picture = np.full((20, 20, 3), [255, 0, 0], np.uint8)
    picture[10:, :10] = [0, 255, 0]
    Image.fromarray(picture).save(tmp_path / "images" / "t.png")
    return tmp_path


MATERIALS = {
    "picture": ("map_Kd ../images/t.png", GREEN),
    "picture and white": ("Kd 1 1 1\nmap_Kd ../images/t.png", GREEN),
    "picture and black": ("Kd 0 0 0\nmap_Kd ../images/t.png", GREEN),
    "picture and gray": ("Kd 0 0.4 0\nmap_Kd ../images/t.png", [0, 0.4, 0]),
    "backslashes": ("Kd 1 1 1\nmap_Kd ..\\images\\t.png", GREEN),
    "no such picture": ("Kd 1 0 0\nmap_Kd ../images/u.png", RED),
    "not a picture": ("Kd 1 0 0\nmap_Kd a.obj", RED),
    "colour alone": ("Kd 1 0 0", RED),
    "nothing": ("Ns 10", GRAY.tolist()),
}


@pytest.mark.parametrize(("material", "color"), MATERIALS.values(), ids=MATERIALS)
def test_materials_of_an_obj_and_pictures_in_the_folder_beside(green, material, color):
    assert first_color(quad(green, material)) == pytest.approx(color, abs=0.003)


def test_a_picture_cut_short_falls_back_to_the_plain_colour(green):
    content = (green / "images" / "t.png").read_bytes()
    (green / "images" / "t.png").write_bytes(content[: len(content) // 2])
    assert first_color(quad(green, "Kd 1 0 0\nmap_Kd ../images/t.png")) == RED


def test_pictures_elsewhere_are_not_read(green):
    path = quad(green, "Kd 1 0 0\nmap_Kd ../../images/t.png", "deep/models/a.obj")
    assert first_color(path) == RED
    quad(green, f"Kd 1 0 0\nmap_Kd {green / 'images' / 't.png'}", "deep/models/a.obj")
    assert first_color(path) == RED
    (path.parent / "t.png").symlink_to(green / "images" / "t.png")
    quad(green, "Kd 1 0 0\nmap_Kd t.png", "deep/models/a.obj")
    assert first_color(path) == RED


def test_seams_and_degenerate_faces_stay(tmp_path):
    (tmp_path / "a.off").write_text("OFF\n5 4 0\n0 0 0\n1 0 0\n0 1 0\n0 1 0\n1 1 0\n3 0 1 2\n3 1 4 3\n3 0 0 1\n3 2 3 2\n")
    mesh = read_mesh(tmp_path / "a.off")
    assert mesh.faces.tolist() == [[0, 1, 2], [1, 4, 3], [0, 0, 1], [2, 3, 2]]
    assert mesh.vertices.shape == (5, 3)


TRIANGLE = "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
BAD = {
    "missing": ("a.off", None, "Could not read"),
    "unknown suffix": ("a.blend", b"x", "ends in .obj"),
    "no suffix": ("a", b"x", "ends in .obj"),
    **{f"empty {suffix}": (f"a.{suffix}", b"", ".") for suffix in ("obj", "off", "ply", "glb", "gltf", "stl")},
    **{f"text as {suffix}": (f"a.{suffix}", b"hello, world", ".") for suffix in ("obj", "off", "ply", "glb", "gltf", "stl")},
    **{f"noise as {suffix}": (f"a.{suffix}", bytes(range(256)) * 2, ".") for suffix in ("obj", "off", "ply", "glb", "gltf")},
    "cut": ("a.off", TRIANGLE[:-12].encode(), "Could not read"),
    "no faces": ("a.off", b"OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "Could not read|with faces"),
    "points only": ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "with faces"),
    "unknown vertex": ("a.off", TRIANGLE.replace("3 0 1 2", "3 0 1 3").encode(), "Could not read"),
    "unknown vertex of an obj": ("a.obj", b"v 0 0 0\nv 1 0 0\nf 1 2 3\n", "Could not read"),
    "NaN": ("a.off", TRIANGLE.replace("1 0 0\n0", "1 nan 0\n0").encode(), "finite"),
    "infinity": ("a.off", TRIANGLE.replace("1 0 0\n0", "1 inf 0\n0").encode(), "finite"),
    "all in one place": ("a.off", TRIANGLE.replace("1", "0", 1).replace("1 0 0", "0 0 0").encode(), "."),
    "one point": ("a.obj", b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "some size"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD.values(), ids=BAD)
def test_bad_files_end_in_one_line_that_names_the_file(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_mesh(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_mesh(tmp_path):
    (tmp_path / "a.obj").mkdir()
    with pytest.raises(ValueError, match=r"Could not read a mesh from .*a\.obj"):
        read_mesh(tmp_path / "a.obj")
