"""The table of a sweep, by numbers worked out by hand."""

from __future__ import annotations

import csv
import math
import pathlib

import pytest

from sdfsrn.cli.swept import SweptJob, read_jobs, show, tabulate, write_csv, write_job

METRIC = "val/chamfer"
STEPS = "trainer.max_steps=30"
GRID = [
    SweptJob("0", ["seed=0", "optimizer.lr=1e-3", STEPS], 0.3),
    SweptJob("1", ["seed=1", "optimizer.lr=1e-3", STEPS], 0.5),
    SweptJob("2", ["seed=0", "optimizer.lr=1e-4", STEPS], failure="no\nsurface"),
    SweptJob("3", ["seed=1", "optimizer.lr=1e-4", STEPS], 0.35),
    SweptJob("4", ["seed=0", "optimizer.lr=1e-5", STEPS], failure="KeyError: 'x'"),
]


def test_seeds_are_one_line_with_mean_and_spread() -> None:
    table = tabulate(GRID, METRIC, "minimize")
    assert table.keys == ["optimizer.lr"]  # all have the same steps
    assert [line.settings for line in table.lines] == [("1e-3",), ("1e-4",), ("1e-5",)]
    assert [line.seeds for line in table.lines] == ["0,1", "0,1", "0"]
    first, second, third = table.lines
    assert first.mean == pytest.approx(0.4)
    assert first.spread == pytest.approx(math.sqrt(2 * 0.1**2))  # over n - 1
    assert (second.mean, second.spread, [job.name for job in second.failures]) == (0.35, None, ["2"])
    assert (third.mean, third.spread) == (None, None)


@pytest.mark.parametrize(("direction", "best"), [("minimize", 1), ("maximize", 0), (None, None)])
def test_the_best_is_the_one_of_the_best_mean(direction: str | None, best: int | None) -> None:
    assert tabulate(GRID, METRIC, direction).best == best
    assert tabulate([job for job in GRID if job.value is None], METRIC, direction).best is None


def test_seeds_alone_are_one_line_and_keys_that_some_jobs_lack_differ() -> None:
    (line,) = tabulate([SweptJob("0", ["seed=0"], 1.0), SweptJob("1", ["seed=1"], 3.0)], METRIC, "minimize").lines
    assert (line.mean, line.seeds) == (2.0, "0,1")
    table = tabulate([SweptJob("0", ["+a.b=1"], 1.0), SweptJob("1", [], 3.0)], METRIC, "minimize")
    assert (table.keys, [line.settings for line in table.lines]) == (["a.b"], [("1",), ("",)])


def test_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show(tabulate(GRID, METRIC, "minimize"))
    heading, _, *lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert heading == ["jobs", "lr", "seeds", METRIC, "failed"]
    assert lines == [
        ["0", "1", "1e-3", "0,1", "0.4", "±", "0.14"],
        ["2", "3", "1e-4", "0,1", "0.35", "best", "2:", "no", "surface"],
        ["4", "1e-5", "0", "4:", "KeyError:", "'x'"],
    ]


def test_keys_that_end_alike_are_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    drawn = 0.00031622776601683794
    jobs = [SweptJob(str(i), [f"a.lr={i}", f"b.lr={i}", f"c.x={i * drawn}"], float(i)) for i in (1, 2)]
    show(tabulate(jobs, METRIC, "maximize"))
    heading, _, *lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert heading == ["jobs", "a.lr", "b.lr", "x", METRIC, "failed"]
    assert lines == [["1", "1", "1", "0.0003162", "1"], ["2", "2", "2", "0.0006325", "2", "best"]]


def test_the_csv_has_every_value(tmp_path: pathlib.Path) -> None:
    write_csv(tabulate(GRID, METRIC, "minimize"), tmp_path / "sweep.csv")
    with (tmp_path / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["jobs"], row["optimizer.lr"], row["seeds"], row["values"], row["failed"], row["best"]) for row in rows] == [
        ("0 1", "1e-3", "0,1", "0.3 0.5", "0", ""),
        ("2 3", "1e-4", "0,1", "0.35", "1", "best"),
        ("4", "1e-5", "0", "", "1", ""),
    ]
    assert [float(row[METRIC] or "nan") for row in rows] == pytest.approx([0.4, 0.35, math.nan], nan_ok=True)
    assert float(rows[0]["spread"]) == pytest.approx(math.sqrt(0.02))


def test_jobs_are_read_in_the_order_of_their_numbers(tmp_path: pathlib.Path) -> None:
    jobs = [SweptJob(str(i), [f"seed={i}"], i / 7) for i in range(12)]
    for job in reversed(jobs):
        write_job(job, tmp_path / job.name / f"{job.name}.json")
    assert list(read_jobs(tmp_path).values()) == jobs
    assert read_jobs(tmp_path / "missing") == {}
