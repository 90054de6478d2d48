"""The model that ships with the package: small, honest about itself, good enough, and never taken by mistake."""

from __future__ import annotations

import logging
import pathlib
import re
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

import sdfsrn
from sdfsrn import pretrained
from sdfsrn.checkpoints.files import check_trusted
from sdfsrn.cli.loading import load_model
from sdfsrn.cli.reconstructing import reconstruct_pictures
from sdfsrn.data import SyntheticSource
from sdfsrn.evaluation.measuring import measure, read_truth
from sdfsrn.evaluation.references import sphere
from sdfsrn.pretrained.__main__ import rounding, write_picture
from sdfsrn.runtime.configs import config_folder, flatten, instantiate

CHAMFER, SILHOUETTE = 0.05, 0.65  # mean distance at most, intersection over union at least, of three test objects


def configured(command: str, *overrides: str) -> Any:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose(command, [*overrides, "accelerator=cpu"])


def test_the_files_are_small() -> None:
    assert pretrained.CHECKPOINT.stat().st_size <= 7.5e6
    assert 1 <= len(pretrained.pictures()) <= 4
    for path in pretrained.pictures():
        assert path.stat().st_size < 50_000
        with Image.open(path) as picture:
            assert (picture.mode, picture.size) == ("RGBA", (256, 256))


def test_it_is_taken_without_a_path_and_says_so_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    model = sdfsrn.load()
    facts = model.config["facts"]
    assert re.fullmatch(r"[0-9a-f]{40}( with changes)?", facts["commit"])
    assert facts["test"]["objects"] > 0
    (record,) = caplog.records
    assert record.levelno == logging.WARNING  # shown in Python, too
    line = record.getMessage()
    assert "\n" not in line
    for words in (facts["commit"][:7], f"{facts['steps']} steps", facts["command"], "built-in chairs only"):
        assert words in line
    assert not model.training
    caplog.clear()
    sdfsrn.load(pretrained.CHECKPOINT)
    assert not caplog.records  # a path is what it is


def test_weights_are_halves_and_nothing_of_a_computer_is_in_the_file() -> None:
    content = torch.load(pretrained.CHECKPOINT, weights_only=True)
    assert set(content) == {"state_dict", "config"}
    assert {value.dtype for value in content["state_dict"].values()} <= {torch.float16, torch.float32, torch.int64}
    assert all(content["state_dict"][name].dtype == torch.float16 for name, _ in sdfsrn.load().named_parameters())
    check_trusted(content["config"], pretrained.CHECKPOINT, ["sdfsrn"])
    strings = [value for value in flatten(content["config"]).values() if isinstance(value, str)]
    assert not any(re.search(r"(^|[\s=])[/~.]", value) for value in strings)


def test_its_shapes_are_nearer_than_the_sphere_and_fit_their_pictures(tmp_path: pathlib.Path) -> None:
    model = sdfsrn.load()
    source = SyntheticSource("chair", "test", 3, num_points=5000, cache=str(tmp_path))
    protocol = sdfsrn.EvaluationProtocol(resolution=48, num_points=5000)
    found, reference = [], []
    for index in range(3):
        truth = read_truth(source, index, protocol)
        with torch.no_grad():
            mesh = model(model.preprocessing.views(source, [index], torch.device("cpu")).image).mesh(protocol.grid)
        found.append(measure(mesh, truth, protocol).values)
        reference.append(measure(sphere(), truth, protocol).values)
    chamfer, of_sphere = (np.mean([values["chamfer"] for values in rows]) for rows in (found, reference))
    assert chamfer < min(CHAMFER, of_sphere / 2)
    assert np.mean([values["silhouette_iou"] for values in found]) > SILHOUETTE


def test_its_pictures_are_of_the_test_split(tmp_path: pathlib.Path) -> None:
    """Each fits one of them, seen as the network sees it, and is not in the training split."""
    model = sdfsrn.load()
    source = SyntheticSource("chair", "test", 12, num_points=1, cache=str(tmp_path))
    seen = model.preprocessing.views(source, range(12), torch.device("cpu")).image
    for path in pretrained.pictures():
        number = int(path.stem.removeprefix("chair_"))
        error = (model.preprocessing(path) - seen).abs().mean((1, 2, 3))
        assert int(error.argmin()) == number
        assert error[number] < 0.01


def test_its_data_are_made_in_the_users_folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDFSRN_CACHE", str(tmp_path))
    data = dict(sdfsrn.load().config["data"], num_eval_objects=1)
    assert len(instantiate(data).source("val")) == 1
    assert [path.parent.name for path in tmp_path.rglob("*.npz")] == ["synthetic"]


