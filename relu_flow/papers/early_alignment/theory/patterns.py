"""The claims on activation patterns: one-way changes, bounded stays, Theorem 1(1)."""

from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ....claims.verdict import Claim, Comparison, Evidence
from .directions import drives
from .hypotheses import (
    ROUNDING,
    SEPARABLE,
    THEOREM,
    all_in_place,
    asking,
    avoidable,
    compare,
    compare_time,
    scale_of_lemma_3,
    separable,
)
from .measured import ACTIVATE, DEACTIVATE, measure, switch_rows

_SOURCE = "Min, Mallada, Vidal (2024), "


def _sums(evidence: Evidence):
    """Return the distinct patterns of the run that are not empty, and $x_a$ of each."""
    held = evidence.once(measure)
    patterns = np.unique(held.stays.active, axis=0)
    patterns = patterns[patterns.any(axis=1)]
    return patterns, (patterns * held.signs) @ np.asarray(evidence.problem.inputs)


def _lemma_11(evidence: Evidence) -> Iterable[Comparison]:
    limits = evidence.once(measure).constants
    patterns, sums = _sums(evidence)
    mu, size = max(limits.mu, 0.0), np.linalg.norm(sums, axis=1)
    active = patterns.sum(axis=1)
    first = np.sqrt(active * (1 + mu * (active - 1))) * limits.x_min
    for name, bound in (
        ("||x_a|| over sqrt(n_a (1 + mu (n_a - 1))) X_min", first),
        ("||x_a|| over sqrt(mu) n_a X_min", np.sqrt(mu) * active * limits.x_min),
    ):
        ratio = np.min(np.divide(size, bound, where=bound > 0, out=np.full(len(size), np.inf)))
        yield compare(f"least {name}", ratio, ">=", 1.0, tolerance=ROUNDING)


def _cones(evidence: Evidence) -> Iterable[Comparison]:
    held = evidence.once(measure)
    limits, inputs = held.constants, np.asarray(evidence.problem.inputs)
    _, sums = _sums(evidence)
    units = sums / np.linalg.norm(sums, axis=1)[:, None]
    signed = held.signs[:, None] * inputs / np.linalg.norm(inputs, axis=1)[:, None]
    wide = np.min(units @ np.concatenate([units, signed]).T)
    yield compare("Lemma 5: least cosine in K", wide, ">=", limits.mu, tolerance=ROUNDING)
    inside = [np.all((held.cosines > 0) == (held.signs == s), axis=-1) for s in (1.0, -1.0)]
    outside = 0
    for s, cone in zip((1.0, -1.0), inside, strict=True):
        if np.any(held.signs == s):
            center = np.sum(inputs[held.signs == s], axis=0)
            near = held.directions @ (center / np.linalg.norm(center))
            near = near > np.sqrt(1 - limits.zeta_1) + ROUNDING
            outside += int(np.sum(near & ~cone))
    yield compare("Lemma 8: samples near x_+ or x_-, outside S_+ or S_-", outside, "==", 0)
    drive = drives(evidence)
    size = np.linalg.norm(drive, axis=-1)
    cosine = np.abs(np.sum(drive * held.directions, axis=-1)) / np.where(size > 0, size, 1.0)
    free = (size > 0) & ~inside[0] & ~inside[1]
    # At a switch the pattern is that beyond the hyperplane, on which the direction still is.
    yield compare(
        "Lemma 9: largest |cos(w_j, x_a)| outside S_+ and S_- (sampled)",
        np.max(cosine[free], initial=0.0), "<=", np.sqrt(1 - limits.xi), tolerance=ROUNDING,
    )  # fmt: skip


