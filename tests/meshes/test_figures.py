import numpy as np
import pytest
import torch
from PIL import Image

from sdfsrn.data.source import short_name
from sdfsrn.meshes.figures import (
    AGREED,
    EXTRA,
    GAP,
    MISSED,
    PALETTE,
    colorize_depth,
    gallery,
    hstack,
    overlay,
    to_picture,
    write_animation,
)

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def plain(height, width, value=0):
    return np.full((height, width, 3), value, dtype=np.uint8)


def test_image_tensor_becomes_a_picture():
    image = torch.tensor([-1.0, 0.0, 1.0, 3.0]).reshape(1, 2, 2).expand(3, 2, 2)
    assert to_picture(image)[..., 0].tolist() == [[0, 128], [255, 255]]
    image = torch.stack([torch.ones(1, 2), -torch.ones(1, 2), -torch.ones(1, 2)])
    assert to_picture(image)[0, 0].tolist() == [255, 0, 0]


def test_depth_runs_through_the_palette_and_is_white_where_absent():
    picture = colorize_depth(np.array([[1.0, 2.0, np.nan, np.inf]]))
    assert picture.tolist() == [[PALETTE[0].tolist(), PALETTE[-1].tolist(), [255] * 3, [255] * 3]]
    assert (colorize_depth(np.array([[1.5]]), near=1.5, far=3.0) == PALETTE[0]).all()
    assert (colorize_depth(np.full((2, 2), np.nan)) == 255).all()
    assert (colorize_depth(np.full((2, 2), 3.0)) == PALETTE[0]).all()


def test_overlay_tells_agreement_from_missed_and_extra():
    picture = overlay(plain(1, 4, 255), np.array([[1.0, 0.6, 0.4, 0.0]]), np.array([[True, False, True, False]]))
    expected = [0.4 * 255 + 0.6 * tint for tint in (AGREED, MISSED, EXTRA)]
    assert picture[0, :3] == pytest.approx(np.stack(expected), abs=1)
    assert (picture[0, 3] == 255).all()


def test_strip_sets_pictures_side_by_side():
    result = hstack([plain(10, 20), plain(16, 8, 90)])
    assert result.size == (28, 16)
    assert np.asarray(result)[15, 0].tolist() == [255] * 3
    assert np.asarray(result)[15, 27].tolist() == [90] * 3
    with pytest.raises(ValueError, match="at least one"):
        hstack([])


@pytest.mark.parametrize(("suffix", "tolerance"), [("webp", 25), ("gif", 2)])
def test_loop_keeps_its_frames_and_goes_round_for_ever(tmp_path, suffix, tolerance):
    colors = [RED, GREEN, BLUE, (255, 255, 255)]
    frames = [plain(32, 48, 255) for _ in colors]
    for frame, color in zip(frames, colors, strict=True):
        frame[8:24, 8:40] = color
    write_animation(frames, tmp_path / f"a.{suffix}", seconds=2)
    with Image.open(tmp_path / f"a.{suffix}") as loop:
        assert (loop.n_frames, loop.size, loop.info["loop"]) == (4, (48, 32), 0)
        for i, frame in enumerate(frames):
            loop.seek(i)
            loop.load()
            assert loop.info["duration"] == 500
            assert abs(np.asarray(loop.convert("RGB")).astype(int) - frame)[:, 12:36].mean() < tolerance


@pytest.mark.parametrize("suffix", ["webp", "gif"])
def test_loops_of_any_colours_are_small(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 24, 3), np.uint8)
    frames = [np.full((192, 192, 3), 255, np.uint8) for _ in noise]
    for frame, patch in zip(frames, noise, strict=True):
        frame[48:144, 48:144] = patch.repeat(4, 0).repeat(4, 1)
    write_animation(frames, tmp_path / f"a.{suffix}")
    assert (tmp_path / f"a.{suffix}").stat().st_size < 300_000


def test_loop_refuses_other_formats_and_no_frames(tmp_path):
    with pytest.raises(ValueError, match=r"\.webp or \.gif, got 1 frames and .*a\.png"):
        write_animation([plain(4, 4)], tmp_path / "a.png")
    with pytest.raises(ValueError, match="got 0 frames"):
        write_animation([], tmp_path / "a.gif")


def test_gallery_places_every_picture_in_its_cell():
    rows = [[plain(64, 64, RED), plain(32, 64, GREEN)], [plain(200, 100, BLUE), plain(8, 8, RED)]]
    result = gallery(rows, ["input", "a heading far too long for its column"], ["one", ""], cell=80)
    assert result.size[0] == GAP + 2 * (80 + GAP)
    red, green, blue = ((np.asarray(result) == color).all(-1) for color in (RED, GREEN, BLUE))
    for where, area in [(red, 2 * 80 * 80), (green, 40 * 80), (blue, 80 * 40)]:
        assert where.sum() == pytest.approx(area, rel=0.03)
    left, right = np.s_[:, : GAP + 80], np.s_[:, 2 * GAP + 80 :]
    assert red[left].sum() == red[right].sum() == 80 * 80
    assert green[left].sum() == blue[right].sum() == 0
    assert np.argwhere(red[left])[:, 0].max() < np.argwhere(blue)[:, 0].min()


def test_gallery_of_wide_strips_is_not_square():
    result = gallery([[plain(20, 160, RED)]] * 2, [""], ["one", "two"], cell=320)
    assert result.size[0] == 320 + 2 * GAP
    assert result.size[1] < 200
    assert (np.asarray(result) == RED).all(-1).sum() == 2 * 320 * 40


def test_gallery_refuses_a_ragged_table():
    with pytest.raises(ValueError, match=r"rows of \[1\]"):
        gallery([[plain(4, 4)]], ["a", "b"], ["one"])
    with pytest.raises(ValueError, match="2 captioned rows"):
        gallery([[plain(4, 4)]], ["a"], ["one", "two"])


def test_names_become_file_names() -> None:
    assert short_name("/data/02691156/f16/image/0005.png") == "f16_0005"
    assert short_name("chair-test-0003/05") == "chair-test-0003_05"
