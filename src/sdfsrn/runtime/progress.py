"""Progress of a stage of work: a bar on a terminal, lines in a log."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

REFRESH_SECONDS = 0.5  # on a terminal
LINE_SECONDS = 30.0  # elsewhere
COUNT = "{n_fmt}/{total_fmt} {unit}"
BAR = f"{{desc}} {{percentage:3.0f}}%|{{bar}}| {COUNT}, {{remaining}} left{{postfix}}"
LINE = f"{{desc}}: {COUNT} ({{percentage:.0f}}%), {{remaining}} left{{postfix}}"
ENDLESS = "{desc}: {n_fmt} {unit} in {elapsed}{postfix}"
END = f"{{desc}}: {COUNT} in {{elapsed}}{{postfix}}"

Item = TypeVar("Item")


class Progress:
    """How many items of a stage are done, and the time left: a bar, drawn every REFRESH_SECONDS, or a line every LINE_SECONDS.

    Args:
        label: of the stage.
        total: number of items; None if it is not known.
        unit: of the items, in the plural.
        done: items of an earlier process.
        keep: leave a line with the time that the stage took.
    """

    def __init__(self, label: str, total: int | None, unit: str, done: int = 0, keep: bool = False) -> None:
        terminal = sys.stderr.isatty()
        self._screen: _Bar | _Lines = (_Bar if terminal else _Lines)(label, total, unit, done)
        self._interval = REFRESH_SECONDS if terminal else LINE_SECONDS
        self._drawn = time.monotonic()
        self._label, self._done, self._keep = label, done, keep
        self._note: Callable[[], str] = str
        self._open = True

    def update(self, done: int, note: Callable[[], str] = str, label: str | None = None) -> None:
        """Set the number of items done; `note`, a text to be shown, is called only when it is time to draw."""
        self._done, self._note = done, note
        if time.monotonic() - self._drawn >= self._interval:
            self._screen.draw(label or self._label, done, note())
            self._drawn = time.monotonic()

    def close(self) -> None:
        """End the stage; further calls do nothing."""
        if self._open:
            self._open = False
            self._screen.close(self._label, self._done, self._note() if self._keep else None)


def track(items: Iterable[Item], label: str, total: int, unit: str) -> Iterator[Item]:
    """Yield the items while a `Progress` counts them."""
    progress = Progress(label, total, unit)
    try:
        for done, item in enumerate(items, 1):
            yield item
            progress.update(done)
    finally:
        progress.close()


class _Bar:
    """A bar on the standard error stream's terminal; log messages go above it."""

    def __init__(self, label: str, total: int | None, unit: str, done: int) -> None:
        loggers = [logging.getLogger(name) for name in (None, "pytorch_lightning", "lightning_fabric")]
        self._context = contextlib.ExitStack()
        self._context.enter_context(logging_redirect_tqdm([logger for logger in loggers if _on_console(logger)]))
        style = ENDLESS if total is None else BAR
        self._bar = tqdm(
            desc=label, total=total, unit=unit, initial=done, smoothing=0, bar_format=style, dynamic_ncols=True, file=sys.stderr
        )

    def draw(self, label: str, done: int, note: str) -> None:
        self._bar.n = done
        self._bar.set_description_str(label, refresh=False)
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.refresh()

    def close(self, label: str, done: int, note: str | None) -> None:
        """Remove the bar, or end it with a note."""
        self._bar.leave = note is not None
        if note is not None:
            self._bar.bar_format = END if self._bar.total else ENDLESS
            self.draw(label, done, note)
        self._bar.close()
        self._context.close()


class _Lines:
    """Lines on the standard error stream."""

    def __init__(self, label: str, total: int | None, unit: str, done: int) -> None:
        self._total, self._unit, self._before = total, unit, done
        self._start = time.monotonic()

    def draw(self, label: str, done: int, note: str, style: str = LINE) -> None:
        known = {"bar_format": ENDLESS if self._total is None else style, "unit": self._unit, "initial": self._before}
        elapsed = time.monotonic() - self._start
        print(tqdm.format_meter(done, self._total, elapsed, prefix=label, postfix=note, **known), file=sys.stderr, flush=True)  # noqa: T201

    def close(self, label: str, done: int, note: str | None) -> None:
        if note is not None:
            self.draw(label, done, note, END)


def _on_console(logger: logging.Logger) -> bool:
    """Whether a logger itself writes to the screen."""
    streams = [handler.stream for handler in logger.handlers if isinstance(handler, logging.StreamHandler)]
    return any(stream in (sys.stdout, sys.stderr) for stream in streams)
