"""Metrics as torchmetrics objects."""

from sdfsrn.metrics.chamfer import ChamferDistance

__all__ = ["ChamferDistance"]