def _boundary(evidence: Evidence) -> Iterable[Comparison]:
    held = evidence.once(measure)
    limits, inputs = held.constants, np.asarray(evidence.problem.inputs)
    norms = np.linalg.norm(inputs, axis=1)
    off, early, ever = [0.0], [np.inf], [np.inf]
    targets = evidence.problem.targets[None]
    pulls = evidence.problem.loss.pull(jnp.asarray(held.output), targets)
    pulls = evidence.problem.sample_weight * np.asarray(pulls)
    for time, j, i, _ in zip(*switch_rows(evidence.flow.switches, evidence.end), strict=True):
        k = int(np.searchsorted(held.times, time))
        if k == len(held.times) or held.times[k] != time:
            continue  # the log was thinned
        off.append(abs(held.cosines[k, j, i]))
        others = held.active[k, j] & (np.arange(len(norms)) != i)
        if not others.any():
            continue  # it has just died
        push = (others * pulls[k]) @ inputs @ inputs[i] / norms[i]
        speed = held.outer[k, j] * held.signs[i] * push * held.favours[j]
        ever.append(float(speed))
        if time <= limits.horizon:
            early.append(ever[-1])
    done = np.isfinite(all_in_place(held)) or evidence.end >= limits.t_1
    yield compare("largest |cos(w_j, x_i)| at a switch", max(off), "<=", 0.0, tolerance=ROUNDING)
    yield compare(
        "least speed of cos(w_j, x_i y_i) at a switch up to T", min(early), ">=",
        limits.boundary_speed, reached=done,
    )  # fmt: skip
    yield compare("least speed at any switch", min(ever), ">=", 0.0, reached=done)


def _monotone(evidence: Evidence) -> Iterable[Comparison]:
    held = evidence.once(measure)
    _, neuron, sample, kind = switch_rows(evidence.flow.switches, evidence.end)
    wanted = np.where(held.favours[neuron] * held.signs[sample] > 0, ACTIVATE, DEACTIVATE)
    pairs = neuron.astype(np.int64) * len(held.signs) + sample
    changes = np.bincount(neuron, minlength=1).max(initial=0)
    yield compare("switches of the wrong kind", np.sum(kind != wanted), "==", 0)
    yield compare("pairs that switch again", len(pairs) - len(np.unique(pairs)), "==", 0)
    yield compare("most switches of a neuron", changes, "<=", held.constants.samples)
    yield compare(
        "signs of <w_j, x_i> that the log does not explain", np.sum(held.unexplained), "==", 0
    )


def _dwell(evidence: Evidence) -> Iterable[Comparison]:
    held = evidence.once(measure)
    moving = ~held.final_stays & (held.stays.start < held.constants.t_1)
    length = (held.stays.end - held.stays.start) * held.stays.active.sum(axis=1)
    yield compare(
        "longest stay in a pattern times its n_a", np.max(length[moving], initial=0.0), "<=",
        held.constants.dwell, reached=bool(np.all(held.stays.left[moving])),
    )  # fmt: skip


