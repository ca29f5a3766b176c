"""A run, sampled once for all claims of the early-alignment theorem.

Every switch of the log is a sample, and so are the middles between switches, the theorem's
own times and a regular grid: what is monotone between switches is caught exactly, and what is
not is a maximum over some hundreds of samples. Logarithms are kept wherever a scale enters.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from ....claims.verdict import Evidence, Flow
from ....model.loss import ExponentialLoss, LogisticLoss, SquareLoss
from ....model.problem import Problem
from ....model.switch import SwitchKind
from ....observe.pattern import Switches
from .parameters import Constants, class_signs, constants

ACTIVATE, DEACTIVATE = SwitchKind.ACTIVATE, SwitchKind.DEACTIVATE
SLIDE_EXIT_ACTIVE = SwitchKind.SLIDE_EXIT_ACTIVE
ON_THE_HYPERPLANE = 1e-9  # cosines below are rounding
_CHUNK = 64  # times evaluated at once: one shape, so that there is one compiled program
_MOST_SWITCHES = 1024  # a longer log is thinned evenly
_GRID = 129


class Stays(eqx.Module):
    """Each stay of a neuron in one pattern, from the log of switches.

    Attributes:
        neuron: Which neuron.
        start: Since when.
        end: Until when; the end of the run if it is still there.
        left: Whether it was seen to leave.
        active: On which samples it is active; one on whose hyperplane it slides is not.

    Source:
        This package; the proof of Theorem 1(1) of Min, Mallada, Vidal (2024) bounds such stays.
    """

    neuron: Int[np.ndarray, " stays"]
    start: Float[np.ndarray, " stays"]
    end: Float[np.ndarray, " stays"]
    left: Bool[np.ndarray, " stays"]
    active: Bool[np.ndarray, "stays samples"]


class Measured(eqx.Module):
    r"""What was read off a run.

    Attributes:
        constants: The theorem's constants.
        times: When it was sampled, ascending.
        clear: Whether no switch lies within the interval that starts at a time (always,
            unless the log was thinned); false for the last.
        signs: Labels, as +1 and -1.
        favours: Sign of each neuron's initial output weight.
        directions: $w_j/\|w_j\|$ at each time.
        outer: Output weight over the norm of the inner weights: +1 or -1 if balanced.
        log_norm: $\log\|w_j\|$.
        active: Pattern after each time, from the log.
        cosines: $\cos(w_j, x_i)$.
        log_size: $\log|f(x_i)|$.
        output: $f(x_i)$, zero where it underflows.
        defect: $(\rho_i - 1)/|f(x_i)|$ with $\rho_i$ the pull over the initial pull.
        log_frobenius: $\log\|W\|_F$.
        log_spectral: $\log\|W\|_2$.
        class_loss: Reduced loss of the positive and of the negative class.
        stays: Each stay of a neuron in one pattern.
        t_2: First time at which the output on a class exceeds 1/4 in size, bisected to
            rounding; `inf` if that was not reached, `-inf` if the class is empty.

    Source:
        Min, Mallada, Vidal (2024), the quantities in Lemmas 1 to 11 and 15 and Theorem 1;
        $t_2^\pm$ as in the proof of Theorem 1(2).
    """

    constants: Constants
    times: Float[np.ndarray, " times"]
    clear: Bool[np.ndarray, " times"]
    signs: Float[np.ndarray, " samples"]
    favours: Float[np.ndarray, " width"]
    directions: Float[np.ndarray, "times width features"]
    outer: Float[np.ndarray, "times width"]
    log_norm: Float[np.ndarray, "times width"]
    active: Bool[np.ndarray, "times width samples"]
    cosines: Float[np.ndarray, "times width samples"]
    log_size: Float[np.ndarray, "times samples"]
    output: Float[np.ndarray, "times samples"]
    defect: Float[np.ndarray, "times samples"]
    log_frobenius: Float[np.ndarray, " times"]
    log_spectral: Float[np.ndarray, " times"]
    class_loss: Float[np.ndarray, "times 2"]
    stays: Stays
    t_2: tuple[float, float]

    @property
    def unexplained(self) -> Bool[np.ndarray, "times width samples"]:
        """Where a sign of a preactivation is not that of the log, beyond rounding.

        Source:
            This package; it checks the log of switches by the sampled directions.
        """
        inside, outside = self.cosines > ON_THE_HYPERPLANE, self.cosines < -ON_THE_HYPERPLANE
        return np.where(self.active, outside, inside)

    @property
    def own(self) -> Bool[np.ndarray, "width samples"]:
        r"""The pattern of $S_+$ for neurons of $V_+$, of $S_-$ for those of $V_-$.

        Source:
            Min, Mallada, Vidal (2024), the sets $S_\pm$ and $V_\pm$.
        """
        return self.favours[:, None] * self.signs > 0

    @property
    def in_place(self) -> Float[np.ndarray, " width"]:
        """Since when each neuron is in its cone or dead for good; `inf` if at the end it is not.

        Its cone is $S_+$ for $V_+$ and $S_-$ for $V_-$; times are those of the log.

        Source:
            Min, Mallada, Vidal (2024), Theorem 1(1), which bounds these times by $t_1$.
        """
        final = self.final_stays
        since = np.full(len(self.favours), -np.inf)
        np.maximum.at(since, self.stays.neuron, np.where(final, -np.inf, self.stays.end))
        return np.where(final[~self.stays.left], np.maximum(since, 0.0), np.inf)

    @property
    def final_stays(self) -> Bool[np.ndarray, " stays"]:
        """Which stays are in the neuron's own cone or dead.

        Source:
            Min, Mallada, Vidal (2024), Theorem 1(1): the sets $S_+$, $S_-$ and $S_{dead}$.
        """
        active = self.stays.active
        return np.all(active == self.own[self.stays.neuron], axis=1) | ~np.any(active, axis=1)

    def members(self, favoured: int) -> Bool[np.ndarray, " width"]:
        r"""Return which neurons of $V_\pm$ are in $S_\pm$ after the last switch.

        Args:
            favoured: 0 for $V_+$ and $S_+$, 1 for $V_-$ and $S_-$.

        Source:
            Min, Mallada, Vidal (2024), the neurons of $S_\pm$ over which the proof of Theorem
            1(2) sums.
        """
        sign = 1.0 - 2.0 * favoured
        inside = np.all(self.active[-1] == self.own, axis=1) & np.any(self.own, axis=1)
        return inside & (self.favours == sign)


def switch_rows(switches: Switches, end: float):
    """Return times, neurons, samples and kinds of the switches up to the end, as arrays.

    Source:
        This package; it reads the log of switches.
    """
    times = np.asarray(switches.time)
    held = (np.arange(len(times)) < int(switches.num)) & (times <= end)
    columns = (switches.neuron, switches.sample, switches.kind)
    return times[held], *(np.asarray(column)[held] for column in columns)


def measure(evidence: Evidence) -> Measured:
    """Sample the run, densely where it matters; ask for it by `evidence.once(measure)`.

    Source:
        This package; `Measured` says what is taken from the paper.
    """
    held = constants(evidence.problem, evidence.network)
    problem, flow, end = evidence.problem, evidence.flow, evidence.end
    signs = class_signs(problem)
    t_2 = _first_above_quarter(problem, flow, signs, end)
    times, clear = _times(evidence, held, t_2)
    inner, outer, rho, sigma = _weights(flow, times)
    inputs = np.asarray(problem.inputs)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        norms = np.linalg.norm(inner, axis=-1)
        directions = inner / np.where(norms > 0, norms, 1.0)[..., None]
        log_norm = np.log(norms) + rho
        top = np.max(log_norm, axis=1)
        relative = directions * np.exp(log_norm - top[:, None])[..., None]
        spectral = np.linalg.svd(relative, compute_uv=False)[:, 0]
        frobenius = np.sqrt(np.sum(relative**2, axis=(1, 2)))
        log_size, output_sign = _outputs(inner, outer, rho, sigma, inputs)
        output = output_sign * np.exp(log_size)
        ratio = outer / np.where(norms > 0, norms, 1.0) * np.exp(sigma - rho)
    losses = np.asarray(problem.loss.value(jnp.asarray(output), problem.targets[None]))
    losses = problem.sample_weight * losses
    classes = [np.sum(losses[:, signs == sign], axis=1) for sign in (1.0, -1.0)]
    stays, active = _patterns(evidence, times)
    return Measured(
        constants=held,
        times=times,
        clear=clear,
        signs=signs,
        favours=np.sign(np.asarray(evidence.network.outer_weight)),
        directions=directions,
        outer=ratio,
        log_norm=log_norm,
        active=active,
        cosines=directions @ (inputs / np.linalg.norm(inputs, axis=1)[:, None]).T,
        log_size=log_size,
        output=output,
        defect=_defect(problem, output, output_sign),
        log_frobenius=np.log(frobenius) + top,
        log_spectral=np.log(spectral) + top,
        class_loss=np.stack(classes, axis=1),
        stays=stays,
        t_2=t_2,
    )


def _times(evidence: Evidence, held: Constants, t_2: tuple[float, float]):
    """Return the times of the samples, and which of their intervals no switch lies in."""
    end = evidence.end
    switched = np.unique(switch_rows(evidence.flow.switches, end)[0])
    kept = switched
    if len(switched) > _MOST_SWITCHES:
        kept = switched[np.linspace(0, len(switched) - 1, _MOST_SWITCHES).astype(int)]
    edges = np.concatenate([[0.0], kept, [end]])
    own = [held.horizon, held.t_1, *t_2, held.aligned(0), held.aligned(1)]
    spans = [end, *(t for t in (held.horizon, held.t_1, max(t_2)) if 0 < t < end)]
    if len(switched):
        spans.append(min(end, 1.25 * switched[-1]))
    late = max(t_2) + (end - max(t_2)) * np.geomspace(1e-3, 1.0, _GRID) if max(t_2) < end else []
    grids = [np.linspace(0.0, span, _GRID) for span in spans]
    times = np.concatenate([edges, (edges[1:] + edges[:-1]) / 2, own, late, *grids])
    times = np.unique(times[(times >= 0) & (times <= end)])
    # A switch in (t_k, t_k+1) is one beyond t_k that t_k+1 is beyond.
    before = np.searchsorted(switched, times, side="right")
    until = np.searchsorted(switched, times, side="left")
    return times, np.append(before[:-1] == until[1:], False)


def _weights(flow: Flow, times):
    """Return both layers and both log-scales at each of the times."""
    padded = np.concatenate([times, np.full(-len(times) % _CHUNK, times[-1])])
    found = [
        jax.vmap(flow.network_at)(jnp.asarray(chunk))
        for chunk in np.split(padded, len(padded) // _CHUNK)
    ]
    joined = lambda parts: np.concatenate([np.asarray(part) for part in parts])[: len(times)]
    return (
        joined(network.inner_weight for network in found),
        joined(network.outer_weight for network in found),
        joined(network.log_scale for network in found),
        joined(network.outer_log_scale for network in found),
    )


def _outputs(inner, outer, rho, sigma, inputs):
    """Return log-size and sign of the outputs; exact at any scale."""
    scale = rho + sigma
    top = np.max(scale, axis=1)
    amplitude = outer * np.exp(scale - top[:, None])
    output = np.einsum("kj,kji->ki", amplitude, np.maximum(inner @ inputs.T, 0.0))
    with np.errstate(divide="ignore"):
        return np.log(np.abs(output)) + top[:, None], np.sign(output)


def _defect(problem: Problem, output, output_sign):
    r"""Return $(\rho - 1)/|f|$, whose limit at zero output is finite."""
    targets = np.asarray(problem.targets)
    margin = targets * output
    safe = np.where(margin == 0, 1.0, margin)
    with np.errstate(over="ignore", invalid="ignore"):
        match problem.loss:
            case ExponentialLoss():
                rate = np.where(margin == 0, 1.0, -np.expm1(-safe) / safe)
            case LogisticLoss():
                rate = np.where(margin == 0, 0.5, np.tanh(safe / 2) / safe)
            case SquareLoss():
                # rho - 1 = -f/y, of which y = +-1 makes -y f.
                rate = np.ones_like(margin)
            case _:
                rate = np.full_like(margin, np.nan)
    return -rate * targets * output_sign


def _first_above_quarter(problem: Problem, flow: Flow, signs, end: float) -> tuple[float, float]:
    """Return for each class when its largest output in size first exceeds 1/4."""
    inputs = np.asarray(problem.inputs)

    def above(times, mask):
        log_size, _ = _outputs(*_weights(flow, times), inputs)
        return np.max(log_size[:, mask], axis=1) > np.log(0.25)

    found = []
    for sign in (1.0, -1.0):
        mask = signs == sign
        if not mask.any():
            found.append(-np.inf)  # an empty class has nothing to wait for
            continue
        low, high = 0.0, end
        for step in range(12):
            times = np.linspace(low, high, 4 * _CHUNK if step == 0 else _CHUNK)
            over = above(times, mask)
            if not over.any():
                high = np.inf
                break
            first = int(np.argmax(over))
            low, high = times[max(first - 1, 0)], times[first]
        found.append(float(high))
    return found[0], found[1]


def _patterns(evidence: Evidence, times) -> tuple[Stays, Bool[np.ndarray, "times width samples"]]:
    """Replay the log of switches: stays, and the pattern after each of the times."""
    end = evidence.end
    modes = np.array(evidence.flow.initial_sides) == 1
    active = np.empty((len(times), *modes.shape), bool)
    since = np.zeros(len(modes))
    rows: list[tuple] = []
    filled = 0
    for time, j, i, kind in zip(*switch_rows(evidence.flow.switches, end), strict=True):
        upto = int(np.searchsorted(times, time, side="left"))
        active[filled:upto] = modes
        filled = max(filled, upto)
        if time > since[j]:
            rows.append((j, since[j], time, True, modes[j].copy()))
        since[j] = time
        modes[j, i] = kind in (ACTIVATE, SLIDE_EXIT_ACTIVE)
    active[filled:] = modes
    rows += [(j, since[j], end, False, modes[j]) for j in range(len(modes))]
    neuron, start, stop, left, pattern = (np.array(column) for column in zip(*rows, strict=True))
    return Stays(neuron, start, stop, left, pattern), active
