r"""One neuron alone, while the pulls are constants: closed forms from switch to switch.

Where it is between two switches says `flow/method/constant_pulls.py` if both layers are trained.
With the outer layer fixed $w$ is linear in time. The rule at a hyperplane is Filippov's, for
constant pulls: a slide's weight is constant, so that a slide ends only when another
hyperplane is met. It is written down here anew, without power series, and shares no code
with `filippov.py`: so each of the two is an oracle for the other. Shared are only the
coordinates (`frame.py`), with the products that are zero by structure, units of rounding, and
what moves a neuron in a step without switches whose pulls are constant (`loop/quiet.py`).

Preactivations are carried along by themselves, and what pushes them is summed from products of
inputs, each sum judged by the rounding of its own summands: beside a neuron that has grown by
$10^{17}$, or a pull that much larger, nothing is lost, and nothing is made of rounding.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._norm import norm
from ..flow.method.constant_pulls import Boost, first_root
from ..flow.method.frame import Frame
from ..flow.tolerances import ON_HYPERPLANE, ROUNDING, VANISHED, eps
from ..model.problem import Problem
from ..model.switch import ACTIVE, INACTIVE, SLIDING

_STALLS = 16  # switches at one instant, beyond four a hyperplane: the modes are inconsistent


class Hyperplanes(eqx.Module):
    """The hyperplanes, and the constant pulls on their positive and negative sides.

    One hyperplane has several samples if inputs are parallel; the lowest-numbered speaks
    for them (`own`), and on the others both pulls are zero.
    """

    frame: Frame
    own: Bool[Array, " samples"]
    up: Float[Array, " samples"]
    down: Float[Array, " samples"]

    @classmethod
    def of(cls, problem: Problem) -> "Hyperplanes":
        """Return the hyperplanes of a problem, its pulls taken at output zero."""
        frame = Frame.of(problem)
        up, down = frame.group_pulls(frame.pull(jnp.zeros_like(frame.targets)))
        own = frame.representative == jnp.arange(problem.samples)
        return cls(frame, own, up, down)

    @property
    def noise(self) -> float:
        """The size, relative to its summands, below which a vector is taken for zero."""
        return VANISHED * eps(self.up)

    def stuck(self, stalls: Int[Array, " *batch"]) -> Bool[Array, " *batch"]:
        """Return whether so many switches at one instant mean that no modes are right."""
        return stalls > 4 * self.own.shape[0] + _STALLS

    def modes(self, side, at_rest) -> Int[Array, " samples"]:
        """Return the mode of each sample from the sides of the hyperplanes."""
        here = side[self.frame.representative]
        active = (here * jnp.sign(self.frame.factor).astype(here.dtype) > 0) & ~at_rest
        mode = jnp.where(active, ACTIVE, INACTIVE)
        return jnp.where((here == 0) & ~at_rest, SLIDING, mode).astype(jnp.int8)


class Segment(eqx.Module):
    """One neuron between two switches; under `vmap` all of them.

    Attributes:
        start: When it starts.
        inner: Inner weights there, times a power of two.
        outer: Outer weight there, likewise if it is trained.
        exponent: That power.
        imbalance: $v^2 - |w|^2$ in the present units.
        rate: Factor of the inner weights' equation at exponent zero.
        side: Of each hyperplane: +1, -1, or 0 for a slide.
        height: Preactivations of the hyperplanes' representatives, exactly zero on a hyperplane.
        slides: The hyperplanes slid on; unused slots hold `samples`.
        basis: Orthonormal vectors that span the normals of these; zero for unused slots.
        at_rest: Whether the inner weights are zero: then it rests for ever.
        drive: What drives it, across no slide.
        push: Its product with each input, zero if it is not more than rounding.
        wait: Time from the start to the next switch.
        index: What happens then: a hyperplane, or for each slot the two ends of a slide.
        logged: The modes that were written down last.
        stalls: Switches so far at the instant of the start.
        overflow: Whether it needed more slots for slides than there are.
    """

    start: Float[Array, "*width"]
    inner: Float[Array, "*width features"]
    outer: Float[Array, "*width"]
    exponent: Int[Array, "*width"]
    imbalance: Float[Array, "*width"]
    rate: Float[Array, "*width"]
    side: Int[Array, "*width samples"]
    height: Float[Array, "*width samples"]
    slides: Int[Array, "*width slides"]
    basis: Float[Array, "*width slides features"]
    at_rest: Bool[Array, "*width"]
    drive: Float[Array, "*width features"]
    push: Float[Array, "*width samples"]
    wait: Float[Array, "*width"]
    index: Int[Array, "*width"]
    logged: Int[Array, "*width samples"]
    stalls: Int[Array, "*width"]
    overflow: Bool[Array, "*width"]

    @property
    def next_time(self) -> Float[Array, "*width"]:
        """When the next switch is; `inf` if none is to come."""
        return self.start + self.wait


def _orthonormal(hyperplanes: Hyperplanes, slides) -> Float[Array, "slides features"]:
    """Return an orthonormal basis of the normals of the hyperplanes slid on."""
    inputs = hyperplanes.frame.inputs

    def extend(k, basis):
        normal = inputs.at[slides[k]].get(mode="fill", fill_value=0.0)
        free = _across(basis, normal)
        length = norm(free)
        used = length > hyperplanes.noise * norm(normal)
        return basis.at[k].set(jnp.where(used, free / jnp.where(used, length, 1.0), 0.0))

    none = jnp.zeros((slides.shape[0], inputs.shape[1]), inputs.dtype)
    return jax.lax.fori_loop(0, slides.shape[0], extend, none) if slides.shape[0] else none


def _across(basis: Float[Array, "slides features"], vector: Float[Array, " features"]):
    """Remove what lies along the basis (twice, for rounding)."""
    vector = vector - basis.T @ (basis @ vector)
    return vector - basis.T @ (basis @ vector)


def _coefficients(hyperplanes: Hyperplanes, side) -> Float[Array, " samples"]:
    """Return by how much of each input a neuron is driven, slides left out."""
    below = jnp.where(side < 0, -hyperplanes.down, 0.0)
    return jnp.where(side > 0, hyperplanes.up, below)


def _pushes(
    hyperplanes: Hyperplanes,
    coefficient: Float[Array, " samples"],
    slides: Int[Array, " slides"],
    basis: Float[Array, "slides features"],
    which: slice | Int[Array, " which"] = slice(None),
) -> tuple[Float[Array, " which"], Float[Array, " which"]]:
    """Return what pushes a neuron along inputs across its slides, and the rounding of that."""
    frame = hyperplanes.frame
    gram, overlap = frame.gram[which], frame.overlap[which]
    push, size = gram @ coefficient, overlap @ jnp.abs(coefficient)
    if slides.shape[0]:
        # Orthogonal to all inputs slid on is orthogonal to what spans them.
        touching = overlap.at[:, slides].get(mode="fill", fill_value=0.0)
        along = frame.inputs[which] @ basis.T
        along = jnp.where(jnp.any(touching > 0, axis=1)[:, None], along, 0.0)
        push = push - along @ (basis @ (coefficient @ frame.inputs))
        size = size + (jnp.abs(coefficient) @ frame.norms) * jnp.sum(jnp.abs(along), axis=1)
    return push, ROUNDING * eps(push) * size


def _with_next_switch(hyperplanes: Hyperplanes, neuron: Segment) -> Segment:
    """Return the segment with its drive and its next switch."""
    coefficient = _coefficients(hyperplanes, neuron.side)
    base = coefficient @ hyperplanes.frame.inputs
    size = jnp.abs(coefficient) @ hyperplanes.frame.norms
    drive = _across(neuron.basis, base)
    rests = (norm(drive) <= hyperplanes.noise * size) | neuron.at_rest
    push, error = _pushes(hyperplanes, coefficient, neuron.slides, neuron.basis)
    push = jnp.where(rests | (jnp.abs(push) <= error), 0.0, push)
    neuron = eqx.tree_at(lambda s: (s.drive, s.push), neuron, (jnp.where(rests, 0.0, drive), push))
    hits = _first_crossing(hyperplanes, neuron)
    waits = jnp.concatenate([hits, *_slide_ends(hyperplanes, neuron, base, size)])
    waits = jnp.where(neuron.at_rest, jnp.inf, waits)
    index = jnp.argmin(waits).astype(neuron.index.dtype)
    stuck = hyperplanes.stuck(neuron.stalls)
    wait = jnp.where(stuck | neuron.overflow, jnp.inf, waits[index])
    return eqx.tree_at(lambda s: (s.wait, s.index), neuron, (wait, index))


def _slide_ends(hyperplanes: Hyperplanes, neuron: Segment, base, size):
    """Return 0 for each slide whose weight is beyond its negative or positive end, else `inf`.

    A weight of zero is an end, too: nothing pushes back any more.
    """
    samples, slides = hyperplanes.own.shape[0], neuron.slides

    def weigh(i, state):
        # The basis is triangular in the normals, so the last slide's share comes first.
        rest, reach, weights, errors = state
        k = slides.shape[0] - 1 - i
        normal = hyperplanes.frame.inputs.at[slides[k]].get(mode="fill", fill_value=0.0)
        along = neuron.basis[k] @ normal
        along = jnp.where(along == 0, 1.0, along)
        weight = -(neuron.basis[k] @ rest) / along
        error = hyperplanes.noise * reach / jnp.abs(along)
        weights, errors = weights.at[k].set(weight), errors.at[k].set(error)
        return rest + weight * normal, reach + jnp.abs(weight) * norm(normal), weights, errors

    weights = errors = jnp.zeros(slides.shape, base.dtype)
    if slides.shape[0]:
        start = (base, size, weights, errors)
        _, _, weights, errors = jax.lax.fori_loop(0, slides.shape[0], weigh, start)
    pick = lambda array: array.at[slides].get(mode="fill", fill_value=0.0)
    up, down = pick(hyperplanes.up), pick(hyperplanes.down)
    sign, used = jnp.where(up + down < 0, -1.0, 1.0), slides < samples
    own = ROUNDING * eps(base)
    below = used & (sign * (weights + down) <= errors + own * jnp.abs(down))
    above = used & (sign * (up - weights) < -errors - own * jnp.abs(up))
    return jnp.where(below, 0.0, jnp.inf), jnp.where(above, 0.0, jnp.inf)


def _first_crossing(hyperplanes: Hyperplanes, neuron: Segment) -> Float[Array, " samples"]:
    """Return when each hyperplane is met first, `inf` if never or if it is slid on."""
    sign = jnp.where(hyperplanes.own, neuron.side, 0).astype(neuron.height.dtype)
    start = jnp.maximum(sign * neuron.height, 0.0)
    if not hyperplanes.frame.train_outer:
        rate = jnp.ldexp(neuron.rate, -neuron.exponent) * neuron.outer
        return first_root(jnp.zeros_like(start), sign * rate * neuron.push, start)
    return _boost(neuron).first_crossings(sign, neuron.height, neuron.push)


def _boost(neuron: Segment) -> Boost:
    """Return where the neuron goes, both layers trained."""
    return Boost.of(neuron.inner, neuron.outer, neuron.imbalance, neuron.drive)


def moved(hyperplanes: Hyperplanes, neuron: Segment, wait) -> tuple[Segment, Bool[Array, ""]]:
    """Return the neuron's weights after a time, and whether its inner weights are zero."""
    if not hyperplanes.frame.train_outer:
        rate = jnp.ldexp(neuron.rate, -neuron.exponent)
        way = rate * neuron.outer * wait * neuron.drive
        inner, outer, k = neuron.inner + way, neuron.outer, jnp.zeros_like(neuron.exponent)
        height = neuron.height + rate * neuron.outer * wait * neuron.push
        reach = norm(neuron.inner) + norm(way)
        size = jnp.max(jnp.abs(inner))
    else:
        arrived = _boost(neuron).after(wait, neuron.height, neuron.push)
        inner, outer, height, reach = arrived.inner, arrived.outer, arrived.height, arrived.reach
        k = arrived.exponent.astype(neuron.exponent.dtype)
        size = jnp.maximum(jnp.max(jnp.abs(inner)), jnp.abs(outer))
    height = _reconciled(hyperplanes, neuron, height, inner)
    zero = (norm(inner) <= hyperplanes.noise * reach) & (wait > 0)
    _, more = jnp.frexp(size)
    more = more.astype(k.dtype)
    if hyperplanes.frame.train_outer:
        outer = jnp.ldexp(outer, -more)
    after = (
        jnp.ldexp(inner, -more), outer, jnp.ldexp(height, -more), neuron.exponent + k + more,
        jnp.ldexp(neuron.imbalance, -2 * (k + more)),
    )  # fmt: skip
    where = lambda s: (s.inner, s.outer, s.height, s.exponent, s.imbalance)
    return eqx.tree_at(where, neuron, after), zero


