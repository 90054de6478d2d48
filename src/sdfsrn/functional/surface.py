"""Agreement of two surfaces, solids or silhouettes, from matched points or from shared samples."""

from __future__ import annotations

import functools

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import bootstrap, qmc
from torch import Tensor

from sdfsrn.functional.pointcloud import Match


def f_score(match: Match, threshold: float) -> Float[Tensor, ""]:
    """F(d) = 2 P R / (P + R), in [0, 1]; P is the share of predicted points nearer than d to a true one, R the reverse.

    0 if P = R = 0. The threshold is in the clouds' unit; for objects of length 1, 0.01 is the customary 1 %.
    Knapitsch et al. 2017; Tatarchenko et al. 2019.
    """
    precision, recall = ((distance < threshold).to(distance).mean() for distance in (match.accuracy, match.coverage))
    return 2 * precision * recall / (precision + recall).clamp(min=1e-30)


def normal_consistency(match: Match, predicted: Float[Tensor, "n 3"], truth: Float[Tensor, "k 3"]) -> Float[Tensor, ""]:
    """Mean |n . n'| of unit normals of nearest points, the mean of both directions; 1 for the same surface.

    The sign is ignored, since the faces of real models are oriented either way. Mescheder et al. 2019.
    """
    accuracy = (predicted * truth[match.true_index]).sum(-1).abs().mean()
    coverage = (truth * predicted[match.predicted_index]).sum(-1).abs().mean()
    return (accuracy + coverage) / 2


def intersection_over_union(predicted: Bool[Tensor, "*n"], truth: Bool[Tensor, "*n"]) -> Float[Tensor, ""]:
    """|A and B| / |A or B| of two solids or silhouettes at the same, evenly spread points; 1 where both are empty."""
    union = (predicted | truth).sum()
    return torch.where(union == 0, 1.0, (predicted & truth).sum() / union.clamp(min=1))


def volume_samples(low: Float[np.ndarray, " 3"], high: Float[np.ndarray, " 3"], power: int = 16) -> Float[np.ndarray, "n 3"]:
    """2^power points of a box, more evenly spread than random ones: a scrambled Sobol sequence with a fixed seed."""
    samples: np.ndarray = low + _sobol(power) * (high - low)
    return samples


@functools.cache
def _sobol(power: int) -> Float[np.ndarray, "n 3"]:
    points: np.ndarray = qmc.Sobol(3, seed=0).random_base2(power)
    return points


def bootstrap_interval(
    values: Float[np.ndarray, " n"], seed: int = 0, level: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Confidence interval of the mean: percentiles of the means of resampled values. Efron 1979.

    Independent of the order of the values. The interval of one value is that value.
    """
    if len(values) == 1:
        return float(values[0]), float(values[0])
    options = {"method": "percentile", "confidence_level": level, "n_resamples": resamples, "batch": 100}
    result = bootstrap((np.sort(values),), np.mean, rng=np.random.default_rng(seed), **options)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
