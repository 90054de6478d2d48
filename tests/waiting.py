"""A GPU as far as waiting for it goes: the CPU's tensors, some of them marked as a device's, and each read of one counted."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sdfsrn.benchmarking.instruments import SYNCHRONISING

DEVICE = torch.device("cpu", 0)  # unlike torch.device("cpu"), which is the host
READS = {getattr(Tensor, name) for name in ("tolist", "numpy", "__array__", "cpu")}
MADE_OF_NUMBERS = {torch.tensor, torch.as_tensor, Tensor.new_tensor}


class Wait(NamedTuple):
    """A time at which the host would have waited."""

    what: str
    where: list[str]  # files and functions, the innermost last


class PretendedDevice:
    """Marks tensors as those of a device, and what is computed of them; and notes where the host would wait for it.

    A marked tensor says that it is on DEVICE and `is_cuda`. Waiting are: operations whose result the host has to know
    (`SYNCHRONISING`, masks as indices), copies to the host that do not say `non_blocking`, and numbers of the host that become
    a tensor of the device, since that copies pageable memory.
    """

    def __init__(self) -> None:
        self.waits: list[Wait] = []
        self._marked: set[StorageWeakRef] = set()

    @contextlib.contextmanager
    def entered(self) -> Iterator[PretendedDevice]:
        """The context in which tensors are marked and waits are noted."""
        with _Functions(self), _Operations(self):
            yield self

    def mark(self, tensors: Any) -> Any:
        """Put the tensors of a nesting there."""
        for leaf in tree_leaves(tensors):
            if isinstance(leaf, Tensor):
                self._marked.add(StorageWeakRef(leaf.untyped_storage()))
        return tensors

    def unmark(self, tensor: Tensor) -> Tensor:
        """Put a tensor on the host."""
        self._marked.discard(StorageWeakRef(tensor.untyped_storage()))
        return tensor

    def has(self, tensors: Any) -> bool:
        """Whether any tensor of a nesting is there."""
        found = [leaf for leaf in tree_leaves(tensors) if isinstance(leaf, Tensor)]
        return any(StorageWeakRef(leaf.untyped_storage()) in self._marked for leaf in found)

    def wait(self, what: str) -> None:
        """Note a wait."""
        stack = traceback.extract_stack()[:-2]
        self.waits.append(Wait(what, [f"{'/'.join(frame.filename.split('/')[-3:])}:{frame.name}" for frame in stack]))


class _Functions(TorchFunctionMode):
    """What Python asks of tensors: where they are, and their values."""

    def __init__(self, device: PretendedDevice) -> None:
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            there = self.device.has((args, kwargs))
        if there and func == Tensor.is_cuda.__get__:
            return True
        if there and func == Tensor.device.__get__:
            return DEVICE
        goes = _destination(func, args, kwargs)
        if there and (func in READS or (goes == torch.device("cpu") and not kwargs.get("non_blocking"))):
            self.device.wait(func.__name__)
        numbers = func in MADE_OF_NUMBERS and not any(isinstance(arg, Tensor) for arg in args[func is Tensor.new_tensor :])
        if numbers and (there or kwargs.get("device") == DEVICE):
            self.device.wait(func.__name__)
        result = func(*args, **kwargs)
        if goes == torch.device("cpu") and there:
            return self.device.unmark(result.clone())
        return self.device.mark(result) if goes == DEVICE else result


class _Operations(TorchDispatchMode):
    """Mark the results of all operations, also of those that Python does not ask for, such as gradients."""

    def __init__(self, device: PretendedDevice) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.device.has((args, kwargs)):
            name = func._schema.name.removeprefix("aten::")
            masks = args[1] if name in ("index", "index_put", "index_put_") else ()
            if name in SYNCHRONISING or any(isinstance(mask, Tensor) and mask.dtype == torch.bool for mask in masks):
                self.device.wait(name)
            self.device.mark(result)
        return result


def _destination(func: Any, args: Any, kwargs: Any) -> torch.device | None:
    """Where a call says that its result shall be."""
    if func is Tensor.cpu:
        return torch.device("cpu")
    given = [kwargs.get("device"), *(args[1:] if func is Tensor.to else ())]
    return next((torch.device(place) for place in given if isinstance(place, str | torch.device)), None)
