"""The benchmark command on a tiny configuration, and the instruments it measures with; no time is asserted."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from sdfsrn.benchmark import benchmark
from sdfsrn.benchmarking import instruments
from sdfsrn.benchmarking.workloads import PARTS, split_variant, trainings
from sdfsrn.runtime.configs import config_folder

TINY = [
    "data.batch_size=2", "data.num_rays=20", "pictures.projection=perspective",
    "model.encoder.latent_dim=8", "model.hypernetwork.hidden_width=8", "model.hypernetwork.field.width=16",
    "model.losses.terms.eikonal.num_points=20", "accelerator=cpu", "steps=2",
    "model/raymarcher=lstm", "optimizer=adam",  # which the reference implementation has
]  # fmt: skip


def tiny(folder: pathlib.Path, *overrides: str) -> DictConfig:
    places = [f"paths.output={folder}", f"paths.cache={folder}", f"pictures.cache={folder}"]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("benchmark", [*TINY, *places, *overrides])


def nodes(config: DictConfig) -> dict:
    parts = {name: OmegaConf.to_container(config[name], resolve=True) for name in ("model", "optimizer", "pictures")}
    return parts | {"num_rays": config.data.num_rays}


@pytest.mark.slow
def test_step_is_compared_with_its_reference_implementation(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = benchmark(tiny(tmp_path, "compare=[ordinary,plain]"))
    assert json.loads((tmp_path / "benchmark.json").read_text()) == result
    assert {name: set(ratios) for name, ratios in result["ratios"].items()} == {
        name: {*PARTS, "step", "processor"} for name in ("ordinary", "plain")
    }
    ours, ordinary, plain = (result["variants"][name] for name in ("sdfsrn", "ordinary", "plain"))
    assert ours["synchronisations"] == 0
    assert ours["operations"] < plain["operations"]
    assert ours["bytes"] < plain["bytes"]
    for values in (ours, ordinary, plain):
        assert values["memory"]["before"] < values["memory"]["peak"]
        seconds = {part: spread["median"] for part, spread in values["seconds"].items()}
        assert all(value > 0 for value in seconds.values())
        assert values["images_per_second"] == pytest.approx(2 / seconds["step"])
    shown = capsys.readouterr().out
    assert "times sdfsrn" in shown
    assert f"{result['threads']} threads, " in shown
    assert "lower than ordinary" in shown
    assert "lower than plain" in shown


def test_evaluation_measures_the_same_as_its_reference_implementation(tmp_path: pathlib.Path) -> None:
    small = ["protocol.resolution=16", "protocol.num_points=2000", "protocol.num_truth=2000", "steps=1"]
    result = benchmark(tiny(tmp_path, "part=evaluation", "compare=plain", *small))
    ours, plain = (result["variants"][name]["metrics"] for name in ("sdfsrn", "plain"))
    assert 0 < ours["accuracy"] < 0.2
    assert ours == pytest.approx(plain, rel=0.1)


def test_deliveries_are_measured(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "123")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    rates = benchmark(tiny(tmp_path, "part=data", "data.jitter=true", "data.scale_jitter=0.2"))["pictures_per_second"]
    assert list(rates) == ["draws", "batches", "pictures"]
    assert all(rate["low"] > 0 for rate in rates.values())
    shown = capsys.readouterr().out
    assert shown.count("pictures/s") == 3
    assert "threads, GOMP_SPINCOUNT=123\n" in shown
    assert json.loads((tmp_path / "benchmark.json").read_text())["openmp"] == {"GOMP_SPINCOUNT": "123"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sdfsrn", ("sdfsrn", [])),
        ("plain", ("plain", [])),
        ("triton+graph", ("sdfsrn", ["triton", "graph"])),
        ("ordinary+inductor", ("ordinary", ["inductor"])),
    ],
)
def test_variants_are_a_form_and_ways_to_run_it(name: str, expected: tuple[str, list[str]]) -> None:
    assert split_variant(name) == expected


@pytest.mark.parametrize("name", ["plain+ordinary", "graph+graph", "graph+", "faster"])
def test_unknown_variants_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"got compare={name}.")):
        split_variant(name)


@pytest.mark.parametrize(
    ("overrides", "needle"),
    [
        (["compare=graph"], r"a CUDA device \(trainer\.accelerator=gpu\) with compare=graph, got cpu"),
        (["compare=triton+graph"], "a CUDA device"),
        (["compare=triton"], "a CUDA device"),
        (["compare=graph", "part=evaluation"], "part=step with compare=graph"),
    ],
)
def test_ways_that_need_a_device_are_refused_without_one(overrides: list[str], needle: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=needle):
        benchmark(tiny(tmp_path, *overrides))


def test_a_captured_step_has_one_part_and_the_optimizers(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that does its work anew in each replay, on the CPU; the same loss as without."""

    class Again:
        def __init__(self, work: Callable[[], Any], warmups: int = 3) -> None:
            self._work, self.result = work, work()

        def replay(self) -> None:
            self.result = self._work()

    monkeypatch.setattr("sdfsrn.runtime.graphs.Graph", Again)
    monkeypatch.setattr("sdfsrn.benchmarking.workloads._check_ways", lambda ways, device: None)
    runs = trainings(nodes(tiny(tmp_path)), ("sdfsrn", "graph"), torch.device("cpu"))
    for _ in range(2):
        torch.manual_seed(0)
        eager = runs["sdfsrn"].step()
        torch.manual_seed(0)
        captured = runs["graph"].step()
        assert float(captured["loss"].detach()) == pytest.approx(float(eager["loss"].detach()), rel=1e-5)
    assert set(runs["graph"].timed_step()) == {"backward", "optimizer", "step", "processor"}
    assert set(runs["sdfsrn"].timed_step()) == {*PARTS, "step", "processor"}


