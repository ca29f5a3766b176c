"""One step between events: collocation, its size, and the first events in it."""

import numpy as np

from .decide import Undecidable
from .nodes import Graze

SWEEPS = 60


class Still:
    """A step in which nothing moves."""

    def __init__(self, flow):
        self.w, self.v, self.z, self.length = flow.w, flow.v, flow.z, flow.end - flow.time

    def state(self, at):
        """Return the weights."""
        del at
        return self.w.copy(), self.v.copy()

    def preactivations(self, at):
        """Return the preactivations."""
        del at
        return self.z.copy()


class Step:
    """Preactivations (by class), weights and pulls at the nodes of a step.

    The preactivations are integrated by themselves: one that is 1e-20 of the weights has its
    digits all the same.
    """

    def __init__(self, flow, length, z, v, pull):
        self.nodes, self.length, self.z, self.v, self.pull = flow.nodes, length, z, v, pull
        self.exponent = flow.exponent.copy()
        drive = (pull @ flow.all_drives).reshape(len(pull), *flow.w.shape)
        change = (v[..., None] * drive).reshape(len(pull), -1)
        self.w = flow.w + length * (self.nodes.integrate @ change).reshape(drive.shape)

    def state(self, at):
        """Return the weights at a point of the unit interval."""
        row = self.row(at)
        return np.tensordot(row, self.w, 1), row @ self.v

    def preactivations(self, at):
        """Return the preactivations at a point of the unit interval."""
        return np.tensordot(self.row(at), self.z, 1)

    def row(self, at):
        """Return the weights of the nodes at a point, exactly a unit vector at the ends."""
        if at in (0.0, 1.0):
            return np.eye(self.nodes.count)[-1 if at else 0]
        return self.nodes.row(at)[0]


def take(flow):
    """Return a step whose polynomials have converged, and set the size of the next."""
    count = flow.nodes.count
    drive = np.einsum("i,jid->jd", flow.pulls(flow.outputs(flow.z, flow.v)[0]), flow.drives)
    size, speed = _sizes(flow, drive)
    growth = float(np.min(np.where((speed > 0) & (size > 0), 2 * size / speed, np.inf)))
    size = np.where(size > 0, size, speed * min(flow.step, flow.end - flow.time, growth))
    length = min(flow.step, flow.end - flow.time, growth)
    for _ in range(60):
        found = _collocate(flow, length, size)
        if found is not None:
            tail = _tail(flow, found, size)
            if tail <= flow.tolerance:
                grow = (0.3 * flow.tolerance / max(tail, 1e-30)) ** (1 / (count - 2))
                flow.step = length * min(2.0, max(grow, 0.7))
                flow.previous, found.reach = found, size
                return found
            length *= max(0.3, min(0.8, 0.8 * (flow.tolerance / tail) ** (1 / (count - 2))))
        else:
            length *= 0.5
        flow.previous = None
    raise Undecidable("no step is short enough")


def _sizes(flow, drive):
    """Return each neuron's own size, and how fast it moves."""
    lengths = flow.geometry.lengths[flow.geometry.first]
    inner = np.linalg.norm(flow.w, axis=1) if flow.both else np.max(np.abs(flow.z) / lengths, 1)
    speed = np.abs(flow.v) * np.linalg.norm(drive, axis=1)
    if flow.both:
        return np.hypot(inner, flow.v), np.hypot(speed, np.sum(flow.w * drive, axis=1))
    return inner, speed


def _collocate(flow, length, size):
    """Return the step's polynomials by Picard's iteration, `None` if it does not converge."""
    nodes, count = flow.nodes, flow.nodes.count
    integrate = length * nodes.integrate
    z = np.broadcast_to(flow.z, (count, *flow.z.shape))
    v = np.broadcast_to(flow.v, (count, len(flow.v)))
    if flow.previous is not None and length <= 0.6 * flow.previous.length:
        rows = nodes.row(1 + nodes.at * length / flow.previous.length)
        shift = flow.exponent - flow.previous.exponent
        z = np.ldexp(np.tensordot(rows, flow.previous.z, 1), -shift[:, None])
        v = np.ldexp(rows @ flow.previous.v, -shift) if flow.both else v
    amplitude = flow.amplitude()
    unit = np.maximum(size, 1e-300)[:, None] * flow.geometry.lengths[flow.geometry.first]
    last = np.inf
    for _ in range(SWEEPS):
        reached = flow.active_part(z)
        f = ((amplitude * v)[..., None] * reached).sum(1)
        pull = flow.pulls(f)
        speed = (pull @ flow.all_speeds).reshape(z.shape) * v[..., None]
        new = flow.z + (integrate @ speed.reshape(count, -1)).reshape(z.shape)
        if flow.both:
            v = flow.v + integrate @ np.matmul(reached, pull[..., None])[..., 0]
        change = float(np.max(np.abs(new - z) / unit))
        z = new
        if not np.isfinite(change) or change > 1e6:
            return None
        if change < 4e-16 or (change < 1e-14 and change >= last):
            return Step(flow, length, z, v, pull)
        last = change
    return None


