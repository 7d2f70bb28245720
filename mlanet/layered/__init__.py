"""Layered materials: which atoms make a layer, what pulling layers apart and sliding them costs, stress of a sheet."""

from mlanet.layered.curve import Well, interlayer_curve, well
from mlanet.layered.find import Layers, find_layers
from mlanet.layered.sheet import sheet_stress
from mlanet.layered.sliding import sliding_map

__all__ = ["Layers", "Well", "find_layers", "interlayer_curve", "sheet_stress", "sliding_map", "well"]
