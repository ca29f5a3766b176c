r"""Flow and gradient descent on one time axis: how far a finite learning rate departs.

Descent is Euler's method for the flow, so at a fixed time its weights depart from the
flow's in proportion to the learning rate, kinks included. Where the flow slides, descent
chatters across the hyperplane: the fraction of steps on its active side (the duty cycle)
approaches the weight of Filippov's convex combination, because the velocity across the
hyperplane has to vanish on average.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..discrete.descent import descent
from ..flow.method.frame import Frame, Neurons
from ..flow.solve import solve
from ..flow.trajectory import SwitchLog
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from ..model.switch import ACTIVE, SIDE_AFTER, SLIDING

if TYPE_CHECKING:
    import pandas as pd


class Departure(eqx.Module):
    """Gradient descent at several learning rates beside the flow.

    Attributes:
        learning_rates: The rates, as given.
        ts: The times.
        flow_loss: Reduced loss of the flow.
        descent_loss: Reduced loss of descent.
        weight_gap: Largest difference of a true weight (of either layer), over the flow's
            largest true weight in absolute value.
        output_gap: Largest difference of an output on the data.
        direction_gap: Largest distance between the directions of a neuron.
        weight_order: For each time the slope of log weight gap in log learning rate, by
            least squares: 1 for small rates; `nan` for a single rate or a gap of zero.
        output_order: The same for the output gap.
        slide_weight: Weight of the active side in the flow, of pairs that slide at a time;
            `nan` for others.
        duty: Fraction of descent's steps on the active side in the window before a time.
    """

    learning_rates: Float[Array, " rates"]
    ts: Float[Array, " times"]
    flow_loss: Float[Array, " times"]
    descent_loss: Float[Array, "rates times"]
    weight_gap: Float[Array, "rates times"]
    output_gap: Float[Array, "rates times"]
    direction_gap: Float[Array, "rates times"]
    weight_order: Float[Array, " times"]
    output_order: Float[Array, " times"]
    slide_weight: Float[Array, "times width samples"]
    duty: Float[Array, "rates times width samples"]

    def to_pandas(self) -> "pd.DataFrame":
        """Return one row for each learning rate and time."""
        import pandas as pd

        rates, times = self.descent_loss.shape
        flat = lambda array: np.asarray(array).reshape(-1)
        return pd.DataFrame(
            {
                "learning_rate": np.repeat(np.asarray(self.learning_rates), times),
                "time": np.tile(np.asarray(self.ts), rates),
                "flow_loss": np.tile(np.asarray(self.flow_loss), rates),
                "descent_loss": flat(self.descent_loss),
                "weight_gap": flat(self.weight_gap),
                "output_gap": flat(self.output_gap),
                "direction_gap": flat(self.direction_gap),
            }
        )

    def slides_to_pandas(self) -> "pd.DataFrame":
        """Return one row for each learning rate and each pair that slides at a time."""
        import pandas as pd

        time, neuron, sample = np.nonzero(np.isfinite(np.asarray(self.slide_weight)))
        weight = np.asarray(self.slide_weight)[time, neuron, sample]
        rows = [
            pd.DataFrame(
                {
                    "learning_rate": rate,
                    "time": np.asarray(self.ts)[time],
                    "neuron": neuron,
                    "sample": sample,
                    "slide_weight": weight,
                    "duty": np.asarray(duty)[time, neuron, sample],
                }
            )
            for rate, duty in zip(np.asarray(self.learning_rates), self.duty, strict=True)
        ]
        return pd.concat(rows, ignore_index=True)


def compare(
    problem: Problem,
    network: TwoLayerReLU,
    learning_rates: Sequence[float],
    ts: Sequence[float],
    *,
    window: float | None = None,
    rtol: float = 1e-12,
    max_slides: int | None = None,
) -> Departure:
    """Run the flow once and plain gradient descent at several learning rates.

    Args:
        problem: What is minimised.
        network: Where from.
        learning_rates: Rates; each time has to be a multiple of each.
        ts: Times at which the two are compared, ascending and positive.
        window: Length of time before each of `ts` over which duty cycles are counted,
            rounded to whole steps; the time since the one before (or since the start)
            unless given. It has to be long beside the chatter's period, and short beside
            the time in which the slide's weight changes.
        rtol: Tolerance of the flow.
        max_slides: As in `solve`.

    Returns:
        The departures.

    Raises:
        ValueError: If an argument is out of range; the message names it.
        RuntimeError: If the flow or a descent ended early.

    Example:
        >>> import relu_flow as rf
        >>> problem = rf.Problem([[1.0, 0.0], [0.0, 2.0]], [1.0, -1.0])
        >>> network = rf.TwoLayerReLU([[1.0, 0.0], [0.5, 0.5]], [1.0, -1.0], log_scale=-3.0)
        >>> departure = rf.compare(problem, network, learning_rates=[0.02, 0.01], ts=[2.0])
        >>> round(float(departure.output_gap[0, 0] / departure.output_gap[1, 0]), 1)
        2.0
    """
    rates, times = np.asarray(learning_rates, float), np.asarray(ts, float)
    _check_rates(rates, times)
    flow = solve(problem, network, times[-1], ts=times.tolist(), rtol=rtol, max_slides=max_slides)
    runs = [_descend(problem, network, rate, times, window) for rate in rates]
    stack = lambda of: jnp.stack([of(networks) for networks, _ in runs])
    gaps = lambda gap: stack(lambda networks: jax.vmap(gap)(networks, flow.networks))
    loss = jax.vmap(problem.loss_value)
    output = lambda a, b: jnp.max(jnp.abs(problem.predictions(a) - problem.predictions(b)))
    weight_gap, output_gap = gaps(_weight_gap), gaps(output)
    return Departure(
        learning_rates=jnp.asarray(rates),
        ts=jnp.asarray(times),
        flow_loss=loss(flow.networks),
        descent_loss=stack(loss),
        weight_gap=weight_gap,
        output_gap=output_gap,
        direction_gap=gaps(_direction_gap),
        weight_order=_order(rates, weight_gap),
        output_order=_order(rates, output_gap),
        slide_weight=jnp.stack(
            [
                slide_weights(
                    problem, jax.tree.map(lambda leaf, k=k: leaf[k], flow.networks), modes
                )
                for k, modes in enumerate(modes_at(flow.switches, flow.initial_sides, times))
            ]
        ),
        duty=jnp.stack([duty for _, duty in runs]),
    )


def _check_rates(rates: np.ndarray, times: np.ndarray) -> None:
    for name, values in (("learning_rates", rates), ("ts", times)):
        if values.ndim != 1 or not values.size or not np.all((values > 0) & np.isfinite(values)):
            raise ValueError(
                f"Argument `{name}` must be a sequence of positive numbers, but it is {values}."
            )
    if not np.all(np.diff(times) > 0):
        raise ValueError(f"Argument `ts` must be ascending, but it is {times}.")
    steps = times / rates[:, None]
    off = np.abs(steps - np.round(steps)) > 1e-6
    if off.any():
        rate, t = np.argwhere(off)[0]
        raise ValueError(
            "Argument `ts` must be multiples of each of `learning_rates`, but "
            f"{times[t]:g} is none of {rates[rate]:g}."
        )


def _descend(problem, network, rate: float, times: np.ndarray, window: float | None):
    """Return descent's networks at the times, and its duty cycles in the windows before."""
    steps = np.round(times / rate).astype(int)
    if window is None:
        since = np.concatenate([[0], steps[:-1]])
    else:
        since = np.maximum(steps - max(1, round(window / rate)), 0)
    stops = np.unique(np.concatenate([since, steps]))
    run = descent(problem, network, int(steps[-1]), rate, ts=(rate * stops).tolist())
    start, end = np.searchsorted(stops, since), np.searchsorted(stops, steps)
    # A window may hold the starts of others: add up the counts of its pieces.
    counts = np.diff(stops, prepend=0)[:, None, None] * np.asarray(run.duty)
    counts = np.cumsum(counts, axis=0)
    duty = (counts[end] - counts[start]) / (steps - since)[:, None, None]
    return jax.tree.map(lambda leaf: leaf[end], run.networks), jnp.asarray(duty)


