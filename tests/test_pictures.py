import numpy as np
import pytest
import torch

from sdfsrn.pictures import AGREED, EXTRA, GAP, MISSED, PALETTE, colorize_depth, gallery, overlay, short_name, strip, to_picture

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
    result = strip([plain(10, 20), plain(16, 8, 90)])
    assert result.size == (28, 16)
    assert np.asarray(result)[15, 0].tolist() == [255] * 3
    assert np.asarray(result)[15, 27].tolist() == [90] * 3
    with pytest.raises(ValueError, match="at least one"):
        strip([])


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