@pytest.mark.parametrize("wrong", ["part=none", "compare=other", "steps=0"])
def test_what_cannot_be_measured_is_refused(wrong: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=wrong):
        benchmark(tiny(tmp_path, wrong))


@pytest.mark.parametrize(
    ("part", "model", "needle"),
    [
        ("part=step", "model=softras", "implicit model"),
        ("part=evaluation", "model=softras", "SDF-SRN for part=evaluation"),
        ("part=evaluation", "model=dvr", "SDF-SRN for part=evaluation"),
        ("compare=ordinary", "model=dvr", "SDF-SRN with compare=ordinary"),
        ("compare=plain", "model=dvr", "SDF-SRN with compare=plain"),
    ],
)
def test_models_without_a_form_are_refused_in_words(part: str, model: str, needle: str, tmp_path: pathlib.Path) -> None:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        weights = ["model.encoder.weights=null"] if model == "model=dvr" else []
        overrides = [
            part,
            model,
            *weights,
            "data.batch_size=2",
            "steps=1",
            f"json={tmp_path}/b.json",
            f"paths.output={tmp_path}",
        ]
        config = compose("benchmark", overrides)
    with pytest.raises(ValueError, match=needle):
        benchmark(config)


COMPILED = """
import sys, torch, yaml
from sdfsrn.benchmarking.workloads import split_variant, trainings

training = trainings(yaml.safe_load(sys.stdin), ("sdfsrn",), torch.device("cpu"))["sdfsrn"]
model, views, values = training.model, training.views, []

def forward():
    field = model(views.image)
    march = model.render(field, views)
    return model.losses(field, march, views)[0]

for function in (forward, torch.compile(forward, fullgraph=True, backend="aot_eager")):
    torch.manual_seed(0)
    model.zero_grad()
    loss = function()
    loss.backward()
    values.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
for eager, compiled in zip(*values, strict=True):
    torch.testing.assert_close(compiled, eager, rtol=1e-3, atol=1e-4)
"""


def test_a_step_never_waits_for_the_device(tmp_path: pathlib.Path) -> None:
    training = trainings(nodes(tiny(tmp_path)), ("sdfsrn",), torch.device("cpu"))["sdfsrn"]
    with instruments.OperationCounter() as counter:
        training.step()
    assert counter.synchronisations == []


@pytest.mark.slow
def test_a_step_compiles_to_one_graph(tmp_path: pathlib.Path) -> None:
    """In a process of its own: the checks of annotations in this one are nothing that can be compiled."""
    config = nodes(tiny(tmp_path, "model.raymarcher.num_steps=2", "model.raymarcher.num_bisections=2"))
    done = subprocess.run([sys.executable, "-c", COMPILED], input=json.dumps(config), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_operations_are_counted() -> None:
    a, b = torch.rand(2, 3, 4), torch.rand(2, 4, 5)
    with instruments.OperationCounter() as counter:
        torch.bmm(a.mT.mT, b).relu()
    assert (counter.operations, counter.views, counter.synchronisations) == (2, 2, [])
    assert counter.bytes == 4 * ((24 + 40 + 30) + (30 + 30))
    assert instruments.count_flops(lambda: a @ b) == 2 * 2 * 3 * 4 * 5
    assert instruments.count_flops(lambda: torch.zeros(2, 3, 5).baddbmm_(a, b)) == 2 * 2 * 3 * 4 * 5


@pytest.mark.parametrize("waits", [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: bool(x.any()), torch.nonzero])
def test_waiting_for_the_device_is_noticed(waits) -> None:
    with instruments.OperationCounter() as counter:
        waits(torch.ones(3))
    assert counter.synchronisations


@pytest.mark.slow
def test_peak_memory_is_the_childs_own_and_grows() -> None:
    big = torch.ones(1000 * 2**18)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        before = pool.submit(instruments.peak_memory, torch.device("cpu")).result()
        pool.submit(bytes, 300 * 2**20).result()
        after = pool.submit(instruments.peak_memory, torch.device("cpu")).result()
    assert before < instruments.peak_memory(torch.device("cpu")) - 500 * 2**20
    assert after - before >= 290 * 2**20
    assert len(big)


def test_spread_is_that_of_quartiles() -> None:
    assert instruments.summarize([3.0]) == {"median": 3.0, "low": 3.0, "high": 3.0}
    assert instruments.summarize([5.0, 1.0, 2.0, 4.0, 3.0]) == {"median": 3.0, "low": 2.0, "high": 4.0}
