import numpy as np
import pytest
import trimesh
from scipy.ndimage import map_coordinates

from sdfsrn.meshes.materials import GRAY, FaceMaterials, bilinear, materials_of, stack_materials


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def paint(count, pictures, picture=0, color=1.0):
    uv = np.tile([[0.0, 0], [1, 0], [0, 1]], (count, 1, 1))
    return FaceMaterials(np.full((count, 3, 3), color), uv, np.full(count, picture), pictures)


def test_bilinear_agrees_with_scipy_also_beyond_the_picture(picture):
    uv = np.random.default_rng(1).uniform(-3, 3, (1000, 2))
    place = [(1 - uv[:, 1]) * 5 - 0.5, uv[:, 0] * 7 - 0.5]
    expected = [map_coordinates(picture[..., i] / 255, place, order=1, mode="grid-wrap") for i in range(3)]
    np.testing.assert_allclose(bilinear(picture, uv), np.stack(expected, -1), atol=1e-9)


def test_bilinear_at_the_corners_of_the_unit_square_is_up_and_right(picture):
    flat = np.repeat(np.repeat(picture, 9, 0), 9, 1)
    for uv, pixel in {(0.03, 0.03): (-1, 0), (0.97, 0.03): (-1, -1), (0.03, 0.97): (0, 0), (0.97, 0.97): (0, -1)}.items():
        np.testing.assert_allclose(bilinear(flat, np.array([uv])) * 255, [picture[pixel]], atol=1e-9)


def test_colors_between_corners_are_times_the_picture(picture):
    color = np.random.default_rng(2).random((2, 3, 3))
    uv = np.random.default_rng(3).uniform(-1, 2, (2, 3, 2))
    weight = np.array([[0.2, 0.3, 0.5], [1, 0, 0], [0, 0.5, 0.5]])
    face = np.array([1, 0, 0])
    values = FaceMaterials(color, uv, np.array([-1, 0]), [picture]).at(face, weight)
    np.testing.assert_allclose(values[1], color[0, 0])
    np.testing.assert_allclose(values[2], color[0, 1:].mean(0))
    np.testing.assert_allclose(values[0], weight[0] @ color[1] * bilinear(picture, weight[:1] @ uv[1])[0])


def test_stack_keeps_each_picture_once_and_each_face_its_own(picture):
    other = 255 - picture
    parts = [paint(2, [picture]), paint(1, [], -1, 0.5), paint(1, [other]), paint(1, [picture])]
    together = stack_materials(parts)
    assert len(together.pictures) == 2
    weight = np.full((5, 3), 1 / 3)
    expected = np.concatenate([part.at(np.arange(len(part.color)), weight[: len(part.color)]) for part in parts])
    np.testing.assert_allclose(together.at(np.arange(5), weight), expected)


def test_paint_follows_its_mesh(picture):
    box = trimesh.creation.box()
    box.visual = stack_materials([paint(4, [picture]), paint(8, [], -1, 0.25)])
    copy = box.copy()
    copy.update_faces(np.arange(12) >= 3)
    copy.remove_unreferenced_vertices()
    assert copy.visual.picture.tolist() == [0] + 8 * [-1]
    assert len(box.visual.picture) == 12
    assert len((box + copy).visual.picture) == 12 + 9


def test_plain_colors_of_vertices_and_faces():
    box = trimesh.creation.box()
    assert (materials_of(box.visual, box.faces).color == GRAY).all()
    box.visual.face_colors = np.random.default_rng(0).integers(0, 256, (12, 4), dtype=np.uint8)
    np.testing.assert_allclose(
        materials_of(box.visual, box.faces).color, np.repeat(box.visual.face_colors[:, None, :3] / 255, 3, 1)
    )
    box = trimesh.creation.box()
    box.visual.vertex_colors = np.random.default_rng(0).integers(0, 256, (8, 4), dtype=np.uint8)
    np.testing.assert_allclose(materials_of(box.visual, box.faces).color, box.visual.vertex_colors[box.faces][..., :3] / 255)
