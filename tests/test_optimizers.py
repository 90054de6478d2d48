from __future__ import annotations

import copy

import pytest
import torch

from sdfsrn.optimizers import Muon, orthogonalized

DOUBLE = {"dtype": torch.double}


@pytest.mark.parametrize("shape", [(7, 7), (60, 9), (9, 60), (5, 1), (1, 1)])
def test_singular_vectors_stay_and_singular_values_become_alike(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, **DOUBLE)
    u, values, vt = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.mT @ orthogonalized(matrix) @ vt.mT
    torch.testing.assert_close(inner, torch.diag(inner.diagonal()), rtol=0, atol=1e-9)
    x, (a, b, c) = values / values.norm(), (3.4445, -4.7750, 2.0315)
    for _ in range(5):
        x = a * x + b * x**3 + c * x**5
    torch.testing.assert_close(inner.diagonal(), x)
    large = values > 0.02 * values.norm()
    assert x[large].min() > 0.6
    assert x.max() < 1.2


def test_nothing_is_orthogonalized_to_nothing() -> None:
    assert torch.equal(orthogonalized(torch.zeros(4, 3)), torch.zeros(4, 3))


def test_float32_is_float64_to_rounding() -> None:
    matrix = torch.randn(600, 64, **DOUBLE) @ torch.diag(torch.logspace(0, -3, 64, **DOUBLE))
    torch.testing.assert_close(orthogonalized(matrix.float()).double(), orthogonalized(matrix), rtol=0, atol=2e-3)


def test_vectors_get_adam() -> None:
    start, grads = torch.randn(9), torch.randn(12, 9)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = Muon([ours], adam_lr=0.01, betas=(0.8, 0.9)), torch.optim.Adam([theirs], lr=0.01, betas=(0.8, 0.9))
    for grad in grads:
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = grad.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_matrices_and_kernels_move_by_the_learning_rate() -> None:
    matrix, kernel = torch.nn.Parameter(torch.randn(12, 3)), torch.nn.Parameter(torch.randn(4, 3, 3, 3))
    before = [matrix.detach().clone(), kernel.detach().clone()]
    matrix.grad, kernel.grad = torch.randn(12, 3), torch.randn(4, 3, 3, 3)
    Muon([matrix, kernel], lr=0.1).step()
    for parameter, start, scale in ((matrix, before[0], 2.0), (kernel, before[1], 1.0)):
        values = torch.linalg.svdvals((parameter.detach() - start).flatten(1)) / (0.1 * scale)
        assert values.min() > 0.6
        assert values.max() < 1.2


def trained(steps: int, state: tuple | None = None) -> tuple[torch.nn.Module, Muon]:
    """A network that learns a function; from a state on, if one is given."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    optimizer = Muon(model.parameters(), lr=0.02, adam_lr=0.01)
    done = 0
    if state is not None:
        done, weights, moments = state
        model.load_state_dict(weights)
        optimizer.load_state_dict(moments)
    for step in range(done, steps):
        x = torch.randn(64, 4, generator=torch.Generator().manual_seed(step))
        loss = (model(x)[:, 0] - torch.sin(2 * x[:, 0]) * x[:, 1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.loss = loss.item()
    return model, optimizer


def test_it_learns() -> None:
    assert trained(300)[0].loss < 0.3 * trained(1)[0].loss


def test_it_goes_on_exactly_where_it_stopped() -> None:
    model, optimizer = trained(7)
    state = 7, copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    resumed, whole = trained(12, state)[0], trained(12)[0]
    for a, b in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)


def test_closures_are_called_with_gradients() -> None:
    parameter = torch.nn.Parameter(torch.ones(3, 2))
    optimizer = Muon([parameter], lr=0.1)

    def closure() -> torch.Tensor:
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 6
    assert parameter.sum() < 6


def test_bad_settings() -> None:
    parameter = torch.nn.Parameter(torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"Expected learning rates of at least 0, got lr=-1"):
        Muon([parameter], lr=-1)
    with pytest.raises(ValueError, match=r"Muon makes their groups itself"):
        Muon([{"params": [parameter]}])
