"""python -m sdfsrn.tables table=3 data.root=... [budget=smoke]: train a table's rows, show them beside the published figures.

Every row is a process of its own, `python -m sdfsrn.train experiment=...`, in a folder of its own: `run.log` has what it
says, `run.json` where it ran. What is finished (`test/summary.json`) is not run again; what was stopped goes on.
"""

from __future__ import annotations

import json
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

from sdfsrn.cli.command import command
from sdfsrn.cli.jobs import Job, run
from sdfsrn.cli.tabulation import Line, Table, check_formats, show, write
from sdfsrn.runtime.configs import instantiate

log = logging.getLogger(__name__)
WHERE = ("ckpt_path", "paths.output", "trainer.accelerator", "accelerator")  # settings that change no result


class Row(NamedTuple):
    """A row of a table in `configs/tables`; without a name it is only published."""

    label: Sequence[str]
    published: Sequence[float]  # accuracy and coverage, x10
    name: str = ""  # of its folder
    experiment: str = ""  # that is trained,
    evaluates: str = ""  # or the row whose best checkpoint is evaluated
    overrides: Sequence[str] = ()  # of either
    data: Sequence[str] = ()  # more of them with the paper's data,
    builtin: Sequence[str] = ()  # or with the built-in


def tables(config: DictConfig) -> Table:
    """Run what is unfinished and chosen, one after the other; the table, which is also shown and written.

    Raises:
        ValueError: no such table or row, settings that don't compose, no data, before anything is run; rows that failed,
            after the others, and the table, are done.
    """
    check_formats(config.format)
    output = pathlib.Path(config.paths.output).resolve()
    described = read_table(config.table)
    rows = [Row(**row) for row in described["rows"]]
    names = _chosen(config.rows, [row.name for row in rows if row.name])
    if config.run and not config.budget.builtin and config.data.root is None:
        raise ValueError("Expected data.root=FOLDER with the table's data, or budget=smoke for the built-in data.")
    jobs = {row.name: job(row, described, config, output) for row in rows if row.name}
    chosen = [jobs[name] for name in names if config.run and not jobs[name].finished]
    _check_data(chosen)
    failures = run(chosen, Console())
    table = Table(
        f"Table {config.table}: {described['title']}",
        described["headings"],
        [line(row, jobs.get(row.name), failures.get(row.name)) for row in rows],
        [config.budget.note] if config.budget.note else [],
    )
    show(table)
    for path in write(table, output / f"table_{config.table}", config.format):
        log.info("Wrote %s", path)
    if failures:
        reasons = "; ".join(f"{name}: {reason.splitlines()[0]}" for name, reason in failures.items())
        raise ValueError(f"{len(failures)} of {len(chosen)} rows failed in {output}. {reasons}")
    return table


def read_table(name: str | int) -> dict[str, Any]:
    """`configs/tables/<name>.yaml`, or that of a `--config-dir`.

    Raises:
        ValueError: there is none.
    """
    try:
        composed = hydra.compose(f"tables/{name}")
    except MissingConfigException as error:
        known = GlobalHydra.instance().config_loader().get_group_options("tables")
        raise ValueError(f"Expected a table of {', '.join(known)}, got {name}.") from error
    return cast(dict[str, Any], OmegaConf.to_container(composed.tables))


def job(row: Row, table: dict[str, Any], config: DictConfig, output: pathlib.Path) -> Job:
    """What is to be run for a row.

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
        overrides = [f"experiment={row.experiment}", *row.overrides, *data, *config.budget.train, *config.overrides]
    try:
        composed = hydra.compose(module, overrides)
    except HydraException as error:
        raise ValueError(f"Expected settings that fit together for {row.name}: {' '.join(str(error).split())}") from error
    overrides += [assign("hydra.run.dir", folder)]
    return Job(row.name, module, [*_config_folders(), *overrides], folder, trained, composed)


def assign(key: str, value: object) -> str:
    r"""An override with any text as its value, quoted as Hydra's grammar wants it.

    >>> assign("data.root", "/data/Chen's (old), v=2")
    "data.root='/data/Chen\\'s (old), v=2'"
    """
    text = str(value).replace("'", "\\'")
    return f"{key}='{text}'"


def line(row: Row, job: Job | None, failure: str | None) -> Line:
    """A row with what has been measured of it so far."""
    published = (row.published[0], row.published[1])
    if job is None:
        return Line(row.label, published)
    notes = [f"failed: {failure.splitlines()[0]}"] if failure else []
    steps, found = _iterations(job), {}
    if job.finished:
        found = json.loads(job.summary.read_text())
        lost = found["objects"] - found["measured"]
        notes += [f"{lost} of {found['objects']} objects not measured"] if lost else []
        changed = other_settings(job)
        notes += [f"run with other settings: {', '.join(changed)}"] if changed else []
    elif not failure:
        notes.append("not finished" if job.log.is_file() else "not run")
    place: dict[str, Any] = json.loads(job.record.read_text()) if job.record.is_file() else {}
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
    """Where a run's configuration differs from what is asked for now, e.g. `trainer.max_steps=4 (now 8)`; at most three."""
    asked, used = _flat(OmegaConf.to_container(job.config)), _settings(job.folder / ".hydra" / "config.yaml")
    told = [key for key in sorted({*asked, *used}) if asked.get(key) != "???" and key not in WHERE]
    changed = [key for key in told if asked.get(key) != used.get(key)] if used else []
    return [f"{key}={used.get(key)} (now {asked.get(key)})" for key in changed[:3]]


def _chosen(names: Sequence[str] | None, known: list[str]) -> Sequence[str]:
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"Expected rows of {', '.join(known)}, got {', '.join(unknown)}.")
    return [name for name in known if names is None or name in names]


def _root(config: DictConfig) -> list[str]:
    return [] if config.data.root is None else [assign("data.root", config.data.root)]


def _config_folders() -> list[str]:
    """The user's own `--config-dir`, handed on."""
    if not HydraConfig.initialized():
        return []
    sources = HydraConfig.get().runtime.config_sources
    return [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]


def _check_data(jobs: Sequence[Job]) -> None:
    """Make what each data set lacks and open it once, so that a wrong folder is known before anything is trained."""
    data = {tuple(job.config.data.get(key) for key in ("_target_", "root", "category")): job for job in jobs if job.trains}
    for first in data.values():
        datamodule = instantiate(first.config.data)
        datamodule.prepare()
        datamodule.source("test")


def _iterations(job: Job) -> int | None:
    """Steps of the training behind a row, as its newest checkpoint counts them."""
    path = job.trained / "checkpoints" / "last.ckpt"
    if not path.is_file():
        return None
    return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"])


def _settings(path: pathlib.Path) -> dict[str, Any]:
    return _flat(OmegaConf.to_container(OmegaConf.load(path))) if path.is_file() else {}


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys."""
    if not isinstance(node, dict) or not node:
        return {prefix[:-1]: node}
    return {key: value for name, part in node.items() for key, value in _flat(part, f"{prefix}{name}.").items()}


main = command("tables")(tables)

if __name__ == "__main__":
    main()
