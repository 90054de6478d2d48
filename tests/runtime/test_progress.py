"""Progress in a log, by a clock that the tests set, and on a terminal, a real one."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import pty
import struct
import sys
import termios
from collections.abc import Iterator

import pytest

from sdfsrn.runtime import progress
from sdfsrn.runtime.progress import LINE_SECONDS, Progress, track


class Clock:
    """Seconds that pass only when they are told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


class Terminal:
    """A terminal of 80 columns, and what it shows."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        self.stream = os.fdopen(slave, "w")
        os.set_blocking(self.master, False)
        self._text = ""

    @property
    def lines(self) -> list[str]:
        """The lines on the screen: a carriage return goes back to a line's beginning, what is written there replaces it."""
        self.stream.flush()
        try:
            while True:
                self._text += os.read(self.master, 2**16).decode()
        except BlockingIOError:
            pass
        shown = []
        for line in self._text.replace("\r\n", "\n").split("\n"):
            cells = ""
            for part in line.split("\r"):
                cells = part + cells[len(part) :]
            shown.append(cells.rstrip())
        return shown


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.stream.close()
    os.close(made.master)


def test_without_a_terminal_there_is_a_line_every_so_often(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Steps of a second each, of which 20 were done before."""
    made, asked = Progress("Training", 100, "steps", done=20, keep=True), []
    for done in range(21, 101):
        clock.seconds += 1
        made.update(done, lambda done=done: asked.append(done) or f"loss {done / 100}")
    made.close()
    made.close()
    assert capsys.readouterr().err.splitlines() == [
        "Training: 50/100 steps (50%), 00:50 left, loss 0.5",
        "Training: 80/100 steps (80%), 00:20 left, loss 0.8",
        "Training: 100/100 steps in 01:20, loss 1.0",
    ]
    assert asked == [50, 80, 100]  # values are read only to be shown


def test_a_stage_that_is_not_kept_leaves_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for item in track("abc", "Loading", 3, "pictures"):
        clock.seconds += LINE_SECONDS if item == "b" else 0
    assert capsys.readouterr().err.splitlines() == ["Loading: 2/3 pictures (67%), 00:15 left"]


def test_what_has_no_end_has_no_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    made = Progress("Training", None, "steps", keep=True)
    clock.seconds += 60
    made.update(7, lambda: "loss 1")
    made.close()
    assert capsys.readouterr().err.splitlines() == ["Training: 7 steps in 01:00, loss 1"] * 2


def test_an_error_among_the_items_passes_through(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        list(track((1 // item for item in (2, 1, 0)), "Loading", 3, "pictures"))
    assert capsys.readouterr().err == ""


def test_a_terminal_has_one_bar(terminal: Terminal, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    made = Progress("Training", 40, "steps", keep=True)
    for done in (10, 20):
        clock.seconds += 1
        made.update(done, lambda done=done: f"loss {done}")
        (line,) = terminal.lines
        assert line.startswith(f"Training {done * 100 // 40:3d}%|")
        assert f"| {done}/40 steps, " in line
        assert line.endswith(f" left, loss {done}")
    clock.seconds += 0.1
    made.update(30, lambda: "too early")
    assert "20/40 steps" in terminal.lines[0]
    clock.seconds += 1
    made.update(30, lambda: "loss 30", label="Validating 1/2")
    assert terminal.lines[0].startswith("Validating 1/2  75%|")
    made.update(40, lambda: "loss 40")
    made.close()
    line, end = terminal.lines
    assert line.startswith("Training: 40/40 steps in 00:0")
    assert line.endswith(", loss 40")
    assert end == ""


def test_messages_go_above_the_bar(terminal: Terminal, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    logger, handler = logging.getLogger("pytorch_lightning"), logging.StreamHandler(sys.stderr)
    before = logger.handlers[:]
    logger.handlers[:] = [handler]
    monkeypatch.setattr(logger, "propagate", False)  # whatever other tests left with the root logger
    try:
        made = Progress("Training", 40, "steps")
        clock.seconds += 1
        made.update(10)
        logger.warning("Collapse")
        message, bar = terminal.lines
        assert message == "Collapse"
        assert "10/40 steps" in bar
        made.close()
        assert logger.handlers == [handler]
        logger.warning("The end")
        assert terminal.lines == ["Collapse", "The end", ""]
    finally:
        logger.handlers[:] = before


def test_a_stream_in_memory_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert list(track("abc", "Loading", 3, "pictures")) == ["a", "b", "c"]
