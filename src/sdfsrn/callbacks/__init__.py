"""Callbacks: sphere pretraining, watchmen, pictures."""

from sdfsrn.callbacks.guards import CollapseWarning, FiniteLoss
from sdfsrn.callbacks.pictures import LogPictures
from sdfsrn.callbacks.pretraining import SpherePretraining

__all__ = ["CollapseWarning", "FiniteLoss", "LogPictures", "SpherePretraining"]