def _weight_gap(one: TwoLayerReLU, other: TwoLayerReLU) -> Float[Array, ""]:
    """Return the largest difference of true weights, over the largest of the other."""
    top = lambda n: jnp.maximum(jnp.max(n.log_scale), jnp.max(n.outer_log_scale))
    unit = jnp.maximum(top(one), top(other))
    true = lambda n: jnp.concatenate(
        [
            (jnp.exp(n.log_scale - unit)[:, None] * n.inner_weight).reshape(-1),
            jnp.exp(n.outer_log_scale - unit) * n.outer_weight,
        ]
    )
    return jnp.max(jnp.abs(true(one) - true(other))) / jnp.max(jnp.abs(true(other)))


def _direction_gap(one: TwoLayerReLU, other: TwoLayerReLU) -> Float[Array, ""]:
    return jnp.max(jnp.linalg.norm(one.directions() - other.directions(), axis=1))


def _order(rates: np.ndarray, gap: Float[Array, "rates times"]) -> Float[Array, " times"]:
    """Fit the slope of log gap in log rate, time by time."""
    centred = np.log(rates) - np.mean(np.log(rates))
    if len(rates) < 2 or not np.any(centred):
        return jnp.full(gap.shape[1], jnp.nan)
    known = jnp.all(gap > 0, axis=0)
    slope = centred @ jnp.log(jnp.where(gap > 0, gap, 1.0)) / np.sum(centred**2)
    return jnp.where(known, slope, jnp.nan)