def _reconciled(hyperplanes: Hyperplanes, neuron: Segment, height, inner):
    """Return the heights, from the weights where these say something else, by their own rounding.

    That is so of a neuron that has shrunk: what was rounding of its heights is not any more.
    """
    product = hyperplanes.frame.inputs @ inner
    apart = jnp.abs(product - height) > hyperplanes.noise * norm(inner) * hyperplanes.frame.norms
    right = jnp.sign(product) == neuron.side.astype(product.dtype)
    moving = (neuron.height != 0) | (neuron.push != 0)
    trusted = moving & right & (apart | ~jnp.isfinite(height))
    return jnp.where(trusted, product, jnp.where(jnp.isfinite(height), height, 0.0))


def switched(hyperplanes: Hyperplanes, neuron: Segment) -> Segment:
    """Take the neuron to its next switch, through it, and find what follows."""
    samples, slots = hyperplanes.own.shape[0], neuron.slides.shape[0]
    is_hit = neuron.index < samples
    slot = jnp.where(is_hit, 0, (neuron.index - samples) % max(slots, 1))
    slid = neuron.slides[slot] if slots else neuron.index
    r = jnp.where(is_hit, jnp.minimum(neuron.index, samples - 1), slid)
    time, stalls = neuron.next_time, jnp.where(neuron.wait > 0, 0, neuron.stalls + 1)
    neuron, at_rest = moved(hyperplanes, neuron, neuron.wait)
    at_rest = at_rest & is_hit
    hit = _side_after_hit(hyperplanes, neuron, r)
    leave = jnp.where(neuron.index < samples + slots, -1, 1)
    new = jnp.where(is_hit, hit, leave).astype(neuron.side.dtype)
    enters, slides, overflow = is_hit & (new == 0), neuron.slides, neuron.overflow
    if slots:
        unused = slides == samples
        overflow = overflow | (enters & ~jnp.any(unused))
        entered = slides.at[jnp.argmax(unused)].set(r.astype(slides.dtype))
        left = slides.at[slot].set(samples)
        slides = jnp.where(enters, entered, jnp.where(is_hit, slides, left))
        slides = jnp.where(at_rest, samples, slides)
    else:
        overflow = overflow | enters
    basis = _orthonormal(hyperplanes, slides)
    inner = _across(basis, neuron.inner)
    inner = jnp.where(at_rest, 0.0, inner)
    side, at_rest = neuron.side.at[r].set(new), neuron.at_rest | at_rest
    height = jnp.where(at_rest | (side == 0), 0.0, neuron.height).at[r].set(0.0)
    changed = (time, inner, side, height, slides, basis, at_rest, stalls, overflow)
    where = lambda s: (
        s.start, s.inner, s.side, s.height, s.slides, s.basis, s.at_rest, s.stalls,
        s.overflow,
    )  # fmt: skip
    return _with_next_switch(hyperplanes, eqx.tree_at(where, neuron, changed))


