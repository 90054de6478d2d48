"""Optimizers beside torch's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Muon's polynomial, which takes singular values from (0, 1] to 0.68 .. 1.13


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalized steps, for matrices and kernels of convolutions (Jordan et al. 2024); Adam for the rest.

    A step of Muon changes a layer in all directions alike, where Adam's favours the few directions that most gradients share.
    Hypernetworks gain by it: their shared weights and those that tell objects apart learn at the same pace.

    Args:
        params: tensors of two and more axes, of which the first is taken as rows, get Muon; the others get Adam.
        lr: of Muon: the size of a step's singular values, times sqrt(rows / columns) where there are more rows than columns.
        momentum: of Muon (Nesterov).
        iterations: of the orthogonalization.
        adam_lr, betas, eps: of Adam.

    Raises:
        ValueError: a learning rate below 0, or parameter groups, whose settings this class chooses itself.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.01,
        momentum: float = 0.95,
        iterations: int = 5,
        adam_lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if lr < 0 or adam_lr < 0:
            raise ValueError(f"Expected learning rates of at least 0, got {lr=}, {adam_lr=}.")
        params = list(params)
        if not all(isinstance(each, Tensor) for each in params):
            raise ValueError("Expected the parameters of a model: Muon makes their groups itself.")
        matrices, others = [p for p in params if p.ndim > 1], [p for p in params if p.ndim < 2]
        muon = {"params": matrices, "lr": lr, "momentum": momentum, "iterations": iterations, "matrices": True}
        adam = {"params": others, "lr": adam_lr, "betas": tuple(betas), "eps": eps, "matrices": False}
        super().__init__([group for group in (muon, adam) if group["params"]], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self._muon if group["matrices"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update(parameter, parameter.grad, group, self.state[parameter])
        return loss

    @staticmethod
    def _muon(parameter: Tensor, grad: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        momentum = state.setdefault("momentum", torch.zeros_like(parameter)).mul_(group["momentum"]).add_(grad)
        direction = torch.add(grad, momentum, alpha=group["momentum"]).flatten(1)
        scale = max(1.0, direction.shape[0] / direction.shape[1]) ** 0.5
        step = orthogonalized(direction, group["iterations"])
        parameter.add_(step.view_as(parameter), alpha=-scale * group["lr"])

    @staticmethod
    def _adam(parameter: Tensor, grad: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        """Kingma, Ba 2015."""
        beta1, beta2 = group["betas"]
        count = state["step"] = state.get("step", 0) + 1
        mean = state.setdefault("mean", torch.zeros_like(parameter)).lerp_(grad, 1 - beta1)
        square = state.setdefault("square", torch.zeros_like(parameter)).mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        scale = (square / (1 - beta2**count)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(mean, scale, value=-group["lr"] / (1 - beta1**count))


def orthogonalized(matrix: Float[Tensor, "n k"], iterations: int = 5) -> Float[Tensor, "n k"]:
    """About U V^T of a matrix U S V^T: singular values between 0.68 and 1.13, but for those that are next to nothing.

    X <- X (a + b X^T X + c (X^T X)^2), iterated from X = matrix / |matrix|. All of it happens to the smaller of the two Gram
    matrices, from which each X is a product away, so that long matrices cost two products instead of two an iteration.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return orthogonalized(matrix.mT, iterations).mT
    a, b, c = _COEFFICIENTS
    matrix = matrix / matrix.norm().clamp(min=torch.finfo(matrix.dtype).tiny)
    gram, one = matrix.mT @ matrix, torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    product = factor = one
    for iteration in range(iterations):
        if iteration:
            gram = factor @ gram @ factor
        factor = torch.addmm(a * one + b * gram, gram, gram, alpha=c)
        product = product @ factor
    return matrix @ product
