"""The path of a single picture to a network, against that of a data set."""

from __future__ import annotations

import csv
import pathlib

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

import sdfsrn
from scenes import Memory, disc
from sdfsrn.checkpoints.legacy import modernize
from sdfsrn.data import FolderDataModule, Pascal3DDataModule, Preprocessing
from sdfsrn.data.images import read_cutout
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera
from sdfsrn.functional.isosurface import Grid
from sdfsrn.runtime.configs import config_folder, instantiate
from tiny import MODEL


@pytest.fixture
def photo() -> tuple[np.ndarray, np.ndarray]:
    """A red object in the left half of a blue picture, and its mask."""
    color = np.zeros((40, 80, 3), np.uint8)
    color[..., 2] = 255
    color[10:30, 5:35] = (255, 0, 0)
    mask = np.zeros((40, 80), np.uint8)
    mask[10:30, 5:35] = 255
    return color, mask


def test_background_becomes_white_and_the_object_stays_in_place(photo: tuple[np.ndarray, np.ndarray]) -> None:
    image = Preprocessing(80)(*photo)
    assert image.shape == (3, 80, 80)
    assert torch.allclose(image[:, 20 + 20, 20], torch.tensor([1.0, -1.0, -1.0]), atol=1e-2)  # 20 rows of padding above
    assert torch.allclose(image[:, 40, 60], torch.ones(3))
    assert torch.allclose(image[:, 5, 20], torch.ones(3))


def test_alpha_and_mask_are_the_same_thing(photo: tuple[np.ndarray, np.ndarray]) -> None:
    color, mask = photo
    with_alpha = Preprocessing(32, crop=1.2)(np.dstack([color, mask]))
    assert torch.equal(with_alpha, Preprocessing(32, crop=1.2)(color, mask))


def test_crop_frames_the_silhouette(photo: tuple[np.ndarray, np.ndarray]) -> None:
    """A box of 30 x 20 pixels: in crops of 1.5 longer sides and of 3 heights."""
    for crop, of, side in ((1.5, "longer", 45), (3.0, "height", 60)):
        image = Preprocessing(side, crop=crop, crop_side=of)(*photo)
        rows, columns = np.nonzero((image == torch.tensor([1.0, -1.0, -1.0])[:, None, None]).all(0).numpy())
        assert (rows.min() + rows.max() + 1) / 2 == pytest.approx(side / 2, abs=0.5)
        assert (columns.min() + columns.max() + 1) / 2 == pytest.approx(side / 2, abs=0.5)
        assert len(rows) == pytest.approx(600, abs=50)
        assert (image == 1).all(0).sum() == pytest.approx(side**2 - 600, abs=60)


@pytest.mark.parametrize("wrong", [{"image_size": 0}, {"crop": 0.0}, {"crop": -1.2}, {"crop_side": "width"}])
def test_settings_that_make_no_picture(wrong: dict) -> None:
    with pytest.raises(ValueError, match="Expected"):
        Preprocessing(**wrong)


