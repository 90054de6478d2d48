"""The interface of shapes: what a decoder returns, and all that the rest of the package asks of it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import trimesh

from sdfsrn.functional.isosurface import Grid


@runtime_checkable
class Shape(Protocol):
    """The shapes of a batch of objects, each in its own (world) frame."""

    def __getitem__(self, objects: slice) -> Shape:
        """Select some of the objects."""
        ...

    def mesh(self, grid: Grid | None = None, color: bool = True) -> trimesh.Trimesh:
        """Mesh the only object: closed, with vertex colours if asked for and known, without faces where there is no surface.

        `grid` says how finely an implicit surface is sampled; None takes the model's own.

        Raises:
            ValueError: the shape is not finite.
        """
        ...


def check_single(objects: int) -> None:
    """Refuse to mesh several objects at once.

    Raises:
        ValueError: with their number.
    """
    if objects != 1:
        raise ValueError(f"Expected the shape of one object, such as shape[0:1], got {objects}.")
