"""Faults put in on purpose are found, and drawn."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import torch

from sdfsrn.data.preparing.inspection import (
    ALARM,
    AXES,
    DOTS,
    ORANGE,
    OUTLINE,
    contact_sheet,
    find_faults,
    inspect,
    part_outside,
)
from sdfsrn.data.source import ImageSample
from sdfsrn.data.sources.shapenet import ShapeNetSource
from sdfsrn.functional.camera import Camera, OrthographicCamera, PerspectiveCamera

SIZE = 64
EYE = torch.eye(3)
KINDS = {
    "perspective": PerspectiveCamera(
        torch.cat([EYE, torch.tensor([[0], [0], [4.0]])], 1), torch.diag(torch.tensor([3.0, 3, 1]))
    ),
    "orthographic": OrthographicCamera(torch.cat([EYE, torch.tensor([[0], [0], [2.5]])], 1), EYE),
}


def bar(camera: Camera, x: float = 0, y: float = 0, half_width: float = 0.4, half_height: float = 0.2) -> ImageSample:
    """A grey bar; its middle and half sides on the screen."""
    column, row = np.meshgrid(*[(2 * np.arange(SIZE) + 1) / SIZE - 1] * 2)
    alpha = ((np.abs(column - x) < half_width) & (np.abs(row - y) < half_height)).astype(np.float32)
    return ImageSample(np.full((SIZE, SIZE, 3), 128, np.uint8), alpha, camera)


def truth(camera: Camera, half_width: float = 0.4, half_height: float = 0.2, x: float = 0) -> np.ndarray:
    """World points of depth z = 0 all over the bar."""
    unit = 4 / 3 if isinstance(camera, PerspectiveCamera) else 1
    generator = np.random.default_rng(0)
    points = generator.uniform(-1, 1, (2000, 3)) * [half_width * unit, half_height * unit, 0]
    points[:, 0] += x * unit
    return points.astype(np.float32)


class Pictures:
    """A source of given pictures and points."""

    def __init__(self, **pictures: tuple[ImageSample, np.ndarray] | None) -> None:
        self.names = list(pictures)
        self.content = list(pictures.values())

    def __len__(self) -> int:
        return len(self.names)

    def picture(self, index: int) -> ImageSample:
        if self.content[index] is None:
            raise ValueError("Expected a picture, got rubbish in x.png.")
        return self.content[index][0]

    def points(self, index: int) -> np.ndarray:
        return self.content[index][1]


NONE = np.zeros((0, 3), np.float32)


@pytest.mark.parametrize("camera", KINDS.values(), ids=KINDS)
def test_each_fault_is_found_alone(camera: Camera) -> None:
    def moved(x: float, z: float) -> Camera:
        return camera._replace(
            world_to_camera=camera.world_to_camera + torch.tensor([[0, 0, 0, x], [0, 0, 0, 0], [0, 0, 0, z]])
        )

    assert find_faults(bar(camera), NONE) == []
    assert find_faults(bar(camera), truth(camera)) == []
    assert find_faults(bar(camera, half_width=0), NONE) == ["empty"]
    assert find_faults(bar(camera, half_width=2, half_height=2), NONE) == ["full", "border"]
    for place in ({"x": 0.7}, {"x": -0.7}, {"y": 0.9}, {"y": -0.9}):
        assert "border" in find_faults(bar(camera, **place), NONE)
    assert find_faults(bar(camera, x=0.5), NONE) == ["off center"]
    assert find_faults(bar(moved(0, -9)), NONE) == ["behind"]
    assert find_faults(bar(moved(9, 0)), NONE) == ["off center", "out of view"]
    assert find_faults(bar(camera), truth(camera, 0.2)) == ["truth small"]
    assert find_faults(bar(camera), truth(camera, 0.2, 0.4)) == ["truth outside", "truth small"]
    assert find_faults(bar(camera), truth(camera, x=0.2)) == ["truth outside"]


@pytest.mark.parametrize("camera", KINDS.values(), ids=KINDS)
def test_the_part_of_the_truth_outside(camera: Camera) -> None:
    picture = bar(camera)
    assert part_outside(picture, truth(camera)) == 0
    assert part_outside(picture, truth(camera, half_height=0.4)) == pytest.approx(0.45, abs=0.05)  # but for a pixel's border
    assert part_outside(picture, truth(camera, x=50)) == 1
    behind = camera._replace(world_to_camera=camera.world_to_camera * torch.tensor([1, 1, 1, -1.0]))
    assert part_outside(bar(behind), truth(camera)) == 1
    assert part_outside(bar(camera, half_width=3, half_height=3), truth(camera, x=50)) == 1  # beyond the picture


def test_the_report_names_offenders() -> None:
    camera = KINDS["perspective"]
    mirrored = camera._replace(world_to_camera=camera.world_to_camera * torch.tensor([[-1.0], [1], [1]]))
    source = Pictures(
        good=(bar(camera), truth(camera)),
        bare=(bar(camera), NONE),
        wide=(bar(camera), truth(camera, x=0.2)),
        cut=(bar(camera, x=0.7), NONE),
        empty=(bar(camera, half_width=0), NONE),
        rubbish=None,
        mirrored=(bar(mirrored), NONE),
    )
    report = inspect(source)
    assert report["pictures"] == 7
    assert report["faults"] == {
        "unusable": ["rubbish", "mirrored"],
        "empty": ["empty"],
        "border": ["cut"],
        "off center": ["cut"],
        "truth outside": ["wide"],
    }
    assert "x.png" in report["unusable"]["rubbish"]
    assert "rotation" in report["unusable"]["mirrored"]
    assert report["truth"]["objects"] == 2
    assert report["truth"]["outside_mean"] == report["truth"]["outside_max"] / 2 > 0.1
    assert json.loads(json.dumps(report)) == report


def test_real_airplanes_are_in_order_and_a_wrong_convention_is_not(airplanes: pathlib.Path) -> None:
    source = ShapeNetSource(str(airplanes), "airplane", "test", num_points=3000)
    report = inspect(source)
    assert report["faults"] == {}
    assert report["truth"]["outside_max"] < 0.002
    picture, points = source.picture(1), source.points(1)
    for turn in (torch.diag(torch.tensor([1.0, -1, -1])), torch.diag(torch.tensor([-1.0, -1, 1]))):
        pose = picture.camera.world_to_camera.clone()
        pose[:, :3] = turn @ pose[:, :3]  # OpenGL's axes for OpenCV's; a picture upside down
        assert part_outside(picture._replace(camera=picture.camera._replace(world_to_camera=pose)), points) > 0.15


def near(image: np.ndarray, color: tuple, tolerance: float = 60) -> np.ndarray:
    """(n, 2) pixels (x, y) of about a colour."""
    return np.argwhere(np.abs(image.astype(float) - color).max(-1) < tolerance)[:, ::-1]


@pytest.mark.parametrize("camera", KINDS.values(), ids=KINDS)
def test_a_sheet_shows_pose_and_silhouette_where_they_are(camera: Camera) -> None:
    turn = torch.tensor([[-1.0, 0, 0], [0, -1, 0], [0, 0, 1]])  # y up, the camera in front of the face -z
    camera = camera._replace(world_to_camera=turn @ camera.world_to_camera)
    sheet = contact_sheet(Pictures(a=(bar(camera), truth(camera))), cell=200)
    cell = np.asarray(sheet)[8:208, 8:208]
    unit = 0.75 if isinstance(camera, PerspectiveCamera) else 1.0
    right, up = near(cell, AXES["x"]), near(cell, AXES["y"])
    # +x is to the left when the front is seen; axes of 0.7 begin in the middle of the cell.
    assert right[:, 0].min() == pytest.approx(100 - 70 * unit, abs=14)
    assert np.median(right[:, 1]) == pytest.approx(100, abs=2)
    assert up[:, 1].min() == pytest.approx(100 - 70 * unit, abs=14)
    assert np.median(up[:, 0]) == pytest.approx(100, abs=2)
    outline = near(cell, OUTLINE)
    assert outline.min(0) == pytest.approx([60, 80], abs=2.5)
    assert outline.max(0) == pytest.approx([140, 120], abs=2.5)
    half = 100 * 0.5 * (3 / 3.5 if isinstance(camera, PerspectiveCamera) else 1)  # of the face z = -0.5
    front = near(cell, ORANGE)
    assert front.min(0) == pytest.approx([100 - half, 100 - half], abs=3)
    assert len(near(cell, DOTS)) > 100
    assert len(near(np.asarray(contact_sheet(Pictures(a=(bar(camera), NONE)), cell=200))[8:208, 8:208], DOTS, 30)) == 0


def test_sheets_of_any_source(tmp_path: pathlib.Path) -> None:
    camera = KINDS["perspective"]
    inside_box = camera._replace(world_to_camera=torch.cat([EYE, torch.tensor([[0], [0], [0.2]])], 1))
    behind = camera._replace(world_to_camera=torch.cat([EYE, torch.tensor([[0], [0], [-9.0]])], 1))
    tall = ImageSample(np.zeros((30, 20, 3), np.uint8), np.eye(30, 20, dtype=np.float32), camera)
    source = Pictures(
        good=(bar(camera), truth(camera)),
        near=(bar(inside_box), NONE),
        behind=(bar(behind), NONE),
        rubbish=None,
        tall=(tall, NONE),
        **{"a very long name that does not fit below a cell of a sheet": (bar(camera), NONE)},
    )
    sheet = contact_sheet(source, columns=4, cell=96)
    assert sheet.size == (8 + 4 * 104, 8 + 2 * (96 + 32 + 8))
    assert len(near(np.asarray(sheet), ALARM)) > 20  # words on what is wrong
    assert contact_sheet(source, count=2, columns=4, cell=96).size[1] == 8 + 136
    one = np.asarray(contact_sheet(source, [0], columns=1, cell=96))
    assert np.array_equal(one[8:104, 8:104], np.asarray(sheet)[8:104, 8:104])


def test_a_sheet_shows_what_the_network_sees() -> None:
    """Colours behind a transparent background are not seen, whatever they are; the background is that of training."""
    camera = KINDS["orthographic"]._replace(world_to_camera=torch.cat([EYE, torch.tensor([[0], [0], [-9.0]])], 1))
    picture = bar(camera)  # the camera looks away, so that no axes are drawn
    hidden = picture._replace(image=np.where(picture.alpha[..., None] > 0, picture.image, [255, 0, 255]).astype(np.uint8))
    for background, gray in ((1.0, 255), (-1.0, 0), (0.0, 128)):
        cells = [
            np.asarray(contact_sheet(Pictures(a=(shown, NONE)), cell=128, background=background))[8:136, 8:136]
            for shown in (picture, hidden)
        ]
        assert np.array_equal(*cells)
        assert (cells[0][:30] == gray).all()
        assert (cells[0][60:68, 50:78] == 128).all()


def test_specks_are_ringed_and_named() -> None:
    camera = KINDS["orthographic"]._replace(world_to_camera=torch.cat([EYE, torch.tensor([[0], [0], [-9.0]])], 1))
    picture = bar(camera)
    alpha = picture.alpha.copy()
    alpha[6, 57] = 1 / 255
    assert "specks" not in find_faults(picture, NONE)
    assert "specks" in find_faults(picture._replace(alpha=alpha), NONE)
    cell = np.asarray(contact_sheet(Pictures(a=(picture._replace(alpha=alpha), NONE)), cell=256))[8:264, 8:264]
    ring = near(cell, ALARM)
    assert ring.mean(0) == pytest.approx([57.5 * 4, 6.5 * 4], abs=1)
    assert np.ptp(ring, axis=0) == pytest.approx([12, 12], abs=3)
