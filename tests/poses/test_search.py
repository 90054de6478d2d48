"""Poses by a shape: known shapes in known pictures, ambiguities that silhouettes have, and what a search must not change."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation

from posed import Knowing, box, camera, degrees, first_faces, photograph, seat
from scenes import CAMERAS
from sdfsrn.data.conventions import rotation_from_angles
from sdfsrn.data.preprocessing import Preprocessing
from sdfsrn.data.sources.folder import FolderSource
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera
from sdfsrn.poses.search import PoseSearch, flip_test, predicted_mesh, propose_pose, unposed_picture


@CAMERAS
@pytest.mark.parametrize("angles", [(37.0, 12.0, 0.0), (200.0, 33.0, 5.0), (288.0, 4.0, -6.0)])
def test_a_known_shape_is_found_from_all_sides(kind: type, angles: tuple[float, float, float]) -> None:
    picture = photograph(seat(), kind, angles)
    candidates = PoseSearch()(seat(), picture)
    assert len(candidates) == 3
    assert [c.score for c in candidates] == sorted((c.score for c in candidates), reverse=True)
    assert degrees(candidates[0].rotation, picture) < 3
    assert candidates[0].iou > 0.8  # edges of thin parts are half covered


@CAMERAS
def test_the_given_rotation_is_not_used(kind: type) -> None:
    picture = photograph(seat(), kind, (100.0, 20.0, 0.0))
    pose = picture.camera.world_to_camera.clone()
    pose[:, :3] = torch.from_numpy(Rotation.random(random_state=0).as_matrix())
    turned = picture._replace(camera=picture.camera._replace(world_to_camera=pose))
    first, second = (PoseSearch(steps=20)(seat(), each)[0] for each in (picture, turned))
    np.testing.assert_allclose(first.rotation, second.rotation, atol=1e-6)


@CAMERAS
def test_overlap_is_that_of_the_silhouettes(kind: type) -> None:
    """Against a rendering by other code, at the picture's own size."""
    picture = photograph(seat(), kind, (37.0, 12.0, 0.0))
    other = rotation_from_angles(70.0, 30.0, 10.0, "nmr")
    (found,) = PoseSearch(size=64).score(seat(), picture, other[None])
    pose = torch.cat([torch.from_numpy(other).float(), picture.camera.world_to_camera[:, 3:]], -1)
    seen = first_faces(seat(), picture.camera._replace(world_to_camera=pose), 64) >= 0
    expected = np.minimum(picture.alpha, seen).sum() / np.maximum(picture.alpha, seen).sum()
    assert found.iou == pytest.approx(expected, abs=2e-3)


def test_many_rotations_at_once_score_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    picture, search = photograph(seat(), PerspectiveCamera, (37.0, 12.0, 0.0)), PoseSearch(azimuths=6)
    together = search.score(seat(), picture, search.grid())
    monkeypatch.setattr("sdfsrn.poses.search.MAX_RAYS", 5000)
    parts = search.score(seat(), picture, search.grid())
    alone = [search.score(seat(), picture, rotation[None])[0] for rotation in search.grid()]
    for one, two, three in zip(together, parts, alone, strict=True):
        assert one[1:] == pytest.approx(two[1:])
        assert one[1:] == pytest.approx(three[1:])
        assert np.array_equal(one.rotation, three.rotation)


def test_color_error_is_the_mean_difference_inside_both() -> None:
    red, gray = box((0.8, 0.8, 0.8), (0, 0, 0), (200, 100, 0)), box((0.8, 0.8, 0.8), (0, 0, 0), (100, 100, 100))
    picture = photograph(red, OrthographicCamera, (0.0, 0.0, 0.0))
    (found,) = PoseSearch().score(gray, picture, rotation_from_angles(0.0, 0.0, 0.0, "nmr")[None])
    assert found.color_error == pytest.approx((100 + 0 + 100) / 3 / 255, abs=1e-3)  # its edges are grayer
    assert found.score == pytest.approx(found.iou - PoseSearch().color_weight * found.color_error)


def test_a_mirror_symmetric_shape_has_the_same_outline_from_two_sides() -> None:
    """From (a, e) and (180 - a, -e), seen from far away; colours tell them apart."""
    middle = camera(OrthographicCamera, (0.0, 0.0, 0.0))._replace(intrinsics=torch.diag(torch.tensor([1.3, 1.3, 1.0])))
    pose = middle.world_to_camera.clone()
    pose[:2, 3] = 0
    picture = photograph(seat(), OrthographicCamera, (40.0, 20.0, 0.0))
    picture = picture._replace(camera=middle._replace(world_to_camera=pose))
    both = np.stack([rotation_from_angles(a, e, 0.0, "nmr") for a, e in ((40.0, 20.0), (140.0, -20.0))])
    one, two = PoseSearch().score(seat(), picture, both)
    assert one.iou == pytest.approx(two.iou, abs=5e-3)
    assert abs(one.color_error - two.color_error) > 0.02


