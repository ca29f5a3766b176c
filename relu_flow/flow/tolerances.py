r"""Every threshold of the engine's decisions, in one table, each with the reason for its size.

What is decided is always whether a number is zero, positive or negative. It is compared with
the rounding error of the very sum that it came from, never with a bound of a whole step: a
push of `1e-16` beside a pull of order one may be known to all its digits, and decides.

| constant | in units of | why |
| --- | --- | --- |
| `ROUNDING` | eps times the sizes of the summands | A sum of pulls times entries of the Gram matrix: the recurrence of a pull's coefficient and a dot product lose a few units each. Ten times less and rounding decides now and then; a hundred times more and true signs, as small as that, are lost. |
| `OUTPUT` | eps times the outputs' summands | An output is a sum over neurons of products of three roundings; its error is that of all pulls, small ones too. |
| `ORTHOGONAL` | eps sqrt(features) times the norms | What a QR decomposition or a normalisation leaves of a product that is meant to be zero; a zero by structure must stay one when a neuron grows by `1e30`. |
| `ON_HYPERPLANE` | eps times the norms | Where a start is meant to lie on a hyperplane its product with the input is rounding. |
| `VANISHED` | eps times the way | Inner weights that end at zero are the rounding of what they came from, some terms of a series long. |
| `AT_ZERO` | the neuron's size | Inner weights that were so small already when they reach zero again have nowhere to go: they rest. |
| `BEHIND` | `AT_ZERO` times the weights | How far behind zero a neuron looks for its way: below all rounding of what it had. |
| `OUTSIDE` | the largest drive | So far must zero be outside the hull of drives before a neuron leaves it: beyond the rounding of the hull (tens of eps), and as much later it leaves. |
| `DEPENDENT` | eps times the norm | Across the slides so little of an input is left only if it depends on theirs. |
| `REST` | eps times the pull | What counts as no drive, see `proposal.stop_if_stationary`. |
| `JUDGED` | coefficients | A push that vanishes with its first three derivatives vanishes: on the way to it a generic flow would meet it only in a problem made for the purpose. |
| `ARRIVAL` | coefficients | Of the push that brings a neuron to a hyperplane: its velocity, and an acceleration where that is zero. On a way that ends as `e^-ct` they are rounding, but the next, `c^2` times the velocity, need not be: it says nothing of an arrival. |
| `LATE` | `rtol` | By so much, relative to its time, a bound says that kinks of other neurons may move a switch before the pulls are told of them, or the step is cut. Where small pulls decide the bound is reached: ten times more, and switches came out `1e-9` late at `rtol` of `1e-12`; ten times less, and wide networks take steps for nothing. |
| `SHORTEST` | eps times the step's start | A step cut shorter than that for a switch that its pulls do not decide would end where it began, but for rounding: it is taken undecided, and counted. |
| `LEFT`, `PEAK` | the two highest coefficients; the root of kink times that | What the projection of a kink onto polynomials of degree 6 leaves, integrated up to any time, and at any time: found on a grid of kinks, reached by those at the ends of a step (see `tests/flow/test_kinks.py`). |
| `CUT` | the time to an undecided switch | So short of it a step is cut; what other switches do up to the new step's own decision is then as much smaller. |
| `SHARP` | the time to a switch | So little behind the first switch a step ends that must not go on beyond it: enough to have it in the step when that is expanded again. |
| `GRAZING` | the fastest normal speed | A hit slower than that is told to the user as ill-conditioned; it decides nothing. Who leaves zero in such an angle to a hyperplane starts on it, and the rules decide. |
| `RENEWED` | the outer weight | What of it counts to the size of the inner weights: with \|v\| far above \|w\| these are renewed within a step, and digits of what they were are none of what they become. Ten neurons at rtol 1e-12: with none of it 4 of 49 switches were lost at \|w\| = e^-300 \|v\|; with all of it those at e^-20 were 1.2e-11 off, with a hundredth 6e-12. |
"""  # noqa: E501

import jax.numpy as jnp
from jaxtyping import Array

ROUNDING = 16.0
OUTPUT = 8.0
ORTHOGONAL = 4.0
ON_HYPERPLANE = 64.0
VANISHED = 256.0
AT_ZERO = 1e-10
BEHIND = 1e-10
OUTSIDE = 1e-13
DEPENDENT = 256.0
REST = 32.0
JUDGED = 4
ARRIVAL = 2
LATE = 1e2
CUT = 1e-6
SHARP = 1e-12
SHORTEST = 64.0
LEFT = 0.041
PEAK = 1.41
GRAZING = 1e-6
RENEWED = 0.01


def eps(array: Array) -> float:
    """Return the unit of rounding of an array's numbers."""
    return float(jnp.finfo(array.dtype).eps)


def smallest(array: Array) -> float:
    """Return below what numbers have fewer digits than others, and so are taken for zero."""
    return 16 * float(jnp.finfo(array.dtype).tiny)
