"""Many runs side by side in few lanes: a lane that has finished takes the next run.

For devices on which lanes cost nothing while there are enough of them. A batch of runs under
`jax.vmap` takes as long as its slowest run, and all others wait; here a lane waits only when
no run is left to begin.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from .arguments import check_arguments
from .loop.finish import finish
from .loop.run import Equation, Run, begin, make_equation
from .loop.turn import going_on, turn
from .solve import make_options
from .trajectory import Trajectory

Keep = Callable[[Problem, Trajectory], PyTree[Array]]


class _Queue(eqx.Module):
    """What goes on: the lanes, the run each has (-1: none), and what is kept of those done."""

    index: Int[Array, " lanes"]
    equations: PyTree
    runs: Run
    following: Int[Array, ""]
    kept: PyTree[Array]
    turns: Float[Array, ""]
    waits: Float[Array, ""]


def solve_queue(
    problems: Problem,
    networks: TwoLayerReLU,
    count: Int[Array, ""],
    keep: Keep,
    *,
    lanes: int,
    t1: Float[Array, ""],
    ts: Float[Array, " times"] | None,
    rtol: Float[Array, ""],
    **options: Any,
) -> tuple[PyTree[Array], Float[Array, ""]]:
    """Solve the first `count` of a stack of problems, from time zero to `t1`.

    Args:
        problems: Stacked along the first axis.
        networks: Likewise.
        count: How many of the stack are wanted; the results of the others are zero.
        keep: What to keep of a run.
        lanes: How many run at a time.
        t1: End.
        ts: Times at which networks are returned.
        rtol: Relative tolerance.
        options: Further options of `solve`, such as `milestones` and `max_steps`.

    Returns:
        What is kept, stacked like the problems, and the share of the lanes' turns in which a
        lane waited.
    """

    def equation(problem: Problem, network: TwoLayerReLU) -> Equation:
        problem, network, _, *rest = check_arguments(problem, network, 0.0, t1, ts, rtol)
        end, times, tolerance = rest
        static = make_options(problem, network, **options)
        return make_equation(problem, network, end, times, tolerance, static)

    made = eqx.filter_vmap(equation)(problems, networks)
    arrays, static = eqx.partition(made, eqx.is_array)
    start = jnp.zeros((), made.t1.dtype)
    total = jax.tree.leaves(arrays)[0].shape[0]
    lanes = min(lanes, total)

    def load(index) -> tuple[PyTree, Run]:
        """Begin the runs of these numbers."""
        at = jnp.clip(index, 0, total - 1)
        equations = jax.tree.map(lambda x: x[at], arrays)
        return equations, jax.vmap(lambda e: begin(eqx.combine(e, static), start))(equations)

    def seen(equations, runs) -> PyTree[Array]:
        """Return what is to be kept of the runs in the lanes."""

        def one(equation, run):
            equation = eqx.combine(equation, static)
            return keep(equation.problem, finish(equation, run, start))

        return jax.vmap(one)(equations, runs)

    def step(queue: _Queue) -> _Queue:
        """Take a turn in every lane, and put new runs into those that have ended."""
        busy = queue.index >= 0
        turned, on = jax.vmap(_turned(static))(queue.equations, queue.runs)
        runs = _choose(busy, turned, queue.runs)
        queue = eqx.tree_at(
            lambda q: (q.runs, q.turns, q.waits),
            queue,
            (runs, queue.turns + 1, queue.waits + jnp.sum(~busy, dtype=queue.waits.dtype)),
        )
        ended = busy & ~on
        return jax.lax.cond(jnp.any(ended), lambda q: swap(q, ended), lambda q: q, queue)

    def swap(queue: _Queue, ended: Bool[Array, " lanes"]) -> _Queue:
        """Keep what has ended and begin what follows in the queue."""
        slot = jnp.where(ended, queue.index, total)
        kept = jax.tree.map(
            lambda rows, new: rows.at[slot].set(new, mode="drop"),
            queue.kept,
            seen(queue.equations, queue.runs),
        )
        number = queue.following + jnp.cumsum(ended, dtype=count.dtype) - 1
        index = jnp.where(ended, jnp.where(number < count, number, -1), queue.index)
        equations, runs = load(index)
        fresh = ended & (index >= 0)
        return _Queue(
            index,
            _choose(fresh, equations, queue.equations),
            _choose(fresh, runs, queue.runs),
            jnp.minimum(queue.following + jnp.sum(ended, dtype=count.dtype), count),
            kept,
            queue.turns,
            queue.waits,
        )

    first = jnp.arange(lanes, dtype=count.dtype)
    equations, runs = load(first)
    shapes = jax.eval_shape(seen, equations, runs)
    queue = _Queue(
        jnp.where(first < count, first, -1),
        equations,
        runs,
        jnp.minimum(lanes, count),
        jax.tree.map(lambda s: jnp.zeros((total, *s.shape[1:]), s.dtype), shapes),
        jnp.zeros((), start.dtype),
        jnp.zeros((), start.dtype),
    )
    queue = jax.lax.while_loop(lambda q: jnp.any(q.index >= 0), step, queue)
    return queue.kept, queue.waits / jnp.maximum(lanes * queue.turns, 1)


def _turned(static: PyTree) -> Callable[[PyTree, Run], tuple[Run, Array]]:
    def one(equation: PyTree, run: Run) -> tuple[Run, Any]:
        equation = eqx.combine(equation, static)
        run = turn(equation, run)
        return run, going_on(equation, run, equation.options.max_steps)

    return one


def _choose(mask: Bool[Array, " lanes"], new: PyTree, old: PyTree) -> PyTree:
    def pick(a, b):
        return jnp.where(mask.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, new, old)
