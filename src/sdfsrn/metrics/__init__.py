"""Metrics as torchmetrics objects."""

from sdfsrn.metrics.chamfer import ChamferDistance
from sdfsrn.metrics.surface import FScore, NormalConsistency, VolumeIoU

__all__ = ["ChamferDistance", "FScore", "NormalConsistency", "VolumeIoU"]
