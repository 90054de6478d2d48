"""Which masks belong to which pictures, and where results go: never by the file's name alone."""

from __future__ import annotations

import pathlib

import pytest
from PIL import Image

from sdfsrn.cli.pictures import find_pictures, output_names, pair_masks


def make(root: pathlib.Path, *names: str) -> list[pathlib.Path]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(root / name)
    return [root / name for name in names]


@pytest.mark.parametrize("outer", ["", "masks/", "../elsewhere/"], ids=["inside", "beside", "elsewhere"])
def test_one_name_in_many_folders_is_told_by_the_folders(outer: str, tmp_path: pathlib.Path) -> None:
    """In the layout of NMR (<model>/image, <model>/mask), and with masks in folders of the pictures' names."""
    models = [f"m{i}" for i in range(5)]
    inner = "/mask" if outer == "" else ""
    root = tmp_path / "data"
    images = make(root, *(f"{model}/image/{view:04d}.png" for model in models for view in range(2)))
    masks = make(root, *(f"{outer}{model}{inner}/{view:04d}.png" for model in models for view in range(2)))
    pattern = f"{root}/{outer}*{inner}/*.png"
    assert pair_masks(images, pattern if outer != "../elsewhere/" else f"{tmp_path}/elsewhere/*/*.png") == [
        pathlib.Path(str(mask).replace("data/../", "")) for mask in masks
    ]
    assert output_names(images) == [f"{model}/image/{view:04d}" for model in models for view in range(2)]


def test_a_part_of_the_pictures_finds_its_masks_among_all(tmp_path: pathlib.Path) -> None:
    images = make(tmp_path, "m0/image/0000.png", "m1/image/0000.png", "m1/image/0001.png")
    masks = make(tmp_path, "m0/mask/0000.png", "m1/mask/0000.png", "m1/mask/0001.png")
    for chosen in ([0], [1], [1, 2], [0, 2]):
        found = pair_masks([images[i] for i in chosen], f"{tmp_path}/*/mask/*.png")
        assert found == [masks[i] for i in chosen]


def test_folders_in_another_order_are_told_apart(tmp_path: pathlib.Path) -> None:
    images = make(tmp_path, "in/a/b/0.png", "in/b/a/0.png")
    masks = make(tmp_path, "out/a/b/0.png", "out/b/a/0.png")
    assert pair_masks(images, f"{tmp_path}/out/*/*/0.png") == masks


def test_masks_in_one_flat_folder_serve_pictures_of_different_names(tmp_path: pathlib.Path) -> None:
    images = make(tmp_path, "monday/a.png", "tuesday/b.png")
    masks = make(tmp_path, "masks/a.png", "masks/b.png", "masks/c.png")
    assert pair_masks(images, str(tmp_path / "masks")) == masks[:2]


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        (["monday/1.png", "tuesday/1.png"], ["masks/1.png"], "masks/1.png for both .*monday/1.png and .*tuesday/1.png"),
        (["monday/1.png"], ["masks/tuesday/1.png", "masks/friday/1.png"], "found .*friday/1.png and .*tuesday/1.png"),
        (["monday/1.png", "friday/2.png"], ["masks/tuesday/1.png", "masks/friday/2.png"], "monday/1.png, .*found none"),
        (["in/a.png", "in/b.png"], ["masks/a.png", "masks/a.jpg", "masks/b.png"], "found .*a.jpg and .*a.png"),
        (["in/a.jpg", "in/a.png"], ["masks/a.png", "masks/b.png"], "masks/a.png for both .*a.jpg and .*a.png"),
    ],
)
def test_doubtful_masks_are_refused(images: list[str], masks: list[str], message: str, tmp_path: pathlib.Path) -> None:
    paths = make(tmp_path, *images)
    make(tmp_path, *masks)
    with pytest.raises(ValueError, match=message) as error:
        pair_masks(paths, f"{tmp_path}/masks/**/*.*")
    assert "\n" not in str(error.value)


def test_results_of_two_pictures_are_never_one(tmp_path: pathlib.Path) -> None:
    assert output_names(make(tmp_path, "a.png")) == ["a"]
    assert output_names(make(tmp_path, "a.png", "b.c.jpg")) == ["a", "b.c"]
    assert output_names(make(tmp_path, "x/a.png", "a.png", "x/y/a.png")) == ["x/a", "a", "x/y/a"]
    with pytest.raises(ValueError, match=r"got x/photo for both .*photo\.jpg and .*photo\.png"):
        output_names(make(tmp_path, "a.png", "x/photo.jpg", "x/photo.png"))


def test_names_with_brackets_and_several_patterns_are_found(tmp_path: pathlib.Path) -> None:
    old, new = make(tmp_path, "[old] chairs/a [1].png", "new/b.png")
    assert find_pictures(str(old), "image") == [old]
    assert find_pictures(f"{tmp_path}/[old] chairs", "image") == [old]
    assert find_pictures(f"{tmp_path}/[old] chairs/*.png", "image") == [old]
    assert find_pictures(f"{tmp_path}/[mn]ew/*.png", "image") == [new]
    assert find_pictures([str(new), f"{tmp_path}/*/*.png"], "image") == [new, old]
