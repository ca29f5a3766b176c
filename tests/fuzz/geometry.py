"""Hyperplanes of a data set and what a pattern of modes makes of them, zeros decided exactly.

A *class* is a hyperplane: inputs that are parallel share one. A *mode* is the side of a class
on which a neuron is, by the class's first input: +1, -1, or 0 while it slides.
"""

from fractions import Fraction

import numpy as np


class Pattern:
    """Linear forms in the pulls that belong to one tuple of modes.

    Attributes:
        active: Which samples pull.
        slides: Classes slid on.
        independent: Whether their normals are linearly independent.
        drive: (samples, features), the drive is `pull @ drive`.
        speed: (classes, samples), the normal velocity over v is `speed @ pull`.
        still: Which of these rows are zero whatever the pulls are.
        upper, lower: (slides, samples), sign(v) times these forms must be positive.
    """

    __slots__ = ("active", "drive", "independent", "lower", "slides", "speed", "still", "upper")


class Geometry:
    """The hyperplanes of some inputs, and their patterns."""

    def __init__(self, inputs):
        self.inputs = np.asarray(inputs, float)
        self.exact = [[Fraction(float(a)) for a in row] for row in self.inputs]
        self.lengths = np.linalg.norm(self.inputs, axis=1)
        self._find_classes()
        self.normals = self.inputs[self.first]
        self._ranks = {}
        self.rank = self.rank_of(range(self.classes))
        self._patterns = {}

    def _find_classes(self):
        self.first, of, factor = [], [], []
        for i, row in enumerate(self.exact):
            for r, f in enumerate(self.first):
                ratio = _ratio(self.exact[f], row)
                if ratio is not None:
                    of.append(r)
                    factor.append(ratio)
                    break
            else:
                of.append(len(self.first))
                factor.append(1.0)
                self.first.append(i)
        self.of, self.factor = np.array(of), np.array(factor)
        self.classes = len(self.first)
        self.distinct = self.classes == len(self.exact)
        member = self.of[None, :] == np.arange(self.classes)[:, None]
        self.ahead = np.where(member & (self.factor > 0), self.factor, 0.0)
        self.behind = np.where(member & (self.factor < 0), self.factor, 0.0)

    def rank_of(self, classes):
        """Return the dimension that the normals of some classes span, exactly."""
        key = frozenset(classes)
        if key not in self._ranks:
            self._ranks[key] = _rank([self.exact[self.first[r]] for r in sorted(key)])
        return self._ranks[key]

    def spanned_by(self, classes):
        """Return all classes whose normals depend on those of some: who is on these is on all."""
        rank = self.rank_of(classes)
        return {r for r in range(self.classes) if self.rank_of({*classes, r}) == rank}

    def sides(self, modes):
        """Return for each sample 1 active, 0 inactive, 2 sliding."""
        on = np.asarray(modes)[..., self.of] * np.sign(self.factor)
        return np.where(on > 0, 1, np.where(on < 0, 0, 2))

    def pattern(self, modes):
        """Return the pattern of a tuple of modes."""
        modes = tuple(int(m) for m in modes)
        if modes not in self._patterns:
            self._patterns[modes] = self._make(modes)
        return self._patterns[modes]

    def _make(self, modes):
        made = Pattern()
        made.active = self.sides(modes) == 1
        made.slides = [r for r, m in enumerate(modes) if m == 0]
        drive = np.where(made.active[:, None], self.inputs, 0.0)
        across = self.normals[made.slides]
        made.independent = len(made.slides) < max(self.rank, 1) and self.rank_of(
            made.slides
        ) == len(made.slides)
        weight = np.zeros((len(made.slides), len(drive)))
        if made.slides and made.independent:
            turned, triangle = np.linalg.qr(across.T)
            weight = -np.linalg.solve(triangle, turned.T @ drive.T)
            drive = drive - (drive @ turned) @ turned.T
        made.drive = drive
        made.speed = self.normals @ drive.T
        self._clear_zeros(made)
        ahead, behind = self.ahead[made.slides], self.behind[made.slides]
        weight[np.abs(weight) < 1e-14 * np.max(np.abs(weight), initial=0.0)] = 0.0
        made.upper, made.lower = weight - ahead, behind - weight
        return made

    def _clear_zeros(self, made):
        """Set to zero what is zero in exact arithmetic, and only that."""
        size = self.lengths[self.first][:, None] * self.lengths[None, :]
        for r, i in np.argwhere((np.abs(made.speed) < 1e-6 * size) & made.active[None, :]):
            if r in made.slides or self._exactly_orthogonal(r, i, made.slides):
                made.speed[r, i] = 0.0
        made.speed[made.slides] = 0.0
        made.still = ~np.any(made.speed != 0, axis=1)

    def _exactly_orthogonal(self, r, i, slides):
        x, z = self.exact[self.first[r]], self.exact[i]
        base = []
        for s in slides:
            base.append(_without(self.exact[self.first[s]], base))
        return dot(_without(x, base), _without(z, base)) == 0


def dot(x, z):
    """Return the exact inner product of two vectors of fractions."""
    return sum(a * b for a, b in zip(x, z, strict=True))


def _without(x, base):
    """Return `x` minus its projections on the orthogonal vectors `base`."""
    for b in base:
        square = dot(b, b)
        if square:
            part = dot(x, b) / square
            x = [a - part * c for a, c in zip(x, b, strict=True)]
    return x


def _rank(rows):
    base = []
    for row in rows:
        left = _without(row, base)
        if any(left):
            base.append(left)
    return len(base)


def _ratio(x, z):
    """Return c where z = c x, exactly or to a few units of rounding; else `None`."""
    k = max(range(len(x)), key=lambda d: abs(x[d]))
    ratio = z[k] / x[k]
    if ratio == 0:
        return None
    gap = max(abs(b - ratio * a) for a, b in zip(x, z, strict=True))
    return float(ratio) if gap <= abs(z[k]) * Fraction(8, 2**52) else None
