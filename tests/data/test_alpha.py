"""Haze goes and thin rods stay, by the true distance D(u)."""

from __future__ import annotations

import logging
import pathlib

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from sdfsrn.data.alpha import describe_dropped, drop_faint, find_specks, touches_border
from sdfsrn.data.batches.preload import PreloadedSource
from sdfsrn.data.batches.views import outline_distance
from sdfsrn.data.cropping import Box
from sdfsrn.data.images import read_cutout
from sdfsrn.data.preparing.inspection import inspect
from sdfsrn.data.preparing.render_models import cameras
from sdfsrn.data.preprocessing import Preprocessing
from sdfsrn.data.sources.folder import FolderSource
from sdfsrn.meshes.rendering import render_mesh

SIZE = 96
Y, X = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5
DISC = np.rint(255 * (20.5 - np.hypot(X, 1.2 * Y)).clip(0, 1)) / 255
BACKGROUND = DISC == 0
RANDOM = np.random.default_rng(0)


def distance(alpha: np.ndarray) -> np.ndarray:
    """D(u) in pixels."""
    return outline_distance(torch.from_numpy(alpha)[None].float(), torch.ones(1, 2))[1][0].numpy()


def scattered(share: float, highest: int) -> np.ndarray:
    return (RANDOM.random((SIZE, SIZE)) < share) * RANDOM.integers(1, highest + 1, (SIZE, SIZE)) / 255


HAZES = {
    "everywhere": np.full((SIZE, SIZE), 2 / 255),
    "3 of 255 in every hundredth pixel": scattered(0.01, 3),
    "noise": scattered(0.75, 3),
    "half of the pixels": scattered(0.5, 1),
    "every third": scattered(0.33, 3),
    "every tenth": scattered(0.1, 9),
    "left half": (X < 0) * 3 / 255,
    "halo": (np.hypot(X, Y) < 35) * 5 / 255,
    "fading": (8 - 0.1 * np.hypot(X, Y)).clip(0) / 255,
}


@pytest.mark.parametrize("name", HAZES)
def test_haze_leaves_the_distance_as_it_was(name: str) -> None:
    hazy = np.maximum(DISC, HAZES[name]).astype(np.float32)
    alpha, dropped = drop_faint(hazy)
    assert dropped == pytest.approx(((hazy > 0) & (hazy < 0.05)).mean(), abs=0.012)
    before, after, clean = (distance(values)[BACKGROUND] for values in (hazy, alpha, DISC))
    assert before.mean() < 0.8 * clean.mean()
    assert np.abs(after - clean).mean() < 0.06 * clean.mean()
    assert (after == 0).mean() < 0.01
    assert np.array_equal(alpha[hazy >= 0.05], hazy[hazy >= 0.05])


def rods() -> dict[str, np.ndarray]:
    """Covered pixels of rods that lead away from the disc, of its faintest coverage."""
    return {
        "level": (np.abs(Y - 0.5) < 0.6) & (X > 0),
        "upright, two pixels wide": (np.abs(X) < 1) & (Y > 0),
        "slanted": (np.abs(Y - 0.4 * X) < 0.7) & (X > 0),
        "diagonal": (X == Y) & (X > 0),
        "cross": ((np.abs(Y - 0.5) < 0.6) & (X > 0)) | ((np.abs(X - 30.5) < 0.6) & (np.abs(Y) < 20)),
        "four legs": (np.abs(X) < 20) & (np.floor(X) % 8 == 0) & (Y > 0),
    }


@pytest.mark.parametrize("name", rods())
def test_thin_rods_stay(name: str) -> None:
    alpha = np.where(rods()[name] & BACKGROUND, 1 / 255, DISC).astype(np.float32)
    kept, dropped = drop_faint(alpha)
    assert dropped == 0
    assert np.array_equal(kept, alpha)
    assert (distance(kept)[rods()[name] & BACKGROUND] == 0).all()


def test_clean_silhouettes_are_not_changed() -> None:
    for _ in range(20):
        x, y, radius, narrow = RANDOM.uniform([-9, -9, 5, 0.5], [9, 9, 25, 2])
        alpha = np.rint(255 * (radius - np.hypot(X - x, narrow * (Y - y))).clip(0, 1)).astype(np.float32) / np.float32(255)
        kept, dropped = drop_faint(alpha)
        assert dropped == 0
        assert np.array_equal(kept, alpha)


