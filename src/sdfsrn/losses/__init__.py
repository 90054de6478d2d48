"""The terms of the objective, and their weighted sum."""

from sdfsrn.losses.objective import Objective
from sdfsrn.losses.occupancy import FreeOccupancyLoss, SurfaceOccupancyLoss, VisitedOccupancyLoss
from sdfsrn.losses.terms import ColorLoss, EikonalLoss, RayFreeLoss, RaySurfaceLoss, SilhouetteLoss

__all__ = [
    "ColorLoss",
    "EikonalLoss",
    "FreeOccupancyLoss",
    "Objective",
    "RayFreeLoss",
    "RaySurfaceLoss",
    "SilhouetteLoss",
    "SurfaceOccupancyLoss",
    "VisitedOccupancyLoss",
]