def test_bad_pictures_are_named(photo: tuple[np.ndarray, np.ndarray], tmp_path: pathlib.Path) -> None:
    color, mask = photo
    Image.fromarray(color).save(tmp_path / "plain.jpg")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n????")
    with pytest.raises(ValueError, match=r"plain\.jpg.*mask=FILE"):
        read_cutout(tmp_path / "plain.jpg")
    with pytest.raises(ValueError, match=r"broken\.png"):
        read_cutout(tmp_path / "broken.png")
    with pytest.raises(ValueError, match="missing"):
        read_cutout(tmp_path / "missing.png")
    with pytest.raises(ValueError, match="size"):
        read_cutout(tmp_path / "plain.jpg", mask[:20])
    with pytest.raises(ValueError, match=r"mask of .*plain\.jpg is empty"):
        read_cutout(tmp_path / "plain.jpg", np.zeros_like(mask))


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Photos of odd sizes with objects anywhere, one with soft edges, as files with alpha or with masks of their own."""
    random, rows = np.random.default_rng(0), []
    for number, (height, width) in enumerate([(61, 97), (120, 75), (50, 50), (40, 60)]):
        y, x = np.mgrid[:height, :width]
        alpha = (random.uniform(9, 14) - np.hypot(1.3 * (y - 0.4 * height), x - 0.6 * width)).clip(0, 1)
        color = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        mask = (255 * alpha).round().astype(np.uint8)
        name = {"image": f"{number}.png", "mask": ""}
        if number == 1:
            name["mask"] = "mask.png"
            Image.fromarray(mask).save(tmp_path / "mask.png")
            Image.fromarray(color).save(tmp_path / name["image"])
        else:
            Image.fromarray(np.dstack([color, mask])).save(tmp_path / name["image"])
        rows.append({**name, "split": "val" if number == 3 else "train", "azimuth": 30, "elevation": 10, "theta": 5})
    with (tmp_path / "cameras.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path


@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize("settings", [{}, {"background": -1.0, "image_size": 40, "crop": 1.37}, {"crop": None}], ids=str)
def test_a_photo_is_the_same_in_training_and_at_inference(folder: pathlib.Path, settings: dict, preload: bool) -> None:
    """To the last bit."""
    options = {"crop": 1.2, **settings}
    data = FolderDataModule(str(folder), convention="pascal3d", num_rays=8, batch_size=3, preload=preload, **options)
    trained = data.dataset("train").views(range(3)).image
    assert data.preprocessing.image_size == trained.shape[-1]
    for number, expected in enumerate(trained):
        mask = folder / "mask.png" if number == 1 else None
        assert torch.equal(data.preprocessing(folder / f"{number}.png", mask), expected)
        whole = data.preprocessing.views(data.source("train"), [number], torch.device("cpu"))
        assert torch.equal(whole.image[0], expected)


def test_a_loaded_model_sees_photos_as_it_was_trained_to(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train, save, load, reconstruct, with no setting at its default."""
    own = {"image_size": 24, "crop": 1.4, "background": -0.5}
    data = [f"data.root={folder}", "data.convention=pascal3d", *(f"data.{name}={value}" for name, value in own.items())]
    small = ["data.batch_size=3", "data.num_rays=16", "trainer=cpu", "trainer.max_steps=1", "model.encoder.weights=null"]
    quiet = ["+trainer.enable_progress_bar=false", "+trainer.enable_checkpointing=false", f"paths.output={tmp_path}"]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", ["experiment=folder", *data, *MODEL, *small, *quiet])
    model, trainer = instantiate(config.model), instantiate(config.trainer, logger=False)
    datamodule = instantiate(config.data)
    trainer.fit(model, datamodule=datamodule)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded, seen = sdfsrn.load(tmp_path / "model.ckpt"), []
    assert loaded.preprocessing == datamodule.preprocessing == Preprocessing(**own)
    encode = loaded.encode
    monkeypatch.setattr(loaded, "encode", lambda image: seen.append(image) or encode(image))
    sdfsrn.reconstruct(folder / "0.png", loaded, grid=Grid(resolution=8))
    assert torch.equal(seen[0], datamodule.dataset("train").views([0]).image)


def test_a_data_set_of_another_size_is_resampled_and_its_cameras_stay() -> None:
    for kind in (PerspectiveCamera, OrthographicCamera):
        large, small = (Memory([disc(kind, size, 0.4, (0.25, -0.1))]) for size in (96, 32))
        ours = Preprocessing(32, background=0.5).views(large, [0], torch.device("cpu"))
        theirs = Preprocessing(32, background=0.5).views(small, [0], torch.device("cpu"))
        for name in ("camera", "uv"):
            assert all(map(torch.equal, *([*getattr(views, name)] for views in (ours, theirs))))
        assert (ours.image - theirs.image).abs().mean() < 0.01
        assert (ours.inside == theirs.inside).float().mean() > 0.995
        torch.testing.assert_close(ours.distance, theirs.distance, atol=1.5 * 2 / 32, rtol=0)
    oblong = disc(PerspectiveCamera, 96, 0.4, (0, 0))
    oblong = oblong._replace(image=oblong.image[:64], alpha=oblong.alpha[:64])
    with pytest.raises(ValueError, match=r"64 x 96 in picture 0"):
        Preprocessing(32).views(Memory([oblong]), [0], torch.device("cpu"))


@pytest.mark.parametrize(("category", "expected"), [("car", (3.0, "height")), ("chair", (1.2, "longer"))])
def test_pascal3d_says_how_its_pictures_are_cropped(category: str, expected: tuple[float, str], monkeypatch) -> None:
    data = Pascal3DDataModule("nowhere", category)
    monkeypatch.setattr(data, "source", lambda split: Memory([disc(OrthographicCamera, 24, 0.5, (0, 0))]))
    found = data.preprocessing
    assert (found.image_size, found.crop, found.crop_side) == (24, *expected)
    older = modernize({"data": {"_target_": "sdfsrn.data.Pascal3DDataModule", "category": category, "image_size": 24}})
    assert Preprocessing(**older["preprocessing"]) == found