def test_what_our_renderer_draws_is_not_changed() -> None:
    """A box on legs of a thirtieth of a pixel, from many sides."""
    legs = [trimesh.creation.box((0.0008, 0.5, 0.0008)) for _ in range(4)]
    for leg, (x, z) in zip(legs, [(-0.3, -0.3), (-0.3, 0.3), (0.3, -0.3), (0.3, 0.3)], strict=True):
        leg.apply_translation((x, -0.25, z))
    seat = trimesh.creation.box((0.7, 0.1, 0.7))
    mesh = trimesh.util.concatenate([seat, *legs])
    for i in range(9):
        mask = render_mesh(mesh, cameras(9).map(lambda matrix, i=i: matrix[i]), SIZE, 8).mask
        alpha = np.round(mask * 255).astype(np.float32) / np.float32(255)
        kept, dropped = drop_faint(alpha)
        assert ((alpha > 0) & (alpha < 0.05)).any()
        assert dropped == 0
        assert np.array_equal(kept, alpha)


def photo(folder: pathlib.Path, *hazes: str) -> pathlib.Path:
    """A folder of pictures with their haze; "clean" for none."""
    rows = ["image,azimuth,elevation,theta,convention"]
    for name in hazes:
        alpha = np.maximum(DISC, HAZES.get(name, 0))
        image = np.dstack([np.full((SIZE, SIZE, 3), 90), np.rint(255 * alpha)]).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{name}.png")
        rows.append(f"{name}.png,10,20,0,nmr")
    (folder / "cameras.csv").write_text("\n".join(rows))
    return folder


def test_training_and_prepare_say_how_much_was_dropped(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    share = BACKGROUND.mean()
    source = FolderSource(str(photo(tmp_path, "clean", "everywhere", "left half")), "train", SIZE)
    assert [source.picture(index).dropped for index in range(3)] == pytest.approx([0, share, share / 2], abs=0.001)
    for index in range(3):
        assert np.abs(distance(source.picture(index).alpha) - distance(DISC))[BACKGROUND].max() < 1
    report = inspect(source)
    assert report["faults"] == {"haze": [str(tmp_path / "everywhere.png"), str(tmp_path / "left half.png")]}
    assert report["dropped"] == {"pictures": 2, "mean": pytest.approx(0.75 * share, abs=0.001)}
    with caplog.at_level(logging.WARNING):
        PreloadedSource(source, "train")
    percent = f"{report['dropped']['mean']:.2%}"
    expected = f"train: faint coverage (below 5%) away from the object was set to 0 in 2 pictures, {percent} of their pixels."
    assert caplog.messages == [expected]
    caplog.clear()
    PreloadedSource(FolderSource(str(photo(tmp_path, "clean")), "train", SIZE), "train")
    assert caplog.messages == []
    assert describe_dropped(0, 0.0) == ""


@pytest.mark.parametrize("quality", [50, 75, 90])
def test_noise_of_a_jpeg_is_no_coverage(tmp_path: pathlib.Path, quality: int) -> None:
    Image.fromarray(np.rint(255 * DISC).astype(np.uint8)).save(tmp_path / "mask.jpg", quality=quality)
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "image.png")
    assert np.asarray(Image.open(tmp_path / "mask.jpg"))[BACKGROUND].max() > 0
    found = read_cutout(tmp_path / "image.png", tmp_path / "mask.jpg")
    assert np.abs(distance(found.alpha) - distance(DISC))[BACKGROUND].mean() < 0.1


def test_reconstruction_does_not_see_haze(tmp_path: pathlib.Path) -> None:
    photo(tmp_path, "clean", "left half")
    ours, theirs = (Preprocessing(SIZE)(tmp_path / f"{name}.png") for name in ("clean", "left half"))
    assert torch.equal(ours[:, BACKGROUND], theirs[:, BACKGROUND])


def test_borders() -> None:
    assert not touches_border(DISC)
    assert touches_border(DISC[:, 40:])
    assert touches_border(DISC[: SIZE // 2])
    assert not touches_border(np.maximum(DISC, HAZES["everywhere"]))


def test_specks_far_from_the_object() -> None:
    alpha = DISC.copy()
    alpha[3:5, 80:83] = 1
    alpha[90, 10] = 0.1  # less than half, but D(u) = 0 there
    alpha[48, 71:73] = 1  # three pixels from the disc: a thin part that the raster has cut off
    assert find_specks(alpha) == [Box(80, 3, 83, 5), Box(10, 90, 11, 91)]
    alpha[70:90, 70:90] = 1  # a part of its own
    assert find_specks(alpha) == [Box(80, 3, 83, 5), Box(10, 90, 11, 91)]
    assert find_specks(DISC) == find_specks(0 * DISC) == []
