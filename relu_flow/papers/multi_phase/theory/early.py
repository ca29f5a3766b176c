r"""Phase I and the slides: who lives, where neurons turn, and with what weights they slide.

Source:
    After Wang, Ma, "Understanding Multi-phase Optimization Dynamics and Rich Nonlinear
    Behaviors of ReLU Networks" (2023), re-derived.
"""

import math
from collections.abc import Iterable

import numpy as np

from ....claims.verdict import Comparison
from ....observe.observables import living
from .measured import FLOOR, SLIDE_ENTER, Measured
from .points import slide_weights

_ON = 1e-12  # cosine of a neuron on a hyperplane


def survivors(record: Measured) -> Iterable[Comparison]:
    """The fate of each neuron is decided by its initial direction (see `survives`).

    Judged at the end of phase I.

    Source:
        After Wang, Ma (2023), phase I, re-derived in `survives`.
    """
    found, t = record.found, record.found.phase_one
    wrong = math.nan
    if t <= record.end:
        alive = np.asarray(living(record.evidence.problem, record.at(t).network))
        wrong = float(np.sum(alive != found.living))
    yield Comparison("neurons whose fate differs", wrong, "==", 0.0)


def condensation(record: Measured) -> Iterable[Comparison]:
    r"""Bound the angle to $p x_+ - x_-$ in phase I.

    $b(t) = b_0 + \kappa\int(A x_+ - a B x_-)$, $\kappa = \kappa_2/\sqrt m$; outputs are below
    $\phi = \kappa_1\kappa_2 + \kappa_2^2 t$ in size. Without $x_-$ a neuron is for less than
    $|b_0|/(\kappa\pi_+ c)$, which adds less than $|b_0|$; the pulls differ from their first
    values by a factor $e^{\pm\phi}$ at most. So the part of $b$ aside is below
    $2|b_0| + \kappa t(e^\phi - 1)$, beside $\kappa t\,|p x_+ - x_-|/(1+p)$.

    Source:
        After Wang, Ma (2023), the initial condensation of their abstract; direction and bound
        are derived above.
    """
    found, t = record.found, record.found.phase_one
    data = found.certificate
    size = math.exp(found.log_kappa_2)
    drive = np.asarray(data.p * data.x_plus - data.x_minus) / (1 + float(data.p))
    aside = 2 * math.exp(found.log_kappa_1 - found.log_kappa_2) / t
    aside += math.expm1(min(found.accuracy + size**2 * t, 700.0))
    bound = math.asin(min(1.0, aside / float(np.linalg.norm(drive))))
    angle = math.nan
    chosen = found.living & found.positive
    if t <= record.end and np.any(chosen):
        directions = np.asarray(record.at(t).network.directions())[chosen]
        along = directions @ drive / np.linalg.norm(drive)
        angle = float(np.max(np.arccos(np.clip(along, -1, 1))))
    yield Comparison("angle of positives to p x+ - x-", angle, "<=", bound)


def phase_one_slides(record: Measured) -> Iterable[Comparison]:
    r"""Negatives reach the hyperplane of $x_+$ and slide.

    If active on $x_+$ after $\langle b_0, x_+\rangle/(\kappa(\pi_+ - \pi_- c))$, else after
    $-\langle b_0, x_+\rangle/(\kappa\pi_- c)$. With pulls off by a factor $e^{\pm\phi}$ (see
    `condensation`) the former is right to $\phi(p + c)/(p - c)$ to first order, the latter
    to $\phi$; twice the former is allowed.

    Source:
        This package; derived above, and that they slide in `side_rates`.
    """
    found, network, data = record.found, record.evidence.network, record.found.certificate
    chosen = np.flatnonzero(found.living & ~found.positive)
    q = found.points
    on = np.asarray(network.inner_weight @ data.x_plus)[chosen]
    ratio = np.asarray(network.log_scale - network.outer_log_scale)[chosen]
    on = on * np.exp(ratio) / np.abs(np.asarray(network.outer_weight))[chosen]
    leaves = float(q.share_plus - q.share_minus * q.cosine)
    expected = np.where(on > 0, on / leaves, -on / float(q.share_minus * q.cosine))
    entered = record.events((SLIDE_ENTER,), False)
    latest = float(np.max(expected, initial=0.0))
    measured = slide = math.nan
    if latest < record.end and len(chosen):
        times = np.array([entered.get(int(j), math.inf) for j in chosen])
        measured = float(np.max(np.abs(times / expected - 1)))
    phi = found.accuracy + math.exp(2 * found.log_kappa_2) * latest
    bound = 2 * phi * float((q.heavy + q.cosine) / (q.heavy - q.cosine)) + FLOOR
    yield Comparison("largest relative error of entry times", measured, "<=", bound)
    if found.phase_one <= record.end:
        directions = np.asarray(record.at(found.phase_one).network.directions())[chosen]
        slide = float(np.sum(np.abs(directions @ np.asarray(data.x_plus)) <= _ON))
    yield Comparison("negatives on the hyperplane of x+", slide, "==", float(len(chosen)))


def negatives_weights(record: Measured) -> Iterable[Comparison]:
    """The weight c/R of x+ for negatives (see `_weights`).

    Source:
        This package; derived in `slide_weights`.
    """
    return _weights(record, False)


def positives_weights(record: Measured) -> Iterable[Comparison]:
    """The weight Rc of x- for positives (see `_weights`).

    Source:
        This package; derived in `slide_weights`.
    """
    return _weights(record, True)


def _weights(record: Measured, positive: bool) -> Iterable[Comparison]:
    """Compare weights of slides, from A and B, with what the neurons' own motion implies.

    At five times of the slide; a central difference over a ten-thousandth of the time
    since its start is right to 1e-8, and a weight is a number of order one.
    """
    neurons, start, end = record.slides(positive)
    error, largest = math.nan, math.nan
    for part in (0.1, 0.3, 0.5, 0.7, 0.9) if len(neurons) else ():
        t, h = start + part * (end - start), 1e-4 * part * (end - start)
        weight = float(slide_weights(record.found.points.cosine, record.at(t).ratio)[positive])
        implied = record.implied_weights(neurons, positive, t, h)
        # A weight that is not a number is an error, not something to skip.
        gap = float(np.max(np.abs(implied - weight)))
        error = float(np.fmax(error, gap if math.isfinite(gap) else math.inf))
        largest = float(np.fmax(largest, weight))
    yield Comparison("error of the weight", error, "<=", 1e-6)
    yield Comparison("largest weight", largest, "<=", 1.0, FLOOR)
