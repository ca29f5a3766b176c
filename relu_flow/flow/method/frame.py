"""The coordinates in which a flow is solved, and the scales of its neurons.

Two changes of coordinates, both exact. Neurons move only within the span of the inputs, so
where `Problem.basis` is given the flow lives in its coordinates plus one that carries what
is orthogonal to it. And a power of two may be moved at any time between a neuron's weights
and its scale, without rounding, so that nothing under- or overflows.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..._norm import norm
from ...model.loss import AbstractLoss
from ...model.network import TwoLayerReLU
from ...model.problem import Problem, parallel_groups
from ..tolerances import ORTHOGONAL, eps
from .arrangement import patterns

# Steps towards the point of a hull that is nearest to zero.
_TRIES = 256


class Frame(eqx.Module):
    """A problem in the coordinates of the solver.

    Attributes:
        inputs: In the basis of their span, with a last coordinate 0 for the orthogonal part.
        norms: Their norms.
        targets: As in the problem.
        representative: Lowest-numbered sample on the same hyperplane.
        factor: Each input over its representative.
        gram: Products of the inputs; what is zero by structure is exactly zero.
        overlap: Products of their norms where `gram` is not zero: what rounding errors of
            sums over it are measured by.
        rank: Dimension of the inputs' span.
        one_sided: Whether a neuron can be inactive on all inputs, as far as was found.
        patterns: Activation patterns of directions, where inner weights may come to zero and
            there are not too many; else no rows.
        watched: Whether these are all, and one of them could make a neuron leave zero.
        loss: Loss of one sample.
        sample_weight: The constants before the samples' losses; 0 for samples that but fill
            up a shape, and have no switches of their own.
        train_outer: Whether the outer weights move.
    """

    inputs: Float[Array, "samples features"]
    norms: Float[Array, " samples"]
    targets: Float[Array, " samples"]
    representative: Int[Array, " samples"]
    factor: Float[Array, " samples"]
    gram: Float[Array, "samples samples"]
    overlap: Float[Array, "samples samples"]
    rank: Int[Array, ""]
    one_sided: Bool[Array, ""]
    patterns: Float[Array, "patterns samples"]
    watched: Bool[Array, ""]
    loss: AbstractLoss
    sample_weight: Float[Array, " samples"]
    train_outer: bool = eqx.field(static=True)

    @classmethod
    def of(cls, problem: Problem, sample_weight: Float[Array, " samples"] | None = None) -> "Frame":
        """Express a problem in the coordinates of the solver.

        Its samples have the weight that it says, unless one is given for each.
        """
        if sample_weight is None:
            sample_weight = jnp.full(problem.samples, problem.sample_weight, problem.inputs.dtype)
        representative, factor = parallel_groups(problem.inputs)
        inputs = problem.inputs
        if problem.basis is not None:
            inputs = jnp.pad(inputs @ problem.basis, ((0, 0), (0, 1)))
            # Rounding must not part inputs that share a hyperplane.
            inputs = factor[:, None] * inputs[representative]
        norms = jnp.linalg.norm(inputs, axis=1)
        gram, overlap = _products(problem.inputs, norms)
        spanned = inputs if problem.basis is None else inputs[:, :-1]
        one_sided = _one_sided(inputs / norms[:, None])
        train_outer = problem.train == "both"
        # With both layers trained inner weights do not reach zero: nothing to be watched.
        listed = jnp.zeros((0, inputs.shape[0]), inputs.dtype)
        if not train_outer:
            listed = patterns(jax.lax.stop_gradient(spanned), problem.rank)
        watched = (problem.rank + 1 >= spanned.shape[1]) & ~one_sided & (listed.shape[0] > 0)
        return cls(
            inputs=inputs,
            norms=norms,
            gram=gram,
            overlap=overlap,
            rank=problem.rank,
            one_sided=one_sided,
            patterns=listed,
            watched=watched,
            targets=problem.targets,
            representative=representative,
            factor=factor,
            loss=problem.loss,
            sample_weight=sample_weight,
            train_outer=train_outer,
        )

    @property
    def own(self) -> Bool[Array, " samples"]:
        """Which samples stand for a hyperplane: the first of those that share it."""
        return self.representative == jnp.arange(
            self.norms.shape[0], dtype=self.representative.dtype
        )

    @property
    def counted(self) -> Bool[Array, " samples"]:
        """Which samples are the problem's, and do not just fill up a shape."""
        return self.sample_weight != 0

    def pull(self, outputs: Float[Array, " samples"]) -> Float[Array, " samples"]:
        """Return minus the derivative of the reduced loss by each output."""
        return self.sample_weight * self.loss.pull(outputs, self.targets)

    def pull_after(
        self, outputs: Float[Array, " samples"], change: Float[Array, "*nodes samples"]
    ) -> Float[Array, "*nodes samples"]:
        """Return the pulls once the outputs have changed, see `AbstractLoss.pull_after`."""
        outputs, targets, weight = self._like(change, outputs)
        return weight * self.loss.pull_after(outputs, change, targets)

    def pull_change(
        self, outputs: Float[Array, " samples"], change: Float[Array, "*nodes samples"]
    ) -> Float[Array, "*nodes samples"]:
        """Return by how much pulls change with outputs, see `AbstractLoss.pull_change`."""
        outputs, targets, weight = self._like(change, outputs)
        return weight * self.loss.pull_change(outputs, change, targets)

    def curvature(self, outputs: Float[Array, "*nodes samples"]) -> Float[Array, "*nodes samples"]:
        """Return the second derivatives of the reduced loss: how fast pulls fall with outputs."""
        outputs, targets, weight = self._like(outputs, outputs)
        return weight * self.loss.curvature(outputs, targets)

    def _like(self, array, outputs):
        """Return outputs, targets and weights of the samples, all of an array's shape."""
        spread = lambda values: jnp.broadcast_to(values, array.shape)
        return spread(outputs), spread(self.targets), spread(self.sample_weight)

    def group_pulls(
        self, pull: Float[Array, "*order samples"]
    ) -> tuple[Float[Array, "*order samples"], Float[Array, "*order samples"]]:
        r"""Sum the pulls of parallel inputs, at their representative (zero elsewhere).

        Returns:
            $\Gamma^+$ and $\Gamma^-$: a neuron on the positive side of hyperplane $r$ is
            driven by $\Gamma^+_r x_r$, one on its negative side by $-\Gamma^-_r x_r$.
        """
        total = jnp.zeros_like(pull)
        factor = lax.broadcast_to_rank(self.factor, pull.ndim)
        positive = total.at[..., self.representative].add(pull * jnp.maximum(factor, 0))
        negative = total.at[..., self.representative].add(pull * jnp.maximum(-factor, 0))
        return positive, negative


