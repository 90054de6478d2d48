"""The paper's tables: its figures, a command for every row, and what becomes of rows that fail, are stopped, or are done."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import pathlib
import re
import signal
import subprocess
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console

import commands
from sdfsrn.cli import jobs, tabulation
from sdfsrn.cli.jobs import Job, last_lines, run
from sdfsrn.cli.tabulation import Line, Table
from sdfsrn.data import ViewsDataModule
from sdfsrn.runtime.configs import config_folder, instantiate
from sdfsrn.tables import Row, job, other_settings, read_table, tables

PAPER = pathlib.Path(__file__).parents[2] / "shared" / "paper.md"
ITERATIONS = {1: {100_000, 200_000}, 2: {50_000}, 3: {200_000}, 4: {30_000}}
OWN = """
title: mine, 100 % & more
headings: [method]
builtin: [data=synthetic, data.num_objects=6, data.shapes.views_per_object=2]
rows:
  - {label: [a rival], published: [0.1, 0.2]}
  - {label: [broken], published: [0.3, 0.4], name: broken, experiment: mine, overrides: [ckpt_path=missing.ckpt]}
  - {label: [whole], published: [0.5, 0.6], name: whole, experiment: mine}
  - {label: [orphan], published: [0.7, 0.8], name: orphan, evaluates: broken}
"""


def table_of(*overrides: str, output: pathlib.Path) -> Table:
    """What `python -m sdfsrn.tables <overrides> hydra.run.dir=<output>` returns, or raises."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return tables(compose("tables", [*overrides, f"paths.output={output}"]))


def jobs_of(number: int, *overrides: str) -> dict[str, tuple[Row, Job]]:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("tables", [f"table={number}", "paths.output=out", *overrides])
        described = read_table(number)
        rows = [Row(**row) for row in described["rows"]]
        return {row.name: (row, job(row, described, config, pathlib.Path("out"))) for row in rows if row.name}


def figures_of_the_paper(number: int) -> dict[tuple[str, ...], tuple[float, ...]]:
    """Accuracy and coverage by label, as the paper's text has them."""
    text = re.search(rf"^Table {number}: .*?\n\n(.*?)\n\n", PAPER.read_text(), re.S | re.M).group(1)
    text = re.sub(r"</?b>| \[\d+\]| *\$[^$]*\$", "", text).replace("Ours", "SDF-SRN (ours)")
    first, *rows = ([cell.strip() for cell in line.split("\t")] for line in text.splitlines())
    heads = [head for head in first[1:] if head]
    found = {}
    for name, *cells in rows:
        values = [float(cell) for cell in cells if name]  # the line of "accur." and "cover." has no name
        for i, pair in enumerate(zip(values[::2], values[1::2], strict=True)):
            label = {1: (heads[i], name), 2: (name, heads[i]), 3: (name,), 4: (heads[i], name)}[number]
            found[label] = pair
    return found


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_every_published_figure_is_the_papers_and_none_is_missing(number: int) -> None:
    if not PAPER.is_file():
        pytest.skip(f"NO PUBLISHED FIGURE CHECKED: {PAPER} IS MISSING")
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        rows = [Row(**row) for row in read_table(number)["rows"]]
    assert {tuple(row.label): tuple(row.published) for row in rows} == figures_of_the_paper(number)
    assert len({tuple(row.label) for row in rows}) == len(rows) == {1: 12, 2: 12, 3: 6, 4: 9}[number]
    assert all(row.name for row in rows)
    assert len({row.name for row in rows}) == len(rows)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_every_row_is_trained_as_in_the_paper(number: int) -> None:
    found = jobs_of(number, "data.root='/some/where, (else)'")
    trained = [task.config for _, task in found.values() if task.trains]
    assert {config.trainer.max_steps for config in trained} == ITERATIONS[number]
    assert {config.data.root for config in trained} == {"/some/where, (else)"}
    if number in (1, 4):
        assert {row.label[0]: task.config.data.category for row, task in found.values()} == {
            name: name for name in ("airplane", "car", "chair")
        }
    if number == 2:
        asked = [(config.data.num_models, config.data.views, config.data.jitter) for config in trained]
        assert asked == [(number, "one", True) for number in (500, 1000, 2000, None) for _ in range(3)]
    if number == 3:
        row, optimized = found.pop("shapenet_chair_test_time_optimization")
        assert row.evaluates in found
        assert optimized.config.test_time_optimization
        assert optimized.config.ckpt_path == "out/shapenet_chair/checkpoints/best.ckpt"
        assert found["shapenet_chair"][1].config == jobs_of(1, "data.root='/some/where, (else)'")["shapenet_chair"][1].config


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_smoke_rows_are_on_the_built_in_data_of_the_same_kind(number: int) -> None:
    for row, task in jobs_of(number, "budget=smoke", "overrides=['trainer.max_steps=3']").values():
        if task.trains:
            assert isinstance(instantiate(task.config.data), ViewsDataModule)
            assert task.config.data.shapes.category == (row.label[0] if number in (1, 4) else "chair")
            assert (task.config.data.shapes.projection == "orthographic") == (number == 4)
            assert task.config.trainer.max_steps == 3


