"""Chairs, airplanes and cars made of a few exact solids, each drawn from a random generator."""

from sdfsrn.data.shapes.airplane import airplane
from sdfsrn.data.shapes.car import car
from sdfsrn.data.shapes.chair import chair
from sdfsrn.data.shapes.shape import Part, ProceduralShape

__all__ = ["Part", "ProceduralShape", "airplane", "car", "chair"]