def _one_sided(directions: Float[Array, "samples features"]) -> Bool[Array, ""]:
    """Return whether some vector has negative products with all directions.

    The point of their hull that is nearest to zero has; it is approached after Frank and
    Wolfe until it proves itself. Not to find it within the tries costs little: who
    is sent through zero then may die behind it.
    """

    def worst(point):
        products = directions @ point
        index = jnp.argmin(products)
        return products[index], directions[index]

    def nearer(state):
        point, _, tries = state
        _, corner = worst(point)
        way = corner - point
        square = way @ way
        share = jnp.clip(-(point @ way) / jnp.where(square > 0, square, 1.0), 0.0, 1.0)
        point = point + share * way
        return point, worst(point)[0] > 0, tries + 1

    point = jnp.mean(directions, axis=0)
    start = (point, worst(point)[0] > 0, 0)
    searching = lambda state: ~state[1] & (state[2] < _TRIES)
    return jax.lax.while_loop(searching, nearer, start)[1]


def _products(inputs: Float[Array, "samples features"], norms: Float[Array, " samples"]):
    """Return `Frame.gram` and `Frame.overlap`."""
    size = norms[:, None] * norms[None]
    product = inputs @ inputs.T
    features = jnp.sum(jnp.any(inputs != 0, axis=0), dtype=inputs.dtype)
    resolution = ORTHOGONAL * eps(inputs) * jnp.sqrt(features)
    orthogonal = jnp.abs(product) <= resolution * size
    return jnp.where(orthogonal, 0.0, product), jnp.where(orthogonal, 0.0, size)


