"""One reader: the same object in every kind of file, array and tensor, by every way in."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from sdfsrn.annotating.folder import has_alpha, open_photo, picture_names, read_mask, read_shown, thumbnail
from sdfsrn.cli.pictures import find_pictures
from sdfsrn.data.images import DRAWN, describe_skipped, open_image, read_cutout
from sdfsrn.data.preparing.export import export_folder
from sdfsrn.data.preparing.inspection import inspect
from sdfsrn.data.preprocessing import Preprocessing
from sdfsrn.data.sources.folder import FolderSource
from sdfsrn.data.sources.shapenet import ShapeNetSource
from sdfsrn.demo import object_mask
from sdfsrn.poses.search import unposed_picture

HEIGHT, WIDTH = 40, 56
Y, X = np.mgrid[:HEIGHT, :WIDTH]
HARD = np.uint8(255) * (np.hypot(X - 25, 1.3 * (Y - 18)) < 12)
SOFT = np.rint(255 * (13 - np.hypot(X - 25, 1.3 * (Y - 18))).clip(0, 1)).astype(np.uint8)
COLOR = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GRAY = COLOR[..., 0]
TABLE = "image,mask,azimuth,elevation,theta,convention\n"
CLASSES = [0, 0, 0, 128, 0, 0, 0, 128, 0]  # colours of the labels 0, 1, 2


def palette(index: np.ndarray, colors: list[int]) -> Image.Image:
    image = Image.fromarray(index.astype(np.uint8), "L").convert("P")
    image.putdata(index.astype(np.uint8).reshape(-1).tolist())
    image.putpalette(colors)
    return image


def deep(values: np.ndarray, mode: str) -> Image.Image:
    if mode == "I;16B":
        return Image.frombytes(mode, values.shape[::-1], values.astype(">u2").tobytes())
    return Image.fromarray(values.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))


MASKS: dict[str, tuple[Callable[[], Image.Image], str, np.ndarray]] = {
    "8 bits": (lambda: Image.fromarray(SOFT), "png", SOFT),
    "RGB": (lambda: Image.fromarray(np.repeat(SOFT[..., None], 3, -1)), "png", SOFT),
    "pure blue": (lambda: Image.fromarray(np.dstack([0 * SOFT, 0 * SOFT, SOFT])), "png", SOFT),
    "CMYK": (lambda: Image.fromarray(np.repeat(SOFT[..., None], 3, -1)).convert("CMYK"), "tif", SOFT),
    "16 bits": (lambda: deep(257 * SOFT.astype(int), "I;16"), "png", SOFT),
    "16 bits in TIFF": (lambda: deep(257 * SOFT.astype(int), "I;16"), "tif", SOFT),
    "16 bits, big-endian": (lambda: deep(257 * SOFT.astype(int), "I;16B"), "tif", SOFT),
    "16 bits in PGM": (lambda: deep(257 * SOFT.astype(int), "I;16"), "pgm", SOFT),
    "32 bits": (lambda: deep(257 * SOFT.astype(int), "I"), "tif", SOFT),
    "8 in 16 bits": (lambda: deep(SOFT, "I;16"), "png", SOFT),
    "floats up to 1": (lambda: deep(SOFT / 255, "F"), "tif", SOFT),
    "floats up to 255": (lambda: deep(SOFT, "F"), "tif", SOFT),
    "0 and 1": (lambda: Image.fromarray(HARD // 255), "png", HARD),
    "0 and 1 in 16 bits": (lambda: deep(HARD // 255, "I;16"), "png", HARD),
    "0 and 4095": (lambda: deep(4095 * (HARD // 255).astype(int), "I;16"), "png", HARD),
    "0 and -1": (lambda: deep(-(HARD // 255).astype(int), "I"), "tif", HARD),
    "0 and 7": (lambda: Image.fromarray(7 * (HARD // 255)), "png", HARD),
    "one bit": (lambda: Image.fromarray(HARD > 0), "png", HARD),
    "labels of a palette": (lambda: palette((HARD > 0) * (1 + (X > 25)), CLASSES), "png", HARD),
    "labels 0 and 1 of a palette of greys": (lambda: palette(HARD > 0, [i for i in range(256) for _ in "rgb"]), "png", HARD),
    "a palette of greys": (lambda: palette(SOFT, [i for i in range(256) for _ in "rgb"]), "png", SOFT),
    "a white object first in the palette": (lambda: palette(HARD == 0, [255, 255, 255, 0, 0, 0]), "gif", HARD),
    "dark class colours": (lambda: Image.fromarray((HARD[..., None] > 0) * np.array([60, 0, 0], np.uint8)), "png", HARD),
    "cut-out": (lambda: Image.fromarray(np.dstack([COLOR, SOFT])), "png", SOFT),
    "white cut-out": (lambda: Image.fromarray(np.dstack([0 * COLOR + 255, SOFT])), "png", SOFT),
    "black cut-out": (lambda: Image.fromarray(np.dstack([0 * COLOR, SOFT])), "webp", SOFT),
    "grey with alpha": (lambda: Image.fromarray(np.dstack([0 * SOFT + 255, SOFT])), "png", SOFT),
    "grey, opaque": (lambda: Image.fromarray(np.dstack([SOFT, 0 * SOFT + 255])), "png", SOFT),
    "RGBA, opaque": (lambda: Image.fromarray(np.dstack([SOFT, SOFT, SOFT, 0 * SOFT + 255])), "png", SOFT),
}


def by_folder(root: pathlib.Path, image: str, mask: str) -> np.ndarray:
    (root / "cameras.csv").write_text(TABLE + f"{image},{mask},1,2,3,nmr\n")
    return FolderSource(str(root), "train", WIDTH).picture(0).alpha[(WIDTH - HEIGHT) // 2 : (WIDTH + HEIGHT) // 2]


def by_reconstruct(root: pathlib.Path, image: str, mask: str) -> np.ndarray:
    """What the network sees of a black object before white."""
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "black.png")
    seen = Preprocessing(WIDTH)(str(root / "black.png"), root / mask)[0].numpy()
    return (1 - seen[(WIDTH - HEIGHT) // 2 : (WIDTH + HEIGHT) // 2]) / 2


def by_pose_search(root: pathlib.Path, image: str, mask: str) -> np.ndarray:
    picture = unposed_picture(root / image, root / mask, Preprocessing(WIDTH))
    return picture.alpha[(WIDTH - HEIGHT) // 2 : (WIDTH + HEIGHT) // 2]


def by_page(root: pathlib.Path, image: str, mask: str) -> np.ndarray:
    return read_mask(root, open_photo(root, image), mask) / np.float32(255)


def by_demo(root: pathlib.Path, image: str, mask: str) -> np.ndarray:
    with Image.open(root / image) as opened, Image.open(root / mask) as opened_mask:
        return np.asarray(object_mask(opened, [], opened_mask)) / np.float32(255)


WAYS = [by_folder, by_reconstruct, by_pose_search, by_page, by_demo]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_is_the_same_in_every_kind_of_file(tmp_path: pathlib.Path, kind: str, way: Callable) -> None:
    make, suffix, expected = MASKS[kind]
    options = {"lossless": True} if suffix == "webp" else {}
    make().save(tmp_path / f"mask.{suffix}", **options)
    Image.fromarray(COLOR).save(tmp_path / "image.png")
    found = way(tmp_path, "image.png", f"mask.{suffix}")
    np.testing.assert_allclose(found, expected / 255, atol=2.01 / 255 if kind == "CMYK" else 1.01 / 255)
    assert np.array_equal(found >= 0.5, expected >= 128)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Image.fromarray((HARD > 0).astype(np.uint8) * (1 + X % 50).astype(np.uint8)), "mode L, values 0 to 37"),
        (lambda: Image.fromarray(1 + HARD // 255), "mode L, values 1 to 2"),
        (lambda: deep(40 * SOFT.astype(int), "I;16"), "values 0 to 10200"),
        (lambda: deep(SOFT / 100.0, "F"), "mode F, values 0 to 2.55"),
        (lambda: deep(np.where(HARD > 0, np.nan, 0), "F"), "mode F, values nan to nan"),
        (lambda: deep(10.0**6 * SOFT, "F"), "mode F, values 0 to 2.55e"),
        (lambda: deep(SOFT / 255 * 2.0 - 1, "F"), "mode F, values -1 to 1"),
        (lambda: Image.fromarray(0 * SOFT), "values 0 to 0"),
        (lambda: Image.fromarray(0 * SOFT + 255), "covers the whole picture"),
        (lambda: Image.fromarray(np.dstack([COLOR, SOFT // 3])), "empty"),
    ],
)
def test_a_mask_that_cannot_be_told_is_refused_by_name(tmp_path: pathlib.Path, make: Callable, words: str) -> None:
    image = make()
    name = "odd.tif" if image.mode in ("F", "I") else "odd.png"
    image.save(tmp_path / name)
    Image.fromarray(COLOR).save(tmp_path / "image.png")
    with pytest.raises(ValueError, match=words) as caught:
        by_folder(tmp_path, "image.png", name)
    assert name in str(caught.value)
    assert "row 2" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=words):
        read_cutout(tmp_path / "image.png", tmp_path / name)


@pytest.mark.parametrize(
    ("make", "suffix"),
    [
        (lambda: Image.fromarray(GRAY), "png"),
        (lambda: deep(257 * GRAY.astype(int), "I;16"), "png"),
        (lambda: deep(257 * GRAY.astype(int), "I;16"), "tif"),
        (lambda: deep(257 * GRAY.astype(int), "I;16B"), "tif"),
        (lambda: deep(257 * GRAY.astype(int), "I;16"), "pgm"),
        (lambda: deep(257 * GRAY.astype(int), "I"), "tif"),
        (lambda: deep(GRAY / 255, "F"), "tif"),
        (lambda: deep(257.0 * GRAY, "F"), "tif"),
        (lambda: palette(GRAY, [i for i in range(256) for _ in "rgb"]), "png"),
    ],
)
def test_a_grey_photo_keeps_its_brightness(tmp_path: pathlib.Path, make: Callable, suffix: str) -> None:
    make().save(tmp_path / f"image.{suffix}")
    Image.fromarray(SOFT).save(tmp_path / "mask.png")
    expected = np.repeat(GRAY[..., None], 3, -1)
    name = f"image.{suffix}"
    assert np.array_equal(read_cutout(tmp_path / name, tmp_path / "mask.png").color, expected)
    assert np.array_equal(read_shown(tmp_path, open_photo(tmp_path, name)), expected)
    (tmp_path / "cameras.csv").write_text(TABLE + f"{name},mask.png,1,2,3,nmr\n")
    seen = FolderSource(str(tmp_path), "train", WIDTH).picture(0).image[(WIDTH - HEIGHT) // 2 : (WIDTH + HEIGHT) // 2]
    assert np.abs(seen.astype(int) - expected).max() <= 1
    (tmp_path / "thumbnail.jpg").write_bytes(thumbnail(tmp_path, open_photo(tmp_path, name)))
    assert np.asarray(Image.open(tmp_path / "thumbnail.jpg")).mean() == pytest.approx(GRAY.mean(), abs=2)


RGBA = np.dstack([COLOR, SOFT])
ARRAYS = {
    "bytes": (COLOR, SOFT),
    "bytes with a channel": (COLOR, SOFT[..., None]),
    "floats": (COLOR / 255, SOFT / 255),
    "halves": ((COLOR / 255).astype(np.float16), (SOFT / 255).astype(np.float16)),
    "floats up to 255": (COLOR.astype(float), SOFT.astype(float)),
    "16 bits": (257 * COLOR.astype(np.uint16), 257 * SOFT.astype(np.uint16)),
    "64 bits": (COLOR.astype(np.int64), SOFT.astype(np.int64)),
    "booleans": (COLOR, HARD > 0),
    "0 and 1": (COLOR, HARD // 255),
    "0.0 and 1.0": (COLOR, HARD / 255),
    "labels": (COLOR, 3 * (HARD > 0)),
    "alpha": (RGBA, None),
    "alpha in floats": (RGBA / 255, None),
    "alpha in 16 bits": (257 * RGBA.astype(np.uint16), None),
    "channels first": (np.moveaxis(COLOR, -1, 0) / 255, SOFT[None] / 255),
    "tensors": (torch.from_numpy(COLOR).movedim(-1, 0) / 255, torch.from_numpy(SOFT)[None] / 255),
    "a tensor with alpha": (torch.from_numpy(RGBA).movedim(-1, 0).double() / 255, None),
    "tensors of bytes": (torch.from_numpy(COLOR), torch.from_numpy(HARD > 0)),
    "PIL": (Image.fromarray(COLOR), Image.fromarray(SOFT)),
    "PIL with alpha": (Image.fromarray(RGBA), None),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_and_tensors(kind: str) -> None:
    image, mask = ARRAYS[kind]
    found = read_cutout(image, mask)
    hard = kind in ("booleans", "0 and 1", "0.0 and 1.0", "labels", "tensors of bytes")
    assert np.array_equal(found.color, COLOR)
    np.testing.assert_allclose(found.alpha, (HARD if hard else SOFT) / 255, atol=0.5 / 255)
    assert torch.equal(Preprocessing(32)(image, mask), Preprocessing(32)(COLOR, HARD if hard else SOFT)) or kind == "halves"


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (COLOR / 127.5 - 1, "values -1 to 1"),
        (COLOR / 255 * np.nan, "values nan"),
        (COLOR * 1e6, "values 0 to"),
        (COLOR.astype(np.int64) * 70_000, "values 0 to"),
        (COLOR[..., :2], r"\(40, 56, 2\)"),
        (COLOR[None], r"\(1, 40, 56, 3\)"),
        (COLOR[:0], r"\(0, 56, 3\)"),
        (COLOR.astype(complex), "complex128"),
        (COLOR.astype(str), "got <U"),
    ],
)
def test_numbers_that_are_no_picture_end_in_one_line(image: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        Preprocessing(32)(image, SOFT)
    assert "\n" not in str(caught.value)


def turned(image: Image.Image, orientation: int) -> tuple[Image.Image, Image.Exif]:
    """The picture as a camera held that way stores it, and the note on how to turn it."""
    backwards = {
        3: Image.Transpose.ROTATE_180,
        6: Image.Transpose.ROTATE_90,
        8: Image.Transpose.ROTATE_270,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    return image.transpose(backwards[orientation]), exif


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_photos_are_turned_upright_also_those_of_pil(tmp_path: pathlib.Path, orientation: int) -> None:
    stored, exif = turned(Image.fromarray(RGBA), orientation)
    stored.save(tmp_path / "phone.png", exif=exif)
    Image.fromarray(SOFT).save(tmp_path / "mask.png")
    with Image.open(tmp_path / "phone.png") as opened:
        for image in (tmp_path / "phone.png", opened):
            for mask in (None, tmp_path / "mask.png"):
                found = read_cutout(image, mask)
                assert np.array_equal(found.color, COLOR)
                assert np.array_equal(np.rint(255 * found.alpha), SOFT)
    shown = read_shown(tmp_path, open_photo(tmp_path, "phone.png"))
    assert np.array_equal(shown[HARD > 0], COLOR[HARD > 0])


def test_pixels_of_a_release_stay_as_they_are_stored(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "02691156" / "a"
    for name in ("image", "mask"):
        (folder / name).mkdir(parents=True)
    (tmp_path / "02691156" / "softras_train.lst").write_text("a\n")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(COLOR[:, :HEIGHT]).save(folder / "image" / "0000.png", exif=exif)
    Image.fromarray(HARD[:, :HEIGHT]).save(folder / "mask" / "0000.png", exif=exif)
    np.savez(folder / "cameras.npz", world_mat_0=np.eye(4), camera_mat_0=np.eye(4))
    picture = ShapeNetSource(str(tmp_path), "airplane", "train").picture(0)
    assert np.array_equal(picture.image, COLOR[:, :HEIGHT])
    assert np.array_equal(255 * picture.alpha, HARD[:, :HEIGHT])
    for values in (257 * HARD[:, :HEIGHT].astype(np.uint16), HARD[:, :HEIGHT] // 255):
        Image.fromarray(values).save(folder / "mask" / "0000.png")
        assert np.array_equal(255 * ShapeNetSource(str(tmp_path), "airplane", "train").picture(0).alpha, HARD[:, :HEIGHT])


def test_a_background_that_nobody_removed_is_refused(tmp_path: pathlib.Path) -> None:
    """Also with a crop, whose margin would make a background of its own."""
    opaque = np.dstack([COLOR, np.full_like(SOFT, 255)])
    opaque[0, 0, 3] = 0  # a corner of a screenshot
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    with pytest.raises(
        ValueError, match=r"covers the whole picture in the alpha channel of .*opaque\.png: remove the background"
    ):
        Preprocessing(32, crop=1.2)(tmp_path / "opaque.png")
    assert Preprocessing(32)(tmp_path / "opaque.png", SOFT).shape == (3, 32, 32)  # a mask says where the object is
    (tmp_path / "cameras.csv").write_text(TABLE + "opaque.png,,1,2,3,nmr\n")
    source = FolderSource(str(tmp_path), "train", crop=1.2)
    with pytest.raises(ValueError, match="covers the whole picture"):
        source.picture(0)
    assert inspect(source)["faults"] == {"unusable": [str(tmp_path / "opaque.png")]}
    opaque[..., 3] = 255
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    assert not has_alpha(tmp_path, open_photo(tmp_path, "opaque.png"))
    with pytest.raises(ValueError, match="Where is the object"):
        object_mask(Image.fromarray(opaque), [])


def test_an_object_that_the_photo_cuts_is_found_before_the_crop(tmp_path: pathlib.Path) -> None:
    Image.fromarray(RGBA[:, :30]).save(tmp_path / "cut.png")
    Image.fromarray(RGBA).save(tmp_path / "whole.png")
    assert read_cutout(tmp_path / "cut.png").cut
    assert not read_cutout(tmp_path / "whole.png").cut
    (tmp_path / "cameras.csv").write_text(TABLE + "cut.png,,1,2,3,nmr\nwhole.png,,1,2,3,nmr\n")
    report = inspect(FolderSource(str(tmp_path), "train", crop=1.2))
    assert report["faults"] == {"border": [str(tmp_path / "cut.png")]}


def test_an_export_keeps_every_touched_pixel(tmp_path: pathlib.Path) -> None:
    """A rod of 1 / 255, away from all else, as only a renderer draws it."""
    alpha = SOFT.copy()
    alpha[-3, 10:50:3] = 1
    Image.fromarray(np.dstack([COLOR, alpha])).save(tmp_path / "image.png")
    (tmp_path / "cameras.csv").write_text(TABLE + "image.png,,1,2,3,nmr\n")
    assert FolderSource(str(tmp_path), "train", WIDTH).picture(0).dropped > 0

    class Drawn(FolderSource):
        def picture(self, index: int):
            picture = super().picture(index)
            full = np.zeros((WIDTH, WIDTH), np.float32)
            full[(WIDTH - HEIGHT) // 2 : (WIDTH + HEIGHT) // 2] = alpha / np.float32(255)
            return picture._replace(alpha=full)

    drawn = Drawn(str(tmp_path), "train", WIDTH)
    export_folder({"train": drawn}, tmp_path / "out")
    back = FolderSource(str(tmp_path / "out"), "train", WIDTH).picture(0)
    assert np.array_equal(back.alpha > 0, drawn.picture(0).alpha > 0)
    assert back.dropped == 0
    assert DRAWN in open_image(tmp_path / "out" / "train" / "000000.png").info


def test_files_that_are_skipped_are_counted_with_the_remedy(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdfsrn.data import images

    monkeypatch.setattr(images, "PICTURE_SUFFIXES", images.PICTURE_SUFFIXES - images.HEIF_SUFFIXES)  # as without the extra
    for name in ("IMG_2.HEIC", "IMG_3.heic", "notes.txt", ".DS_Store"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic")
    words = r"2 \.heic \(pip install 'sdfsrn\[heic\]', or save as JPEG\), 1 \.txt"
    for find in (lambda: find_pictures(str(tmp_path), "image"), lambda: picture_names(tmp_path)):
        with pytest.raises(ValueError, match=rf"found only {words}"):
            find()
    Image.fromarray(COLOR).save(tmp_path / "IMG_1.JPG", "JPEG")
    (tmp_path / "cameras.csv").write_text("")
    with caplog.at_level(logging.WARNING):
        assert picture_names(tmp_path) == ["IMG_1.JPG"]
        assert find_pictures(str(tmp_path / "*"), "image") == [tmp_path / "IMG_1.JPG"]
    assert len(caplog.messages) == 2
    assert all("2 .heic (pip install" in message for message in caplog.messages)
    with pytest.raises(ValueError, match=r"IMG_2\.HEIC: pip install 'sdfsrn\[heic\]'"):
        open_image(tmp_path / "IMG_2.HEIC")
    assert describe_skipped([]) == ""


def test_heic_of_a_phone(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("pillow_heif")
    Image.fromarray(np.repeat(GRAY[:, :, None] // 8 * 8, 3, -1)).save(tmp_path / "IMG_1.HEIC", quality=-1)
    assert find_pictures(str(tmp_path), "image") == [tmp_path / "IMG_1.HEIC"]
    assert np.abs(read_cutout(tmp_path / "IMG_1.HEIC", SOFT).color.astype(int) - (GRAY // 8 * 8)[..., None]).mean() < 3