def modes_at(
    switches: SwitchLog, initial_sides: Int[Array, "width samples"], times: np.ndarray
) -> Int[Array, "times width samples"]:
    """Return the mode of each pair at some ascending times, by going through the log."""
    modes, found, k = np.array(initial_sides), [], 0
    num = min(int(switches.num), switches.time.shape[0])
    columns = (switches.time, switches.neuron, switches.sample, switches.kind)
    at, neuron, sample, kind = (np.asarray(column)[:num] for column in columns)
    for t in times:
        while k < num and at[k] <= t:
            modes[neuron[k], sample[k]] = SIDE_AFTER[int(kind[k])]
            k += 1
        found.append(modes.copy())
    return jnp.asarray(np.stack(found))


def slide_weights(
    problem: Problem, network: TwoLayerReLU, modes: Int[Array, "width samples"]
) -> Float[Array, "width samples"]:
    r"""Return the weight of the active side for pairs that slide, `nan` for others.

    For a neuron that slides on the hyperplanes of $x_k$, $k \in S$, the weights solve
    $\langle x_k, \sum_{active} g_i x_i + \sum_{l\in S} a_l g_l x_l\rangle = 0$; a hyperplane
    of several (parallel) inputs has one weight of its positive side, and an input opposite
    to the first of them one minus that.

    Args:
        problem: The problem.
        network: The network, whose outputs give the pulls.
        modes: 0 inactive, 1 active, 2 sliding.
    """
    frame = Frame.of(problem)
    neurons = Neurons.of(problem, network)
    amplitude = neurons.amplitude(frame.train_outer) * neurons.outer
    active = (modes == ACTIVE).astype(neurons.inner.dtype)
    pull = frame.pull(amplitude @ (active * (neurons.inner @ frame.inputs.T)))
    inputs, factor = np.asarray(frame.inputs), np.asarray(frame.factor)
    first = np.asarray(frame.representative)
    up, down = (np.asarray(side) for side in frame.group_pulls(pull))
    drive = np.asarray((active * pull[None]) @ frame.inputs)
    weights = np.full(modes.shape, np.nan)
    for j in np.flatnonzero(np.any(np.asarray(modes) == SLIDING, axis=1)):
        sliding = np.flatnonzero(np.asarray(modes[j]) == SLIDING)
        planes = np.unique(first[sliding])
        share = -np.linalg.lstsq(inputs[planes].T, drive[j], rcond=None)[0]
        positive = np.zeros(len(inputs))
        positive[planes] = (share + down[planes]) / (up[planes] + down[planes])
        here = positive[first[sliding]]
        weights[j, sliding] = np.where(factor[sliding] > 0, here, 1 - here)
    return jnp.asarray(weights)
