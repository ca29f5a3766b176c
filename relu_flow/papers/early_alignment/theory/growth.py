r"""The claims on what follows the alignment: growth, the loss, the rank; Theorem 1(2).

Every claim is made from the time on at which all neurons are seen to be in their cones or
dead, which is earlier than the theorem's $t_1$ if Theorem 1(1) holds: the proofs use of $t_1$
only that they are, and that outputs have been small so far.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from ....claims.verdict import Claim, Comparison, Evidence
from .hypotheses import ROUNDING, THEOREM, all_in_place, asking, compare, compare_time, occupied
from .measured import Measured, measure

_SOURCE = "Min, Mallada, Vidal (2024), "


def _classes(held: Measured) -> Iterator[tuple[int, str]]:
    for favoured, name in enumerate("+-"):
        if held.constants.class_sizes[favoured]:
            yield favoured, name


def _log_mass(held: Measured, favoured: int):
    r"""Return the log of $\sum\|w_j\|^2$ over the neurons that end in $S_\pm$, at each time."""
    logs = 2 * held.log_norm[:, held.members(favoured)]
    return np.logaddexp.reduce(logs, axis=1, initial=-np.inf)


def _invariance(evidence: Evidence) -> Iterable[Comparison]:
    held = evidence.once(measure)
    since = all_in_place(held)
    left = np.sum(held.final_stays & held.stays.left)
    later = held.times >= since
    reached = bool(np.isfinite(since))
    yield compare(
        "times a neuron leaves its cone or comes alive", int(left), "==", 0, reached=reached
    )
    yield compare(
        "directions outside later (sampled)",
        np.sum(np.any(held.unexplained[later], axis=-1)), "==", 0, reached=reached,
    )  # fmt: skip


def _alignment(evidence: Evidence) -> Iterable[Comparison]:
    held = evidence.once(measure)
    since, inputs = all_in_place(held), np.asarray(evidence.problem.inputs)
    for favoured, name in _classes(held):
        center = np.sum(inputs[held.signs == 1.0 - 2.0 * favoured], axis=0)
        members = held.members(favoured)
        cosine = held.directions[:, members] @ (center / np.linalg.norm(center))
        start, stop = held.constants.aligned(favoured, since), held.t_2[favoured]
        window = (held.times >= start) & (held.times <= stop)
        yield compare(
            f"least cos(w_j, x_{name}) from then on, until t_2^{name} (sampled)",
            np.min(cosine[window], initial=np.inf), ">=", 0.25,
            reached=bool(np.isfinite(stop)) or not members.any(),
        )  # fmt: skip


def _norms(evidence: Evidence) -> Iterable[Comparison]:
    held = evidence.once(measure)
    limits = held.constants
    decay = 4 * limits.samples * limits.pull * limits.x_max
    later = held.times >= all_in_place(held)
    for favoured, name in _classes(held):
        mass, stop = _log_mass(held, favoured), held.t_2[favoured]
        early, reached = held.times <= stop, bool(np.isfinite(stop))
        with np.errstate(invalid="ignore"):
            kept = (mass - mass[0] + decay * held.times)[early]
        yield compare(
            f"least log of the kept sum of ||w_j||^2 in S_{name}, plus 4 n X_max t (sampled)",
            np.min(kept) if held.members(favoured).any() else np.nan, ">=", 0.0, reached=reached,
            tolerance=ROUNDING,
        )  # fmt: skip
        steps = np.diff(held.log_norm[later][:, held.members(favoured)], axis=0)
        yield compare(
            f"least step of log ||w_j|| in S_{name} once in place (sampled)",
            np.min(steps, initial=np.inf), ">=", 0.0, reached=reached, tolerance=ROUNDING,
        )  # fmt: skip


def _second_time(evidence: Evidence) -> Iterable[Comparison]:
    held = evidence.once(measure)
    limits, since = held.constants, all_in_place(held)
    for favoured, name in _classes(held):
        time, what = held.t_2[favoured], f"t_2^{name}"
        yield compare_time(what, time, limits.t_2(favoured), evidence.end)
        own = limits.t_2(favoured, since)
        yield compare_time(what + " with the measured t_1", time, own, evidence.end)
        later = evidence.end >= limits.horizon
        yield compare(f"{what} against T", time if later else np.nan, ">=", limits.horizon)


def _mass(evidence: Evidence) -> Iterable[Comparison]:
    held = evidence.once(measure)
    for favoured, name in _classes(held):
        reached = bool(np.isfinite(held.t_2[favoured]))
        at = min(np.searchsorted(held.times, held.t_2[favoured]), len(held.times) - 1)
        yield compare(
            f"sum of ||w_j||^2 in S_{name} at t_2^{name}",
            _log_mass(held, favoured)[at] if reached else np.nan, ">=",
            -np.log(4 * held.constants.x_max), tolerance=ROUNDING, log=True,
        )  # fmt: skip


def _loss(evidence: Evidence) -> Iterable[Comparison]:
    r"""Compare the loss with its bound after $t_2$, in units in which it is one at $t_2$."""
    held = evidence.once(measure)
    t_2 = max(held.t_2)
    later = held.times >= t_2
    total = np.sum(held.class_loss, axis=1)[later]
    with np.errstate(divide="ignore"):
        excess = np.log(total / total[:1])
    if later.any():
        excess += np.log1p(held.constants.alpha * total[0] * (held.times[later] - t_2))
    yield compare(
        "largest L(t) (1 + alpha L(t_2)(t - t_2))/L(t_2) (sampled)",
        np.max(excess) if later.any() else np.nan, "<=", 0.0, tolerance=ROUNDING, log=True,
    )  # fmt: skip


def _lemma_15(evidence: Evidence) -> Iterable[Comparison]:
    r"""Compare $1/L_\pm$ with the integral of Lemma 15 over each interval after $t_2^\pm$.

    $\dot L \le -\frac14\|v\|^2\gamma^2L^2$ is $\frac{d}{dt}\frac1L \ge \frac14\|v\|^2\gamma^2$,
    and $\|v\|$ does not decrease: so over an interval $1/L$ grows by at least the rate at its
    start. This holds exactly, with nothing differentiated. Both sides get the same factor
    from the pull.
    """
    held = evidence.once(measure)
    for favoured, name in _classes(held):
        t_2 = held.t_2[favoured]
        reached = bool(np.isfinite(t_2)) and t_2 < evidence.end
        # Over shorter intervals the change of the loss is lost in rounding.
        long = np.diff(held.times) >= 1e-4 * (evidence.end - t_2)
        # Nor is there anything left to see once the loss has underflowed.
        positive = held.class_loss[1:, favoured] > 0
        use = np.flatnonzero((held.times[:-1] >= t_2) & long & positive)
        with np.errstate(divide="ignore", over="ignore"):
            inverse = 1 / held.class_loss[:, favoured]
            rate = 0.25 * held.constants.margin**2 * np.exp(_log_mass(held, favoured))
            ratio = (inverse[use + 1] - inverse[use]) / (rate[use] * np.diff(held.times)[use])
        yield compare(
            f"least growth of 1/L_{name} over its bound",
            np.min(ratio, initial=np.inf) if reached else np.nan, ">=", 1.0, tolerance=ROUNDING,
        )  # fmt: skip


def _rank(evidence: Evidence) -> Iterable[Comparison]:
    r"""Compare Frobenius and spectral norm of W all along, and the stable rank at the end.

    The second bound is derived, with half the paper's excess: once in place the neurons of a
    cone follow one linear system, which keeps $\langle w_j, w_k\rangle - v_jv_k$. With
    $C$ the matrix of these, $W_+W_+^\top = vv^\top + C$ has a largest eigenvalue of at least
    $\|v\|^2 - \|C\|$, where $\|v\|^2 = \|W_+\|_F^2$ and $-C \preceq vv^\top$ at that time. So
    $\|W_\pm\|_F^2$ exceeds $\|W_\pm\|_2^2$ by at most its value then, the dead stay as they
    are, and all values then sum to at most $h \cdot 2\epsilon W_{\max}^2/\sqrt h$ (Lemma 3).
    Before that time the excess alone suffices.
    """
    held = evidence.once(measure)
    limits = held.constants
    for name, excess in (
        ("", limits.log_rank_excess),
        (", half the excess (derived)", limits.log_rank_excess - np.log(2)),
    ):
        bound = np.logaddexp(np.log(2) + 2 * held.log_spectral, excess)
        yield compare(
            f"largest ||W||_F^2/(2 ||W||_2^2 + excess) (sampled){name}",
            np.max(2 * held.log_frobenius - bound), "<=", 0.0, tolerance=ROUNDING, log=True,
        )  # fmt: skip
    last = 2 * held.log_spectral[-1]
    grown = bool(max(held.t_2) < np.inf)
    with np.errstate(over="ignore"):
        yield compare(
            "stable rank at the end",
            np.exp(2 * held.log_frobenius[-1] - last) if grown else np.nan,
            "<=", 2 + np.exp(limits.log_rank_excess - last), tolerance=ROUNDING,
        )  # fmt: skip


def _growth(evidence: Evidence) -> Iterable[Comparison]:
    r"""Compare $\|W\|_F^2$ with what a falling loss needs.

    $|f(x_i)| \le X_{\max}\|W\|_F^2$ and a sample's loss is at least $c\,e^{-|f|}$ (for the
    logistic loss as $2\log(1 + u) \ge u$ up to $u = 1$): so
    $\|W\|_F^2 \ge \ln(cn/L)/X_{\max}$, which the bound on the loss sends to infinity.
    """
    held = evidence.once(measure)
    limits, t_2 = held.constants, max(held.t_2)
    reached = bool(np.isfinite(t_2))
    at = min(np.searchsorted(held.times, t_2), len(held.times) - 1)
    start = np.sum(held.class_loss[at])
    later = evidence.end - t_2 if reached else 0.0
    with np.errstate(divide="ignore"):
        ratio = limits.pull * limits.samples * (1 + limits.alpha * start * later) / start
        needed = np.log(np.maximum(np.log(ratio), 0.0) / limits.x_max)
    yield compare(
        "||W||_F^2 at the end", 2 * held.log_frobenius[-1] if reached else np.nan, ">=", needed,
        tolerance=ROUNDING, log=True,
    )  # fmt: skip


claims: tuple[Claim, ...] = (
    Claim(
        "Theorem 1(2), invariance", "Neurons stay in S_+, S_- and S_dead.",
        _SOURCE + "Theorem 1(2)", asking(*THEOREM), _invariance,
    ),
    Claim(
        "After t_1, alignment", "cos(w_j, x_+) >= 1/4 soon after t_1, until t_2^+; so for x_-.",
        _SOURCE + "proof of Theorem 1(2)", asking(*THEOREM), _alignment,
    ),
    Claim(
        "After t_1, norms", "Norms have shrunk by a rate at most, and then never decrease.",
        _SOURCE + "proof of Theorem 1(2)", asking(*THEOREM, occupied), _norms,
    ),
    Claim(
        "Theorem 1(2), t_2", "Outputs reach 1/4 after a time of order log(1/epsilon)/n.",
        _SOURCE + "Theorem 1(2) and its proof", asking(*THEOREM, occupied), _second_time,
    ),
    Claim(
        "Mass at t_2", "The neurons of a cone have a sum of squares of at least 1/(4 X_max).",
        _SOURCE + "proof of Theorem 1(2)", asking(*THEOREM, occupied), _mass,
    ),
    Claim(
        "Theorem 1(2), loss", "L(t) <= L(t_2)/(1 + alpha L(t_2)(t - t_2)).",
        _SOURCE + "Theorem 1(2)", asking(*THEOREM, occupied), _loss,
    ),
    Claim(
        "Lemma 15", "L' <= -||v||^2 gamma^2 L^2/4 for each class, with gamma = mu X_min.",
        _SOURCE + "Lemma 15", asking(*THEOREM, occupied), _lemma_15,
    ),
    Claim(
        "Theorem 1(2), rank", "||W||_F^2 <= 2 ||W||_2^2 + 4 sqrt(h) epsilon W_max^2.",
        _SOURCE + "Theorem 1(2)", asking(*THEOREM), _rank,
    ),
    Claim(
        "Theorem 1(2), growth", "||W|| grows without bound.",
        "After Min, Mallada, Vidal (2024), Theorem 1(2), re-derived in `_growth`",
        asking(*THEOREM, occupied), _growth,
    ),
)  # fmt: skip
