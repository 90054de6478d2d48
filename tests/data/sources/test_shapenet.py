from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from sdfsrn.data.batches.datasets import PictureDataset
from sdfsrn.data.batches.views import BatchSettings
from sdfsrn.data.sources.shapenet import ShapeNetSource

SYNSET = "02691156"


def use(root: pathlib.Path, split: str = "train", **options) -> None:
    """Open a split and take every sample, as training would."""
    dataset = PictureDataset(ShapeNetSource(str(root), "airplane", split, **options))
    dataset.views(range(len(dataset)))


def test_all_views_of_all_models_are_pictures(balls: pathlib.Path) -> None:
    source = ShapeNetSource(str(balls), "airplane", "train")
    assert len(source) == len(source.names) == 6
    assert source.records == [(model, view) for model in "ab" for view in range(3)]
    for (model, view), name, index in zip(source.records, source.names, range(6), strict=True):
        folder = balls / SYNSET / model
        assert name == str(folder / "image" / f"{view:04d}.png")
        picture = source.picture(index)
        assert np.array_equal(picture.image, np.asarray(Image.open(folder / "image" / f"{view:04d}.png")))
        mask = np.asarray(Image.open(folder / "mask" / f"{view:04d}.png"))
        assert np.array_equal((picture.alpha * 255).round(), mask)
        assert picture.alpha.dtype == np.float32


def test_every_view_has_its_own_camera(balls: pathlib.Path) -> None:
    path = balls / SYNSET / "a" / "cameras.npz"
    matrices = dict(np.load(path))
    for view in range(3):
        matrices[f"world_mat_{view}"][2, 3] = 3 + view
        matrices[f"camera_mat_{view}"][0, 0] = 2 + view
    np.savez(path, **matrices)
    source = ShapeNetSource(str(balls), "airplane", "train")
    for view in range(3):
        camera = source.picture(view).camera
        assert camera.world_to_camera[2, 3] == 3 + view
        assert camera.intrinsics[0, 0] == 2 + view
        assert camera.intrinsics.shape == (3, 3)


def test_a_category_may_be_a_synset_number(balls: pathlib.Path) -> None:
    by_name, by_number = (ShapeNetSource(str(balls), name, "train") for name in ("airplane", SYNSET))
    assert by_name.names == by_number.names


def test_training_has_no_points_and_needs_no_clouds(balls: pathlib.Path) -> None:
    for path in balls.rglob("pointcloud.npz"):
        path.unlink()
    views = PictureDataset(ShapeNetSource(str(balls), "airplane", "train")).views([0])
    assert views.points.shape == (1, 0, 3)


def test_evaluation_takes_one_view_a_model_and_a_fixed_part_of_its_points(balls: pathlib.Path) -> None:
    source = ShapeNetSource(str(balls), "airplane", "val", num_points=20)
    assert source.records == [("a", 0)]
    points = source.points(0)
    assert points.shape == (20, 3)
    assert points.dtype == np.float32
    assert np.array_equal(points, source.points(0))
    every = np.load(balls / SYNSET / "a" / "pointcloud.npz")["points"].astype(np.float32)
    assert {tuple(p) for p in points} <= {tuple(p) for p in every}
    assert not np.array_equal(points, every[:20])
    counts = [len(ShapeNetSource(str(balls), "airplane", split).points(0)) for split in ("val", "test")]
    assert counts == [50, 40]


