"""Callbacks: sphere pretraining, watchmen, pictures, monitors; and a W&B run."""

from sdfsrn.callbacks.guards import CollapseWarning, FiniteLoss
from sdfsrn.callbacks.monitors import LogOptimization, LogThroughput
from sdfsrn.callbacks.pictures import LogPictures
from sdfsrn.callbacks.pretraining import SpherePretraining
from sdfsrn.callbacks.wandb_run import WandbRun

__all__ = [
    "CollapseWarning",
    "FiniteLoss",
    "LogOptimization",
    "LogPictures",
    "LogThroughput",
    "SpherePretraining",
    "WandbRun",
]
