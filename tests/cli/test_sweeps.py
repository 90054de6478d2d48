"""Sweeps go on when a job fails and when they are started again; launchers; trainings for real in all of them."""

from __future__ import annotations

import csv
import json
import logging
import os
import pathlib
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import optuna
import pytest
from hydra import compose, initialize_config_dir
from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from omegaconf import DictConfig, OmegaConf
from wandb.sdk.launch.sweeps.utils import load_sweep_config
from wandb.wandb_agent import Agent

import commands
from sdfsrn.cli.command import command
from sdfsrn.runtime.configs import config_folder
from tiny import MODEL, PICTURES, PRETRAINING

TINY = [
    *PICTURES,
    *MODEL,
    *PRETRAINING,
    "data.num_objects=4",
    "data.num_eval_objects=1",
    "data.shapes.views_per_object=1",
    "data.batch_size=4",
    "callbacks.pictures=null",
    "trainer.accelerator=cpu",
    "trainer.max_steps=2",
    "trainer.val_check_interval=2",
    "test=false",
]

Sweep = Callable[..., tuple[int | str, str]]


@pytest.fixture
def sweep(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Sweep]:
    """Makes a command of a function and sweeps with it in `tmp_path/sweep`; the exit status and what the screen shows."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.chdir(tmp_path)

    def run(job: Callable[[DictConfig], Any], *overrides: str) -> tuple[int | str, str]:
        monkeypatch.setattr(sys, "argv", ["sweep", "-m", "hydra.sweep.dir=sweep", *overrides])
        try:
            command("train")(job)()
            status: int | str = 0
        except SystemExit as end:
            status = end.code or 0
        shown = capfd.readouterr()
        return status, shown.out + shown.err

    yield run
    root.handlers[:], root.level = handlers, level


def failing() -> Callable[[DictConfig], float]:
    """A job that fails in three ways; made here so that it is sent to other processes whole, not by a name unknown there."""

    def job(config: DictConfig) -> float:
        folder = pathlib.Path(config.paths.output)
        number = int(folder.name)
        if number == 1 and "from_4" not in str(folder):
            raise ValueError("two\nlines")
        if number == 2 and "from_4" not in str(folder):
            raise KeyError("a fault of the program's")
        with (folder / "runs.txt").open("a") as file:
            file.write(f"{config.seed}\n")
        return float("nan") if number == 3 and "from_4" not in str(folder) else config.optimizer.lr

    return job


@pytest.mark.parametrize(
    "launcher", [[], pytest.param(["launcher=joblib"], marks=pytest.mark.slow)], ids=["one by one", "joblib"]
)
def test_a_failed_job_does_not_end_a_grid(launcher: list[str], sweep: Sweep, tmp_path: pathlib.Path) -> None:
    for _ in range(2):
        status, shown = sweep(failing(), "seed=5,6,7,8", "optimizer.lr=0.25", *launcher)
        assert status == "error: 3 of 4 jobs failed; see their logs in sweep"
        assert sorted(line.split(" - ")[1] for line in shown.splitlines() if "[ERROR]" in line) == [
            "Job 1 failed: two lines",
            'Job 2 failed: KeyError: "a fault of the program\'s"',
            "Job 3 failed: its value is NaN",
        ]
        assert "Traceback" not in shown
        assert [line.split() for line in shown.splitlines() if "±" in line or "best" in line] == [
            ["0", "1", "2", "3", "5,6,7,8", "0.25", "best", "1:", "two", "lines"]
        ]
        assert "max_steps" not in shown  # no tree of settings
    (line,) = csv.DictReader((tmp_path / "sweep" / "sweep.csv").open())
    assert (line["seeds"], line["values"], line["failed"], line["best"]) == ("5,6,7,8", line["val/chamfer"], "3", "best")
    found = {path.parent.name: path.read_text().split() for path in tmp_path.glob("sweep/*/runs.txt")}
    assert found == {"0": ["5", "5"], "3": ["8", "8"]}  # the second time in the same folders
    for number, error in ("1", "ValueError: two"), ("2", "KeyError"):
        (log,) = (tmp_path / "sweep" / number).glob("*.log")
        assert "Traceback" in log.read_text()
        assert error in log.read_text()


@pytest.mark.parametrize(
    "wish",
    [pytest.param(KeyboardInterrupt(), marks=pytest.mark.slow, id="Ctrl-C"), pytest.param(SystemExit(143), id="SIGTERM")],
)
def test_who_wants_a_sweep_to_end_ends_it(wish: BaseException, sweep: Sweep, tmp_path: pathlib.Path) -> None:
    def job(config: DictConfig) -> None:
        if config.seed == 1:
            raise wish

    if isinstance(wish, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            sweep(job, "seed=0,1,2")
    else:
        assert sweep(job, "seed=0,1,2")[0] == 143
    assert {path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()} == {"0", "1", ".jobs"}


def states(folder: pathlib.Path) -> list[str]:
    study = optuna.load_study(study_name="sdfsrn", storage=f"sqlite:///{folder}/study.db")
    return [trial.state.name for trial in study.trials]


@pytest.mark.slow
def test_a_study_survives_its_trials_and_goes_on(sweep: Sweep, tmp_path: pathlib.Path) -> None:
    search = ["hparams_search=optuna", "hydra.sweeper.n_trials=4"]
    status, shown = sweep(failing(), *search)
    assert status == "error: 3 of 4 jobs failed; see their logs in sweep"
    assert "Job 3 failed: its value is NaN" in shown
    assert "Traceback" not in shown
    assert states(tmp_path / "sweep") == ["COMPLETE", "FAIL", "FAIL", "FAIL"]
    assert sweep(failing(), *search)[0] == 0
    assert states(tmp_path / "sweep")[4:] == ["COMPLETE"] * 3
    assert sweep(failing(), *search)[0] == 0
    assert len(states(tmp_path / "sweep")) == 7  # it was complete
    runs = tmp_path.glob("sweep/*/*/runs.txt")
    assert sorted(str(path.parent.relative_to(tmp_path / "sweep")) for path in runs) == [
        "from_0/0", "from_0/3", "from_4/0", "from_4/1", "from_4/2",
    ]  # fmt: skip
    study = optuna.load_study(study_name="sdfsrn", storage=f"sqlite:///{tmp_path}/sweep/study.db")
    best = OmegaConf.load(tmp_path / "sweep" / "optimization_results.yaml")
    assert best.best_value == min(trial.params["optimizer.lr"] for trial in study.trials if trial.state.name == "COMPLETE")


@pytest.mark.parametrize(
    ("given", "picked"),
    [([], min), (["experiment=folder", "data.root=x"], max), (["hydra.sweeper.direction=maximize"], max)],
    ids=["quickstart", "folder", "as told"],
)
def test_a_study_picks_what_the_best_checkpoint_would(
    given: list[str], picked: Callable[[list[float]], float], sweep: Sweep, tmp_path: pathlib.Path
) -> None:
    """With experiment=folder that is the greatest val/iou."""
    values = [0.3, 0.1, 0.4]
    numbers = ["hydra.sweeper.n_trials=3", *given]
    assert sweep(lambda config: values[int(pathlib.Path(config.paths.output).name)], "hparams_search=optuna", *numbers)[0] == 0
    assert OmegaConf.load(tmp_path / "sweep" / "optimization_results.yaml").best_value == picked(values)


def searched() -> dict[str, tuple[float, float]]:
    """What Optuna draws from."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", ["hparams_search=optuna"], return_hydra_config=True)
    space, _ = create_params_from_overrides([f"{key}={value}" for key, value in config.hydra.sweeper.params.items()])
    return {key: (distribution.low, distribution.high) for key, distribution in space.items()}


