"""python -m sdfsrn.tables table=3 data.root=... [budget=smoke]: train a table's rows, show them beside the published figures.

Every row is a process of its own, `python -m sdfsrn.train experiment=...`, in a folder of its own: `run.log` is its output,
`run.json` says where it ran. Finished rows (`test/summary.json`) are not run again; stopped ones continue. Hydra's launchers
take a row per job: `-m table=3 rows=ablation_no_rgb,shapenet_chair launcher=submitit_slurm`; `run=false` collects later.
"""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import hydra
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from sdfsrn.cli.arguments import assign, literal_paths
from sdfsrn.cli.command import check_choices, command
from sdfsrn.cli.jobs import Job, run
from sdfsrn.cli.tabulation import FORMATS, Line, Table, show, write
from sdfsrn.runtime.configs import flatten, instantiate
from sdfsrn.runtime.files import reading
from sdfsrn.runtime.texts import read_json

log = logging.getLogger(__name__)
RUNTIME_KEYS = ("ckpt_path", "paths.output", "trainer.accelerator", "accelerator")  # settings that change no result


class Row(NamedTuple):
    """A row of a table in `configs/tables`; without a name only its published figures are shown."""

    label: Sequence[str]
    published: Sequence[float]  # accuracy and coverage, x10
    name: str = ""  # of its folder
    experiment: str = ""  # to train
    model: str = "sdfsrn"  # in place of the experiment's own, which is the paper's; its part of the budget
    evaluates: str = ""  # in place of an experiment: the row whose best checkpoint is evaluated
    overrides: Sequence[str] = ()  # of the training or evaluation
    data: Sequence[str] = ()  # more overrides with the paper's data
    builtin: Sequence[str] = ()  # more overrides with the built-in data


def tables(config: DictConfig) -> Table:
    """Run the chosen rows that are not finished, one after the other; the table, which is also shown and written.

    Raises:
        ValueError: before anything is run, an unknown table, row or format, settings that don't compose, or no data; after
            the other rows and the table are done, rows that failed.
    """
    check_choices("format", config.format, list(FORMATS))
    output = pathlib.Path(config.paths.output).resolve()
    described = read_table(config.table)
    rows = [Row(**row) for row in described["rows"]]
    names = [row.name for row in rows if row.name]
    asked = [config.rows] if isinstance(config.rows, str) else config.rows or names
    check_choices("rows", asked, names)
    if config.run and not config.budget.builtin and config.data.root is None:
        raise ValueError("Expected data.root=FOLDER with the table's data, or budget=cpu or smoke for the built-in data.")
    jobs = {row.name: job(row, described, config, output) for row in rows if row.name}
    chosen = [jobs[name] for name in names if config.run and name in asked and not jobs[name].finished]
    _check_data(chosen)
    failures = run(chosen, Console())
    table = Table(
        f"Table {config.table}: {described['title']}",
        described["headings"],
        [line(row, jobs.get(row.name), failures.get(row.name)) for row in rows],
        [*([config.budget.note] if config.budget.note else []), *described.get("notes", ())],
    )
    show(table)
    for path in write(table, output / f"table_{config.table}", config.format):
        log.info("Wrote %s", path)
    if failures:
        reasons = "; ".join(f"{name}: {reason.splitlines()[0]}" for name, reason in failures.items())
        raise ValueError(f"{len(failures)} of {len(chosen)} rows failed in {output}. {reasons}")
    return table


def read_table(name: str | int) -> dict[str, Any]:
    """The content of `tables/<name>.yaml` in `configs` or a `--config-dir`.

    Raises:
        ValueError: no such file.
    """
    try:
        composed = hydra.compose(f"tables/{name}")
    except MissingConfigException as error:
        known = GlobalHydra.instance().config_loader().get_group_options("tables")
        raise ValueError(f"Expected a table of {', '.join(known)}, got {name}.") from error
    return cast(dict[str, Any], OmegaConf.to_container(composed.tables))


