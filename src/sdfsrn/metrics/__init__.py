"""Metrics as torchmetrics objects, and the evaluation protocol."""

from sdfsrn.metrics.pose import PoseError
from sdfsrn.metrics.surface import ChamferDistance, FScore, NormalConsistency, VolumeIoU

__all__ = ["ChamferDistance", "FScore", "NormalConsistency", "PoseError", "VolumeIoU"]