def longest_stays(evidence: Evidence) -> Float[np.ndarray, " stays"]:
    r"""Return the sharper bound on each stay up to $T$ (`inf` for the final patterns).

    Take a neuron of $V_+$ in a fixed pattern with sum $x_a$, and $k = \cos(w, x_a)$. By Lemma
    10 $k' \ge c((1 - k^2)\|x_a\| - \delta)$ with $\delta = 2nX_{\max}\max|f|$, so that
    $\mathrm{artanh}\,k$ grows at least at the rate $c(\|x_a\| - \delta/(1 - k^2))$. Outside
    $S_+$ and $S_-$ it has little way to go: as for Lemma 9, $k^2 \le 1 - m^2$ with $m$ the
    smallest $\cos(x_a, y_i x_i)$, at least $\mu$. If all active inputs are negative then
    $\langle w, x_a\rangle < 0$, if all are positive it is $> 0$, so that in those patterns
    only one half of the way is left. In $S_-$ too $\langle w, x_-\rangle > 0$ until the neuron
    leaves, and it can only have started there: there the way is at most
    $\mathrm{artanh}\cos(w(0), x_-)$. For $V_-$ exchange the classes.

    Source:
        After Min, Mallada, Vidal (2024), Lemmas 3, 9 and 10, re-derived above.
    """
    held = evidence.once(measure)
    limits, stays = held.constants, held.stays
    inputs = np.asarray(evidence.problem.inputs)
    own = held.own[stays.neuron]
    sums = (stays.active * held.signs) @ inputs
    size = np.linalg.norm(sums, axis=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        unit = sums / size[:, None]
        signed = held.signs[:, None] * inputs / np.linalg.norm(inputs, axis=1)[:, None]
        least = np.clip(np.min(unit @ signed.T, axis=1), 0.0, 1.0)
        half = np.arctanh(np.sqrt(1 - least**2))
        ends = np.any(stays.active & own, axis=1) * 1.0 + np.any(stays.active & ~own, axis=1)
        first = np.abs(np.sum(held.directions[0][stays.neuron] * unit, axis=1))
        opposite = np.all(stays.active == ~own, axis=1)
        way = np.where(opposite, np.arctanh(first), ends * half)
        floor = np.where(opposite, np.minimum(1 - first**2, 1.0), least**2)
        error = np.exp(limits.log_output + np.log(2 * limits.samples * limits.x_max))
        rate = limits.pull * (size - error / floor)
        bound = np.where(rate > 0, way / rate, np.inf)
    return np.where(held.final_stays | np.isnan(bound), np.inf, bound)


def _sharper_dwell(evidence: Evidence) -> Iterable[Comparison]:
    held = evidence.once(measure)
    early = held.stays.start < held.constants.horizon
    ends = np.minimum(held.stays.end, held.constants.horizon)
    ratio = (ends - held.stays.start) / longest_stays(evidence)
    done = held.stays.left | (held.stays.end >= held.constants.horizon) | held.final_stays
    yield compare(
        "longest stay over its bound, up to T", np.max(ratio[early], initial=0.0), "<=", 1.0,
        reached=bool(np.all(done)), tolerance=ROUNDING,
    )  # fmt: skip


def _in_place(evidence: Evidence) -> Iterable[Comparison]:
    held = evidence.once(measure)
    limits = held.constants
    since = all_in_place(held)
    yield compare_time(
        "when the last neuron is in its cone or dead", since, limits.t_1, evidence.end
    )
    touches = np.any((held.cosines[0] > 0) & held.own, axis=1)
    missing = touches & ~(held.members(0) | held.members(1))
    settled = evidence.end >= limits.t_1 or np.isfinite(since)
    yield compare(
        "neurons active on their own class at the start, not in its cone",
        np.sum(missing) if settled else np.nan, "==", 0,
    )  # fmt: skip


def _paths(evidence: Evidence) -> Iterable[Comparison]:
    held = evidence.once(measure)
    for favoured, name in enumerate(("V_+", "V_-")):
        bound = held.constants.path(favoured)
        since = np.max(held.in_place[held.favours == 1.0 - 2.0 * favoured], initial=0.0)
        yield compare_time(
            f"when the last neuron of {name} is in place", since, bound, evidence.end
        )


claims: tuple[Claim, ...] = (
    Claim(
        "Lemma 11", "x_a is long: at least sqrt(mu) n_a X_min.",
        _SOURCE + "Lemma 11", asking(separable), _lemma_11,
    ),
    Claim(
        "Lemmas 5 to 9", "The cone K of the y_i x_i is narrow, and S_+ and S_- are wide.",
        _SOURCE + "Lemmas 5 to 9", asking(separable), _cones,
    ),
    Claim(
        "Boundary speed", "Hyperplanes are crossed at a speed, in one direction.",
        _SOURCE + "proof of Theorem 1(1)", asking(*THEOREM), _boundary,
    ),
    Claim(
        "Monotone patterns", "V_+ only gains positive and loses negative inputs; V_- conversely.",
        _SOURCE + "proof of Theorem 1(1) and appendix E.2", asking(*SEPARABLE), _monotone,
    ),
    Claim(
        "Dwell", "A stay in a pattern lasts at most 4/(min{zeta, xi} sqrt(mu) X_min n_a).",
        _SOURCE + "proof of Theorem 1(1)", asking(*THEOREM), _dwell,
    ),
    Claim(
        "Sharper dwell", "A stay lasts at most the way of artanh cos(w, x_a) over its speed.",
        "After Min, Mallada, Vidal (2024), re-derived in `longest_stays`",
        asking(*SEPARABLE, avoidable, scale_of_lemma_3), _sharper_dwell,
    ),
    Claim(
        "Theorem 1(1)", "All neurons are in their cones or dead by t_1.",
        _SOURCE + "Theorem 1(1)", asking(*THEOREM), _in_place,
    ),
    Claim(
        "Path bound", "They are as soon as the worst path of patterns takes.",
        _SOURCE + "proof of Theorem 1(1)", asking(*THEOREM), _paths,
    ),
)  # fmt: skip