@pytest.mark.parametrize("experiment", ["quickstart", "shapenet_chair", "shapenet_airplane", "pascal_car"])
def test_the_settings_we_know_are_in_the_space(experiment: str) -> None:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}"])
    for key, (low, high) in searched().items():
        assert low <= OmegaConf.select(config, key) <= high, key


def test_wandb_searches_the_same_space() -> None:
    config = load_sweep_config(config_folder() / "wandb_sweep.yaml")
    assert config["metric"] == {"name": "val/chamfer", "goal": "minimize"}
    assert {parameter["distribution"] for parameter in config["parameters"].values()} == {"log_uniform_values"}
    assert {key: (value["min"], value["max"]) for key, value in config["parameters"].items()} == searched()


def environment(cache: pathlib.Path) -> dict[str, str]:
    """Of a user in this Python's environment, without a network."""
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    return {"PATH": path, "SDFSRN_CACHE": str(cache), "WANDB_MODE": "offline"}


@pytest.mark.slow
def test_a_wandb_agent_trains(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own code makes the command and starts it; here we are the server that gives it something to do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy() | environment(tmp_path / "cache") | {"WANDB_SWEEP_ID": "s"})
    config = load_sweep_config(config_folder() / "wandb_sweep.yaml")
    drawn = {key: {"value": parameter["max"]} for key, parameter in config["parameters"].items()}
    agent = Agent(api=None, queue=None)
    agent._sweep_command = [*config["command"], *TINY]
    agent._command_run({"run_id": "a1b2", "program": config["program"], "args": drawn})
    assert agent._run_processes["a1b2"].wait() == 0
    run = tmp_path / "outputs" / "wandb-sweep" / "a1b2"
    assert 0 < json.loads((run / "result.json").read_text())["value"] < 1
    assert len(list(run.glob("wandb/offline-run-*-a1b2/*.wandb"))) == 1
    trained = OmegaConf.load(run / ".hydra" / "config.yaml")
    assert {key: {"value": OmegaConf.select(trained, key)} for key in drawn} == drawn


