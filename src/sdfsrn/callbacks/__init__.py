"""Callbacks: sphere pretraining, guards, pictures, monitors and the last checkpoint."""

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
