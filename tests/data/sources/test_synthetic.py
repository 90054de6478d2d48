"""The built-in data set: frames agree between pictures, points and shapes; the cache is kept, renewed and repaired."""

import numpy as np
import pytest
import torch

from sdfsrn.data.sources.synthetic import SyntheticSource

SMALL = {"num_objects": 2, "views_per_object": 3, "image_size": 24, "num_points": 2000}


def small(cache, **settings):
    return SyntheticSource(cache=str(cache), **(SMALL | settings))


@pytest.mark.parametrize("category", ["airplane", "car", "chair"])
@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_points_project_into_the_silhouette(tmp_path, category, projection):
    source = small(tmp_path, category=category, projection=projection, split="val", image_size=64)
    for index in range(len(source)):
        picture, points = source.picture(index), torch.from_numpy(source.points(index))
        assert points.shape == (2000, 3)
        assert points.dtype == torch.float32
        assert source.shape(index).sdf(points).abs().max() < 1e-4
        uv, depth = picture.camera.project(points)
        screen = picture.camera.screen(uv)
        assert (depth > 0).all()
        assert (screen.abs() < 1).all()
        nearby = screen[:, None] + torch.cartesian_prod(*[torch.tensor([-1, 0, 1])] * 2) / 128  # half a sample's spacing
        column, row = ((nearby + 1) / 2 * 64).long().unbind(-1)
        covered = torch.from_numpy(picture.alpha)[row, column]
        assert (covered > 0).any(-1).float().mean() > 0.995
        assert (covered > 0)[:, 4].float().mean() > 0.97
        assert picture.alpha.max() == 1
        hit = np.zeros((64, 64), bool)
        hit[row[:, 4], column[:, 4]] = True
        assert hit[picture.alpha == 1].mean() > 0.8


def test_pictures_have_the_promised_types(tmp_path):
    source = small(tmp_path)
    assert len(source) == len(source.names) == 6
    assert source.names[4] == "chair-train-0001/01"
    picture = source.picture(4)
    assert (picture.image.shape, picture.image.dtype) == ((24, 24, 3), np.uint8)
    assert (picture.alpha.shape, picture.alpha.dtype) == ((24, 24), np.float32)
    assert 0 == picture.alpha.min() < picture.alpha.max() == 1
    assert picture.camera.world_to_camera.shape == (3, 4)
    assert picture.camera.intrinsics.shape == (3, 3)
    assert (source.points(4).shape, source.points(4).dtype) == ((0, 3), np.float32)


def test_objects_do_not_depend_on_their_number(tmp_path):
    few, many = small(tmp_path), small(tmp_path, num_objects=3)
    for index in range(len(few)):
        assert (few.picture(index).image == many.picture(index).image).all()
        torch.testing.assert_close(few.picture(index).camera, many.picture(index).camera, rtol=0, atol=0)


def test_splits_categories_and_seeds_differ(tmp_path):
    base = small(tmp_path, split="val").shape(0)
    points = torch.randn(100, 3)
    for other in ({"split": "test"}, {"split": "val", "category": "car"}, {"split": "val", "seed": 1}):
        assert not torch.allclose(small(tmp_path, **other).shape(0).sdf(points), base.sdf(points))


def test_evaluation_views(tmp_path):
    one = small(tmp_path, split="test", num_objects=4)
    assert one.names == [f"chair-test-000{i}/0{5 * i % 3}" for i in range(4)]
    two = small(tmp_path, split="test", eval_views=2)
    assert two.names == ["chair-test-0000/00", "chair-test-0000/01", "chair-test-0001/02", "chair-test-0001/00"]
    assert (two.points(0) == two.points(1)).all()
    assert (one.picture(1).image == two.picture(2).image).all()


def test_cache_is_reused_and_keyed_by_the_settings(tmp_path, monkeypatch):
    first = small(tmp_path)
    small(tmp_path, image_size=16)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(SyntheticSource, "_generate", lambda self: pytest.fail("the cache was not used"))
    again = small(tmp_path)
    assert (again.picture(5).image == first.picture(5).image).all()


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbled"])
def test_a_broken_cache_is_made_again(tmp_path, damage):
    expected = small(tmp_path).picture(3)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    broken = {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "garbled": content[:3000] + b"x" * 64 + content[3064:],
    }
    path.write_bytes(broken[damage])
    assert (small(tmp_path).picture(3).image == expected.image).all()
    assert path.read_bytes() != broken[damage]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"category": "boat"}, "airplane, car, chair"),
        ({"split": "trian"}, "train, val, test"),
        ({"projection": "fisheye"}, "perspective, orthographic"),
        ({"num_objects": 0}, "num_objects to be at least 1"),
        ({"views_per_object": 0}, "views_per_object to be at least 1"),
        ({"eval_views": 9}, "eval_views to be between 1 and 3"),
        ({"image_size": 7}, "image_size to be at least 8"),
        ({"supersampling": 16}, "supersampling to be between 1 and 15"),
    ],
)
def test_bad_arguments_say_what_was_expected(tmp_path, settings, expected):
    with pytest.raises(ValueError, match=expected) as error:
        small(tmp_path, **settings)
    assert "\n" not in str(error.value)


def test_a_cache_that_cannot_be_written_is_told_before_anything_is_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SyntheticSource, "_generate", None)
    with pytest.raises(OSError, match=r"Could not write to the cache /proc/cache: .* SDFSRN_CACHE, or paths\.cache="):
        small("/proc/cache", split="val")
