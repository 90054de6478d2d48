"""Callbacks: pretraining, CUDA graphs, compiled terms, guards, encoding, poses, pictures, monitors, the last checkpoint."""

from sdfsrn.callbacks.compiling import CompileTerms
from sdfsrn.callbacks.encoding import CoarseToFine
from sdfsrn.callbacks.graphs import CaptureSteps
from sdfsrn.callbacks.guards import CollapseWarning, EarlyStopping, FiniteLoss
from sdfsrn.callbacks.last_checkpoint import LastCheckpoint
from sdfsrn.callbacks.monitors import LogOptimization, LogThroughput
from sdfsrn.callbacks.pictures import LogPictures
from sdfsrn.callbacks.poses import RefinedPoses
from sdfsrn.callbacks.pretraining import SpherePretraining
from sdfsrn.callbacks.progress import ProgressBar

__all__ = [
    "CaptureSteps",
    "CoarseToFine",
    "CollapseWarning",
    "CompileTerms",
    "EarlyStopping",
    "FiniteLoss",
    "LastCheckpoint",
    "LogOptimization",
    "LogPictures",
    "LogThroughput",
    "ProgressBar",
    "RefinedPoses",
    "SpherePretraining",
]
