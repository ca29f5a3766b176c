r"""Newton's method for the stages of a collocation step, with the kernel of the step's start.

Outputs obey $f' = K g(f)$. With the quadrature $A$ over the nodes and the loss's curvature $c$ a
correction $x$ of the outputs solves $(1 + A K c) x = r$: in the eigenvectors of
$c^{1/2} K c^{1/2}$ that is one small system for each eigenvalue.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .field import FlowField, Frozen, Weights, slide_inputs


def newton(field: FlowField, weights: Weights, frozen: Frozen, outputs, quadrature, warped, wanted):
    """Return a function that solves `(1 + A K c) x = r` for the stages' outputs.

    It takes the residuals `r` and by how much outputs, inner and outer weights have changed at the
    nodes, and returns `x` and `c x`, by how much the pulls are less for it.

    `A` is the quadrature, `K` the tangent kernel and `c` the loss's curvature, at the start. Where
    time is `warped` they are those at the nodes, as far as their diagonals tell: in a tail `c`
    falls, or `K`, by as much as time runs faster; for a sample that has been fitted neither does.
    """
    frame = field.frame
    nodes, samples = quadrature.shape[0], outputs.shape[0]
    curvature = frame.curvature(outputs)
    rate = frozen.amplitude * frozen.inner_rate, frozen.amplitude * frozen.outer_rate

    def decay(outputs: Float[Array, "nodes samples"], inner, outer):
        """Return how fast each sample's own residual decays, the others being held."""
        turning = (rate[0][None] * outer**2) @ frozen.active
        height = (inner @ frame.inputs.T) * frozen.active[None]
        kernel = turning * frame.norms[None] ** 2 + jnp.einsum("j,pjn->pn", rate[1], height**2)
        return frame.curvature(outputs) * kernel

    first = decay(outputs[None], weights[0][None], weights[1][None])

    def slowing(changes) -> Float[Array, "nodes samples"]:
        now = (outputs, *weights)
        there = decay(*(start[None] + change for start, change in zip(now, changes, strict=True)))
        return jnp.where(first > 0, there / jnp.where(first > 0, first, 1.0), 1.0)

    def prepare(_):
        kernel = tangent_kernel(field, weights, frozen)
        root = jnp.sqrt(curvature)
        values, vectors = jnp.linalg.eigh(root[:, None] * kernel * root[None])
        values = jnp.maximum(values, 0.0)
        return kernel, vectors, values, inverted(values, even), jnp.array(False)

    def inverted(values, slowed: Float[Array, "nodes samples"]):
        systems = values[:, None, None] * quadrature[None] * slowed.T[:, None, :]
        return jnp.linalg.inv(jnp.eye(nodes, dtype=values.dtype)[None] + systems)

    even = jnp.ones((nodes, samples), outputs.dtype)
    like = lambda *shape: jnp.zeros(shape, outputs.dtype)
    nothing = (
        like(samples, samples), like(samples, samples), like(samples),
        like(samples, nodes, nodes), wanted,
    )  # fmt: skip
    # A loop of one: unlike a condition it is skipped under `vmap` if nobody wants it.
    kernel, vectors, values, inverses, _ = jax.lax.while_loop(lambda s: s[4], prepare, nothing)

    def anew(changes):
        # In each direction the mean of what it is made of.
        slowed = jnp.clip(slowing(changes), 0.0, 1.0) @ vectors**2
        return inverted(values, slowed), slowed

    def solve(residual: Float[Array, "nodes samples"], changes):
        # In terms of c^1/2 x, so that a curvature of zero divides nothing.
        root = jnp.sqrt(curvature)
        found, slowed = jax.lax.cond(warped, anew, lambda _: (inverses, even), changes)
        turned = (root[None] * residual) @ vectors
        solved = (slowed * jnp.einsum("ipq,qi->pi", found, turned)) @ vectors.T
        less = root[None] * solved
        return residual - quadrature @ (less @ kernel), less

    return solve


def tangent_kernel(
    field: FlowField, weights: Weights, frozen: Frozen
) -> Float[Array, "samples samples"]:
    """Return the tangent kernel of the frozen pattern: `f' = K g`."""
    frame, (inner, outer) = field.frame, weights
    turning = (frozen.amplitude * frozen.inner_rate * outer**2)[:, None] * frozen.active
    height = (inner @ frame.inputs.T) * frozen.active
    growing = (frozen.amplitude * frozen.outer_rate)[:, None] * height
    kernel = (turning.T @ frozen.active) * frame.gram + growing.T @ height
    if frozen.slides.shape[1] == 0:
        return kernel
    across = slide_inputs(frame, frozen.slides) @ frame.inputs.T
    dual = frozen.dual @ frame.inputs.T
    held = jnp.einsum("ji,jsi,jsk,jk->ik", turning, across, dual, frozen.active, optimize="optimal")
    return kernel - held
