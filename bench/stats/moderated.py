"""Moderated t: many cells with few replicates each lend one another what they know about the noise.

With three pairs a cell's own variance has two degrees of freedom, and a t test can hardly see anything. Smyth (2004,
"Linear models and empirical Bayes methods for assessing differential expression", Stat. Appl. Genet. Mol. Biol. 3:3;
the R package limma) takes the cells' true variances as draws of s0^2 d0 / chi2(d0), estimates d0 and s0^2 from the
sample variances of all cells, and tests with

    posterior variance = (d0 s0^2 + d s^2) / (d0 + d),    degrees of freedom = d0 + d,

where s^2 has d degrees of freedom. d0 = 0 is the plain t, d0 = inf one variance for all cells.

All functions take arrays [..., cells]; leading axes are independent boards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special, stats

CAUTION = 0.05  # a cautious d0 is the lower limit of a one-sided interval with this error


@dataclass(frozen=True)
class Prior:
    """What all cells together say about the variance of one."""

    freedom: np.ndarray  # [...], d0: 0 where nothing can be learnt, inf where the variances are homogeneous
    variance: np.ndarray  # [...], s0^2; nan where freedom is 0


@dataclass(frozen=True)
class Moderated:
    """Tests of mean = 0, one a cell; nan where a cell tells nothing."""

    t: np.ndarray  # [..., cells]
    freedom: np.ndarray  # [..., cells]
    error: np.ndarray  # [..., cells], standard error of the mean
    p: np.ndarray  # [..., cells], two-sided


def trigamma_inverse(values: np.ndarray) -> np.ndarray:
    """y > 0 with trigamma(y) = value, for values > 0 (Newton on 1/trigamma, which is convex; Smyth 2004, appendix)."""
    values = np.asarray(values, dtype=float)
    y = 0.5 + 1 / values
    for _ in range(50):
        trigamma = special.polygamma(1, y)
        step = trigamma * (1 - trigamma / values) / special.polygamma(2, y)
        y = y + step
        if np.all(np.abs(step) <= 1e-12 * y):
            break
    # Beyond these bounds the first term of the series is exact to double precision, and Newton is not.
    return np.where(values > 1e7, 1 / np.sqrt(values), np.where(values < 1e-6, 1 / values, y))


def fit_prior(variances: np.ndarray, freedom: np.ndarray, *, cautious: bool = False) -> Prior:
    """Prior of sample variances [..., cells] with their degrees of freedom, by the moments of log variances.

    Cells without freedom and with variance 0 are left out (a log of 0 says nothing; what a zero means is the caller's
    to decide). Fewer than two cells left: freedom 0. Where the log variances scatter no more than chance allows, the
    freedom is infinite and the variance the pooled one.

    cautious: the freedom is not the estimate but its lower limit (95 %, from the chi-square interval of the scatter of
    log variances), and the variance is the bias-corrected geometric mean. Few or unlike cells then lend little.
    """
    freedom = np.broadcast_to(freedom, np.shape(variances)).astype(float)
    use = (freedom > 0) & (np.nan_to_num(variances) > 0)
    d, s2 = np.where(use, freedom, 1.0), np.where(use, variances, 1.0)
    logs = np.where(use, np.log(s2) - special.digamma(d / 2) + np.log(d / 2), 0.0)
    cells = use.sum(-1)
    known = np.maximum(cells, 2)
    centre = logs.sum(-1) / known
    scatter = (np.where(use, logs - centre[..., None], 0.0) ** 2).sum(-1) / (known - 1)
    if cautious:
        scatter = scatter * (known - 1) / stats.chi2.ppf(CAUTION, known - 1)
    excess = scatter - (use * special.polygamma(1, d / 2)).sum(-1) / known
    unlike = excess > 0
    half = trigamma_inverse(np.where(unlike, excess, 1.0))
    pooled = (use * d * s2).sum(-1) / np.maximum((use * d).sum(-1), 1)
    if cautious:
        variance = np.exp(centre)
    else:
        variance = np.where(unlike, np.exp(centre + special.digamma(half) - np.log(half)), pooled)
    return Prior(
        freedom=np.where(cells < 2, 0.0, np.where(unlike, 2 * half, np.inf)),
        variance=np.where(cells < 2, np.nan, variance),
    )


def moderated_t(mean: np.ndarray, variances: np.ndarray, n: np.ndarray, *, cautious: bool = False) -> Moderated:
    """Tests of mean = 0 for cells [..., cells] with n values, their mean and sample variance (nan for n < 2).

    The freedom is at most that of all cells together. A cell with one value is tested with the others' variance; where
    there are none it stays nan. mean 0 without any variance is p = 1, another mean without any variance p = 0.

    cautious: see `fit_prior`; moreover d0 is at most the cell's own d, and its variance is never taken as smaller than
    its own sample variance: quiet cells must not turn the noise of a loud one into a finding. A cell with one value is
    not tested then.
    """
    n = np.broadcast_to(n, np.shape(mean))
    d = np.maximum(n - 1.0, 0.0)
    sample_variance = np.where(d > 0, np.nan_to_num(variances), 0.0)
    prior = fit_prior(sample_variance, d, cautious=cautious)
    d0 = np.broadcast_to(prior.freedom[..., None], d.shape)
    if cautious:
        d0 = np.minimum(d0, d)
    s0 = np.nan_to_num(np.broadcast_to(prior.variance[..., None], d.shape))
    homogeneous = np.isinf(d0)
    weight = np.where(homogeneous, 1.0, d0)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.where(homogeneous, s0, (weight * s0 + d * sample_variance) / (weight + d))
        if cautious:
            variance = np.maximum(variance, sample_variance)
        pooled = np.where(sample_variance > 0, d, 0.0).sum(-1)[..., None]
        freedom = np.where(d0 > 0, np.minimum(d0 + d, np.maximum(pooled, 1.0)), d)
        error = np.sqrt(variance / n)
        t = np.where((error == 0) & (np.asarray(mean) == 0), 0.0, mean / error)
    nothing = (n < 1) | (freedom <= 0)
    t, freedom, error = (np.where(nothing, np.nan, each) for each in (t, freedom, error))
    return Moderated(t=t, freedom=freedom, error=error, p=2 * stats.t.sf(np.abs(t), freedom))
