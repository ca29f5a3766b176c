r"""The claims on directions: small outputs, and the limit flow that directions follow.

While outputs are negligible each direction follows $z' = c\,\mathrm{sign}(v)\,P_z x_a(z)$ with
$x_a(z)$ the sum of $y_i x_i$ over the inputs on which $z$ is active.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from ....claims.verdict import Claim, Comparison, Evidence
from .hypotheses import FLOW, ROUNDING, SMALL, asking, compare, loss_of_lemma_2
from .measured import measure

_SOURCE = "Min, Mallada, Vidal (2024), "


def _balance(evidence: Evidence) -> Iterable[Comparison]:
    held = evidence.once(measure)
    turned = int(np.sum(np.any(np.sign(held.outer) != held.favours, axis=0)))
    error = np.max(np.abs(np.abs(held.outer) - 1))
    yield compare("largest ||v_j|/||w_j|| - 1| (sampled)", error, "<=", 0.0, tolerance=ROUNDING)
    yield compare("neurons whose v_j changes sign (sampled)", turned, "==", 0.0)


def _lemma_2(evidence: Evidence) -> Iterable[Comparison]:
    held = evidence.once(measure)
    small = np.abs(held.output) <= 1
    found = np.max(np.abs(held.defect[small]), initial=0.0)
    yield compare("largest |pull/pull(0) - 1| over |output| (sampled)", found, "<=", 2.0)


def _lemma_3(evidence: Evidence) -> Iterable[Comparison]:
    held = evidence.once(measure)
    limits, early = held.constants, held.times <= held.constants.horizon
    reached = evidence.end >= limits.horizon
    norm = 2 * np.max(held.log_norm[early], initial=-np.inf)
    size = np.max(held.log_size[early], initial=-np.inf)
    for name, measured, bound in (
        ("largest ||w_j||^2 up to T (sampled)", norm, limits.log_square_norm),
        ("largest |output| up to T (sampled)", size, limits.log_output),
    ):
        yield compare(name, measured, "<=", bound, reached=reached, tolerance=ROUNDING, log=True)


def drives(evidence: Evidence) -> Float[np.ndarray, "times width features"]:
    """Return $x_a(w_j)$ for the pattern after each time; without the pull $c$.

    Source:
        Min, Mallada, Vidal (2024), the vectors $x_a(w_j)$ of Lemmas 1, 4 and 11.
    """
    held = evidence.once(measure)
    return (held.active * held.signs) @ np.asarray(evidence.problem.inputs)


def direction_errors(evidence: Evidence):
    r"""Return how directions turn beside the limit flow, in units of the largest output.

    With $|v_j| = \|w_j\|$ the velocity of $w_j/\|w_j\|$ less $c\,\mathrm{sign}(v_j) P x_a$ is
    $c\,\mathrm{sign}(v_j) P \sum_i a_{ij} y_i (\rho_i - 1) x_i$, which is computed from
    $(\rho_i - 1)/|f_i|$: so it is exact where outputs are as small as $e^{-5000}$.

    Returns:
        The vectors, of shape (times, width, features), zero where all outputs are; and the log
        of the largest output, of shape (times,).

    Source:
        Min, Mallada, Vidal (2024), Lemma 4, which bounds the norm of each vector; the
        expression for it is derived above.
    """
    held = evidence.once(measure)
    top = np.max(held.log_size, axis=1)
    share = np.exp(held.log_size - np.where(np.isfinite(top), top, 0.0)[:, None])
    weight = held.constants.pull * held.signs * held.defect * share
    pushed = (held.active * weight[:, None]) @ np.asarray(evidence.problem.inputs)
    along = np.sum(pushed * held.directions, axis=-1, keepdims=True)
    return np.sign(held.outer)[..., None] * (pushed - along * held.directions), top


def _lemma_4(evidence: Evidence) -> Iterable[Comparison]:
    errors, top = direction_errors(evidence)
    found = np.max(np.linalg.norm(errors[top <= 0], axis=-1), initial=0.0)
    bound = evidence.once(measure).constants.error_per_output
    yield compare("direction's error over largest output (sampled)", found, "<=", bound)


def _lemma_10(evidence: Evidence) -> Iterable[Comparison]:
    held = evidence.once(measure)
    errors, top = direction_errors(evidence)
    inputs = np.asarray(evidence.problem.inputs)
    centers = [held.signs[held.signs == s] @ inputs[held.signs == s] for s in (1.0, -1.0)]
    along = np.stack([*inputs, *(center for center in centers if np.any(center))])
    along = along / np.linalg.norm(along, axis=1)[:, None]
    found = np.max(np.abs(errors[top <= 0] @ along.T), initial=0.0)
    bound = held.constants.error_per_output
    yield compare("cosine's error over largest output (sampled)", found, "<=", bound)


def limit_drift(evidence: Evidence):
    r"""Return how far each direction drifts from the limit flow between samples.

    In a fixed pattern the limit flow is known: with $G = c\|x_a\|$, $e = x_a/\|x_a\|$,
    $k = \langle z, e\rangle$ and $s = \mathrm{sign}(v)$, after a time $\Delta$ the direction is
    that of $z - k e + (k\cosh G\Delta + s\sinh G\Delta)e$, whose norm is
    $\cosh G\Delta + s k\sinh G\Delta$. On the sphere two solutions part at a rate of at most
    $G$, so that an error $\delta$ of the velocity shows as at most
    $\delta(e^{G\Delta} - 1)/G$. This says nothing of an interval within which a neuron switches
    (see `Measured.clear`).

    Returns:
        The drift over each interval between samples, and the log of $(e^{G\Delta}-1)/G$; both
        of shape (times - 1, width).

    Source:
        This package; it shows between samples what Lemma 1 of Min, Mallada, Vidal (2024) says
        of velocities.
    """
    held = evidence.once(measure)
    drive = held.constants.pull * drives(evidence)[:-1]
    speed = np.linalg.norm(drive, axis=-1)
    unit = drive / np.where(speed > 0, speed, 1.0)[..., None]
    length = np.diff(held.times)[:, None]
    here, there, sign = held.directions[:-1], held.directions[1:], held.favours
    along = np.sum(here * unit, axis=-1)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        tanh, sech = np.tanh(speed * length), 1 / np.cosh(speed * length)
        rest = here - along[..., None] * unit
        ahead = rest * sech[..., None] + (along + sign * tanh)[..., None] * unit
        ahead = ahead / (1 + sign * along * tanh)[..., None]
        growth = np.log(-np.expm1(-speed * length)) + speed * length - np.log(speed)
    growth = np.where(speed > 0, growth, np.log(length))
    return np.linalg.norm(there - ahead, axis=-1), growth


def _lemma_1(evidence: Evidence) -> Iterable[Comparison]:
    held = evidence.once(measure)
    limits, early = held.constants, held.times <= held.constants.horizon
    reached = evidence.end >= limits.horizon
    errors, top = direction_errors(evidence)
    with np.errstate(divide="ignore"):
        sizes = np.log(np.linalg.norm(errors, axis=-1)) + top[:, None]
    sizes = np.where(np.isnan(sizes), np.inf, sizes)  # where outputs are beyond all bounds
    found = np.max(sizes[early & np.isfinite(top)], initial=-np.inf)
    yield compare(
        "direction's error up to T (sampled)", found, "<=", limits.log_direction_error,
        reached=reached, tolerance=ROUNDING, log=True,
    )  # fmt: skip
    drift, growth = limit_drift(evidence)
    within = early[1:] & held.clear[:-1]
    with np.errstate(over="ignore"):
        excess = drift - np.exp(limits.log_direction_error + growth)
    yield compare(
        "drift from the limit flow beyond the bound (every interval up to T)",
        np.max(excess[within], initial=-np.inf), "<=", 0.0, reached=reached, tolerance=ROUNDING,
    )  # fmt: skip


claims: tuple[Claim, ...] = (
    Claim(
        "Balance", "|v_j| = ||w_j|| and sign(v_j) never change.",
        _SOURCE + "section 2", asking(*FLOW), _balance,
    ),
    Claim(
        "Lemma 2", "The pull of a loss differs from y by at most 2|f| while |f| <= 1.",
        _SOURCE + "Lemma 2", asking(loss_of_lemma_2), _lemma_2,
    ),
    Claim(
        "Lemma 3", "Norms and outputs stay small up to T.",
        _SOURCE + "Lemma 3", asking(*SMALL), _lemma_3,
    ),
    Claim(
        "Lemma 4", "Directions follow sign(v_j) P x_a up to 2 n X_max max|f|.",
        _SOURCE + "Lemma 4", asking(loss_of_lemma_2, *FLOW), _lemma_4,
    ),
    Claim(
        "Lemma 1", "Directions follow sign(v_j) P x_a up to O(epsilon) until T.",
        _SOURCE + "Lemma 1; the drift between samples after it, derived in `limit_drift`",
        asking(*SMALL), _lemma_1,
    ),
    Claim(
        "Lemma 10", "So do the cosines to any unit vector.",
        _SOURCE + "Lemma 10", asking(loss_of_lemma_2, *FLOW), _lemma_10,
    ),
)  # fmt: skip
