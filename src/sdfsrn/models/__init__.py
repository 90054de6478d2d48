"""The learned parts: encoder, hypernetwork with its field, ray marchers."""

from sdfsrn.models.encoder import ConvEncoder, ResNetEncoder
from sdfsrn.models.field import Field, FieldConfig, Linear
from sdfsrn.models.hypernetwork import Hypernetwork
from sdfsrn.models.implicit import ImplicitShape
from sdfsrn.models.occupancy import OccupancyDecoder, OccupancyField
from sdfsrn.models.occupancy_marcher import OccupancyMarcher
from sdfsrn.models.raymarcher import DenseRayMarcher, LSTMRayMarcher, SphereTracer
from sdfsrn.models.shape import Shape

__all__ = [
    "ConvEncoder",
    "DenseRayMarcher",
    "Field",
    "FieldConfig",
    "Hypernetwork",
    "ImplicitShape",
    "LSTMRayMarcher",
    "Linear",
    "OccupancyDecoder",
    "OccupancyField",
    "OccupancyMarcher",
    "ResNetEncoder",
    "Shape",
    "SphereTracer",
]