@pytest.mark.parametrize(
    ("overrides", "needle"),
    [
        (["table=3"], "data.root=FOLDER"),
        (["table=3", "data.root=/nowhere"], "/nowhere/03001627"),
        (["table=4", "data.root=/nowhere"], "/nowhere"),
        (["table=6"], "1, 2, 3, 4"),
        (["table=3", "budget=smoke", "rows=[full]"], "ablation_occupancy.*got full"),
        (["table=3", "budget=smoke", "rows=full"], "ablation_occupancy.*got full"),
        (["table=3", "budget=smoke", "format=[html]"], "markdown, csv, latex, got html"),
        (["table=3", "budget=smoke", "overrides=['trainer.nonsense=1']"], "ablation_occupancy.*nonsense"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_run(overrides: list[str], needle: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=needle) as error:
        table_of(*overrides, output=tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def call(folder: pathlib.Path, *overrides: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """The user's own table in `folder`, with a row that fails, one that works, and one that needs the first."""
    settings = ("trainer.max_steps=2", "trainer.accelerator=cpu", "callbacks.pretraining.iterations=150")
    quoted = ",".join(f"'{setting}'" for setting in settings)
    given = ["--config-dir=own", *flags, "table=mine", "budget=smoke", "hydra.run.dir=out", f"overrides=[{quoted}]", *overrides]
    return commands.command("tables", *given, cwd=folder, SDFSRN_CACHE=str(folder / "cache"), COLUMNS="200")


@pytest.fixture(scope="module")
def first_call(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("tables")
    experiment = "# @package _global_\ndefaults: [ablation_full]\n"
    for name, text in {"tables/mine.yaml": OWN, "experiment/mine.yaml": experiment}.items():
        (folder / "own" / name).parent.mkdir(parents=True)
        (folder / "own" / name).write_text(text)
    return folder, call(folder)


@pytest.mark.slow
def test_a_row_that_fails_is_told_and_the_others_go_on(
    first_call: tuple[pathlib.Path, subprocess.CompletedProcess],
) -> None:
    folder, result = first_call
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "error: 2 of 3 rows failed" in result.stderr
    assert "1/3 broken: exit status 1, see broken/run.log" in result.stdout
    reason = next(line for line in result.stdout.splitlines() if line.startswith("error: "))  # the end of the row's log
    assert "missing.ckpt" in reason
    assert reason in (folder / "out" / "broken" / "run.log").read_text()
    assert "2/3 whole: done" in result.stdout
    assert "3/3 orphan: it needs broken to be finished" in result.stdout
    assert "Smoke run on built-in data: not comparable." in result.stdout
    with (folder / "out" / "table_mine.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["a rival", "broken", "whole", "orphan"]
    summary = json.loads((folder / "out" / "whole" / "test" / "summary.json").read_text())
    assert float(rows["whole"]["measured accuracy x10"]) == summary["accuracy_x10"] == 10 * summary["accuracy"]
    assert float(rows["whole"]["measured coverage x10"]) == summary["coverage_x10"]
    assert [float(rows["whole"][f"published {name} x10"]) for name in ("accuracy", "coverage")] == [0.5, 0.6]
    assert (rows["whole"]["iterations"], rows["whole"]["objects"], rows["whole"]["data"]) == ("2", "2", "built-in")
    assert f"({os.cpu_count()} cores)" in rows["whole"]["hardware"]
    assert rows["a rival"]["measured accuracy x10"] == rows["broken"]["measured accuracy x10"] == ""
    assert rows["broken"]["note"].startswith("failed: exit status 1")


@pytest.mark.slow
def test_a_second_call_trains_nothing_that_is_done(
    first_call: tuple[pathlib.Path, subprocess.CompletedProcess],
) -> None:
    folder, _ = first_call
    before = {path: path.stat().st_mtime_ns for path in (folder / "out" / "whole").rglob("*")}
    result = call(folder, "rows=[whole]")
    assert result.returncode == 0, result.stderr
    assert "running" not in result.stdout
    assert {path: path.stat().st_mtime_ns for path in (folder / "out" / "whole").rglob("*")} == before
    with (folder / "out" / "table_mine.csv").open() as file:
        notes = {row["method"]: row["note"] for row in csv.DictReader(file)}
    assert notes == {"a rival": "", "broken": "not finished", "whole": "", "orphan": "not run"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_whole_table_in_minutes(number: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDFSRN_CACHE", str(tmp_path / "cache"))
    cpu = ["overrides=['trainer.accelerator=cpu']", "evaluation=['accelerator=cpu']"]
    table = table_of(f"table={number}", "budget=smoke", *cpu, output=tmp_path / "out")
    assert {line.iterations for line in table.lines} == {4}
    late = [line for line in table.lines if "dvr" in line.name]  # without any surface after four steps
    others = [line for line in table.lines if line not in late]
    assert all(None not in line.measured for line in others)
    assert {line.note for line in others} == {""}
    assert {line.note for line in late} <= {"", "2 of 2 objects not measured"}


@pytest.mark.slow
def test_a_launcher_runs_each_row_as_a_job_of_its_own(
    first_call: tuple[pathlib.Path, subprocess.CompletedProcess],
) -> None:
    folder, _ = first_call
    result = call(folder, "rows=broken,whole", "launcher=joblib", "hydra.run.dir=launched", flags=("-m",))
    assert result.returncode == 1
    assert "Job 0 failed: 1 of 1 rows failed" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert (folder / "launched" / "whole" / "test" / "summary.json").is_file()
    assert (folder / "launched" / "broken" / "run.log").is_file()
    assert call(folder, "run=false", "hydra.run.dir=launched").returncode == 0
    with (folder / "launched" / "table_mine.csv").open() as file:
        measured = {row["method"]: row["measured accuracy x10"] != "" for row in csv.DictReader(file)}
    assert measured == {"a rival": False, "broken": False, "whole": True, "orphan": False}


def test_collecting_runs_nothing_and_needs_no_data(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.subprocess, "Popen", None)
    table = table_of("table=1", "run=false", output=tmp_path)
    assert [line.note for line in table.lines if line.name] == ["not run"] * 12
    assert {path.name for path in tmp_path.iterdir()} == {"table_1.md", "table_1.csv", "table_1.tex"}


@pytest.fixture
def python(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A script that stands for the interpreter which runs rows."""
    path = tmp_path / "python"
    monkeypatch.setattr(jobs.sys, "executable", str(path))
    return path


def stand_in(folder: pathlib.Path, name: str = "row") -> Job:
    config = OmegaConf.create({"trainer": {"accelerator": "cpu"}})
    return Job(name, "train", [], folder / name, folder / name, config)


def write_script(path: pathlib.Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_row_that_was_stopped_goes_on_and_its_times_add_up(tmp_path: pathlib.Path, python: pathlib.Path) -> None:
    task = stand_in(tmp_path)
    write_script(python, "echo one; exit 3")
    assert run([task], Console()) == {"row": "exit status 3, see row/run.log\none"}
    first = json.loads(task.record.read_text())
    assert (first["seconds"] > 0, len(first["hardware"])) == (True, 1)
    task.record.write_text(json.dumps({"seconds": 1000.0, "hardware": ["another machine"]}))
    write_script(python, f"echo two; mkdir {task.folder}/test; echo '{{}}' > {task.summary}")
    assert run([task], Console()) == {}
    second = json.loads(task.record.read_text())
    assert task.log.read_text() == "one\ntwo\n"
    assert second["seconds"] > 1000
    assert second["hardware"] == ["another machine", *first["hardware"]]
    assert run([task], Console()) == {}  # it is finished
    assert task.log.read_text() == "one\ntwo\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_table_stops_its_row_which_may_save(
    number: signal.Signals, tmp_path: pathlib.Path, python: pathlib.Path
) -> None:
    task, after = stand_in(tmp_path), stand_in(tmp_path, "after")
    write_script(python, f"trap 'echo saved; exit 0' TERM; kill -{number} {os.getpid()}; while :; do sleep 0.1; done")
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stop:
        run([task, after], Console())
    assert stop.value.code == 128 + number
    assert task.log.read_text() == "saved\n"
    assert task.record.is_file()
    assert not after.folder.exists()
    assert signal.getsignal(number) is before


def test_a_table_stopped_while_a_row_starts_leaves_none_behind(
    tmp_path: pathlib.Path, python: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)
            if len(started) == 1:  # asking for the hardware starts processes, too
                os.kill(os.getpid(), signal.SIGTERM)

    write_script(python, "exec sleep 60")
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(SystemExit) as stop:
        run([task := stand_in(tmp_path)], Console())
    assert stop.value.code == 128 + signal.SIGTERM
    assert started[0].returncode == -signal.SIGTERM
    assert task.record.is_file()


def test_a_row_is_run_by_one_process_at_a_time(tmp_path: pathlib.Path, python: pathlib.Path) -> None:
    """Also when the table that started it is gone: the lock is the row's."""
    task = stand_in(tmp_path)
    task.folder.mkdir()
    write_script(python, "echo never")
    with task.log.open("ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        holder = subprocess.Popen(["sleep", "60"], stdout=log)
    try:
        assert run([task], Console()) == {"row": "another process is running it"}
    finally:
        holder.kill()
        holder.wait()
    assert "exit status 0, see row/run.log" in run([task], Console())["row"]
    assert task.log.read_text() == "never\n"


def test_last_lines_of_a_log(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\n  10%\r  20%\r 100%\n\nwindows\r\n\xff end \n\n")
    assert last_lines(path, 3) == [" 100%", "windows", "\ufffd end"]
    assert last_lines(path, 9)[0] == "first"


def test_a_run_with_other_settings_is_told(tmp_path: pathlib.Path) -> None:
    asked = OmegaConf.create(
        {"trainer": {"max_steps": 8, "accelerator": "cpu"}, "data": {"root": "???"}, "paths": {"output": "${hydra:x}"}}
    )
    task = Job("row", "train", [], tmp_path, tmp_path, asked)
    assert other_settings(task) == []
    used = {"trainer": {"max_steps": 4, "accelerator": "gpu"}, "data": {"root": "/data"}, "seed": 3}
    OmegaConf.save(OmegaConf.create(used), tmp_path / "config.yaml")
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "config.yaml").rename(tmp_path / ".hydra" / "config.yaml")
    assert other_settings(task) == ["seed=3 (now None)", "trainer.max_steps=4 (now 8)"]


def test_formats() -> None:
    rows = [
        Line(["a_b | 50 %", "x"], (0.25, 0.2)),
        Line(["c", "y"], (0.1, 1.0), (0.12345, None), "row", 200_000, 7, 9.5, "a GPU", "/data", "1 of 7"),
    ]
    table = Table("Table 9: odd", ["#", "method"], rows, ["A remark."])
    text = tabulation.markdown(table)
    assert "| a_b \\| 50 % | x | 0.250 | 0.200 |  |  |  |  |" in text
    assert "| c | y | 0.100 | 1.000 | 0.123 |  | 200,000 | 1 of 7 |" in text
    latex = tabulation.latex(table)
    assert r"a\_b | 50 \% & x & 0.250 & 0.200 &  &  &  &  \\" in latex
    assert r"\# & method" in latex
    body = latex.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    assert {line.count(" & ") for line in body.splitlines() if "&" in line} == {7}
    for written in (text, latex):
        assert all(part in written for part in ("A remark.", "Data: /data.", "Hardware: a GPU.", "Table 9: odd"))
    first, second = csv.DictReader(tabulation.comma_separated(table).splitlines())
    assert (first["#"], first["measured accuracy x10"]) == ("a_b | 50 %", "")
    assert (second["measured accuracy x10"], second["iterations"], second["hardware"]) == ("0.12345", "200000", "a GPU")
