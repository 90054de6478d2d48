"""A checkpoint's poses: of the packaged model, on photographs of chairs that it was not trained on."""

from __future__ import annotations

import pathlib
import time

import numpy as np
import pytest
import trimesh
from PIL import Image

import sdfsrn
from photographs import POSE, opened
from sdfsrn.annotating.advice import propose
from sdfsrn.annotating.annotations import Annotations
from sdfsrn.annotating.drafts import Opinion, Pose
from sdfsrn.annotating.opinions import Expert, _spanning, needs_look
from sdfsrn.data import SyntheticSource
from sdfsrn.data.conventions import angles_from_rotation, rotation_from_angles
from sdfsrn.poses.search import PoseSearch

COUNT = 3


@pytest.fixture(scope="module")
def expert() -> Expert:
    return Expert(sdfsrn.load(), PoseSearch(azimuths=12, elevations=(30.0,), size=32, refined=2, steps=30))


@pytest.fixture(scope="module")
def chairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, list[tuple[float, ...]]]:
    """A folder of cut-out chairs, and their true angles."""
    cache = str(tmp_path_factory.mktemp("chairs"))
    source = SyntheticSource("chair", "test", COUNT, image_size=64, projection="orthographic", cache=cache)
    root = tmp_path_factory.mktemp("photos")
    angles = []
    for index in range(COUNT):
        picture = source.picture(index)
        alpha = (picture.alpha * 255).astype(np.uint8)
        Image.fromarray(np.dstack([picture.image, alpha])).resize((256, 256)).save(root / f"{index}.png")
        angles.append(angles_from_rotation(picture.camera.world_to_camera[:, :3].double().numpy(), "nmr"))
    return root, angles


def copy(chairs: pathlib.Path, root: pathlib.Path) -> pathlib.Path:
    for path in chairs.glob("*.png"):
        (root / path.name).write_bytes(path.read_bytes())
    return root


def apart(pose: Pose, angles: tuple[float, ...]) -> float:
    """Degrees between two rotations."""
    turn = rotation_from_angles(*pose[:3], "nmr") @ rotation_from_angles(*angles, "nmr").T
    return float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))


def test_poses_are_proposed_for_all_pictures_with_a_mask(expert: Expert, chairs, tmp_path: pathlib.Path) -> None:
    root, angles = copy(chairs[0], tmp_path), chairs[1]
    Image.new("RGB", (64, 64)).save(root / "none.png")
    annotations = Annotations(root)
    report = propose(annotations, expert)
    assert (report["proposed"], report["left"], report["failed"]) == (COUNT, 1, {})
    errors = []
    for index in range(COUNT):
        draft = annotations.drafts[index]
        assert draft.state == "done"
        assert ("unsure" in draft.step.flags) == (f"{index}.png" in report["unsure"])
        errors.append(apart(draft.step.pose, angles[index]))
        assert draft.position == 1  # so that it can be undone
    assert np.median(errors) < 20
    assert propose(annotations, expert)["proposed"] == 0
    annotations.close()


def test_a_wrong_pose_is_found_and_its_turn_proposed(expert: Expert, chairs, tmp_path: pathlib.Path) -> None:
    """The first of three chairs is turned by 180 degrees; edits are answered while the model thinks."""
    root, angles = copy(chairs[0], tmp_path), chairs[1]
    with opened(root, expert=expert) as session:
        assert session.state()["model"]
        for index in range(COUNT):
            azimuth, elevation, theta = angles[index]
            pose = {"azimuth": azimuth + 180 * (index == 0), "elevation": elevation, "theta": theta}
            session.edit(index, {"do": "pose", "pose": pose})
        for _ in range(600):
            if all(session.summary(index)["iou"] is not None for index in range(COUNT)):
                break
            time.sleep(0.1)
        look = session.review()["look"]
        assert look[0]["id"] == 0
        assert apart(Pose(**look[0]["better"]), angles[0]) < 30
        assert "turned by 180 degrees" in look[0]["reason"]
        proposal = session.draft(1)["proposal"]
        assert apart(Pose(**proposal), angles[1]) < 30
        shape = session.shape(1)
        assert len(shape["faces"]) <= 2000
        assert 1.4 < np.ptp(np.array(shape["vertices"]), axis=0).max() < 2  # of a window of 2 / 1.2 around the object
    with opened(root) as session:  # without the model
        assert session.draft(1)["proposal"] != proposal
        assert session.shape(1) is None
        assert session.annotations.opinion(1).proposal == Pose(**proposal)


def test_an_opinion_holds_for_its_mask_and_pose_only(expert: Expert, chairs, tmp_path: pathlib.Path) -> None:
    annotations = Annotations(copy(chairs[0], tmp_path))
    annotations.give_opinion(0, Opinion("m", "alpha", None, Pose(1, 2, 3), 0.9, True, 0.8))
    assert annotations.opinion(0).iou == 0.8
    step = annotations.drafts[0].step
    annotations.save(0, annotations.drafts[0].then(step._replace(pose=Pose(5, 6, 7))))
    assert (annotations.opinion(0).iou, annotations.opinion(0).proposal) == (None, Pose(1, 2, 3))
    annotations.save(0, annotations.drafts[0].then(step._replace(mask=None)))
    assert annotations.opinion(0) is None
    annotations.close()


def test_reasons_to_look() -> None:
    good = Opinion("m", "alpha", Pose(10, 0, 0), Pose(12, 0, 0), 0.9, True, 0.9)
    assert needs_look(good, 0.7) is None
    assert "turned by 90 degrees" in needs_look(good._replace(better=Pose(100, 0, 0), better_iou=0.95), 0.7)
    assert "less than others" in needs_look(good._replace(iou=0.6), 0.7)
    unposed = good._replace(pose=None, iou=None)
    assert needs_look(unposed, 0.7) is None
    assert "another pose" in needs_look(unposed._replace(clear=False), 0.7)
    assert "no shape" in needs_look(unposed._replace(proposal=None), 0.7)


def test_shapes_of_another_unit_are_made_to_span_the_silhouette(expert: Expert, chairs, tmp_path: pathlib.Path) -> None:
    annotations = Annotations(copy(chairs[0], tmp_path))
    subject = annotations.subject(0)._replace(pose=Pose(**POSE))
    picture = expert._picture(subject, subject.pose)
    rotation = picture.camera.world_to_camera[:, :3].double().numpy()
    small = trimesh.creation.icosphere(3, 0.1)
    small.apply_translation([0.3, -0.2, 0.1])
    spanning = _spanning(small, picture, rotation)
    from sdfsrn.data.preparing.inspection import project

    pixel = project(picture, spanning.vertices)[0]
    rows, columns = np.nonzero(picture.alpha >= 0.5)
    low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
    np.testing.assert_allclose(pixel.min(0) + pixel.max(0), low + high, atol=0.05)
    assert np.ptp(pixel, axis=0).max() == pytest.approx((high - low).max(), abs=0.05)
    annotations.close()
