from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from sdfsrn.runtime.parallel import run_jobs

WORKER = """
import os, pathlib, sys, time
from sdfsrn.runtime.parallel import run_jobs

def job(path):
    pathlib.Path(path).write_text(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    run_jobs(job, {name: (f"{sys.argv[1]}/{name}",) for name in "ab"}, "Jobs", 2)
"""


def _halve(number: int, folder: str) -> str | None:
    if number % 2:
        raise ValueError(f"{number} is odd")
    (pathlib.Path(folder) / str(number)).write_text(str(os.getpid()))
    return None if number else "zero"


@pytest.mark.parametrize("num_workers", [0, 1, pytest.param(2, marks=pytest.mark.slow)])
def test_failures_are_named_and_the_others_done(tmp_path: pathlib.Path, num_workers: int) -> None:
    jobs = {f"job {i}": (i, str(tmp_path)) for i in range(6)}
    notes: dict[str, str] = {}
    failures = run_jobs(_halve if num_workers < 2 else _importable(), jobs, "Halving", num_workers, notes=notes)
    assert notes == {"job 0": "zero"}
    assert failures == {f"job {i}": f"{i} is odd" for i in (1, 3, 5)}
    pids = {int(path.read_text()) for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == 3
    assert (os.getpid() in pids) == (num_workers < 2)


def _importable():
    """The same function under a name that a fresh process finds."""
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(pathlib.Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    import test_parallel

    return test_parallel._halve


def test_other_errors_end_it_all(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_jobs(_halve, {"lost": (2, str(tmp_path / "nowhere"))}, "Halving", 0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_workers_do_not_outlive_a_killed_program(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(WORKER)
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path)], stderr=subprocess.DEVNULL)
    deadline = time.time() + 300
    while not all((tmp_path / name).is_file() for name in "ab") and time.time() < deadline:
        time.sleep(0.1)
    time.sleep(0.2)
    pids = [int((tmp_path / name).read_text()) for name in "ab"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.time() + 20
    while any(map(_alive, pids)) and time.time() < deadline:
        time.sleep(0.1)
    assert not any(map(_alive, pids))


def _alive(pid: int) -> bool:
    stat = pathlib.Path(f"/proc/{pid}/stat")
    if stat.parent.parent.is_dir():
        return stat.is_file() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
