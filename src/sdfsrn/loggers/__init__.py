"""Loggers: a CSV file of numbers, and a W&B run."""

from sdfsrn.loggers.csv_log import CSVLog
from sdfsrn.loggers.wandb_run import WandbRun

__all__ = ["CSVLog", "WandbRun"]
