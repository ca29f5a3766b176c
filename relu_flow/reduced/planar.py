r"""The planar model of two clusters at an acute angle: an ODE that passes through phases.

$p$ copies of a unit vector $x_+$ labelled +1 and one $x_-$ labelled -1 at angle $\Delta$,
exponential loss reduced to its mean, outer weights fixed at $\pm\kappa_2/\sqrt m$, inner
weights from zero. Write $c = \cos\Delta$, $f_\pm = f(x_\pm)$,

$$A = \tfrac{p}{1+p} e^{-f_+}, \quad B = \tfrac1{1+p} e^{f_-}, \quad R = A/B, \quad
  b_k' = \pm\tfrac{\kappa_2}{\sqrt m}\,(a_{k+} A\,x_+ - a_{k-} B\,x_-).$$

From a vanishing start all living neurons of one sign are copies of one neuron. Positive
ones are active on $x_+$ for ever, negative ones on $x_-$, so that each sign has two modes:
active on the other class's point too, or sliding on its hyperplane. With
$\gamma_\pm = \kappa_2^2 m_\pm/m$, and the outputs' parts $u_+$ and $z$ (positives at $x_+$ and
$x_-$), $-u_-$ and $-y$ (negatives at $x_-$ and $x_+$), $f_+ = u_+ - y$, $f_- = z - u_-$ and

| | on both points | sliding |
| --- | --- | --- |
| positives: $u_+'$, $z'$ | $\gamma_+(A - Bc)$, $\gamma_+(Ac - B)$ | $\gamma_+ A\sin^2\Delta$, 0 |
| negatives: $u_-'$, $y'$ | $\gamma_-(B - Ac)$, $\gamma_-(Bc - A)$ | $\gamma_- B\sin^2\Delta$, 0 |

(A slide on $x_-^\perp$ takes the share $\phi$ of $Bx_-$
that makes $(Ax_+ - \phi Bx_-)\cdot x_- = 0$, hence $\phi = Rc$ and the speed
$A(1 - c^2)$ along $x_+$; likewise for the negatives with $c/R$.) A slide needs its share
below one: positives slide while $R < 1/c$, negatives while $R > c$. So there are three modes
of the whole, and what ends each of them is one sign change: `z` falls to zero, `R` leaves
$(c, 1/c)$, or `y` falls to zero.

Source:
    After Wang, Ma, "Understanding Multi-phase Optimization Dynamics and Rich Nonlinear
    Behaviors of ReLU Networks" (2023), re-derived.
"""

import enum

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int

from .._types import FloatScalarLike, is_traced

_SEGMENTS = 5  # two changes of mode at most, and two instants that change none


class PlanarMode(enum.IntEnum):
    """Who is active on the other class's point, and who slides on its hyperplane."""

    POSITIVES_ON = 0  # negatives slide: from the start (if pc > 1) to the end of the plateau
    BOTH_SLIDE = 1
    NEGATIVES_ON = 2  # positives slide


class PlanarTimes(eqx.Module):
    r"""When what happens, in units of gradient-flow time of the mean loss; `inf` if never.

    Attributes:
        plateau: A/B comes within the share `nearness` of its value on the plateau (`inf` if
            another mode comes first).
        escape: $f_-$ falls through zero: the light class is fitted, the plateau is left.
        positives_slide: Positives meet $x_-^\perp$ and slide there.
        negatives_leave: Negatives leave $x_+^\perp$ and are active on $x_+$ again.
        positives_leave: Positives leave $x_-^\perp$ and are active on $x_-$ again.
        negatives_slide: Negatives meet $x_+^\perp$ again (they slide from time zero if
            $p > c$, which is not counted here).
    """

    plateau: Float[Array, ""]
    escape: Float[Array, ""]
    positives_slide: Float[Array, ""]
    negatives_leave: Float[Array, ""]
    positives_leave: Float[Array, ""]
    negatives_slide: Float[Array, ""]


class PlanarState(eqx.Module):
    r"""The planar model at a time.

    Attributes:
        plus: $f_+$, the output at $x_+$.
        minus: $f_-$, the output at $x_-$.
        lean: $z$, what the positives contribute at $x_-$; zero while they slide.
        turn: $y$, what the negatives take away at $x_+$; zero while they slide.
        heavy: $A$, loss of the positive class, and its pull.
        light: $B$, loss of the negative class, and its pull.
        mode: Code of `PlanarMode`.
    """

    plus: Float[Array, ""]
    minus: Float[Array, ""]
    lean: Float[Array, ""]
    turn: Float[Array, ""]
    heavy: Float[Array, ""]
    light: Float[Array, ""]
    mode: Int[Array, ""]

    @property
    def ratio(self) -> Float[Array, ""]:
        """Return $R = A/B$."""
        return self.heavy / self.light

    @property
    def loss(self) -> Float[Array, ""]:
        """Return the mean loss $A + B$."""
        return self.heavy + self.light


