"""Loggers whose failures are warnings: what they would have logged is lost, the training is not."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

from pytorch_lightning.loggers import Logger

from sdfsrn.runtime.files import reason

METHODS = ("log_metrics", "log_hyperparams", "save", "finalize", "finish", "after_save_checkpoint")
WARNED = "_sdfsrn_warned"  # attribute of a logger that has failed

log = logging.getLogger(__name__)


def forgive(logger: Logger) -> None:
    """Let the logger's METHODS warn where they would raise."""
    for name in METHODS:
        if hasattr(logger, name):
            setattr(logger, name, _forgiven(logger, getattr(logger, name)))


@contextlib.contextmanager
def forgiven(logger: Logger) -> Iterator[None]:
    """Turn an exception inside into a warning, the first one of this logger; a killed worker of a loader stays one."""
    try:
        yield
    except Exception as error:
        if str(error).startswith("DataLoader worker"):
            raise
        if not getattr(logger, WARNED, False):
            name = type(logger).__name__
            log.warning("%s failed and the training goes on without what it was to log: %s.", name, reason(error))
            setattr(logger, WARNED, True)


def _forgiven(logger: Logger, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with forgiven(logger):
            return method(*args, **kwargs)

    return call
