r"""One neuron teaches: the sum of the network's positive neurons beside the teacher.

Once all living positive neurons are active on every input, and the negative ones dead, the
network is linear on the data: f(x_i) = <v, x_i> with the *bundle* v = sum_j a_j w_j. Its
coordinates belong to the orthonormal eigenvectors u_1, u_2, ... of X^T X / n (X has one row a
sample), in order of decreasing eigenvalue.

Source:
    Chistikov, Englert, Lazić, "Learning a Neuron by a Shallow ReLU Network: Dynamics and
    Implicit Bias for Correlated Inputs" (2023), the second phase.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import FloatArrayLike
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from .observables import living


def bundle(problem: Problem, network: TwoLayerReLU) -> Float[Array, " features"]:
    r"""Return $\sum_j a_j w_j$ over living neurons with $a_j > 0$, in true weights."""
    chosen = living(problem, network) & (network.outer_weight > 0)
    amplitude = jnp.exp(network.log_scale + network.outer_log_scale) * network.outer_weight
    return jnp.where(chosen, amplitude, 0.0) @ network.inner_weight


def data_eigenbasis(
    problem: Problem,
) -> tuple[Float[Array, " features"], Float[Array, "features features"]]:
    """Return eigenvalues of X^T X / n, the largest first, and eigenvectors as columns."""
    moments = problem.inputs.T @ problem.inputs / problem.samples
    values, vectors = jnp.linalg.eigh(moments)
    return values[::-1], vectors[:, ::-1]


def teacher_gap(
    teacher: FloatArrayLike,
) -> Callable[[Problem, TwoLayerReLU], Float[Array, " features"]]:
    r"""Return the observable of the coordinates $\nu_k^* - \nu_k$ of teacher minus bundle.

    The eigenvectors' signs are such that $\nu_k^* \ge 0$, the coordinates of the teacher.

    Args:
        teacher: The weights of the one neuron that labels the data.
    """
    teacher = jnp.asarray(teacher, float)

    def teacher_minus_bundle(problem, network):
        _, vectors = data_eigenbasis(problem)
        sign = jnp.where(teacher @ vectors < 0, -1.0, 1.0)
        return sign * ((teacher - bundle(problem, network)) @ vectors)

    return teacher_minus_bundle


def first_mode(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    r"""Return $\nu_1/\nu_1^*$: how much of the teacher's leading coordinate is learnt.

    The teacher is read off the data, of which all targets must be those of a linear function
    of the inputs: $\eta_1\nu_1^* = \frac1n\sum_i y_i\langle u_1, x_i\rangle$.
    """
    values, vectors = data_eigenbasis(problem)
    leading = vectors[:, 0]
    learnt = problem.targets @ (problem.inputs @ leading) / (problem.samples * values[0])
    return (bundle(problem, network) @ leading) / learnt
