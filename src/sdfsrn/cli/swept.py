"""The table of a sweep: a line for jobs that differ in their seeds alone, on the screen and as CSV."""

from __future__ import annotations

import csv
import io
import json
import pathlib
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import rich.table
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape

from sdfsrn.runtime.files import write_atomically

SEED = "seed"
WIDE = 140  # characters of a line where there is no terminal


class SweptJob(NamedTuple):
    """How a job of a sweep ended."""

    name: str  # of its folder
    overrides: Sequence[str]
    value: float | None = None  # of the optimised metric
    failure: str | None = None

    @property
    def settings(self) -> dict[str, str]:
        """Its overrides, by key."""
        return {key.lstrip("+~"): value for key, _, value in (override.partition("=") for override in self.overrides)}


class Line(NamedTuple):
    """Jobs with the same settings but for their seeds."""

    settings: Sequence[str]
    jobs: Sequence[SweptJob]

    @property
    def values(self) -> list[float]:
        """The values of the jobs that have one."""
        return [job.value for job in self.jobs if job.value is not None]

    @property
    def mean(self) -> float | None:
        """Mean of the values; None without any."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """Sample standard deviation of the values; None of fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def failures(self) -> list[SweptJob]:
        """The jobs that failed."""
        return [job for job in self.jobs if job.failure is not None]

    @property
    def seeds(self) -> str:
        """Seeds of the jobs."""
        return ",".join(job.settings.get(SEED, "") for job in self.jobs)


class SweepTable(NamedTuple):
    """Lines under the keys that differ among a sweep's jobs; `best` is the place of a line, None without values."""

    keys: Sequence[str]
    metric: str
    seeded: bool  # the jobs have several seeds
    lines: Sequence[Line]
    best: int | None


def write_job(job: SweptJob, path: pathlib.Path) -> None:
    """Write how a job ended."""
    write_atomically(path, json.dumps(job._asdict(), indent=2).encode())


def read_jobs(folder: pathlib.Path) -> dict[pathlib.Path, SweptJob]:
    """The jobs that `write_job` wrote anywhere in a folder, by file, in the order of their numbers."""
    paths = sorted(folder.rglob("*.json"), key=lambda path: [(len(part), part) for part in path.parts])
    return {path: SweptJob(**json.loads(path.read_text())) for path in paths}


def tabulate(jobs: Sequence[SweptJob], metric: str, direction: str | None) -> SweepTable:
    """Group jobs by what differs among them; `direction`, minimize or maximize, tells which line is the best."""
    settings = [job.settings for job in jobs]
    differing = [key for key in dict.fromkeys(key for s in settings for key in s) if len({s.get(key) for s in settings}) > 1]
    keys = [key for key in differing if key != SEED]
    groups: dict[tuple[str, ...], list[SweptJob]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.settings.get(key, "") for key in keys), []).append(job)
    lines = [Line(values, group) for values, group in groups.items()]
    means = {place: line.mean for place, line in enumerate(lines) if line.mean is not None}
    pick = {"minimize": min, "maximize": max}.get(direction or "")
    best = pick(means, key=lambda place: means[place]) if pick and means else None
    return SweepTable(keys, metric, SEED in differing, lines, best)


def show(table: SweepTable) -> None:
    """Print the table."""
    shown = rich.table.Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("jobs", *_headings(table.keys), *(["seeds"] if table.seeded else []), table.metric, "", "failed"):
        shown.add_column(escape(heading), overflow="fold")
    for place, line in enumerate(table.lines):
        value = "" if line.mean is None else f"{line.mean:.4g}"
        value += "" if line.spread is None else f" ± {line.spread:.2g}"
        failures = [f"{job.name}: {' '.join(str(job.failure).split())}" for job in line.failures]
        cells = [" ".join(job.name for job in line.jobs), *map(_short, line.settings), *([line.seeds] if table.seeded else [])]
        cells += [value, "best" if place == table.best else "", "\n".join(failures)]
        shown.add_row(*map(escape, cells), style="bold" if place == table.best else None)
    console = Console()
    (console if console.is_terminal else Console(width=WIDE)).print(shown)


def write_csv(table: SweepTable, path: pathlib.Path) -> None:
    """Write the table with unrounded numbers, and the values of all its jobs."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["jobs", *table.keys, "seeds", table.metric, "spread", "values", "failed", "best"])
    for place, line in enumerate(table.lines):
        numbers = [line.mean, line.spread, " ".join(map(str, line.values)), len(line.failures)]
        best = "best" if place == table.best else ""
        writer.writerow([" ".join(job.name for job in line.jobs), *line.settings, line.seeds, *numbers, best])
    write_atomically(path, text.getvalue().encode())


def _headings(keys: Sequence[str]) -> list[str]:
    """The last part of each dotted key, or all of it where others end likewise."""
    ends = [key.rpartition(".")[2] for key in keys]
    return [end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)]


def _short(setting: str) -> str:
    """A number to four digits, other settings as they are."""
    try:
        return setting if len(setting) < 8 else f"{float(setting):.4g}"
    except ValueError:
        return setting
