"""Work on a CUDA device as one graph, which the host starts by a single call instead of thousands of launches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map


class Graph:
    """Work captured once and replayed: the same kernels on the same memory, without the host's part in it.

    Random numbers are drawn anew in each replay, from the generator's state at that time, as they would be without a graph.

    Args:
        work: tensors to tensors in any nesting; it must not wait for the device.
        warmups: executions before the capture, for what libraries set up on first use.

    Attributes:
        result: what `work` returned; every replay overwrites it.
    """

    def __init__(self, work: Callable[[], Any], warmups: int = 3) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(warmups):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self.result = work()

    def replay(self) -> None:
        """Do the work again."""
        self._graph.replay()


class CapturedFunction:
    """A function without gradient on nested tensors, as a graph.

    Args:
        function: what to capture.
        example: its argument; later ones have the same shapes.
    """

    def __init__(self, function: Callable[[Any], Any], example: Any) -> None:
        self._inputs = _Inputs(example)
        with torch.no_grad():
            self._graph = Graph(lambda: function(self._inputs.value))

    def __call__(self, argument: Any) -> Any:
        """The result, which the next call overwrites."""
        self._inputs.take(argument)
        self._graph.replay()
        return self._graph.result


class CapturedStep:
    """A training step of a model, forward and backward, as one graph.

    Calling it has the loss and its gradients computed at once; `backward` of the returned loss hands the gradients to the
    parameters. So the loss must not be scaled, and gradients must not be accumulated over several calls.

    Args:
        step: a batch to the loss and the values to be logged.
        model: with the parameters, and buffers that `step` changes, which are as before after the capture.
        example: a batch; later ones have the same shapes.
    """

    def __init__(self, step: Callable[[Any], tuple[Tensor, dict[str, Tensor]]], model: nn.Module, example: Any) -> None:
        self._inputs = _Inputs(example)
        self._parameters = [p for p in model.parameters() if p.requires_grad]

        def work() -> tuple[Tensor, dict[str, Tensor], Sequence[Tensor | None]]:
            loss, values = step(self._inputs.value)
            grads = torch.autograd.grad(loss, self._parameters, allow_unused=True)
            return loss.detach(), {name: value.detach() for name, value in values.items()}, grads

        before = [(buffer, buffer.clone()) for buffer in model.buffers()]
        self._graph = Graph(work)
        for buffer, value in before:
            buffer.copy_(value)

    def __call__(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and the values."""
        self._inputs.take(batch)
        self._graph.replay()
        loss, values, grads = self._graph.result
        return _Replayed.apply(loss, grads, *self._parameters), {name: value.clone() for name, value in values.items()}


class _Replayed(torch.autograd.Function):
    """A loss whose gradients are known."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, grads: Sequence[Tensor | None], *parameters: Tensor) -> Tensor:
        ctx.grads = grads
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(None if grad is None else grad.detach() for grad in ctx.grads)


class _Inputs:
    """Memory that a graph reads its argument from."""

    def __init__(self, example: Any) -> None:
        self.value = tree_map(torch.clone, example)
        self._leaves, self._structure = tree_flatten(self.value)

    def take(self, argument: Any) -> None:
        """Copy the argument there.

        Raises:
            ValueError: it has other shapes.
        """
        leaves, structure = tree_flatten(argument)
        shapes, expected = ([tuple(leaf.shape) for leaf in tensors] for tensors in (leaves, self._leaves))
        if structure != self._structure or shapes != expected:
            raise ValueError(f"Expected batches of one size with compile=graph, got {shapes} after {expected}.")
        for target, leaf in zip(self._leaves, leaves, strict=True):
            if target.data_ptr() != leaf.data_ptr():
                target.copy_(leaf, non_blocking=True)
