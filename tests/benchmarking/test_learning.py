"""The benchmark of learning on a tiny configuration, through the command; no time is asserted."""

from __future__ import annotations

import copy
import json
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from sdfsrn.benchmark import main
from sdfsrn.benchmarking import learning
from sdfsrn.benchmarking.configurations import configurations
from sdfsrn.benchmarking.learning import Pace, steps_within
from sdfsrn.evaluation.measuring import metric_names
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.runtime.configs import config_folder
from simple import ENCODER
from tiny import MODEL

CHAIRS = [
    "data.num_objects=2", "data.num_eval_objects=2", "data.shapes.views_per_object=2", "data.shapes.image_size=16",
    "+data.shapes.num_points=300",
]  # fmt: skip
TINY = [
    *MODEL, *ENCODER, "data.batch_size=4", "data.num_rays=32", "callbacks.pretraining.iterations=100",
    "callbacks.pretraining.num_points=128", "callbacks.pretraining.learning_rate=2e-2", "protocol.resolution=16",
    "protocol.num_points=200", "trainer.accelerator=cpu", "trainer.max_steps=3", "measurements=2",
]  # fmt: skip
Command = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def learn(tmp_path: pathlib.Path, cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`python -m sdfsrn.benchmark part=learning` with further overrides, in a folder of the test; the JSON that it wrote."""

    def run(*overrides: str, data: Sequence[str] = CHAIRS) -> dict[str, Any]:
        places = [f"hydra.run.dir={tmp_path}", f"paths.cache={cache}"]
        monkeypatch.setattr(sys, "argv", ["benchmark", "part=learning", *TINY, *data, *places, *overrides])
        main()
        return json.loads((tmp_path / "benchmark.json").read_text())

    return run


@pytest.fixture
def config(cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DictConfig]:
    """The command's configuration, with Hydra as it is while the command runs."""
    given = [*TINY, *CHAIRS, f"paths.cache={cache}", f"paths.output={cache}", "seed=1"]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        composed = compose("benchmark", given, return_hydra_config=True)
        monkeypatch.setattr(HydraConfig.instance(), "cfg", composed)
        yield OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])


