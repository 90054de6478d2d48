"""Marching cubes by PyMCubes, or by scikit-image for Pythons that PyMCubes has no wheels for (3.13 and later)."""

from __future__ import annotations

import importlib
import types
import warnings

import numpy as np
from jaxtyping import Float, Int

FOREIGN = (
    "Expected PyMCubes under the name mcubes, got another library of that name: pip uninstall --yes mcubes, then "
    "pip install --force-reinstall --no-deps pymcubes, or scikit-image from Python 3.13 on."
)


def triangulate(values: Float[np.ndarray, "x y z"]) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """Vertices (float64, in units of the grid's index) and faces of {f = 0}, anticlockwise seen from where f > 0."""
    if LIBRARY.__name__ == "mcubes":
        vertices, faces = LIBRARY.marching_cubes(values, 0.0)
        return vertices, faces[:, ::-1].astype(np.int64)  # its faces look inwards
    if not values.min() <= 0 < values.max():  # which scikit-image refuses
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    vertices, faces, _, _ = LIBRARY.marching_cubes(values, 0.0)
    return vertices.astype(np.float64), faces.astype(np.int64)


def choose_library() -> types.ModuleType:
    """PyMCubes if it is installed, else scikit-image's `measure`.

    Raises:
        ImportError: neither is there; names the library that is installed in place of PyMCubes, which a warning does otherwise.
    """
    mcubes = _installed("mcubes")
    if mcubes is not None and hasattr(mcubes, "marching_cubes"):
        return mcubes
    measure = _installed("skimage.measure")
    if measure is None:
        raise ImportError(FOREIGN if mcubes else "Expected PyMCubes or, from Python 3.13 on, scikit-image to be installed.")
    if mcubes:
        warnings.warn(FOREIGN, stacklevel=2)
    return measure


def _installed(name: str) -> types.ModuleType | None:
    """The module of that name, None if it cannot be imported."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


LIBRARY = choose_library()