class Neurons(eqx.Module):
    r"""The neurons: weights, and the power of two taken out of them so far.

    The true weights are $2^{k} e^{\rho} w$ and, if both layers are trained, $2^{k}
    e^{\rho} v$; otherwise $e^{\sigma} v$.

    Attributes:
        inner: $w$, in the coordinates of the frame.
        outer: $v$.
        exponent: $k$.
        imbalance: $v^2 - |w|^2$ in the present units, kept by the flow.
        log_scale: $\rho$ as given.
        outer_log_scale: $\sigma$ as given.
    """

    inner: Float[Array, "width features"]
    outer: Float[Array, " width"]
    exponent: Int[Array, " width"]
    imbalance: Float[Array, " width"]
    log_scale: Float[Array, " width"]
    outer_log_scale: Float[Array, " width"]

    @classmethod
    def of(cls, problem: Problem, network: TwoLayerReLU) -> "Neurons":
        """Express a network in the coordinates of the solver."""
        inner, outer = network.inner_weight, network.outer_weight
        log_scale, outer_log_scale = network.log_scale, network.outer_log_scale
        if problem.train == "both":
            # One scale for both layers; the smaller layer gives way.
            common = jnp.maximum(log_scale, outer_log_scale)
            inner = inner * jnp.exp(log_scale - common)[:, None]
            outer = outer * jnp.exp(outer_log_scale - common)
            log_scale = outer_log_scale = common
        imbalance = outer**2 - jnp.sum(inner**2, axis=1)
        if problem.basis is not None:
            along = inner @ problem.basis
            across = norm(inner - along @ problem.basis.T)
            inner = jnp.concatenate([along, across[:, None]], axis=1)
        neurons = cls(
            inner,
            outer,
            jnp.zeros(outer.shape, jnp.int32),
            imbalance,
            log_scale,
            outer_log_scale,
        )
        return neurons.renormalise(problem.train == "both")

    def network(self, problem: Problem, start: TwoLayerReLU) -> TwoLayerReLU:
        """Return the network in the problem's coordinates; `start` gives what never moves."""
        inner = self.inner
        if problem.basis is not None:
            along = start.inner_weight @ problem.basis
            across = start.inner_weight - along @ problem.basis.T
            length = norm(across)
            unit = across / jnp.where(length > 0, length, 1.0)[:, None]
            inner = inner[:, :-1] @ problem.basis.T + inner[:, -1:] * unit
        log_scale, outer_log_scale = self.scales(problem.train == "both")
        return TwoLayerReLU(inner, self.outer, log_scale, outer_log_scale)

    def scales(self, train_outer: bool) -> tuple[Float[Array, " width"], Float[Array, " width"]]:
        """Return the natural logarithms of the present scales of the two layers."""
        dtype = self.log_scale.dtype
        # Split log 2 so that the product with the exponent's integer is exact.
        high = jnp.asarray(math.floor(math.log(2) * 2**12) / 2**12, dtype)
        low = jnp.asarray(math.log(2) - math.floor(math.log(2) * 2**12) / 2**12, dtype)
        k = self.exponent.astype(dtype)
        log_scale = (self.log_scale + k * high) + k * low
        return log_scale, log_scale if train_outer else self.outer_log_scale

    def amplitude(self, train_outer: bool) -> Float[Array, " width"]:
        """Return the factor of each neuron's own output in the network's."""
        return jnp.exp(jnp.add(*self.scales(train_outer)))

    def inner_rate(self, train_outer: bool) -> Float[Array, " width"]:
        """Return the factor before the inner weights' equation in the present units."""
        if train_outer:
            return jnp.ones_like(self.outer)
        log_scale, outer_log_scale = self.scales(train_outer)
        return jnp.exp(outer_log_scale - log_scale)

    def size(self, train_outer: bool) -> Float[Array, " width"]:
        """Return the largest weight in absolute value, of those that move."""
        size = jnp.max(jnp.abs(self.inner), axis=1)
        return jnp.maximum(size, jnp.abs(self.outer)) if train_outer else size

    def renormalise(self, train_outer: bool) -> "Neurons":
        """Move a power of two into the scale so that the largest weight is in [1/2, 1)."""
        _, k = jnp.frexp(self.size(train_outer))
        outer = jnp.ldexp(self.outer, -k) if train_outer else self.outer
        return Neurons(
            jnp.ldexp(self.inner, -k[:, None]),
            outer,
            self.exponent + k.astype(self.exponent.dtype),
            jnp.ldexp(self.imbalance, -2 * k) if train_outer else self.imbalance,
            self.log_scale,
            self.outer_log_scale,
        )

    def rebalance(self) -> "Neurons":
        """Put each neuron back on its level set of the conserved imbalance.

        One Newton step along the gradient of $v^2 - |w|^2$; it moves a weight by a few
        units of rounding, and keeps rounding errors from adding up over a long run.
        """
        inner_square = jnp.sum(self.inner**2, axis=1)
        excess = self.outer**2 - inner_square - self.imbalance
        total = 2 * (self.outer**2 + inner_square)
        step = excess / jnp.where(total > 0, total, 1.0)
        return eqx.tree_at(
            lambda n: (n.inner, n.outer),
            self,
            (self.inner * (1 + step)[:, None], self.outer * (1 - step)),
        )
