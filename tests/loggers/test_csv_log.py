from __future__ import annotations

import pathlib

import pytest

from sdfsrn.loggers import CSVLog


def test_a_resumed_log_goes_on_and_drops_what_will_come_again(tmp_path: pathlib.Path) -> None:
    log = CSVLog(str(tmp_path))
    for step in range(4):
        log.log_metrics({"loss": step / 2}, step)
    with log.path.open("a") as file:
        file.write("4,")  # the end of a process
    resumed = CSVLog(str(tmp_path), first_step=2)
    resumed.log_metrics({"loss": 7.0, "new": 1.0}, 2)
    assert log.path.read_text() == "step,loss,new\n0,0.0,\n1,0.5,\n2,7.0,1.0\n"


def test_a_full_disk_is_told_with_the_file(tmp_path: pathlib.Path) -> None:
    log = CSVLog(str(tmp_path))
    log.log_metrics({"loss": 1.0}, 0)
    log.path.unlink()
    log.path.symlink_to("/dev/full")
    with pytest.raises(OSError, match=f"Could not write {log.path}: No space left on device"):
        log.log_metrics({"loss": 1.0}, 1)
