"""A source held in memory: every picture is decoded and checked once, before training starts."""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from sdfsrn.data.views import Picture, Source, check_picture


class PreloadedSource:
    """The same pictures and points as `source`, from memory.

    Raises:
        ValueError: the first picture that cannot be used, named.
    """

    def __init__(self, source: Source, description: str) -> None:
        self.source = source
        self.names = source.names
        self._pictures = [
            self._load(index)
            for index in tqdm(range(len(source)), f"Loading {description}", unit="img", leave=False, mininterval=1)
        ]

    def __len__(self) -> int:
        return len(self.source)

    def picture(self, index: int) -> Picture:
        """As the source's."""
        return self._pictures[index]

    def points(self, index: int) -> np.ndarray:
        """As the source's."""
        return self.source.points(index)

    def _load(self, index: int) -> Picture:
        picture = self.source.picture(index)
        check_picture(picture, self.names[index])
        return picture