def job(row: Row, table: dict[str, Any], config: DictConfig, output: pathlib.Path) -> Job:
    """The command that trains or evaluates a row.

    Raises:
        ValueError: its settings don't compose.
    """
    folder = output / row.name
    if row.evaluates:
        module, trained = "evaluate", output / row.evaluates
        overrides = [assign("ckpt_path", trained / "checkpoints" / "best.ckpt"), *row.overrides, *config.budget.evaluate]
        overrides += [*config.evaluation, assign("paths.output", folder / "test")]
    else:
        module, trained = "train", folder
        data = [*table.get("builtin", ()), *row.builtin] if config.budget.builtin else [*row.data, *_root(config)]
        model = [] if row.model == "sdfsrn" else [f"model={row.model}"]
        budget = [*config.budget.train, *config.budget.models.get(row.model, ())]
        overrides = [f"experiment={row.experiment}", *model, *row.overrides, *data, *budget, *config.overrides]
    try:
        overrides = literal_paths(overrides)
        composed = hydra.compose(module, overrides)
    except HydraException as error:
        raise ValueError(f"Expected settings that fit together for {row.name}: {' '.join(str(error).split())}") from error
    overrides += [assign("hydra.run.dir", folder)]
    return Job(row.name, module, [*_config_folders(), *overrides], folder, trained, composed)


def line(row: Row, job: Job | None, failure: str | None) -> Line:
    """The line of a row, with its figures as far as they have been measured."""
    published = (row.published[0], row.published[1])
    if job is None:
        return Line(row.label, published)
    notes = [f"failed: {failure.splitlines()[0]}"] if failure else []
    steps, found = _iterations(job), {}
    if job.finished:
        found = read_json(job.summary)
        lost = found["objects"] - found["measured"]
        notes += [f"{lost} of {found['objects']} objects not measured"] if lost else []
        changed = other_settings(job)
        notes += [f"run with other settings: {', '.join(changed)}"] if changed else []
    elif not failure:
        notes.append("not finished" if job.log.is_file() else "not run")
    place: dict[str, Any] = read_json(job.record) if job.record.is_file() else {}
    used = _settings(job.trained / ".hydra" / "config.yaml")
    return Line(
        row.label,
        published,
        (found.get("accuracy_x10"), found.get("coverage_x10")),
        row.name,
        steps,
        found.get("objects"),
        place.get("seconds"),
        "; ".join(place.get("hardware", [])),
        str(used.get("data.root", "built-in")) if used else "",
        "; ".join(notes),
    )


def other_settings(job: Job) -> list[str]:
    """Differences of a run's configuration from the present one, e.g. `trainer.max_steps=4 (now 8)`; at most three."""
    now, used = flatten(OmegaConf.to_container(job.config)), _settings(job.folder / ".hydra" / "config.yaml")
    compared = [key for key in sorted({*now, *used}) if now.get(key) != "???" and key not in RUNTIME_KEYS]
    changed = [key for key in compared if now.get(key) != used.get(key)] if used else []
    return [f"{key}={used.get(key)} (now {now.get(key)})" for key in changed[:3]]


def _root(config: DictConfig) -> list[str]:
    return [] if config.data.root is None else [assign("data.root", config.data.root)]


def _config_folders() -> list[str]:
    """The `--config-dir` of this command, for those of its rows."""
    if not HydraConfig.initialized():
        return []
    sources = HydraConfig.get().runtime.config_sources
    return [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]


def _check_data(jobs: Sequence[Job]) -> None:
    """Prepare and open every data set once, so that a wrong folder is an error before anything is trained."""
    data = {tuple(job.config.data.get(key) for key in ("_target_", "root", "category")): job for job in jobs if job.trains}
    for first in data.values():
        datamodule = instantiate(first.config.data)
        datamodule.prepare()
        datamodule.source("test")


def _iterations(job: Job) -> int | None:
    """Steps of a row's training, by its newest checkpoint; None without one."""
    path = job.trained / "checkpoints" / "last.ckpt"
    if not path.is_file():
        return None
    with reading(path, "a checkpoint"):
        return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"])


def _settings(path: pathlib.Path) -> dict[str, Any]:
    return flatten(OmegaConf.to_container(OmegaConf.load(path))) if path.is_file() else {}


main = command("tables")(tables)

if __name__ == "__main__":
    main()
