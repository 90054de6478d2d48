"""The learned parts: encoder, hypernetwork with its field, ray marchers."""

from sdfsrn.models.encoder import ResNetEncoder
from sdfsrn.models.field import Field, FieldShape, Linear
from sdfsrn.models.hypernetwork import Hypernetwork
from sdfsrn.models.raymarcher import LSTMRayMarcher, SphereTracer

__all__ = ["Field", "FieldShape", "Hypernetwork", "LSTMRayMarcher", "Linear", "ResNetEncoder", "SphereTracer"]