def _tail(flow, step, size):
    """Return how much of the weights and pulls the last coefficients still are."""
    end = step.nodes.coefficients[-2:]
    size = np.maximum(size, 1e-300)
    unit = size[:, None] * flow.geometry.lengths[flow.geometry.first]
    tails = [np.abs(np.tensordot(end, step.z, 1)) / unit]
    if flow.both:
        tails.append(np.abs(end @ step.v) / size)
    if flow.loss != "square":
        tails.append(np.abs(end @ step.pull) / np.max(np.abs(step.pull), 0))
    return max(float(np.max(t)) for t in tails)


def first_events(flow, step):
    """Return when the first events are, who meets which classes, and who leaves slides.

    `hits` has an entry for every neuron that must be decided on; `exits` are those of them
    whose slide ends because its weight reached an end.
    """
    names, columns, noise = _functions(flow, step)
    if not names:
        return 1.0, {}, set()
    roots = step.nodes.first_roots(np.array(columns).T, np.array(noise))
    first = float(np.min(roots))
    if first > 1.0:
        return 1.0, {}, set()
    together = first + max(1e-13, 4e-16 * flow.time / step.length)
    hits, exits = {}, set()
    for name, root in zip(names, roots, strict=True):
        if root > together:
            continue
        what, j, r = name
        if what == "v":
            raise Graze(first, "an outer weight reaches zero on a hyperplane")
        hits.setdefault(j, set()).add(r)
        if what != "z":
            exits.add(j)
    _refuse_close_pairs(flow, names, roots, hits, first, together)
    return first, hits, exits


def _refuse_close_pairs(flow, names, roots, hits, first, together):
    """Refuse if a neuron meets another hyperplane so soon that the order is in doubt."""
    for (what, j, r), root in zip(names, roots, strict=True):
        if flow.on_a_ray(j):  # all hyperplanes meet at its end, zero
            continue
        if j in hits and together < root <= together + 1e-11 and r not in hits[j] and what != "v":
            raise Graze(first, "two hyperplanes in doubtful order")


def _functions(flow, step):
    """Return names, node values and noise of all functions that are positive between events."""
    names, columns, noise = [], [], []
    for j, r in flow.searched:
        column, order = step.z[:, j, r] * flow.modes[j, r], flow.order.get((j, r), 0)
        if order:
            # From the velocity: the quotient by time, or by its square.
            speed = step.v[:, j] * (step.pull @ flow.patterns[j].speed[r]) * flow.modes[j, r]
            column = _once(step, speed) if order == 1 else _twice(step, speed)
        names.append(("z", j, r))
        columns.append(column)
        noise.append(1e-14 * np.max(np.abs(column)))
    for j, r, end, form in flow.forms:
        column = np.sign(flow.v[j]) * (step.pull @ form)
        doubt = 1e-13 * float(np.max(np.abs(step.pull) @ np.abs(form)))
        if (j, r, end) in flow.late:
            column = step.nodes.divide @ np.concatenate([[0.0], column[1:]])
        names.append(("e", j, r))
        columns.append(column)
        noise.append(doubt)
    if flow.both:
        for j in range(len(flow.v)):
            if (flow.patterns[j].slides or flow.pinned[j]) and np.any(flow.drives[j]):
                names.append(("v", j, -1))
                columns.append(step.v[:, j] * np.sign(flow.v[j]))
                noise.append(1e-14 * float(np.max(np.abs(step.v[:, j]))))
    return names, columns, noise


def _once(step, speed):
    """Return the integral of `speed` over time."""
    area = step.length * (step.nodes.integrate @ speed)
    return np.append(step.length * speed[0], area[1:] / step.nodes.at[1:])


def _twice(step, speed):
    """Return the integral of `speed` over the square of time, `speed` being zero at 0."""
    nodes = step.nodes
    quotient = nodes.divide @ np.append(0.0, speed[1:])
    area = step.length * (nodes.integrate @ (nodes.at * quotient))
    return np.append(0.5 * step.length * quotient[0], area[1:] / nodes.at[1:] ** 2)