def _side_after_hit(hyperplanes: Hyperplanes, neuron: Segment, r) -> Int[Array, ""]:
    """Cross if the velocity beyond the hyperplane leads away from it, else slide."""
    below, above = _normal_speeds(hyperplanes, neuron, r)
    from_above = jnp.where(below <= 0, -1, 0)
    from_below = jnp.where(above >= 0, 1, 0)
    return jnp.where(neuron.side[r] > 0, from_above, from_below)


def _normal_speeds(hyperplanes: Hyperplanes, neuron: Segment, r):
    """Return the velocity across a hyperplane on its two sides, zero if no more than rounding.

    Both from the *other* samples: taken off again, its own pull would leave its rounding.
    """
    others = _coefficients(hyperplanes, neuron.side).at[r].set(0.0)
    here = jnp.atleast_1d(r)
    (push,), (error,) = _pushes(hyperplanes, others, neuron.slides, neuron.basis, here)
    free = _across(neuron.basis, hyperplanes.frame.inputs[r])
    square = free @ free

    def speed(own):
        total = push + own * square
        doubt = error + ROUNDING * eps(total) * jnp.abs(own) * square
        return neuron.outer * jnp.where(jnp.abs(total) <= doubt, 0.0, total)

    return speed(-hyperplanes.down[r]), speed(hyperplanes.up[r])


