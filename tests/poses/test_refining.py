"""How much the gains of all pictures say for a flip of one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from sdfsrn.poses.refining import flip_evidence


@pytest.mark.parametrize(("mean", "spread"), [(0.1, 0.05), (0.05, 0.08), (0.4, 0.1)])
def test_evidence_is_the_log_likelihood_ratio(mean: float, spread: float) -> None:
    """Gains come from two normal distributions; 2 % of the pictures are flipped."""
    random = np.random.default_rng(0)
    gain = np.r_[random.normal(-mean, spread, 98000), random.normal(mean, spread, 2000)]
    expected = norm.logpdf(gain, mean, spread) - norm.logpdf(gain, -mean, spread)
    found = flip_evidence(torch.from_numpy(gain)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0.15)


def test_a_model_that_tells_no_front_from_a_back_turns_nothing() -> None:
    """Gains scatter about 0: one in a hundred is evidence at most. Most are positive: none is."""
    gain = torch.randn(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for scale in (0.02, 0.2):
        assert (flip_evidence(scale * gain) > 1.25).float().mean() <= 0.01
    assert (flip_evidence(0.02 * gain + 0.05) == 0).all()


def test_evidence_of_equal_gains_is_finite() -> None:
    assert flip_evidence(torch.tensor([-0.1, -0.1, -0.1, 0.1])).tolist() == pytest.approx([-8, -8, -8, 8])