def test_colors_decide_where_silhouettes_do_not() -> None:
    """A cube with a red front: four azimuths fit as well by their outline."""
    cube = box((0.6, 0.6, 0.6), (0, 0, 0), (90, 90, 90)).subdivide().subdivide()
    red = (cube.vertices[:, 2] < -0.299)[:, None] & (np.abs(cube.vertices[:, :2]).max(-1) < 0.29)[:, None]
    cube.visual.vertex_colors = np.where(red, [255, 0, 0, 255], [90, 90, 90, 255]).astype(np.uint8)
    picture = photograph(cube, PerspectiveCamera, (30.0, 20.0, 0.0))
    around = np.stack([rotation_from_angles(a, 20.0, 0.0, "nmr") for a in (120.0, 30.0, 210.0, 300.0)])
    candidates = PoseSearch().score(cube, picture, around)
    assert np.ptp([c.iou for c in candidates]) < 0.02
    assert max(range(4), key=lambda i: candidates[i].score) == 1
    assert degrees(PoseSearch()(cube, picture)[0].rotation, picture) < 5


@CAMERAS
def test_turned_poses_are_found_and_true_ones_left_alone(kind: type) -> None:
    for azimuth in (20.0, 110.0, 215.0):
        picture = photograph(seat(), kind, (azimuth, 25.0, 0.0))
        assert flip_test(seat(), picture, turns=(90.0, 180.0, 270.0)) is None
        for turn in (90.0, 180.0):
            wrong = camera(kind, (azimuth + turn, 25.0, 0.0))
            found = flip_test(seat(), picture._replace(camera=wrong), turns=(90.0, 180.0, 270.0))
            assert found is not None
            assert degrees(found.rotation, picture) < 5
        half = flip_test(seat(), picture._replace(camera=camera(kind, (azimuth + 180, 25.0, 0.0))))
        assert half is not None
        assert degrees(half.rotation, picture) < 5


def test_refinement_starts_from_the_given_rotation() -> None:
    picture = photograph(seat(), PerspectiveCamera, (37.0, 22.0, 0.0))
    start = rotation_from_angles(45.0, 14.0, 6.0, "nmr")
    found = PoseSearch().refine(seat(), picture, start)
    assert found is not None
    assert degrees(found.rotation, picture) < 2 < degrees(start, picture)
    kept = PoseSearch(steps=0).refine(seat(), picture, start)
    assert kept is not None
    assert np.array_equal(kept.rotation, start)


@CAMERAS
def test_refinement_stays_within_reach(kind: type) -> None:
    """Seen almost from the front, the chair's outline fits from behind and below as well, 50 degrees from the flipped pose."""
    picture = photograph(seat(), kind, (20.0, 25.0, 0.0))
    start = rotation_from_angles(200.0, 25.0, 0.0, "nmr")
    for reach in (3.0, 20.0):
        found = PoseSearch(reach=reach).refine(seat(), picture, start)
        assert found is not None
        assert np.degrees(Rotation.from_matrix(found.rotation @ start.T).magnitude()) <= reach + 1e-6


def test_no_surface_has_no_pose() -> None:
    picture, nothing = photograph(seat(), PerspectiveCamera, (0.0, 0.0, 0.0)), trimesh.Trimesh()
    assert PoseSearch()(nothing, picture) == []
    assert PoseSearch().refine(nothing, picture, np.eye(3)) is None
    assert flip_test(nothing, picture) is None


def test_a_mesh_without_colors_is_fitted_by_its_outline() -> None:
    picture = photograph(seat(), PerspectiveCamera, (37.0, 22.0, 0.0))
    plain = trimesh.Trimesh(seat().vertices, seat().faces, process=False)
    best = PoseSearch()(plain, picture)[0]
    assert best.color_error == 0
    assert degrees(best.rotation, picture) < 3


def test_a_bare_picture_is_that_of_the_folder(tmp_path) -> None:
    """Cropped and posed as `data=folder` does for azimuth, elevation and theta 0."""
    picture = photograph(seat(), PerspectiveCamera, (37.0, 12.0, 0.0))
    alpha = np.round(picture.alpha * 255).astype(np.uint8)
    wide = np.zeros((80, 120, 4), np.uint8)
    wide[7:71, 40:104] = np.concatenate([picture.image, alpha[..., None]], -1)
    Image.fromarray(wide).save(tmp_path / "a.png")
    (tmp_path / "cameras.csv").write_text("image,azimuth,elevation,theta,convention\na.png,0,0,0,nmr\n")
    for crop in (1.2, None):
        stored = FolderSource(str(tmp_path), "train", image_size=48, crop=crop).picture(0)
        bare = unposed_picture(tmp_path / "a.png", preprocessing=Preprocessing(48, crop=crop))
        np.testing.assert_array_equal(bare.image, stored.image)
        np.testing.assert_array_equal(bare.alpha, stored.alpha)
        assert type(bare.camera) is type(stored.camera)
        for one, two in zip(bare.camera, stored.camera, strict=True):
            torch.testing.assert_close(one, two)


def test_a_model_gets_its_pictures_as_in_training() -> None:
    model = Knowing(seat())
    model.preprocessing = Preprocessing(32, background=-1.0)
    picture = photograph(seat(), PerspectiveCamera, (37.0, 12.0, 0.0))
    predicted_mesh(model, picture)
    alpha = np.round(picture.alpha * 255).astype(np.uint8)
    rgba = Image.fromarray(np.concatenate([picture.image, alpha[..., None]], -1))
    torch.testing.assert_close(model.seen[0], model.preprocessing(rgba), atol=0.02, rtol=0)


def test_a_model_proposes_poses() -> None:
    picture = photograph(seat(), OrthographicCamera, (37.0, 12.0, 0.0))
    best, *_ = propose_pose(Knowing(seat()), picture, dataclasses.replace(PoseSearch(), refined=2))
    assert degrees(best.rotation, picture) < 2