def train(*overrides: str, cwd: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """`python -m sdfsrn.train -m ...`, as a user types it."""
    return commands.command("train", "-m", *TINY, "hydra.sweep.dir=sweep", *overrides, cwd=cwd, **environment(cwd / "cache"))


@pytest.mark.slow
def test_submitit_trains_two(tmp_path: pathlib.Path) -> None:
    ended = train("launcher=submitit_local", "seed=0,1", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr[-3000:]
    values = [json.loads((tmp_path / "sweep" / number / "result.json").read_text())["value"] for number in "01"]
    assert 0 < min(values) < max(values) < 1
    assert len(list((tmp_path / "sweep" / ".submitit").glob("*/*_log.out"))) == 2  # each in a process of its own


@pytest.mark.slow
def test_a_study_trains_two_at_a_time(tmp_path: pathlib.Path) -> None:
    search = ["hparams_search=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2"]
    ended = train(*search, "launcher=joblib", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr[-3000:]
    values = [json.loads(path.read_text())["value"] for path in tmp_path.glob("sweep/from_0/*/result.json")]
    assert len(values) == 2
    assert OmegaConf.load(tmp_path / "sweep" / "optimization_results.yaml").best_value == min(values)


def test_what_slurm_is_asked_for(sweep: Sweep, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sbatch that keeps the request, and refuses it."""
    for name, script in {"srun": "", "sbatch": f'cp "$1" {tmp_path}/request.sh; exit 1'}.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
    options = ["trainer.devices=2", "hydra.launcher.partition=long", "hydra.launcher.timeout_min=90"]
    assert sweep(failing(), "launcher=submitit_slurm", "seed=0,1,2", *options)[0] == 1
    lines = (tmp_path / "request.sh").read_text().splitlines()
    wanted = {
        "array=0-2%3", "partition=long", "time=90", "signal=USR1@120", "requeue", "nodes=1", "gpus-per-node=2",
        "ntasks-per-node=2", "cpus-per-task=8", "mem=32GB",
    }  # fmt: skip
    assert wanted <= {line.removeprefix("#SBATCH --") for line in lines}
    assert lines.index("export SUBMITIT_PREEMPT_SIGNAL=USR1") < next(i for i, line in enumerate(lines) if "srun" in line)