@pytest.mark.slow
def test_configurations_are_trained_in_turn_and_measured_as_they_learn(
    learn: Command, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = learn("seeds=[1,0]", 'against={slow: ["optimizer.lr=1.0e-6","data.batch_size=2"]}', "threads=1", "objects=1")
    assert (result["part"], result["seeds"], result["threads"], result["minutes"]) == ("learning", [1, 0], 1, None)
    assert {"sdfsrn", "torch", "device", "openmp"} <= set(result)
    assert "seeds=[1,0]" in result["overrides"]
    assert set(result["references"]) == {"untrained sphere", "best constant shape", "visual hull"}
    assert "silhouette_iou" not in result["references"]["best constant shape"]["metrics"]
    names = metric_names(EvaluationProtocol(**result["protocol"]))
    for name, pictures in (("base", 4), ("slow", 2)):
        configuration = result["configurations"][name]
        assert (configuration["steps"], configuration["pace"]) == (3, None)
        assert [run["seed"] for run in configuration["runs"]] == [1, 0]
        for run in configuration["runs"]:
            assert [(moment["step"], moment["pictures"]) for moment in run["moments"]] == [(2, 2 * pictures), (3, 3 * pictures)]
            assert 0 < run["seconds_before"] < run["moments"][0]["seconds"] < run["moments"][1]["seconds"] == run["seconds"]
            assert run["pictures_per_second"] == pytest.approx(3 * pictures / (run["seconds"] - run["seconds_before"]))
            assert all(list(moment["metrics"]) == names for moment in run["moments"])
            assert [(moment["measured"], moment["failures"]) for moment in run["moments"]] == [(1, 0), (1, 0)]
            assert set(run["training_pictures"]["metrics"]) == {"silhouette_iou", "color_error"}
            assert run["training_pictures"]["objects"] == 4
        last = [run["moments"][-1]["metrics"]["chamfer"] for run in configuration["runs"]]
        assert result["final"][name]["chamfer"]["mean"] == pytest.approx(sum(last) / 2)
    assert result["configurations"]["slow"]["overrides"] == ["optimizer.lr=1.0e-6", "data.batch_size=2"]
    assert result["differences"]["slow"]["chamfer"]["seeds"] == 2
    with Image.open(tmp_path / "learning.png") as picture:
        assert min(picture.size) > 800
    shown = capsys.readouterr().out
    assert "mean ± standard deviation of 2 seeds" in shown
    assert "slow - base" in shown
    assert "training color error ↓" in shown


@pytest.mark.slow
def test_a_time_budget_becomes_steps_by_the_pace_and_views_are_measured_without_ground_truth(
    learn: Command, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(learning, "WARM", 1)
    monkeypatch.setattr(learning, "PACED", 2)
    monkeypatch.setattr(learning, "steps_within", lambda minutes, pace: min(2, steps_within(minutes, pace)))
    sources = [f"{sign}data.{split}._target_=simple.Outlines" for sign, split in (("", "train"), ("", "val"), ("+", "test"))]
    result = learn("seeds=[0]", "minutes=10", "objects=3", data=["data=sources", *sources])
    (configuration,) = result["configurations"].values()
    assert set(configuration["pace"]) == set(Pace._fields)
    assert configuration["pace"]["seconds_per_step"] > 0
    assert [moment["step"] for moment in configuration["runs"][0]["moments"]] == [1, configuration["steps"]] == [1, 2]
    assert "base: 2 steps, from the pace of 20 steps in this process" in capsys.readouterr().out
    assert set(result["references"]) == {"untrained sphere", "visual hull"}
    for moment in configuration["runs"][0]["moments"]:
        assert set(moment["metrics"]) == {"silhouette_iou", "color_error"}
        assert (moment["without_truth"], moment["measured"]) == (3, 0)
    assert (tmp_path / "learning.png").is_file()


def test_steps_of_a_time_budget() -> None:
    assert steps_within(6, Pace(20.0, 0.3)) == int(340 / 0.3)
    with pytest.raises(ValueError, match=r"at least minutes=0\.34 for pretraining and a step, got minutes=0\.3"):
        steps_within(0.3, Pace(20.0, 0.3))


def test_schedules_end_where_the_training_ends(config: DictConfig) -> None:
    trainer = learning._fit(config, 7, 2, learning.Moments([], lambda model: {}))  # the quickstart's rate falls to zero
    assert (config.trainer.max_steps, trainer.global_step) == (3, 2)
    assert (config.seed, trainer.lightning_module.config["seed"]) == (1, 7)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0)


def test_a_crash_keeps_what_was_measured(learn: Command, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(name: str, each: object, seed: int, *further: object) -> dict[str, Any]:
        if (name, seed) == ("slow", 1):
            raise KeyboardInterrupt
        moment = {"step": 3, "pictures": 12, "seconds": 2.0, "metrics": {"chamfer": seed + 0.5}, "failures": 0}
        training = {"metrics": {}}
        return {"seed": seed, "seconds": 2.0, "pictures_per_second": 6.0, "moments": [moment], "training_pictures": training}

    monkeypatch.setattr(learning, "_run", run)
    with pytest.raises(KeyboardInterrupt):
        learn("seeds=[0,1,2]", 'against={slow: ["optimizer.lr=1.0e-6"]}')
    result = json.loads((tmp_path / "benchmark.json").read_text())
    assert {name: len(each["runs"]) for name, each in result["configurations"].items()} == {"base": 2, "slow": 1}
    assert result["final"]["base"]["chamfer"] == {"mean": 1.0, "std": pytest.approx(0.5**0.5), "seeds": 2}
    assert result["differences"]["slow"]["chamfer"]["seeds"] == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seeds": []}, "Expected different whole numbers, such as seeds=[0,1,2], got seeds=[]."),
        ({"seeds": [1, 1]}, "got seeds=[1, 1]."),
        ({"seeds": 3}, "got seeds=3."),
        ({"seeds": ["a"]}, "got seeds=['a']."),
        ({"minutes": 0}, "Expected minutes above 0, or null for trainer.max_steps, got minutes=0."),
        ({"minutes": "long"}, "got minutes=long."),
        ({"trainer.max_steps": -1}, "Expected minutes, or a positive trainer.max_steps, got trainer.max_steps=-1."),
        ({"measurements": 0}, "Expected at least 1, got measurements=0, objects=None."),
        ({"objects": 0}, "Expected at least 1, got measurements=2, objects=0."),
        ({"against": ["a", "b"]}, """Expected against='{NAME: ["KEY=VALUE", ...], ...}', got against=['a', 'b']."""),
        ({"against": {"a": "b"}}, "got against={'a': 'b'}."),
        ({"against": {"a": [1]}}, "got against={'a': [1]}."),
        ({"against": {"base": []}}, "Expected other names in against than base"),
        ({"against": {"a": ["data.nothing=1"]}}, "overrides that compose in against.a, got data.nothing=1: Could not override"),
        ({"against": {"a": ["model/encoder=nothing"]}}, "got model/encoder=nothing: In 'model/sdfsrn': Could not find"),
        ({"against": {"a": ["=1"]}}, "Expected overrides that compose in against.a, got =1: "),
        ({"against": {"a": ["protocol.seed=1"]}}, "Expected one protocol and the same test pictures to compare by, got others"),
        ({"against": {"a": ["data.num_eval_objects=1"]}}, "Expected one protocol and the same test pictures to compare by"),
        ({"against": {"a": ["trainer.devices=4"]}}, "Expected one process, got trainer.devices=4"),
        ({"trainer.devices": 2}, "Expected one process, got trainer.devices=2, trainer.num_nodes=1."),
        ({"trainer.num_nodes": 2}, "Expected one process, got trainer.devices=1, trainer.num_nodes=2."),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(given: dict[str, Any], words: str, config: DictConfig) -> None:
    wrong = copy.deepcopy(config)
    for key, value in given.items():
        OmegaConf.update(wrong, key, value)
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        configurations(wrong)
    assert "\n" not in str(error.value)


def test_further_overrides_replace_those_of_the_command(config: DictConfig) -> None:
    wanted = copy.deepcopy(config)
    wanted.against = {"other": ["model/raymarcher=sphere_tracer", "seed=5", "model.encoder.latent_dim=4"]}
    base, other = configurations(wanted).values()
    assert (base.config.seed, other.config.seed) == (1, 5)
    assert base.config.model.raymarcher._target_.endswith("DenseRayMarcher")
    assert other.config.model.raymarcher._target_.endswith("SphereTracer")
    assert (base.config.model.hypernetwork.latent_dim, other.config.model.hypernetwork.latent_dim) == (16, 4)
    assert other.config.data.num_rays == base.config.data.num_rays == 32
    assert other.config.callbacks.pretraining.cache is None  # so that the time of pretraining counts


def test_a_wrong_setting_of_the_command_is_one_line(learn: Command) -> None:
    with pytest.raises(SystemExit) as end:
        learn("seeds=[0]", "minutes=0")
    assert end.value.code == "error: Expected minutes above 0, or null for trainer.max_steps, got minutes=0."


def test_a_missing_matplotlib_is_told_at_the_start(learn: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit) as end:
        learn("seeds=[0]")
    assert end.value.code == "error: part=learning draws with Matplotlib: pip install 'sdfsrn[benchmark]'"
