"""Values that travel from the device to the host while both go on working."""

from __future__ import annotations

import torch
from torch import Tensor


class Readback:
    """A copy of a tensor on its way to the host.

    `tensor.item()` waits for everything that the device has been given, however old the tensor is; this waits for the work that
    was given to a CUDA device before the copy, and no more.

    Args:
        tensor: of any device; elsewhere than on CUDA it is copied at once.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._host = tensor.detach().to("cpu", non_blocking=tensor.is_cuda, copy=True)  # into pinned memory
        if tensor.is_cuda:
            self._event = torch.cuda.Event()
            self._event.record()

    def value(self) -> Tensor:
        """The copy, once it is there."""
        if self._event is not None:
            self._event.synchronize()
        return self._host
