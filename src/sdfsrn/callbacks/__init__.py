"""Callbacks: sphere pretraining, watchmen, pictures, monitors, the last checkpoint; a table of numbers and a W&B run."""

from sdfsrn.callbacks.guards import CollapseWarning, EarlyStopping, FiniteLoss
from sdfsrn.callbacks.last_checkpoint import LastCheckpoint
from sdfsrn.callbacks.monitors import LogOptimization, LogThroughput
from sdfsrn.callbacks.pictures import LogPictures
from sdfsrn.callbacks.pretraining import SpherePretraining

__all__ = [
    "CollapseWarning",
    "EarlyStopping",
    "FiniteLoss",
    "LastCheckpoint",
    "LogOptimization",
    "LogPictures",
    "LogThroughput",
    "SpherePretraining",
]
