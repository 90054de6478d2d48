"""python -m sdfsrn.benchmark [part=step|evaluation|data|learning] [experiment=...]: how fast it is here, how well it learns."""

from __future__ import annotations

import dataclasses
import functools
import json
import multiprocessing
import pathlib
import platform
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from sdfsrn.benchmarking import instruments
from sdfsrn.benchmarking.curves import check_matplotlib, draw_curves
from sdfsrn.benchmarking.display import show
from sdfsrn.benchmarking.learning import learn
from sdfsrn.benchmarking.workloads import (
    FORMS,
    Training,
    deliveries,
    evaluations,
    fitted_object,
    peak_of_steps,
    split_variant,
    trainings,
)
from sdfsrn.cli.command import command
from sdfsrn.cli.loading import pick_device
from sdfsrn.runtime.configs import instantiate
from sdfsrn.runtime.files import write_atomically
from sdfsrn.runtime.seeds import seed_everything
from sdfsrn.runtime.threads import spinning
from sdfsrn.runtime.version import VERSION

Samples = dict[str, list[dict[str, float]]]  # per variant and repetition: seconds by part


def benchmark(config: DictConfig) -> dict[str, Any]:
    """Measure as configured, show tables, write JSON; returns what was measured.

    Raises:
        ValueError: an unknown part or comparison, or no steps.
    """
    compared = [config.compare] if isinstance(config.compare, str) else list(config.compare or ())
    if config.part not in _PARTS or config.steps < 1:
        got = f"part={config.part}, steps={config.steps}"
        raise ValueError(f"Expected part={'|'.join(_PARTS)}, steps of at least 1, got {got}.")
    for name in compared:
        if split_variant(name)[1] and config.part != "step":
            raise ValueError(f"Expected part=step with compare={name}, got part={config.part}.")
    seed_everything(config.seed)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = pick_device(config.accelerator)
    result = _machine(device) | _PARTS[config.part](config, (FORMS[0], *compared), device)
    _write(result, config)
    show(result)
    return result


def _write(result: Mapping[str, Any], config: DictConfig) -> None:
    write_atomically(pathlib.Path(config.json), json.dumps(result, indent=2).encode())


def _step(config: DictConfig, variants: tuple[str, ...], device: torch.device) -> dict[str, Any]:
    nodes = {name: OmegaConf.to_container(config[name], resolve=True) for name in ("model", "optimizer", "pictures")}
    nodes["num_rays"] = config.data.num_rays
    runs = trainings(nodes, variants, device)
    samples = _in_turn({name: functools.partial(_settled_step, run) for name, run in runs.items()}, config.steps)
    top = instruments.ceilings(device)
    found = {name: {"seconds": _summaries(samples[name])} | _counts(run, len(run.views.image)) for name, run in runs.items()}
    for name in variants:
        if split_variant(name)[1]:  # counted where each operation is torch's own: the same arithmetic, which moves other bytes
            found[name] |= {"flops": found[variants[0]]["flops"], "bytes": None}
    for name, values in found.items():
        second = values["seconds"]["step"]["median"]
        values["images_per_second"] = len(runs[name].views.image) / second
        for unit in ("flops", "bytes"):
            values[f"{unit}_per_second"] = None if values[unit] is None else values[unit] / second
        values["memory"] = _in_child(nodes, name, device)
    return {"part": "step", "ceilings": top, "variants": found, "ratios": _ratios(samples)}


def _settled_step(run: Training) -> dict[str, float]:
    """Times of a step that follows one of its own variant, so that none pays for the memory that another gave back."""
    run.step()
    return run.timed_step()


def _evaluation(config: DictConfig, variants: tuple[str, ...], device: torch.device) -> dict[str, Any]:
    nodes = {name: OmegaConf.to_container(config[name], resolve=True) for name in ("model", "pictures")}
    protocol = dataclasses.replace(instantiate(config.protocol), icp_iterations=50)
    work = evaluations(fitted_object(nodes), protocol)
    metrics: dict[str, Any] = {}

    def timed(name: str) -> dict[str, float]:
        start = before = time.perf_counter()
        stages = {}
        for stage, value in work[name]():
            now = time.perf_counter()
            stages[stage], before, metrics[name] = now - before, now, value
        return stages | {"object": before - start}

    samples = _in_turn({name: functools.partial(timed, name) for name in variants}, config.steps, warm_up=False)
    found = {name: {"seconds": _summaries(samples[name]), "metrics": metrics[name]} for name in variants}
    return {"part": "evaluation", "variants": found, "ratios": _ratios(samples)}


def _data(config: DictConfig, variants: tuple[str, ...], device: torch.device) -> dict[str, Any]:
    nodes = {name: OmegaConf.to_container(config[name], resolve=True) for name in ("pictures", "data")}
    samples = _in_turn(deliveries(nodes, device), config.steps)
    rates = {name: [1 / row["picture"] for row in rows] for name, rows in samples.items()}
    return {"part": "data", "pictures_per_second": {name: instruments.summarize(values) for name, values in rates.items()}}


def _learning(config: DictConfig, variants: tuple[str, ...], device: torch.device) -> dict[str, Any]:
    check_matplotlib()
    machine = _machine(device)
    result = learn(config, lambda found: _write(machine | found, config))  # so that a crash loses one training only
    draw_curves(result, pathlib.Path(config.json).with_name("learning.png"))
    return result


_PARTS = {"step": _step, "evaluation": _evaluation, "data": _data, "learning": _learning}


def _in_turn(works: Mapping[str, Callable[[], dict[str, float]]], times: int, warm_up: bool = True) -> Samples:
    """Alternate the works, A B A B ..., so that other jobs on the machine slow all of them."""
    if warm_up:
        for work in works.values():
            work()
    rows = [{name: work() for name, work in works.items()} for _ in range(times)]
    return {name: [row[name] for row in rows] for name in works}


def _counts(run: Training, images: int) -> dict[str, Any]:
    with instruments.OperationCounter() as counter:
        run.step()
    counts = {
        "flops": instruments.count_flops(run.step),
        "bytes": counter.bytes,
        "operations": counter.operations,
        "views": counter.views,
        "synchronisations": len(counter.synchronisations),
        "images": images,
    }
    if run.views.image.is_cuda:
        counts["kernels"] = instruments.count_kernels(run.step)
    return counts


def _in_child(nodes: Mapping[str, Any], variant: str, device: torch.device) -> dict[str, int]:
    """Peak memory of one variant, in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(peak_of_steps, nodes, variant, str(device), torch.get_num_threads()).result()


def _summaries(samples: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {part: instruments.summarize([sample[part] for sample in samples]) for part in samples[0]}


def _ratios(samples: Samples) -> dict[str, dict[str, dict[str, float]]]:
    """By variant and part: how many times longer it took than the model as configured in the same round."""
    first, *others = samples.values()
    return {
        name: {part: instruments.summarize([b[part] / a[part] for a, b in zip(first, other, strict=True)]) for part in other[0]}
        for name, other in zip(list(samples)[1:], others, strict=True)
    }


def _machine(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    versions = {"sdfsrn": VERSION, "torch": torch.__version__}
    return {"device": str(device), "name": name, "threads": torch.get_num_threads(), "openmp": spinning(), **versions}


main = command("benchmark")(benchmark)

if __name__ == "__main__":
    main()
