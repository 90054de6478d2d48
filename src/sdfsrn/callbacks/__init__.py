"""Callbacks: sphere pretraining, watchmen, pictures, the configuration in checkpoints."""

from sdfsrn.callbacks.config import ConfigInCheckpoint
from sdfsrn.callbacks.guards import CollapseWarning, FiniteLoss
from sdfsrn.callbacks.pictures import LogPictures
from sdfsrn.callbacks.pretraining import SpherePretraining

__all__ = ["CollapseWarning", "ConfigInCheckpoint", "FiniteLoss", "LogPictures", "SpherePretraining"]
