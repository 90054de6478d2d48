"""The terms of the objective, and their weighted sum."""

from sdfsrn.losses.objective import Objective
from sdfsrn.losses.terms import ColorLoss, EikonalLoss, RayFreeLoss, RaySurfaceLoss, SilhouetteLoss

__all__ = ["ColorLoss", "EikonalLoss", "Objective", "RayFreeLoss", "RaySurfaceLoss", "SilhouetteLoss"]
