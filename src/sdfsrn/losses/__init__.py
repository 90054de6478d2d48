"""The terms of the objective, and their weighted sum."""

from sdfsrn.losses.dvr import FreespaceLoss, NormalSmoothnessLoss, OccupancyLoss, PhotometricLoss, SurfaceDepthLoss
from sdfsrn.losses.mesh import (
    DeformationLoss,
    FlattenLoss,
    FlowLoss,
    LaplacianLoss,
    MaskIoULoss,
    MaskLoss,
    SmoothnessLoss,
    TextureLoss,
)
from sdfsrn.losses.objective import Objective
from sdfsrn.losses.occupancy import FreeOccupancyLoss, SurfaceOccupancyLoss, VisitedOccupancyLoss
from sdfsrn.losses.terms import ColorLoss, EikonalLoss, RayFreeLoss, RaySurfaceLoss, SilhouetteLoss

__all__ = [
    "ColorLoss",
    "DeformationLoss",
    "EikonalLoss",
    "FlattenLoss",
    "FlowLoss",
    "FreeOccupancyLoss",
    "FreespaceLoss",
    "LaplacianLoss",
    "MaskIoULoss",
    "MaskLoss",
    "NormalSmoothnessLoss",
    "Objective",
    "OccupancyLoss",
    "PhotometricLoss",
    "RayFreeLoss",
    "RaySurfaceLoss",
    "SilhouetteLoss",
    "SmoothnessLoss",
    "SurfaceDepthLoss",
    "SurfaceOccupancyLoss",
    "TextureLoss",
    "VisitedOccupancyLoss",
]
