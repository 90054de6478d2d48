"""Messages of libraries on the screen: those that ask for nothing a user could do are left out; warnings become log lines."""

from __future__ import annotations

import logging
import warnings
from typing import Any

WARNINGS = (  # patterns of Python's warnings
    "The '.*_dataloader' does not have many workers",  # batches are made on the device
    ".*LeafSpec.*",
    r"It is recommended to use `self.log\('(val|pose)/",  # the metrics synchronise themselves
    "You're resuming from a checkpoint that ended before the epoch ended",  # batches are functions of the step
    "Checkpoint directory .* exists and is not empty",
    "The dirpath has changed from",
    "The number of training batches .* is smaller than the logging interval",  # which goes on from epoch to epoch
    "The ``compute`` method of metric (ChamferDistance|PoseError)",  # without ground truth there is nothing to measure
)
NOTICES = (  # beginnings of log messages
    "GPU available:",
    "TPU available:",
    "LOCAL_RANK:",
    "You are using a CUDA device",  # matmul_precision says it
    "💡 Tip:",
    "`Trainer.fit` stopped:",
    "`Trainer(overfit_batches=",
    "Using bfloat16 Automatic Mixed Precision",
    "`weights_only` was not set",
    "Restoring states from the checkpoint",  # the command says so
    "Restored all states from the checkpoint",
    "Found current_model_state in the checkpoint",
    "Initializing distributed:",
    "-" * 100,  # a frame about distributed processes
)
LOGGERS = (
    "pytorch_lightning.utilities.rank_zero",
    "pytorch_lightning.accelerators.cuda",
    "pytorch_lightning.trainer.connectors.checkpoint_connector",
    "lightning_fabric.utilities.distributed",
)

log = logging.getLogger("py.warnings")  # as Python itself would call it


def tidy_messages() -> None:
    """Keep WARNINGS and NOTICES off the screen, and write other warnings to the log, in one line each."""
    for pattern in WARNINGS:
        warnings.filterwarnings("ignore", pattern)
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_wanted)
    warnings.showwarning = _log_warning  # type: ignore[assignment]  # `place` is the rest of its arguments


def _wanted(record: logging.LogRecord) -> bool:
    """Whether a record of Lightning's log is shown."""
    return not record.getMessage().startswith(NOTICES)


def _log_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *place: Any) -> None:
    """Log a warning, with the place that it comes from."""
    log.warning("%s (%s:%d)", " ".join(str(message).split()), filename, lineno)
