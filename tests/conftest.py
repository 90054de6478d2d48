"""Fixtures of the whole suite; the annotations of the package are checked while it runs."""

from __future__ import annotations

import logging
import os
import pathlib
import tarfile
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook
from PIL import Image

PARTS = ("baselines", "structures", "functional", "models", "losses", "metrics", "data", "meshes", "inference", "system")
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"  # an int will do for a float
install_import_hook([f"sdfsrn.{part}" for part in PARTS], CHECKER)

ROOT = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get("SDFSRN_DATA", ROOT.parent / "shared" / "data"))
MODELS = {"train": ["339", "717", "F-18"], "val": ["747"], "test": ["220", "f16"]}


if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # as many processes as cores, each on one
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # and those that they start: threads that wait for cores cost minutes


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def log_files() -> Iterator[None]:
    """Close the log file that Hydra has opened for a command in this process: the test's folder is gone by the next message."""
    yield
    logger = logging.getLogger()
    for handler in [handler for handler in logger.handlers if type(handler) is logging.FileHandler]:
        logger.removeHandler(handler)
        handler.close()


@pytest.fixture(scope="session")
def airplanes(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A few real airplanes in the NMR layout; `full_<split>.lst` are the complete lists."""
    path = DATA / "flightgear_airplanes.tar"
    if not path.is_file():
        pytest.skip(f"NO REAL DATA CHECKED: {path} IS MISSING, SET SDFSRN_DATA TO ITS FOLDER")
    root = tmp_path_factory.mktemp("flightgear")
    wanted = {model for models in MODELS.values() for model in models}
    with tarfile.open(path) as tar:
        for member in tar:
            parts = pathlib.PurePath(member.name).parts
            if member.isfile() and len(parts) > 2 and (parts[2] in wanted or parts[2].endswith(".lst")):
                target = root / pathlib.Path(*parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(tar.extractfile(member).read())
    for split, models in MODELS.items():
        folder = root / "02691156"
        (folder / f"softras_{split}.lst").rename(folder / f"full_{split}.lst")
        (folder / f"softras_{split}.lst").write_text("\n".join(models) + "\n")
    return root


@pytest.fixture(scope="session")
def pascal3d(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The real CAD models of PASCAL3D+ in the release's layout; lists of three images for training and six for validation.

    `full_<class>_imagenet_<list>.txt` are the complete lists.
    """
    path = DATA / "pascal3d_mini.tar"
    if not path.is_file():
        pytest.skip(f"NO REAL DATA CHECKED: {path} IS MISSING, SET SDFSRN_DATA TO ITS FOLDER")
    root = tmp_path_factory.mktemp("pascal3d")
    with tarfile.open(path) as tar:
        tar.extractall(root, filter="data")
    lists = root / "PASCAL3D+_release1.1" / "Image_sets"
    for file in sorted(lists.glob("*.txt")):
        names = file.read_text().split()
        file.rename(file.with_name(f"full_{file.name}"))
        file.write_text("\n".join(names[: 3 if file.stem.endswith("train") else 6]) + "\n")
    return root / "PASCAL3D+_release1.1"


@pytest.fixture
def balls(tmp_path: pathlib.Path) -> pathlib.Path:
    """Two models of three views of a ball, 16 x 16, in the NMR layout; small enough to spoil, one copy a test."""
    folder = tmp_path / "nmr" / "02691156"
    generator = np.random.default_rng(0)
    for model in ("a", "b"):
        for name in ("image", "mask"):
            (folder / model / name).mkdir(parents=True)
        matrices = {}
        for view in range(3):
            matrices[f"world_mat_{view}"] = np.concatenate([np.eye(3), [[0.0], [0.0], [3.0]]], 1)
            matrices[f"camera_mat_{view}"] = np.diag([2.5, 2.5, 1.0, 1.0])
            y, x = np.mgrid[:16, :16] + 0.5 - 8
            mask = (np.clip(4.5 + view / 4 - np.hypot(x, y), 0, 1) * 255).astype(np.uint8)
            image = generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(image).save(folder / model / "image" / f"{view:04d}.png")
            Image.fromarray(mask).save(folder / model / "mask" / f"{view:04d}.png")
        np.savez(folder / model / "cameras.npz", **matrices)
        np.savez(folder / model / "pointcloud.npz", points=generator.normal(size=(50 if model == "a" else 40, 3)))
    for split, models in {"train": "a\nb\n", "val": "a\n", "test": "b\n"}.items():
        (folder / f"softras_{split}.lst").write_text(models)
    return folder.parent