class PlanarModel(eqx.Module):
    r"""The vector field of the planar model.

    Attributes:
        heavy: $p$, copies of $x_+$ for one $x_-$.
        angle: $\Delta$ between $x_+$ and $x_-$, radians.
        gamma_plus: $\gamma_+ = \kappa_2^2 m_+/m$.
        gamma_minus: $\gamma_- = \kappa_2^2 m_-/m$.
    """

    heavy: Float[Array, ""]
    angle: Float[Array, ""]
    gamma_plus: Float[Array, ""]
    gamma_minus: Float[Array, ""]

    @property
    def cosine(self) -> Float[Array, ""]:
        r"""Return $c = \cos\Delta$."""
        return jnp.cos(self.angle)

    @property
    def plateau_ratio(self) -> Float[Array, ""]:
        r"""Return $\rho = 1 + \alpha(1 - c)$, the value of A/B that mode 0 keeps."""
        versed = 2 * jnp.sin(self.angle / 2) ** 2
        return 1 + self.gamma_minus / self.gamma_plus * versed

    def first_mode(self) -> Int[Array, ""]:
        """Return the mode in which the flow starts from vanishing neurons."""
        tilted = jnp.where(
            self.heavy * self.cosine > 1, PlanarMode.POSITIVES_ON, PlanarMode.BOTH_SLIDE
        )
        return jnp.where(self.heavy < self.cosine, PlanarMode.NEGATIVES_ON, tilted)

    def state(self, y: Float[Array, "4"], mode: Int[Array, ""]) -> PlanarState:
        """Return the state of what is integrated: $e^{f_+}$, $e^{-f_-}$, $z$, $y$.

        The exponentials are linear in time on the plateau and in every slide of both
        kinds, so that a step there may be as long as one likes.
        """
        plus, minus, lean, turn = y
        share = self.heavy / (1 + self.heavy)
        return PlanarState(
            jnp.log(plus), -jnp.log(minus), lean, turn, share / plus, (1 - share) / minus, mode
        )

    def __call__(self, t, y: Float[Array, "4"], mode: Int[Array, ""]) -> Float[Array, "4"]:
        """Return the time derivative of what is integrated, in a mode."""
        del t
        state = self.state(y, mode)
        a, b, c, sine2 = state.heavy, state.light, self.cosine, jnp.sin(self.angle) ** 2
        on = mode == PlanarMode.POSITIVES_ON
        own_plus = self.gamma_plus * jnp.where(on, a - b * c, a * sine2)
        lean = self.gamma_plus * jnp.where(on, a * c - b, 0.0)
        on = mode == PlanarMode.NEGATIVES_ON
        own_minus = self.gamma_minus * jnp.where(on, b - a * c, b * sine2)
        turn = self.gamma_minus * jnp.where(on, b * c - a, 0.0)
        return jnp.stack([y[0] * (own_plus - turn), y[1] * (own_minus - lean), lean, turn])


class _Watch(eqx.Module):
    """What ends a segment; positive until then, in units of order one.

    Attributes:
        mode: The mode of the segment.
        armed: Whether the plateau, and the escape from it, are still to come.
    """

    mode: Int[Array, ""]
    armed: Bool[Array, "2"]


def _conditions(model, nearness, state: PlanarState, watch: _Watch) -> Float[Array, "3"]:
    """Return the conditions for plateau, escape and change of mode; `inf` if disarmed."""
    ratio, c = state.ratio, model.cosine
    slides = jnp.minimum(ratio / c, 1 / (ratio * c)) - 1
    options = [state.lean, slides, state.turn]
    change = jnp.select([watch.mode == k for k in range(3)], options)
    near = jnp.abs(ratio / model.plateau_ratio - 1) - nearness
    soft = jnp.where(watch.armed, jnp.stack([near, state.minus]), jnp.inf)
    return jnp.append(soft, change)


