r"""The slowest way of neurons into their cones, by the patterns in which they start.

After Min, Mallada, Vidal (2024), Theorem 1(1), re-derived with sharper stays, for scales that
vanish. Take a neuron of $V_+$ that is active on $a$ negative and $b$ positive samples.

- It only loses negative samples and gains positive ones, so that its way is a lattice path from
  $(a, b)$, each step $(a - 1, b)$ or $(a, b + 1)$, that ends in $S_+$ at $(0, n_+)$ or, dead, at
  $(0, 0)$.
- In a pattern that stays $\mathrm{artanh}\cos(w, x_a)$ grows at the rate $c\|x_a\|$, and
  $\|x_a\| \ge \sqrt{k(1 + \mu(k - 1))}X_{\min}$ with $k = a + b$ (Lemma 11).
- Outside $S_+$ and $S_-$ it stays within $\pm A$, $A = \mathrm{artanh}\sqrt{1 - \mu^2}$
  (Lemma 9 with $\xi = \mu^2$); the cosine is negative if only negative samples are active, and
  positive if only positive ones are. So the way is at most $2A$, and $A$ in such a pattern.
- In $S_-$ it can only start, and there the way is at most $\mathrm{artanh}\cos(w(0), x_-)$.

The longest path is found by going through the lattice once. For $V_-$ exchange the classes.
"""

import math

import numpy as np
from jaxtyping import Float

from ....model.network import TwoLayerReLU
from ....model.problem import Problem
from .parameters import class_signs, pull_scale


def worst_path(problem: Problem, network: TwoLayerReLU, mu: float) -> float:
    r"""Return by when all neurons are in their cones or dead, as the scale vanishes.

    Args:
        problem: The problem.
        network: The network at time zero, balanced.
        mu: The data's $\mu$; the bound is infinite unless it is positive.

    Source:
        After Min, Mallada, Vidal, "Early Neuron Alignment in Two-layer ReLU Networks with Small
        Initialization" (2024), Theorem 1(1), re-derived in the module's docstring.
    """
    if mu <= 0:
        return math.inf
    inputs, signs = np.asarray(problem.inputs), class_signs(problem)
    directions, favours = np.asarray(network.directions()), np.sign(network.outer_weight)
    least = float(np.min(np.linalg.norm(inputs, axis=1)))
    latest = 0.0
    for sign in (1.0, -1.0):
        own, other = inputs[signs == sign], inputs[signs == -sign]
        table = remaining(len(own), len(other), mu, least)
        center = np.sum(other, axis=0)
        for direction in directions[favours == sign]:
            a, b = int(np.sum(other @ direction > 0)), int(np.sum(own @ direction > 0))
            if a and a == len(other) and b == 0:
                size = float(np.linalg.norm(center))
                first = math.atanh(min(float(direction @ center / size), 1.0 - 1e-16)) / size
                after = float(table[a, 1]) if len(own) else 0.0
                latest = max(latest, first + max(after, float(table[a - 1, 0])))
            else:
                latest = max(latest, float(table[a, b]))
    return latest / pull_scale(problem)


def remaining(
    own: int, other: int, mu: float, x_min: float = 1.0
) -> Float[np.ndarray, "other own"]:
    """Return the longest time left for each number of active samples of the other and own class.

    Times are those of $c = 1$. For a neuron that is active on exactly the other class the start
    decides (see `worst_path`): the entry for that is no bound.

    Args:
        own: Number of samples of the class that the neuron's output favours.
        other: Number of the others.
        mu: In (0, 1].
        x_min: Smallest norm of an input.

    Returns:
        The times, of shape (other + 1, own + 1).

    Source:
        After Min, Mallada, Vidal (2024), Theorem 1(1), re-derived in the module's docstring.
    """
    whole = math.atanh(min(math.sqrt(1 - mu**2), 1.0 - 1e-16))
    table = np.zeros((other + 1, own + 1))
    for a in range(other + 1):
        for b in range(own, -1, -1):
            k = a + b
            if k == 0 or (a == 0 and b == own):
                continue
            ends = 2 if a and b else 1
            stay = ends * whole / (math.sqrt(k * (1 + mu * (k - 1))) * x_min)
            loses = table[a - 1, b] if a else 0.0
            gains = table[a, b + 1] if b < own else 0.0
            table[a, b] = stay + max(loses, gains)
    return table