@pytest.mark.parametrize("content", [None, b"", b"damaged"])
def test_a_damaged_or_missing_file_is_told_in_one_line(
    content: bytes | None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "chair.ckpt"
    if content is not None:
        path.write_bytes(content and pretrained.CHECKPOINT.read_bytes()[:100_000])
    monkeypatch.setattr(pretrained, "CHECKPOINT", path)
    with pytest.raises(ValueError, match=r"chair\.ckpt.* The file belongs to the package: install sdfsrn again\.$") as error:
        sdfsrn.load()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("command", "given", "needle"),
    [
        ("evaluate", [], r"^Expected one of ckpt_path=FILE and authors_checkpoint=FILE; ckpt_path=pretrained is "),
        ("reconstruct", ["ckpt_path="], "^Expected one of ckpt_path=FILE"),
        ("reconstruct", ["ckpt_path=null"], "^Expected one of ckpt_path=FILE"),
        ("reconstruct", ["ckpt_path=bset"], "^Expected a checkpoint at bset, which does not exist"),
        ("demo", ["ckpt_path=last", "paths.root=nowhere"], "found none in nowhere"),
        ("demo", ["authors_settings=theirs.json"], r"^Expected authors_checkpoint=FILE with authors_settings=theirs\.json"),
        ("reconstruct", ["ckpt_path=a.ckpt", "authors_checkpoint=b.ckpt"], "^Expected one of ckpt_path=FILE"),
        ("reconstruct", ["authors_checkpoint=b.ckpt"], r"b\.ckpt"),
    ],
)
def test_it_is_not_taken_by_mistake(command: str, given: list[str], needle: str) -> None:
    with pytest.raises(ValueError, match=needle):
        load_model(configured(command, *given))


@pytest.mark.parametrize("given", [["ckpt_path=best"], ["authors_checkpoint=a.ckpt"], ["mask=mask.png"]])
def test_its_pictures_are_for_itself(given: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^Expected image=FILE, FOLDER or GLOB"):
        reconstruct_pictures(configured("reconstruct", *given))


def test_evaluation_takes_it_by_name() -> None:
    model = load_model(configured("evaluate", "ckpt_path=pretrained"))
    assert model.config["facts"] == sdfsrn.load().config["facts"]


def test_rounding_is_measured(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `python -m sdfsrn.pretrained` does it: nothing for the same model, something for a larger shape."""
    monkeypatch.setattr(pretrained, "pictures", lambda: [tmp_path / "chair_0.png"])
    sample = SyntheticSource("chair", "test", 1, num_points=1, cache=str(tmp_path)).picture(0)
    write_picture(sample, tmp_path / "chair_0.png")
    with Image.open(tmp_path / "chair_0.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture.getchannel("A")), np.round(sample.alpha * 255))
    model, other = sdfsrn.load(), sdfsrn.load()
    for each in (model, other):
        each.protocol = sdfsrn.EvaluationProtocol(resolution=24)
    assert rounding(model, other) == (0, 1)
    other.protocol = sdfsrn.EvaluationProtocol(resolution=24, placement="authors")  # moved by up to a 25th of the cube
    distance, overlap = rounding(model, other)
    assert 5e-3 < distance < 0.05
    assert 0.5 < overlap < 0.97


def test_the_pictures_are_reconstructed_without_an_argument(tmp_path: pathlib.Path) -> None:
    written = reconstruct_pictures(
        configured("reconstruct", f"paths.output={tmp_path}", "protocol.resolution=24", "mesh_formats=[glb]", "turntable=[png]")
    )
    assert written == [tmp_path / f"{path.stem}{end}" for path in pretrained.pictures() for end in (".glb", "_turntable.png")]
    for path in pretrained.pictures():
        with Image.open(tmp_path / f"{path.stem}_turntable.png") as sheet, Image.open(path) as picture:
            assert sheet.size == (9 * 192, 192)
            first = np.asarray(sheet.crop((0, 0, 192, 192)), float)
            white = Image.new("RGBA", picture.size, "white")
            expected = np.asarray(Image.alpha_composite(white, picture).convert("RGB").resize((192, 192)), float)
        assert np.abs(first - expected).mean() < 4


def test_a_copy_of_the_file_is_a_checkpoint_like_any_other(tmp_path: pathlib.Path) -> None:
    shutil.copy(pretrained.CHECKPOINT, tmp_path / "mine.ckpt")
    model = load_model(configured("reconstruct", f"ckpt_path={tmp_path}/mine.ckpt"))
    assert model.protocol == sdfsrn.load().protocol
