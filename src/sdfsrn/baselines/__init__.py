"""The methods that the paper compares with, as models of this package: DVR, SoftRas and CMR."""

from sdfsrn.baselines.dvr import DVR
from sdfsrn.baselines.mesh import MeshModel

__all__ = ["DVR", "MeshModel"]