def started(hyperplanes: Hyperplanes, neuron: Segment) -> tuple[Segment, Int[Array, ""]]:
    """Return the neuron in its first modes, and on how many repelling hyperplanes it is.

    On a hyperplane it starts inactive; if that is wrong, that is its first switch. On a
    repelling one both sides are right, and so is staying, which is chosen.
    """
    samples = hyperplanes.own.shape[0]
    height = hyperplanes.frame.inputs @ neuron.inner
    size = norm(neuron.inner)
    near = jnp.abs(height) <= ON_HYPERPLANE * eps(height) * size * hyperplanes.frame.norms
    height = jnp.where(near, 0.0, height)
    side = jnp.where(height > 0, 1, -1).astype(neuron.side.dtype)
    neuron = eqx.tree_at(lambda s: s.side, neuron, side)
    speeds = jax.vmap(lambda r: _normal_speeds(hyperplanes, neuron, r))
    below, above = speeds(jnp.arange(samples))
    unstable = near & hyperplanes.own & (above > 0) & (below <= 0) & (size > 0)
    repelling = unstable & (below < 0)
    found = jnp.nonzero(repelling, size=neuron.slides.shape[0], fill_value=samples)[0]
    side = jnp.where(repelling, 0, side).astype(side.dtype)
    overflow = jnp.sum(repelling) > neuron.slides.shape[0]
    at_rest, slides = size == 0, found.astype(neuron.slides.dtype)
    basis, modes = _orthonormal(hyperplanes, slides), hyperplanes.modes(side, at_rest)
    fields = (side, height, slides, basis, at_rest, modes, overflow)
    where = lambda s: (s.side, s.height, s.slides, s.basis, s.at_rest, s.logged, s.overflow)
    neuron = _with_next_switch(hyperplanes, eqx.tree_at(where, neuron, fields))
    return neuron, jnp.sum(unstable, dtype=jnp.int32)


def limit_direction(hyperplanes: Hyperplanes, neuron: Segment) -> Float[Array, " features"]:
    """Return the direction that the neuron's present segment leads to as t grows for ever."""
    own = neuron.inner / jnp.where(neuron.at_rest, 1.0, norm(neuron.inner))
    if hyperplanes.frame.train_outer:
        parts = _boost(neuron)
        speed, unit, sign = parts.speed, parts.unit, jnp.sign(parts.rising)
    else:
        speed = norm(neuron.drive)
        unit, sign = neuron.drive / jnp.where(speed > 0, speed, 1.0), jnp.sign(neuron.outer)
    return jnp.where((speed > 0) & (sign != 0), sign * unit, own)
