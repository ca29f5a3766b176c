"""Shapes in buckets: problems of about one size share one program.

Compiling takes far longer than most runs. A program is compiled for the next larger of a few
sizes, and what is missing is filled up with what does nothing, exactly: neurons whose weights are
zero, which rest; the first sample over again with weight zero, which has no hyperplane of its own;
features that are zero; times that are never reached. Results are cut to size.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._types import FloatScalarLike, is_traced
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from .method.arrangement import num_patterns
from .trajectory import Trajectory

# A small run costs its overhead, whatever its size: eight neurons for four cost 8 ms more, sixteen
# for twelve a sixth, and a program 10 s. A large one may well take longer than compiling does: what
# is added there costs a tenth of it, and would half as much again with two an octave.
_SMALLEST, _IN_AN_OCTAVE = 8, 4
# Slots for times cost memory alone.
_FEWEST_TIMES = 16


def bucket(size: int) -> int:
    """Return the size that is compiled for: 8, 16, 24, ..., 64, 80, ..., 128, 160, ..."""
    power = 1 << max(size - 1, 1).bit_length()
    step = max(_SMALLEST, power // (2 * _IN_AN_OCTAVE))
    return -(-size // step) * step


class Padding(eqx.Module):
    """The sizes of a problem, a network and times, before they are filled up.

    Attributes:
        samples: Inputs of the data set.
        features: Coordinates of an input.
        width: Neurons.
        times: Times asked for.
    """

    samples: int
    features: int
    width: int
    times: int

    @classmethod
    def of(cls, problem: Problem, network: TwoLayerReLU, ts: Float[Array, " times"]) -> "Padding":
        """Return the sizes that there are."""
        return cls(problem.samples, problem.features, network.width, ts.shape[0])

    def fill(
        self, problem: Problem, network: TwoLayerReLU, ts: Float[Array, " times"]
    ) -> tuple[Problem, TwoLayerReLU, Float[Array, " more_times"], Float[Array, " more_samples"]]:
        """Return all three in the sizes of their buckets, and the weights of the samples."""
        samples, features, rank = _sizes(problem)
        width, times = bucket(self.width), max(bucket(self.times), _FEWEST_TIMES)
        weight = _like(np.full(self.samples, problem.sample_weight), problem.targets)
        basis = None if problem.basis is None else _filled(problem.basis, features, rank)
        inputs = _filled(problem.inputs, self.samples, features)
        # Who weighs samples one by one needs no reduction: sums and means share programs too.
        sums = Problem([[1.0]], [1.0], problem.loss, "sum", problem.train)
        filled = eqx.tree_at(
            lambda p: (p.inputs, p.targets, p.basis, p.rank),
            sums,
            (_repeated(inputs, samples), _repeated(problem.targets, samples), basis, problem.rank),
            is_leaf=lambda leaf: leaf is None,
        )
        arrays = (
            _filled(network.inner_weight, width, features),
            _filled(network.outer_weight, width),
            _repeated(network.log_scale, width),
            _repeated(network.outer_log_scale, width),
        )
        network = jax.tree.unflatten(jax.tree.structure(network), arrays)
        ts = _filled(ts, times, fill=np.inf) if self.times else ts
        return filled, network, ts, _filled(weight, samples)

    def cut(self, trajectory: Trajectory) -> Trajectory:
        """Return the trajectory of what was filled up as that of what there is."""
        times, dense = self.times or 1, trajectory._dense
        cut = (
            _cut(trajectory.ts, times),
            self.cut_network(trajectory.networks, times),
            _cut(trajectory.initial_sides, self.width, self.samples),
        )
        trajectory = eqx.tree_at(lambda t: (t.ts, t.networks, t.initial_sides), trajectory, cut)
        if dense is None:
            return trajectory
        return eqx.tree_at(lambda t: t._dense, trajectory, _CutOutput(dense, self))

    def cut_network(self, network: TwoLayerReLU, *times: int) -> TwoLayerReLU:
        """Return a network, or the first ones of a stack, without what was added."""
        sizes = (*times, self.width, self.features)
        return jax.tree.map(lambda leaf: _cut(leaf, *sizes[: leaf.ndim]), network)


class _CutOutput(eqx.Module):
    """Dense output of what was filled up, cut to size."""

    output: Callable[[FloatScalarLike], TwoLayerReLU]
    padding: Padding

    def __call__(self, t: FloatScalarLike) -> TwoLayerReLU:
        """Return the network at a time of the run."""
        return self.padding.cut_network(self.output(t))


def _sizes(problem: Problem) -> tuple[int, int, int]:
    """Return samples, features, and columns of the basis if there is one, to compile for."""
    rank = problem.features if problem.basis is None else problem.basis.shape[1]
    samples, features = bucket(problem.samples), bucket(problem.features)
    if problem.train == "both":
        return samples, features, bucket(rank)
    # Whether patterns are listed is a matter of sizes, and a matter of what the flow does.
    if bool(num_patterns(samples, rank)) != bool(num_patterns(problem.samples, rank)):
        samples = problem.samples
    return samples, features if problem.basis is not None else problem.features, rank


def _filled(array: Array, *sizes: int, fill: float = 0.0) -> Array:
    """Return an array in a larger shape."""
    missing = [(0, size - old) for size, old in zip(sizes, array.shape, strict=True)]
    return _like(np.pad(np.asarray(array), missing, constant_values=fill), array)


def _repeated(array: Array, size: int) -> Array:
    """Return an array with its first row over again, up to a size."""
    rows = np.asarray(array)
    return _like(np.concatenate([rows, np.repeat(rows[:1], size - len(rows), axis=0)]), array)


def _cut(array: Array, *sizes: int) -> Array:
    """Return the first entries along each axis."""
    index = tuple(slice(size) for size in sizes)
    # On the host: there it need not be compiled for every shape.
    return array[index] if is_traced(array) else _like(np.asarray(array)[index], array)


def _like(values: np.ndarray, array: Array) -> Array:
    """Return values as an array of the same type, and where it is if it was put there."""
    values = values.astype(array.dtype)
    committed = getattr(array, "committed", False)
    return jax.device_put(values, array.sharding) if committed else jnp.asarray(values)
