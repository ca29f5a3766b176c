r"""Three points on a line that a network with biases fails to fit from a small start.

The inputs are $(x, 1)$, or nearly, with the bias as their second coordinate; the middle
point is far below the line through the outer ones. Early on all neurons that will matter
align to one direction, and the flow ends at a spurious stationary point.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .._types import FloatScalarLike
from ..model.loss import SquareLoss
from ..model.problem import Problem
from .certificate import AbstractCertificate, Margins, met, rounding
from .draws import check_interval, gaussians, uniform

LARGEST_ETA = 1 / 6


class ThreePoints(AbstractCertificate):
    r"""What three points are measured by, ordered by their first coordinates.

    Attributes:
        margins: Of Assumption 3 with $\eta < 1/6$. `eta below 1/6` is $1/6$ less the
            smallest $\eta$ of which all ranges hold; the others are the ends of the ranges
            that do not depend on it: `x_1 right of -1`, `x_3 left of 1`, `y_2 positive`
            (open), `x_1 bias`, `x_3 bias`, `y_1`, `y_3`, each at least 1 (closed, within
            rounding); `square loss` and `both layers`, yes or no.
        eta: The smallest $\eta$ of which the ranges hold (if the other ends do).
        min_inner: $\min_{i<k}\langle x_i, x_k\rangle$, positive for data like these.
        min_target: The smallest target, positive for data like these.
        dip: By how much the middle target is below the value there of the linear function
            of the inputs that fits all three in least squares; positive for data like
            these.
    """

    margins: Margins
    eta: Float[Array, ""]
    min_inner: Float[Array, ""]
    min_target: Float[Array, ""]
    dip: Float[Array, ""]

    @property
    def alike(self) -> Float[Array, ""]:
        """The smallest of `min_inner`, `min_target` and `dip`.

        Positive if the data are at least like those of the theorem: this is what the
        published experiment satisfies, not Assumption 3.
        """
        return jnp.min(jnp.stack([self.min_inner, self.min_target, self.dip]))


def three_points(key: Key[Array, ""], eta: FloatScalarLike = 0.1) -> tuple[Problem, ThreePoints]:
    r"""Draw three points within the ranges of Assumption 3, square loss, mean.

    All nine numbers are uniform in their ranges, then stretched together so that the
    smallest $\eta$ they satisfy is the one asked for. A key gives the same data but for
    this scale whatever `eta`.

    Args:
        key: From `jax.random.key`.
        eta: $\eta$ in $(0, 1/6)$.

    Raises:
        ValueError: If `eta` is out of its range.

    Source:
        Boursier, Flammarion, "Early alignment in two-layer networks training is a two-edged
        sword" (2025), Assumption 3, whose signs were inferred: the text at hand had lost
        them, and only these make all inner products positive.
    """
    check_interval("eta", eta, 0.0, LARGEST_ETA, "between 0 and 1/6")
    drawn = gaussians(key, 1, 11)[0]
    share = uniform(drawn[:9])
    share = eta * share / jnp.max(share)
    sides = jnp.where(drawn[9:] > 0, 1.0, -1.0)
    inputs = jnp.array(
        [
            [-1 + share[0], 1 + share[1]],
            [sides[0] * share[2], 1 + sides[1] * share[3]],
            [1 - share[4], 1 + share[5]],
        ]
    )
    targets = jnp.array([1 + share[6], share[7], 1 + share[8]])
    problem = Problem(inputs, targets, SquareLoss(), "mean")
    return problem, three_points_check(problem)


def three_points_experiment() -> tuple[Problem, ThreePoints]:
    r"""Return the three points of the published experiment, square loss, mean.

    $x = -3/4, -1/2, 1/8$ with targets $1.1, 0.1, 0.8$. They are outside Assumption 3, on
    purpose, and the certificate says so; its `alike` is positive. The published program
    minimises the mean of $(f-y)^2$: half a unit of its time is one here.

    Source:
        Boursier, Flammarion (2025), section 5, and their program `early_alignment`, which
        adds a bias to the hidden layer.
    """
    inputs = jnp.array([[-0.75, 1.0], [-0.5, 1.0], [0.125, 1.0]])
    problem = Problem(inputs, jnp.array([1.1, 0.1, 0.8]), SquareLoss(), "mean")
    return problem, three_points_check(problem)


@eqx.filter_jit
def three_points_check(problem: Problem) -> ThreePoints:
    """Measure any problem of three samples and two features; the second is the bias.

    Raises:
        ValueError: If there are not three samples and two features.

    Source:
        Boursier, Flammarion (2025), Assumption 3 (signs inferred), and the description of
        similar data in section 5.
    """
    if (problem.samples, problem.features) != (3, 2):
        raise ValueError(
            "Argument `problem` must have 3 samples and 2 features, but it has "
            f"{problem.samples} samples and {problem.features} features."
        )
    order = jnp.argsort(problem.inputs[:, 0])
    inputs, targets = problem.inputs[order], problem.targets[order]
    (first, middle, last), (y_1, y_2, y_3) = inputs, targets
    excess = [
        first[0] + 1, first[1] - 1, y_1 - 1, jnp.abs(middle[0]), jnp.abs(middle[1] - 1), y_2,
        1 - last[0], last[1] - 1, y_3 - 1,
    ]  # fmt: skip
    eta = jnp.max(jnp.stack(excess))
    tolerance = rounding(problem)
    inner = inputs @ inputs.T
    slope = jnp.linalg.lstsq(inputs, targets)[0]
    return ThreePoints(
        margins={
            "eta below 1/6": LARGEST_ETA - eta,
            "x_1 right of -1": first[0] + 1,
            "x_3 left of 1": 1 - last[0],
            "y_2 positive": y_2,
            "x_1 bias": first[1] - 1 + tolerance,
            "x_3 bias": last[1] - 1 + tolerance,
            "y_1": y_1 - 1 + tolerance,
            "y_3": y_3 - 1 + tolerance,
            "square loss": met(isinstance(problem.loss, SquareLoss)),
            "both layers": met(problem.train == "both"),
        },
        eta=eta,
        min_inner=jnp.min(jnp.stack([inner[0, 1], inner[0, 2], inner[1, 2]])),
        min_target=jnp.min(targets),
        dip=middle @ slope - y_2,
    )
