"""The terms of the objective, and their weighted sum."""

from sdfsrn.losses.dvr import FreespaceLoss, NormalSmoothnessLoss, OccupancyLoss, PhotometricLoss, SurfaceDepthLoss
from sdfsrn.losses.objective import Objective
from sdfsrn.losses.occupancy import FreeOccupancyLoss, SurfaceOccupancyLoss, VisitedOccupancyLoss
from sdfsrn.losses.terms import ColorLoss, EikonalLoss, RayFreeLoss, RaySurfaceLoss, SilhouetteLoss

__all__ = [
    "ColorLoss",
    "EikonalLoss",
    "FreeOccupancyLoss",
    "FreespaceLoss",
    "NormalSmoothnessLoss",
    "Objective",
    "OccupancyLoss",
    "PhotometricLoss",
    "RayFreeLoss",
    "RaySurfaceLoss",
    "SilhouetteLoss",
    "SurfaceDepthLoss",
    "SurfaceOccupancyLoss",
    "VisitedOccupancyLoss",
]
