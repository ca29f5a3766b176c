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

from .._trees import choose
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from .arguments import check_arguments
from .loop.context import Context
from .loop.iteration import going_on, iterate
from .loop.result import finish
from .loop.state import State, init
from .solve import make_options
from .trajectory import Trajectory

Keep = Callable[[Problem, Trajectory], PyTree[Array]]


class _Queue(eqx.Module):
    """What goes on: the lanes, the run each has (-1: none), and what is kept of those done."""

    index: Int[Array, " lanes"]
    contexts: PyTree
    states: State
    following: Int[Array, ""]
    kept: PyTree[Array]
    iterations: Float[Array, ""]
    waits: Float[Array, ""]


def solve_in_lanes(
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
        What is kept, stacked like the problems, and the share of the lanes' iterations in which a
        lane waited.
    """

    def context(problem: Problem, network: TwoLayerReLU) -> Context:
        problem, network, _, *rest = check_arguments(problem, network, 0.0, t1, ts, rtol)
        end, times, tolerance = rest
        static = make_options(problem, network, **options)
        return Context.of(problem, network, end, times, tolerance, static)

    made = eqx.filter_vmap(context)(problems, networks)
    arrays, static = eqx.partition(made, eqx.is_array)
    start = jnp.zeros((), made.t1.dtype)
    total = jax.tree.leaves(arrays)[0].shape[0]
    lanes = min(lanes, total)

    def load(index) -> tuple[PyTree, State]:
        """Begin the runs of these numbers."""
        at = jnp.clip(index, 0, total - 1)
        contexts = jax.tree.map(lambda x: x[at], arrays)
        return contexts, jax.vmap(lambda c: init(eqx.combine(c, static), start))(contexts)

    def seen(contexts, states) -> PyTree[Array]:
        """Return what is to be kept of the runs in the lanes."""

        def one(context, state):
            context = eqx.combine(context, static)
            return keep(context.problem, finish(context, state, start))

        return jax.vmap(one)(contexts, states)

    def step(queue: _Queue) -> _Queue:
        """Iterate in every lane, and put new runs into those that have ended."""
        busy = queue.index >= 0
        iterated, on = jax.vmap(_iterated(static))(queue.contexts, queue.states)
        states = choose(busy, iterated, queue.states)
        queue = eqx.tree_at(
            lambda q: (q.states, q.iterations, q.waits),
            queue,
            (
                states,
                queue.iterations + 1,
                queue.waits + jnp.sum(~busy, dtype=queue.waits.dtype),
            ),
        )
        ended = busy & ~on
        return jax.lax.cond(jnp.any(ended), lambda q: swap(q, ended), lambda q: q, queue)

    def swap(queue: _Queue, ended: Bool[Array, " lanes"]) -> _Queue:
        """Keep what has ended and begin what follows in the queue."""
        slot = jnp.where(ended, queue.index, total)
        kept = jax.tree.map(
            lambda rows, new: rows.at[slot].set(new, mode="drop"),
            queue.kept,
            seen(queue.contexts, queue.states),
        )
        number = queue.following + jnp.cumsum(ended, dtype=count.dtype) - 1
        index = jnp.where(ended, jnp.where(number < count, number, -1), queue.index)
        contexts, states = load(index)
        begins = ended & (index >= 0)
        return _Queue(
            index,
            choose(begins, contexts, queue.contexts),
            choose(begins, states, queue.states),
            jnp.minimum(queue.following + jnp.sum(ended, dtype=count.dtype), count),
            kept,
            queue.iterations,
            queue.waits,
        )

    first = jnp.arange(lanes, dtype=count.dtype)
    contexts, states = load(first)
    shapes = jax.eval_shape(seen, contexts, states)
    queue = _Queue(
        jnp.where(first < count, first, -1),
        contexts,
        states,
        jnp.minimum(lanes, count),
        jax.tree.map(lambda s: jnp.zeros((total, *s.shape[1:]), s.dtype), shapes),
        jnp.zeros((), start.dtype),
        jnp.zeros((), start.dtype),
    )
    queue = jax.lax.while_loop(lambda q: jnp.any(q.index >= 0), step, queue)
    return queue.kept, queue.waits / jnp.maximum(lanes * queue.iterations, 1)


def _iterated(static: PyTree) -> Callable[[PyTree, State], tuple[State, Array]]:
    def one(context: PyTree, state: State) -> tuple[State, Any]:
        context = eqx.combine(context, static)
        state = iterate(context, state)
        return state, going_on(context, state, context.options.max_steps)

    return one