class PlanarRun(eqx.Module):
    """The solution of the planar model, through every change of mode.

    Attributes:
        model: What was solved.
        times: When what happened.
        starts: When each segment between two of these times begins; `t1` if it does not.
        modes: The mode of each segment.
        t1: The end.
        successful: Whether the end was reached.
    """

    model: PlanarModel
    times: PlanarTimes
    starts: Float[Array, " segments"]
    modes: Int[Array, " segments"]
    t1: Float[Array, ""]
    successful: Bool[Array, ""]
    _dense: dfx.DenseInterpolation

    def __call__(self, t: FloatScalarLike) -> PlanarState:
        """Return the state at a time in [0, t1]; `jax.vmap` over it for many."""
        t = jnp.asarray(t, self.starts.dtype)
        k = jnp.clip(jnp.searchsorted(self.starts, t, side="right") - 1, 0, _SEGMENTS - 1)
        # A segment that never begins has no steps; the last that does holds the end.
        begun = jnp.sum(self.starts < self.t1, dtype=k.dtype) - 1
        k = jnp.minimum(k, jnp.maximum(begun, 0))
        dynamic, static = eqx.partition(self._dense, eqx.is_array)
        dense = eqx.combine(jax.tree.map(lambda leaf: leaf[k], dynamic), static)
        return self.model.state(dense.evaluate(t), self.modes[k])


def planar(
    heavy: FloatScalarLike,
    angle: FloatScalarLike,
    gamma_plus: FloatScalarLike,
    gamma_minus: FloatScalarLike,
    t1: FloatScalarLike,
    *,
    nearness: FloatScalarLike = 0.01,
    rtol: float = 1e-13,
    max_steps: int = 4096,
) -> PlanarRun:
    r"""Solve the planar model from $f = 0$, each change of mode root-found on the flow.

    What happens from a start with $pc > 1$, $\alpha = \gamma_-/\gamma_+$:

    * $\alpha c \ge 1$: positives stay active on both points, $A/B \to \rho$.
    * $c \le \alpha < 1/c$: positives meet $x_-^\perp$; both slide for ever, $A/B \to \alpha$.
    * $\alpha < c$: the negatives then leave $x_+^\perp$, and $A/B \to \alpha/(1 - c + \alpha)$.

    Positives leave $x_-^\perp$ again only if they were there while $\alpha c > 1$, and that
    takes a start with $pc < 1$: classes of nearly the same weight. Then both slide from the
    start (or, with $p < c$, positives slide and negatives are active on both points).

    Args:
        heavy: $p > 0$.
        angle: $\Delta$ in $(0, \pi/2)$.
        gamma_plus: $\gamma_+ > 0$.
        gamma_minus: $\gamma_- > 0$.
        t1: End, positive, in units of gradient-flow time of the mean loss.
        nearness: How near, relative, A/B has to come to its value on the plateau for the
            plateau to count as reached.
        rtol: Tolerance of Diffrax's steps, relative. Times were seen to be right to some
            twenty times that, relative, in float64.
        max_steps: Most steps of each of the five segments.

    Returns:
        The run. Under `jax.vmap` all its arrays get the batch axes of the arguments.

    Raises:
        ValueError: If an argument that is not traced is out of range.

    Source:
        See the module.

    Example:
        >>> import relu_flow as rf
        >>> run = rf.planar(heavy=4.0, angle=0.5, gamma_plus=1.0, gamma_minus=0.5, t1=100.0)
        >>> round(float(run.times.escape), 3)
        13.321
    """
    _check(heavy, angle, gamma_plus, gamma_minus, t1, nearness)
    dtype = jnp.result_type(float)
    as_float = lambda x: jnp.asarray(x, dtype)
    model = PlanarModel(*map(as_float, (heavy, angle, gamma_plus, gamma_minus)))
    return _solve(model, as_float(t1), as_float(nearness), rtol, max_steps)


