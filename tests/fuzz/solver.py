"""Gradient flow of a small network from event to event, in float64, for the tests alone.

Between events: collocation at the Chebyshev nodes of a step, solved by Picard's iteration, so
that every weight and pull is a polynomial in time. Events are the first roots of these
polynomials (`nodes.py`); what happens there is decided by trying every assignment of modes
(`decide.py`). Where float64 cannot decide the run ends, and says until when it is valid.
"""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from . import origin, steps
from .decide import Tester, Undecidable
from .geometry import Geometry, dot
from .nodes import Graze, Nodes

NODES = {count: Nodes(count) for count in (16, 18, 21)}
STEPS = 6000
EPSILON = 2.0**-52
# By how much a shaken run moves its numbers: an output's summand is a product of three numbers,
# each the rounded end of a series.
SHAKEN = 4 * EPSILON
KINDS = {
    (0, 1): "activate",
    (1, 0): "deactivate",
    (0, 2): "slide_enter",
    (1, 2): "slide_enter",
    (2, 1): "slide_exit_active",
    (2, 0): "slide_exit_inactive",
}


@dataclass
class Solution:
    """What the solver found.

    Attributes:
        events: (time, neuron, sample, kind), in order of time.
        initial_sides: (width, samples), 0 inactive, 1 active, 2 sliding.
        states: For each of `ts` up to `valid`: inner weights, outer weights, in units of
            2^exponent times the initial scale, exponents, outputs.
        valid: Until when the solution is known and unique.
        reason: Why not until the end; empty if until the end.
        vanished: {neuron: time} of neurons whose inner weights reached zero, when they first did.
        repelling: {(neuron, class): time} of rests on hyperplanes that could as well be
            left from then on: staying is the rule.
        steps: Number of steps.
    """

    events: list = field(default_factory=list)
    initial_sides: np.ndarray | None = None
    states: list = field(default_factory=list)
    valid: float = 0.0
    reason: str = ""
    vanished: dict = field(default_factory=dict)
    repelling: dict = field(default_factory=dict)
    steps: int = 0


def solve(problem, ts=(), nodes=18, tolerance=3e-15, shaken=None):
    """Return the `Solution` of a problem of `draws.py` at the times `ts`.

    With `shaken`, a seed, every step's end is moved by rounding once more, at random: what two
    such runs differ by is what float64 leaves open.
    """
    flow = Flow(problem, ts, NODES[nodes], tolerance, shaken)
    try:
        with np.errstate(all="ignore"):
            flow.start()
            flow.renormalise()
            flow.run()
    except Undecidable as refusal:
        flow.solution.reason = str(refusal)
    flow.solution.valid = flow.time
    flow.solution.events.sort(key=lambda event: event[:3])
    return flow.solution


def _imbalance(w, v):
    """Return v^2 - |w|^2, rounded once."""
    return float(Fraction(float(v)) ** 2 - sum(Fraction(float(a)) ** 2 for a in w))