def test_real_normals_belong_to_their_points_and_other_views_to_the_object(airplanes: pathlib.Path) -> None:
    source = ShapeNetSource(str(airplanes), "airplane", "test", num_points=5000)
    points, normals = source.points(1), source.normals(1)
    file = np.load(airplanes / SYNSET / "f16" / "pointcloud.npz")
    place = {tuple(point): i for i, point in enumerate(file["points"].astype(np.float32))}
    expected = file["normals"][[place[tuple(point)] for point in points]]
    np.testing.assert_allclose(normals, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    others = source.other_views(1)
    assert len(others) == 4
    for view in [source.picture(1), *others]:
        uv, _ = view.camera.project(torch.from_numpy(points))
        pixel = ((view.camera.screen(uv) + 1) * 32).long()
        assert view.alpha[pixel[:, 1], pixel[:, 0]].astype(bool).mean() > 0.97
    poses = {tuple(view.camera.world_to_camera.flatten().tolist()) for view in [source.picture(1), *others]}
    assert len(poses) == 5
    assert len(ShapeNetSource(str(airplanes), "airplane", "train").normals(0)) == 0


def test_normals_may_be_missing_but_not_wrong(balls: pathlib.Path) -> None:
    source = ShapeNetSource(str(balls), "airplane", "val")
    assert source.normals(0).shape == (0, 3)
    assert len(source.other_views(0)) == 2
    path = balls / SYNSET / "a" / "pointcloud.npz"
    np.savez(path, points=np.load(path)["points"], normals=np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"a/pointcloud\.npz"):
        source.normals(0)


def test_one_view_a_model_is_fixed_by_the_seed_and_the_model_alone(airplanes: pathlib.Path) -> None:
    def records(**options) -> dict[str, int]:
        return dict(ShapeNetSource(str(airplanes), "airplane", "train", views="one", **options).records)

    assert len(records()) == 3
    assert records() == records()
    assert any(records(seed=seed) != records() for seed in range(1, 5))
    assert records(num_models=2).items() <= records().items()


def test_number_of_models(airplanes: pathlib.Path) -> None:
    def models(count: int | str | None, split: str = "train", seed: int = 0) -> list[str]:
        source = ShapeNetSource(str(airplanes), "airplane", split, num_models=count, seed=seed)
        return sorted({model for model, _ in source.records})

    assert len(models(None)) == 3
    assert models("all") == models(None)
    assert models(2) == models(2)
    assert set(models(1)) < set(models(2)) < set(models(None))
    assert len({tuple(models(1, seed=seed)) for seed in range(20)}) == 3
    assert models(1, "test") == models(None, "test") == ["220", "f16"]  # evaluation is always complete
    for count in (0, 4, -1, "some"):
        with pytest.raises(ValueError, match=f"between 1 and 3, or all, got {count}"):
            models(count)


def test_real_splits_are_disjoint_and_of_the_stated_size(airplanes: pathlib.Path) -> None:
    lists = [(airplanes / SYNSET / f"full_{split}.lst").read_text().split() for split in ("train", "val", "test")]
    assert [len(models) for models in lists] == [204, 12, 16]
    assert len(set().union(*lists)) == 204 + 12 + 16


def test_real_samples(airplanes: pathlib.Path) -> None:
    train = PictureDataset(ShapeNetSource(str(airplanes), "airplane", "train"), BatchSettings(num_rays=256))
    assert len(train) == 3 * 24
    batch = train.views([0, 30, 71])
    assert batch.image.shape == (3, 3, 64, 64)
    assert batch.uv.shape == (3, 256, 2)
    assert batch.points.shape == (3, 0, 3)
    assert batch.inside.any()
    assert not batch.inside.all()
    test = ShapeNetSource(str(airplanes), "airplane", "test")
    assert test.records == [("220", 0), ("f16", 5)]
    assert np.abs(test.points(0)).max() == pytest.approx(0.5, abs=0.01)


def test_real_truth_lies_in_every_mask_and_so_in_the_visual_hull(airplanes: pathlib.Path) -> None:
    """Cameras, masks and clouds belong together: 99.5 % of a cloud falls on covered pixels in each view, and in all 24."""
    for split in ("val", "test"):
        source = ShapeNetSource(str(airplanes), "airplane", split)
        for index, (model, _) in enumerate(source.records):
            points = torch.from_numpy(source.points(index)).double()
            hull = np.ones(len(points), bool)
            for view in range(24):
                source.records[index] = (model, view)
                picture = source.picture(index)
                camera = type(picture.camera)(*(value.double() for value in picture.camera))
                column, row = np.floor((camera.screen(camera.project(points)[0]).numpy() + 1) * 32).astype(int).T
                seen = picture.alpha[row, column] > 0
                assert seen.mean() > 0.995
                hull &= seen
            assert hull.mean() > 0.995


# Bad input. Each entry spoils one thing of the two models and says what the message must name.


def rewrite(path: pathlib.Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    arrays = dict(np.load(path))
    change(arrays)
    np.savez(path, **arrays)


def camera(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[pathlib.Path], None]:
    return lambda folder: rewrite(folder / "a" / "cameras.npz", change)


def truncate(name: str, share: float) -> Callable[[pathlib.Path], None]:
    def spoil(folder: pathlib.Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return spoil


def save(name: str, array: np.ndarray, mode: str | None = None) -> Callable[[pathlib.Path], None]:
    def spoil(folder: pathlib.Path) -> None:
        picture = Image.fromarray(array.astype(np.uint8))
        (picture if mode is None else picture.convert(mode)).save(folder / name)

    return spoil


def remove(name: str) -> Callable[[pathlib.Path], None]:
    return lambda folder: (folder / name).unlink()


def write(name: str, text: str) -> Callable[[pathlib.Path], object]:
    return lambda folder: (folder / name).write_text(text)


BAD = {
    "no list": (remove("softras_train.lst"), "softras_train.lst"),
    "empty list": (write("softras_train.lst", "\n \n"), "softras_train.lst"),
    "unknown model": (write("softras_train.lst", "a\nghost\n"), "ghost"),
    "escaping model": (write("softras_train.lst", "a\n../b\n"), "softras_train.lst"),
    "no cameras": (remove("a/cameras.npz"), "a: restore|cameras.npz"),
    "no mask": (remove("a/mask/0001.png"), "0001.png"),
    "no image": (remove("a/image/0001.png"), "0002.png|0001.png"),
    "image cut at the start": (truncate("a/image/0001.png", 0.02), "image/0001.png"),
    "image cut in the middle": (truncate("a/image/0001.png", 0.5), "image/0001.png"),
    "image cut at the end": (truncate("a/image/0001.png", 0.95), "image/0001.png"),
    "mask cut": (truncate("a/mask/0001.png", 0.5), "mask/0001.png"),
    "image empty": (write("a/image/0001.png", ""), "image/0001.png"),
    "image no picture": (write("a/image/0001.png", "hello"), "image/0001.png"),
    "image with alpha": (save("a/image/0001.png", np.zeros((16, 16, 4))), "image/0001.png"),
    "grey image": (save("a/image/0001.png", np.zeros((16, 16))), "image/0001.png"),
    "mask in colour": (save("a/mask/0001.png", np.zeros((16, 16, 3))), "mask/0001.png"),
    "mask of another size": (save("a/mask/0001.png", np.eye(15, 16) * 255), "0001.png"),
    "empty mask": (save("a/mask/0001.png", np.zeros((16, 16))), "0001.png"),
    "full mask": (save("a/mask/0001.png", np.full((16, 16), 255)), "0001.png"),
    "cameras cut": (truncate("a/cameras.npz", 0.5), "cameras.npz"),
    "cameras empty": (write("a/cameras.npz", ""), "cameras.npz"),
    "cameras no archive": (write("a/cameras.npz", "hello"), "cameras.npz"),
    "a camera missing": (camera(lambda m: m.pop("world_mat_2")), "cameras.npz"),
    "NaN camera": (camera(lambda m: m["world_mat_1"].fill(np.nan)), "a/image/0001.png|cameras.npz"),
    "mirrored camera": (camera(lambda m: m["world_mat_1"][0].__imul__(-1)), "a/image/0001.png|cameras.npz"),
    "zero focal length": (camera(lambda m: m["camera_mat_1"].fill(0)), "a/image/0001.png|cameras.npz"),
    "camera without translation": (
        camera(lambda m: m.update(world_mat_1=m["world_mat_1"][:, :3])),
        "a/image/0001.png|cameras.npz",
    ),
    "flat camera": (camera(lambda m: m.update(camera_mat_1=np.ones(3))), "a/image/0001.png|cameras.npz"),
    "pickled cameras": (camera(lambda m: m.update(world_mat_1=np.array([{}], object))), "cameras.npz"),
}


@pytest.mark.parametrize(("spoil", "name"), BAD.values(), ids=BAD)
def test_bad_input_ends_in_one_line_that_names_the_file(
    balls: pathlib.Path, spoil: Callable[[pathlib.Path], object], name: str
) -> None:
    spoil(balls / SYNSET)
    with pytest.raises(ValueError, match=name) as caught:
        use(balls)
    assert "\n" not in str(caught.value)


BAD_POINTS = {
    "no cloud": remove("a/pointcloud.npz"),
    "cloud cut": truncate("a/pointcloud.npz", 0.5),
    "cloud of another name": lambda folder: np.savez(folder / "a/pointcloud.npz", xyz=np.zeros((5, 3))),
    "NaN in the cloud": lambda folder: np.savez(folder / "a/pointcloud.npz", points=np.full((5, 3), np.nan)),
    "flat cloud": lambda folder: np.savez(folder / "a/pointcloud.npz", points=np.zeros((5, 2))),
    "empty cloud": lambda folder: np.savez(folder / "a/pointcloud.npz", points=np.zeros((0, 3))),
}


@pytest.mark.parametrize("spoil", BAD_POINTS.values(), ids=BAD_POINTS)
def test_bad_ground_truth_ends_in_one_line_that_names_the_file(
    balls: pathlib.Path, spoil: Callable[[pathlib.Path], object]
) -> None:
    spoil(balls / SYNSET)
    with pytest.raises(ValueError, match=r"a/pointcloud\.npz") as caught:
        use(balls, "val")
    assert "\n" not in str(caught.value)


def test_missing_root_and_wrong_options(balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere.*data\.root"):
        ShapeNetSource(str(tmp_path / "nowhere"), "airplane", "train")
    with pytest.raises(ValueError, match="03001627"):
        ShapeNetSource(str(balls), "chair", "train")
    with pytest.raises(ValueError, match="all or one, got some"):
        ShapeNetSource(str(balls), "airplane", "train", views="some")
    with pytest.raises(ValueError, match=r"softras_trial\.lst"):
        ShapeNetSource(str(balls), "airplane", "trial")


def test_a_mask_of_one_bit_is_a_mask(balls: pathlib.Path) -> None:
    path = balls / SYNSET / "a" / "mask" / "0000.png"
    mask = np.asarray(Image.open(path)) > 127
    Image.fromarray(mask).save(path)
    assert Image.open(path).mode == "1"
    picture = ShapeNetSource(str(balls), "airplane", "train").picture(0)
    assert np.array_equal(picture.alpha, mask.astype(np.float32))


def test_points_are_the_same_in_every_process(balls: pathlib.Path) -> None:
    one, two = (ShapeNetSource(str(balls), "airplane", "test", num_points=7) for _ in range(2))
    torch.testing.assert_close(one.points(0), two.points(0))


def test_models_that_shapenet_v2_lacks_are_left_out(balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "v2" / SYNSET / "b").mkdir(parents=True)
    source = ShapeNetSource(str(balls), "airplane", "train", intersect_with=str(tmp_path / "v2"))
    assert {model for model, _ in source.records} == {"b"}
    assert source.counts == {"models listed": 2, "models": 1}
    with pytest.raises(ValueError, match=r"v2/02691156.*found none"):
        ShapeNetSource(str(balls), "airplane", "val", intersect_with=str(tmp_path / "v2"))
    with pytest.raises(ValueError, match=r"data\.intersect_with"):
        ShapeNetSource(str(balls), "airplane", "train", intersect_with=str(tmp_path / "v3"))
