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

    runs = _Runs(*eqx.partition(eqx.filter_vmap(context)(problems, networks), eqx.is_array), keep)
    queue = runs.queue(min(lanes, runs.total), count)
    going = lambda queue: jnp.any(queue.index >= 0)
    queue = jax.lax.while_loop(going, lambda queue: runs.iterate(queue, count), queue)
    waits = queue.waits / jnp.maximum(queue.index.shape[0] * queue.iterations, 1)
    return queue.kept, waits


class _Runs(eqx.Module):
    """All runs, and what is to be kept of each: what never changes while they go on."""

    contexts: PyTree[Array]
    static: PyTree = eqx.field(static=True)
    keep: Keep = eqx.field(static=True)

    @property
    def total(self) -> int:
        """How many runs there are."""
        return jax.tree.leaves(self.contexts)[0].shape[0]

    @property
    def start(self) -> Float[Array, ""]:
        """When all runs begin."""
        return jnp.zeros((), self._whole(self.contexts).t1.dtype)

    def _whole(self, arrays: PyTree[Array]) -> Context:
        return eqx.combine(arrays, self.static)

    def load(self, index: Int[Array, " lanes"]) -> tuple[PyTree[Array], State]:
        """Begin the runs of these numbers."""
        at = jnp.clip(index, 0, self.total - 1)
        contexts = jax.tree.map(lambda x: x[at], self.contexts)
        return contexts, jax.vmap(lambda c: init(self._whole(c), self.start))(contexts)

    def kept(self, contexts: PyTree[Array], states: State) -> PyTree[Array]:
        """Return what is to be kept of the runs in the lanes."""

        def one(arrays, state):
            context = self._whole(arrays)
            return self.keep(context.problem, finish(context, state, self.start))

        return jax.vmap(one)(contexts, states)

    def queue(self, lanes: int, count: Int[Array, ""]) -> _Queue:
        """Begin the first runs, one a lane."""
        number = jnp.arange(lanes, dtype=count.dtype)
        contexts, states = self.load(number)
        shapes = jax.eval_shape(self.kept, contexts, states)
        return _Queue(
            jnp.where(number < count, number, -1),
            contexts,
            states,
            jnp.minimum(lanes, count),
            jax.tree.map(lambda s: jnp.zeros((self.total, *s.shape[1:]), s.dtype), shapes),
            jnp.zeros_like(self.start),
            jnp.zeros_like(self.start),
        )

    def iterate(self, queue: _Queue, count: Int[Array, ""]) -> _Queue:
        """Iterate in every lane, and put new runs into those that have ended."""

        def one(arrays, state):
            context = self._whole(arrays)
            state = iterate(context, state)
            return state, going_on(context, state, context.options.max_steps)

        busy = queue.index >= 0
        iterated, on = jax.vmap(one)(queue.contexts, queue.states)
        queue = eqx.tree_at(
            lambda q: (q.states, q.iterations, q.waits),
            queue,
            (
                choose(busy, iterated, queue.states),
                queue.iterations + 1,
                queue.waits + jnp.sum(~busy, dtype=queue.waits.dtype),
            ),
        )
        ended = busy & ~on
        refill = lambda queue: self._refill(queue, ended, count)
        return jax.lax.cond(jnp.any(ended), refill, lambda queue: queue, queue)

    def _refill(self, queue: _Queue, ended: Bool[Array, " lanes"], count) -> _Queue:
        """Keep what has ended and begin what follows in the queue."""
        row = jnp.where(ended, queue.index, self.total)
        kept = jax.tree.map(
            lambda rows, new: rows.at[row].set(new, mode="drop"),
            queue.kept,
            self.kept(queue.contexts, queue.states),
        )
        number = queue.following + jnp.cumsum(ended, dtype=count.dtype) - 1
        index = jnp.where(ended, jnp.where(number < count, number, -1), queue.index)
        contexts, states = self.load(index)
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