class Flow:
    """The state of a run."""

    def __init__(self, problem, ts, nodes, tolerance, shaken=None):
        self.nodes, self.tolerance = nodes, tolerance
        self.geometry = Geometry(problem["X"])
        self.targets, self.loss = np.asarray(problem["y"], float), problem["loss"]
        self.inputs = self.geometry.inputs
        self.share = 1.0 if problem["reduction"] == "sum" else 1.0 / len(self.targets)
        self.both = problem["train"] == "both"
        self.end, self.asked = float(problem["t_end"]), [float(t) for t in ts]
        self.w = np.array(problem["w0"], float)
        self.v = np.array(problem["v0"], float)
        self.log_scale = float(problem["log_scale"])
        self.exponent = np.zeros(len(self.v), int)
        self.time, self.step = 0.0, 1.0
        self.order = {}  # (neuron, class): order in time at which it leaves its hyperplane
        self.late = set()  # (neuron, class, end): the slide's weight starts at its end
        self.pinned = [set() for _ in self.v]
        self.at_zero = {}
        self.largest = np.zeros(len(self.v))  # of the inner weights, if the outer are fixed
        self.previous = None
        self.cells = None
        self.random = None if shaken is None else np.random.default_rng(shaken)
        self.solution = Solution()
        self.imbalance = np.array([_imbalance(w, v) for w, v in zip(self.w, self.v, strict=True)])

    # Outputs and pulls.

    def amplitude(self):
        """Return what a neuron's product of weights is worth."""
        return np.exp2(2 * self.log_scale / np.log(2) + 2.0 * self.exponent)

    def active_part(self, z):
        """Return the samples' preactivations where they are active, else zero."""
        return (z if self.geometry.distinct else z[..., self.geometry.of]) * self.weights

    def outputs(self, z, v):
        """Return the outputs, and the sums of the summands' absolute values."""
        parts = (self.amplitude() * v)[..., None] * self.active_part(z)
        return parts.sum(-2), np.abs(parts).sum(-2)

    def pulls(self, outputs):
        """Return the pulls."""
        y = self.targets
        if self.loss == "exp":
            return self.share * y * np.exp(-y * outputs)
        if self.loss == "logistic":
            return self.share * y / (1 + np.exp(y * outputs))
        return self.share * (y - outputs)

    def pull_errors(self, outputs, sizes, pulls):
        """Return how far the pulls may be from the truth."""
        if self.loss == "square":
            return self.share * (1e-13 * sizes + 2e-16 * np.abs(self.targets - outputs))
        return np.abs(pulls) * 1e-13 * (1 + sizes)

    def pull_rates(self, outputs, pulls):
        """Return the pulls' derivatives by time."""
        z = self.active_part(self.z)
        dz = self.active_part(self.v[:, None] * (pulls @ self.all_speeds).reshape(self.z.shape))
        dv = z @ pulls if self.both else np.zeros(len(self.v))
        slope = (self.amplitude()[:, None] * (dv[:, None] * z + self.v[:, None] * dz)).sum(0)
        margin = self.targets * outputs
        curvature = {
            "exp": np.abs(pulls),
            "logistic": np.abs(pulls) / (1 + np.exp(-margin)),
            "square": np.full(len(pulls), self.share),
        }[self.loss]
        return -curvature * slope

    # Modes.

    def start(self):
        """Set the modes at time zero."""
        first = [self.geometry.exact[i] for i in self.geometry.first]
        rows = [[Fraction(float(a)) for a in row] for row in self.w]
        self.z = np.array([[float(dot(row, x)) for x in first] for row in rows])
        self.modes = np.where(self.z > 0, 1, -1)
        on = self.z == 0
        size = np.linalg.norm(self.w, axis=1)[:, None] * self.geometry.lengths[self.geometry.first]
        if np.any(~on & (size > 0) & (np.abs(self.z) <= 1e-13 * size)):
            raise Undecidable("starts within rounding of a hyperplane")
        for j in np.flatnonzero(~np.any(self.w, axis=1)):
            if self.v[j] != 0:
                raise Undecidable("starts at zero")
            self.at_zero[j] = 0.0
            on[j] = False
        self.modes[on] = -1
        self.prepare()
        self.decide(
            {j: set(np.flatnonzero(row)) for j, row in enumerate(on) if row.any()}, record=False
        )
        self.solution.initial_sides = self.geometry.sides(self.modes)

    def prepare(self):
        """Make the arrays that belong to the modes."""
        self.patterns = [self.geometry.pattern(row) for row in self.modes]
        self.active = np.array([p.active for p in self.patterns], float)
        self.drives = np.array([p.drive for p in self.patterns])
        speeds = np.array([p.speed for p in self.patterns])
        for j in self.at_zero:
            self.active[j], self.drives[j], speeds[j] = 0.0, 0.0, 0.0
        samples = len(self.targets)
        self.weights = self.active * self.geometry.factor
        self.all_drives = self.drives.transpose(1, 0, 2).reshape(samples, -1)
        self.all_speeds = speeds.transpose(2, 0, 1).reshape(samples, -1)
        self.forms = []  # (neuron, class, end, form)
        for j, pattern in enumerate(self.patterns):
            if j not in self.at_zero:
                for k, r in enumerate(pattern.slides):
                    self.forms += [(j, r, 0, pattern.upper[k]), (j, r, 1, pattern.lower[k])]
        self.searched = [
            (j, r)
            for j, pattern in enumerate(self.patterns)
            for r in range(self.geometry.classes)
            if j not in self.at_zero
            and self.modes[j, r] != 0
            and not pattern.still[r]
            and r not in self.pinned[j]
        ]

    def decide(self, hits, exits=(), record=True):
        """Give the neurons in `hits` new modes on the classes that they are on."""
        outputs, sizes = self.outputs(self.z, self.v)
        pull = self.pulls(outputs)
        error = self.pull_errors(outputs, sizes, pull)
        rate = self.pull_rates(outputs, pull)
        old = self.geometry.sides(self.modes)
        for j, on in hits.items():
            classes = self.geometry.spanned_by(
                set(on) | self.pinned[j] | set(self.patterns[j].slides)
            )
            touching = (set(on) | self.pinned[j]) if j in exits else frozenset()
            sign = self.decided_sign(j)
            choice = Tester(self.geometry, sign, pull, error, rate, touching).decide(
                self.modes[j], classes
            )
            self.modes[j] = choice.modes
            self.pinned[j] = choice.pinned
            self.order.update({(j, r): order for r, order in choice.order.items()})
            self.late |= {(j, r, end) for r, end in choice.late}
            self.project(j, classes, np.linalg.norm(self.w[j]))
        new = self.geometry.sides(self.modes)
        if record:
            for j, i in np.argwhere(old != new):
                self.solution.events.append(
                    (self.time, int(j), int(i), KINDS[int(old[j, i]), int(new[j, i])])
                )
        self.prepare()

    def decided_sign(self, j):
        """Return the sign of an outer weight."""
        if abs(self.v[j]) <= 1e-10 * np.linalg.norm(self.w[j]) and self.both:
            raise Undecidable("outer weight within rounding of zero at a hyperplane")
        return float(np.sign(self.v[j]))

    def project(self, j, classes, size):
        """Put inner weights exactly onto hyperplanes; `size` is how large they were before."""
        across = self.geometry.normals[sorted(classes)]
        across = across / np.linalg.norm(across, axis=1)[:, None]
        away = np.linalg.lstsq(across, across @ self.w[j], rcond=1e-10)[0]
        if np.linalg.norm(away) > 1e-9 * size:
            raise Undecidable("hyperplanes met together by a projection that is too large")
        self.w[j] -= away
        self.z[j, sorted(classes)] = 0.0

    def renormalise(self):
        """Move powers of two from the weights into the scales, and keep what is conserved.

        The difference of squares of the layers decides what becomes of a shrinking neuron,
        though it may be far below the rounding of either.
        """
        if not self.both:
            return
        size = np.maximum(np.max(np.abs(self.w), axis=1), np.abs(self.v))
        shift = np.frexp(size)[1]
        self.w, self.z = np.ldexp(self.w, -shift[:, None]), np.ldexp(self.z, -shift[:, None])
        self.v = np.ldexp(self.v, -shift)
        self.exponent = self.exponent + shift
        kept = self.imbalance * np.exp2(-2.0 * self.exponent)
        square = np.sum(self.w**2, axis=1)
        from_inner = np.sign(self.v) * np.sqrt(np.maximum(square + kept, 0.0))
        from_outer = np.sqrt(np.maximum(self.v**2 - kept, 0.0) / np.maximum(square, 1e-300))
        outer = np.abs(self.v) > 0.5 * np.sqrt(square)
        self.v = np.where(outer, from_inner, self.v)
        inner = np.where(outer, 1.0, from_outer)[:, None]
        self.w, self.z = inner * self.w, inner * self.z

    # The run.

    def run(self):
        """Go from event to event until the end, or until nothing moves any more."""
        self.record(steps.Still(self), self.time, 0.0)
        while self.time < self.end:
            self.solution.steps += 1
            if self.solution.steps > STEPS:
                raise Undecidable("too many steps")
            if self.rests():
                self.record(steps.Still(self), self.end, 1.0)
                self.time = self.end
                break
            taken = steps.take(self)
            if not self.both:
                self.largest = np.maximum(self.largest, taken.reach)
            self.watch_pins(taken)
            try:
                when, hits, exits = steps.first_events(self, taken)
            except Graze as graze:
                self.record(taken, self.time, graze.where)
                self.time += graze.where * taken.length
                raise Undecidable(str(graze)) from graze
            leave = self.zero_left(taken, when)
            if leave is not None:
                when, hits, exits = leave, {}, ()
            self.record(taken, self.time, when)
            self.advance(taken, when)
            self.order, self.late = {}, set()
            if hits:
                self.meet(taken, hits, exits)
            if leave is not None:
                self.leave_zero()
            self.renormalise()

    def advance(self, taken, when):
        """Go to a point of a step."""
        w, v = taken.state(when)
        self.w, self.v, self.z = w, v if self.both else self.v, taken.preactivations(when)
        self.shake()
        last = when == 1.0 and self.time + taken.length >= self.end * (1 - 1e-15)
        self.time = self.end if last else self.time + when * taken.length
        for j, pattern in enumerate(self.patterns):
            if j not in self.at_zero and (pattern.slides or self.pinned[j]):
                self.project(j, set(pattern.slides) | self.pinned[j], taken.reach[j])

    def shake(self):
        """Move every weight and preactivation by about its rounding, if the run is to be shaken."""
        if self.random is None:
            return
        uniform = self.random.uniform
        nudge = lambda x: x * (1 + SHAKEN * uniform(-1, 1, size=x.shape))
        self.w, self.z = nudge(self.w), nudge(self.z)
        if self.both:
            self.v = nudge(self.v)

    def meet(self, taken, hits, exits):
        """Decide at an event; a neuron that reaches zero has rules of its own."""
        self.previous = None
        for j in [j for j, on in hits.items() if on and self.reaches_zero(j, taken)]:
            if self.both:
                raise Undecidable("inner weights reach zero")
            self.to_zero(j)
            del hits[j]
        self.decide(hits, exits)

    def on_a_ray(self, j):
        """Return whether a neuron's hyperplanes leave it no more than a ray."""
        on = {*self.patterns[j].slides, *self.pinned[j]}
        return self.geometry.rank_of(on) == self.geometry.rank - 1

    def reaches_zero(self, j, taken):
        """Return whether a neuron that slides along a ray is at its end."""
        return self.on_a_ray(j) and np.linalg.norm(self.geometry.normals @ self.w[j]) < 1e-9 * max(
            taken.reach[j], self.largest[j]
        ) * np.linalg.norm(self.geometry.normals)

    def to_zero(self, j):
        """Let a neuron with a fixed outer weight come to rest at zero, if it does."""
        span = np.linalg.svd(self.geometry.inputs, full_matrices=False)[2][: self.geometry.rank]
        self.w[j] -= self.w[j] @ span.T @ span
        self.z[j] = 0.0
        self.pinned[j] = set()
        self.solution.vanished.setdefault(j, self.time)
        pull = self.pulls(self.outputs(self.z, self.v)[0])
        rays = origin.rays(self.geometry, pull, np.sign(self.v[j]))
        if self.cells is None:
            self.cells = origin.cells(self.geometry)
        if not origin.must_leave(self.cells, self.inputs, pull):
            if rays:
                raise Undecidable("zero may be left, and may be stayed at")
            self.at_zero[j] = self.time
            self.modes[j] = -1
        else:
            self.leave(j, rays)
        self.prepare()

    def leave(self, j, rays):
        """Let a neuron at zero go along the only ray there is."""
        if len(rays) != 1:
            raise Undecidable(f"{len(rays)} rays from zero, which must be left")
        self.modes[j] = rays[0]
        self.order.update({(j, r): 1 for r, mode in enumerate(rays[0]) if mode})

    def zero_left(self, taken, when):
        """Return when in a step the neurons at zero have to leave it; None if not before `when`."""
        if not any(self.v[j] != 0 for j in self.at_zero):
            return None
        if self.cells is None:
            self.cells = origin.cells(self.geometry)
        pull_at = lambda at: taken.row(at * when) @ taken.pull
        at = origin.leaves(self.cells, self.inputs, pull_at)
        return None if at is None else at * when

    def leave_zero(self):
        """Let the neurons at zero go that must."""
        old = self.geometry.sides(self.modes)
        pull = self.pulls(self.outputs(self.z, self.v)[0])
        for j in [j for j in self.at_zero if self.v[j] != 0]:
            old[j] = 0
            self.leave(j, origin.rays(self.geometry, pull, np.sign(self.v[j])))
            del self.at_zero[j]
            self.previous = None
        new = self.geometry.sides(self.modes)
        for j, i in np.argwhere(old != new):
            kind = KINDS[int(old[j, i]), int(new[j, i])]
            self.solution.events.append((self.time, int(j), int(i), kind))
        self.prepare()

    def watch_pins(self, taken):
        """Note rests on hyperplanes that become repelling; staying there is the rule."""
        for j, on in enumerate(self.pinned):
            for r in on:
                push = taken.v[:, j] * (taken.pull @ self.geometry.ahead[r])
                if np.any(push > 1e-9 * np.max(np.abs(push))) and np.any(push != 0):
                    self.solution.repelling.setdefault((j, r), self.time)

    def rests(self):
        """Return whether no neuron moves, or only by what rounding leaves of a fit."""
        outputs, sizes = self.outputs(self.z, self.v)
        pull = self.pulls(outputs)
        drive = np.einsum("i,jid->jd", pull, self.drives)
        if not np.any(drive):
            return True
        if self.loss == "square":
            scale = self.share * (np.abs(self.targets) + sizes)
            large = np.einsum("i,jid->jd", scale, np.abs(self.drives))
            if np.all(np.linalg.norm(drive, axis=1) <= 3e-12 * np.linalg.norm(large, axis=1)):
                raise Undecidable("at rest but for rounding")
        return False

    def record(self, taken, since, until):
        """Write the states that were asked for within a part of a step."""
        reach = since + until * taken.length if until < 1.0 else since + taken.length
        while self.asked and self.asked[0] <= reach:
            at = (self.asked.pop(0) - since) / taken.length if taken.length else 0.0
            point = min(max(at, 0.0), 1.0)
            w, v = taken.state(point)
            outputs = self.outputs(taken.preactivations(point), v)[0]
            self.solution.states.append((w, v, self.exponent.copy(), outputs))
