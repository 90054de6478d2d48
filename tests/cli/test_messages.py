"""Known messages are left out, and nothing else."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import pytest

from sdfsrn.cli.messages import LOGGERS, tidy_messages


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    """Tidied twice, as by the jobs of a sweep; then as before."""
    before = {name: logging.getLogger(name).filters[:] for name in LOGGERS}
    with warnings.catch_warnings():
        tidy_messages()
        tidy_messages()
        yield
    for name, filters in before.items():
        logging.getLogger(name).filters[:] = filters


@pytest.mark.parametrize("name", LOGGERS)
def test_notices_are_left_out_and_news_are_not(name: str) -> None:
    logger = logging.getLogger(name)
    for text, shown in (
        ("GPU available: False, used: False", False),
        ("GPU memory is exhausted", True),
        ("💡 Tip: buy", False),
    ):
        assert bool(logger.filter(logging.makeLogRecord({"name": name, "msg": text}))) == shown
    assert len(logger.filters) == len(set(logger.filters))


def test_warnings_are_log_lines_but_for_known_ones(caplog: pytest.LogCaptureFixture) -> None:
    warnings.warn("The 'train_dataloader' does not have many workers which may be a bottleneck.", stacklevel=1)
    warnings.warn("Checkpoint directory /x exists and is not empty.", stacklevel=1)
    warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated", FutureWarning, stacklevel=1)
    assert not caplog.messages
    warnings.warn("Collapse: no ray\nhas met a surface", stacklevel=1)
    (line,) = caplog.messages
    assert line.startswith("Collapse: no ray has met a surface (")
    assert "test_messages.py:" in line
