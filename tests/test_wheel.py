"""The built wheel, installed elsewhere, runs from an empty folder: code and configs travel together."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the unpacked wheel and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "site")
    return folder / "site"


def test_wheel_carries_every_config(site: pathlib.Path) -> None:
    def configs(folder: pathlib.Path) -> set[pathlib.Path]:
        return {path.relative_to(folder) for path in folder.rglob("*.yaml")}

    assert configs(site / "sdfsrn" / "configs") == configs(ROOT / "configs")
    folder = pathlib.Path("sdfsrn", "evaluation", "assets")
    assets = [path.name for path in (ROOT / "src" / folder).iterdir()]
    assert len(assets) == 4
    assert all((site / folder / name).is_file() for name in assets)


@pytest.mark.slow
def test_wheel_trains_from_an_empty_folder(site: pathlib.Path, tmp_path: pathlib.Path) -> None:
    code = "import sdfsrn, sdfsrn.train; print(sdfsrn.__file__); sdfsrn.train.main()"
    overrides = ["debug=fast", "data.num_objects=4", "data.num_eval_objects=1", "data.shapes.views_per_object=2"]
    overrides += ["data.batch_size=4", "data.num_rays=64", "model.hypernetwork.hidden_width=16", "trainer.accelerator=cpu"]
    environment = {**os.environ, "PYTHONPATH": str(site), "SDFSRN_CACHE": str(tmp_path / "cache")}
    result = subprocess.run(
        [sys.executable, "-c", code, *overrides], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert str(site) in result.stdout
    assert (tmp_path / "outputs").is_dir()


def test_wheel_shows_chairs_without_any_argument(site: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = pathlib.Path("sdfsrn", "pretrained")
    files = {path.name for path in (ROOT / "src" / folder).iterdir() if path.is_file()}
    assert {path.name for path in (site / folder).iterdir() if path.is_file()} == files
    result = subprocess.run(
        [sys.executable, "-m", "sdfsrn.reconstruct", "protocol.resolution=24", "accelerator=cpu", "turntable=[png]"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "SDFSRN_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Taking the package's own model" in result.stdout
    (run,) = (tmp_path / "outputs" / "reconstruct").iterdir()
    assert str(run) in result.stdout
    stems = sorted(path.stem for path in (site / folder).glob("*.png"))
    assert sorted(path.stem for path in run.glob("*.glb")) == stems
    assert len(list(run.glob("*_turntable.png"))) == len(stems)


@pytest.mark.slow
def test_no_module_imports_the_command_that_would_hide_the_function_reconstruct() -> None:
    code = (
        "import pkgutil, importlib, sdfsrn\n"
        "names = {m.name for m in pkgutil.walk_packages(sdfsrn.__path__, 'sdfsrn.')} - {'sdfsrn.reconstruct'}\n"
        "for name in names: importlib.import_module(name)\n"
        "assert callable(sdfsrn.reconstruct)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
