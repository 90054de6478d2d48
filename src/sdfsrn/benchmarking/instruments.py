"""Clocks and counters: the cost of a training step, and the ceilings of the device."""

from __future__ import annotations

import pathlib
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

SYNCHRONISING = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "equal", "unique_dim", "_unique2")


class OperationCounter(TorchDispatchMode):
    """Counts what is dispatched while it is entered.

    Attributes:
        operations: all of them; views, which move nothing, apart in `views`.
        bytes: read and written by the operations, each for itself, as if nothing stayed in a cache between them.
        synchronisations: names of those for whose result the host would wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.views, self.bytes = 0, 0, 0
        self.synchronisations: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if name in SYNCHRONISING or (name == "index" and any(_is_mask(index) for index in args[1])):
            self.synchronisations.append(name)
        if func.is_view:
            self.views += 1
        else:
            self.operations += 1
            self.bytes += sum(_bytes(leaf) for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor))
        return result


def count_flops(work: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products and convolutions in some work; nothing else is counted."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: _baddbmm_flops}) as counter:
        work()
    return counter.get_total_flops()


def count_kernels(work: Callable[[], Any]) -> int:
    """Kernels and copies that some work launches on a CUDA device."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        work()
        torch.cuda.synchronize()
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profile.events())


def ceilings(device: torch.device, size: int = 2048, megabytes: int = 256, repeats: int = 7) -> dict[str, float]:
    """FLOP/s of a float32 matrix product (`size` cubed) and bytes/s of a copy, read plus write: medians."""
    matrix, block = torch.rand(size, size, device=device), torch.rand(megabytes * 2**18, device=device)
    target = torch.empty_like(block)
    product = statistics.median(seconds(lambda: matrix @ matrix, device) for _ in range(repeats))
    copy = statistics.median(seconds(lambda: target.copy_(block), device) for _ in range(repeats))
    return {"flops_per_second": 2 * size**3 / product, "bytes_per_second": 2 * 4 * block.numel() / copy}


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Wall-clock time of some work until the device has done it."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def peak_memory(device: torch.device) -> int:
    """Bytes: of the tensors on a CUDA device, elsewhere of the whole process in memory; the most since the start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = pathlib.Path("/proc/self/status")
    if status.is_file():  # getrusage gives a child at least what its parent held when it was started
        return next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def summarize(values: Sequence[float]) -> dict[str, float]:
    """`median`, `low` and `high`: the quartiles."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median": median, "low": low, "high": high}


def _bytes(tensor: Tensor) -> int:
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype == torch.bool


def _baddbmm_flops(total: Any, first: Any, second: Any, *_: Any, **__: Any) -> int:
    batch, rows, inner = first
    return 2 * batch * rows * inner * second[-1]