@eqx.filter_jit
def _solve(model, t1, nearness, rtol: float, max_steps: int) -> PlanarRun:
    def segment(carry, _):
        t, y, watch, ok = carry
        found = _advance(model, nearness, t, t1, y, watch, rtol, max_steps)
        assert found.ts is not None  # these were asked for
        assert found.ys is not None
        assert found.interpolation is not None
        t_next, y_next = found.ts[-1], found.ys[-1]
        fired = jnp.asarray(found.event_mask) & ok
        conditions = _conditions(model, nearness, model.state(y_next, watch.mode), watch)
        which = jnp.where(fired, jnp.argmin(conditions), -1)
        new, y_next = _next(model, watch, which, y_next)
        ok = ok & dfx.is_okay(found.result)
        record = (t, t_next, watch.mode, new.mode, which, found.interpolation)
        return (t_next, y_next, new, ok), record

    zero = jnp.zeros((), t1.dtype)
    y0 = jnp.stack([zero + 1, zero + 1, zero, zero])
    mode = model.first_mode()
    rising = model(zero, y0, mode)[1] < 0  # exp(-f_-) falls: f_- rises
    start = model.state(y0, mode)
    away = jnp.abs(start.ratio / model.plateau_ratio - 1) > nearness
    on = mode == PlanarMode.POSITIVES_ON
    watch = _Watch(mode, jnp.stack([on & away, on & rising]))
    carry, record = jax.lax.scan(
        segment, (zero, y0, watch, jnp.array(True)), None, length=_SEGMENTS
    )
    starts, ends, modes, after, which, dense = record

    def when(mask):
        return jnp.min(jnp.where(mask, ends, jnp.inf))

    def changed(old, new):
        return when((which == 2) & (modes == old) & (after == new))

    times = PlanarTimes(
        plateau=jnp.where(on & ~away, 0.0, when(which == 0)),
        escape=when(which == 1),
        positives_slide=changed(PlanarMode.POSITIVES_ON, PlanarMode.BOTH_SLIDE),
        negatives_leave=changed(PlanarMode.BOTH_SLIDE, PlanarMode.NEGATIVES_ON),
        positives_leave=changed(PlanarMode.BOTH_SLIDE, PlanarMode.POSITIVES_ON),
        negatives_slide=changed(PlanarMode.NEGATIVES_ON, PlanarMode.BOTH_SLIDE),
    )
    successful = carry[3] & (carry[0] >= t1)
    return PlanarRun(model, times, starts, modes, t1, successful, dense)


def _advance(model, nearness, t, t1, y, watch, rtol, max_steps) -> dfx.Solution:
    """Integrate in one mode until a condition falls to zero, or to the end."""

    def condition(t, y, args, **kwargs):
        del t, kwargs
        return jnp.min(_conditions(model, nearness, model.state(y, args.mode), args))

    tiny = 4 * float(jnp.finfo(t.dtype).eps)
    return dfx.diffeqsolve(
        dfx.ODETerm(lambda t, y, args: model(t, y, args.mode)),
        dfx.Tsit5(),  # its interpolant locates events better than that of `Dopri8`
        t,
        t1,
        None,
        y,
        args=watch,
        saveat=dfx.SaveAt(t1=True, dense=True),
        stepsize_controller=dfx.PIDController(rtol=rtol, atol=rtol),
        # What falls to zero is positive before: the ends of the root search are known.
        event=dfx.Event(condition, optx.Bisection(tiny, 1e-12, flip=True), direction=False),
        max_steps=max_steps,
        throw=False,
    )


def _next(model, watch: _Watch, which, y) -> tuple[_Watch, Float[Array, "4"]]:
    """Return what to watch after a condition fell to zero, and the state, snapped."""
    state = model.state(y, watch.mode)
    from_slides = jnp.where(state.ratio < 1, PlanarMode.NEGATIVES_ON, PlanarMode.POSITIVES_ON)
    changed = jnp.where(watch.mode == PlanarMode.BOTH_SLIDE, from_slides, PlanarMode.BOTH_SLIDE)
    mode = jnp.where(which == 2, changed, watch.mode)
    armed = watch.armed & (which != jnp.arange(2)) & (mode == PlanarMode.POSITIVES_ON)
    # Whoever slides, or begins to leave a slide, is on the hyperplane.
    y = jnp.where(which == 2, y.at[2:].set(0.0), y)
    return _Watch(mode, armed), y


def _check(heavy, angle, gamma_plus, gamma_minus, t1, nearness) -> None:
    named = {
        "heavy": heavy,
        "gamma_plus": gamma_plus,
        "gamma_minus": gamma_minus,
        "t1": t1,
        "nearness": nearness,
    }
    for name, value in named.items():
        if not is_traced(value) and not (0 < float(value) < float("inf")):
            raise ValueError(f"Argument `{name}` must be positive and finite, but it is {value}.")
    if not is_traced(angle) and not 0 < float(angle) < float(jnp.pi / 2):
        raise ValueError(f"Argument `angle` must be between 0 and pi/2, but it is {angle}.")
