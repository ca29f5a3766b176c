"""What a neuron does on hyperplanes: every assignment of modes is tried to first order."""

import itertools

import numpy as np


class Undecidable(Exception):
    """The solution is not unique here, or float64 cannot tell which of several it is."""


class Choice:
    """Modes after a decision.

    Attributes:
        modes: One a class.
        pinned: Classes on whose hyperplane the neuron rests, inactive.
        order: For each class that is left, the order in time at which it is (1 or 2).
        late: (class, end) of slides whose weight starts at its end (0 upper, 1 lower).
    """

    def __init__(self, modes):
        self.modes, self.pinned, self.order, self.late = list(modes), set(), {}, set()


class Tester:
    """Consistency of assignments for one neuron at one instant."""

    def __init__(self, geometry, sign, pull, error, rate=None, touching=frozenset()):
        """`touching` are the classes whose velocity may be exactly zero at this instant."""
        self.geometry, self.sign = geometry, sign
        self.pull, self.error, self.rate, self.touching = pull, error, rate, touching

    def _sign(self, form, r, side):
        """Return (sign, order) of side times sign(v) times a linear form in the pulls."""
        side = side * self.sign
        value = side * float(form @ self.pull)
        doubt = max(
            30 * float(np.abs(form) @ self.error), 1e-11 * float(np.abs(form * self.pull).sum())
        )
        if abs(value) > doubt:
            return np.sign(value), 1
        if r not in self.touching or self.rate is None:
            return 0, 0
        value = side * float(form @ self.rate)
        if abs(value) > 1e-7 * float(np.abs(form) @ np.abs(self.rate)):
            return np.sign(value), 2
        return 0, 0

    def test(self, modes, classes):
        """Return ("ok" | "tie" | None, choice) of giving a neuron `modes`, new on `classes`."""
        pattern = self.geometry.pattern(modes)
        if pattern.slides and not pattern.independent:
            return None, None
        choice, tie = Choice(modes), False
        for r in classes:
            if modes[r] == 0:
                k = pattern.slides.index(r)
                for end, form in enumerate((pattern.upper[k], pattern.lower[k])):
                    if not np.any(form):
                        return None, None
                    sign, order = self._sign(form, r, 1)
                    if sign < 0:
                        return None, None
                    tie |= sign == 0
                    if order == 2:
                        choice.late.add((r, end))
            elif pattern.still[r]:
                if self.geometry.rank_of([*pattern.slides, r]) == len(pattern.slides):
                    # Its normal is a combination of those slid on: weights are not unique.
                    tie = True
                elif modes[r] > 0:
                    return None, None
                choice.pinned.add(r)
            else:
                sign, order = self._sign(pattern.speed[r], r, modes[r])
                if sign < 0:
                    return None, None
                tie |= sign == 0
                choice.order[r] = order
        return ("tie" if tie else "ok"), choice

    def decide(self, modes, classes):
        """Return the one consistent choice, or raise `Undecidable`."""
        classes = sorted(classes)
        if len(classes) > 6:
            raise Undecidable("more than six hyperplanes at once")
        found = []
        for assignment in itertools.product((1, -1, 0), repeat=len(classes)):
            tried = list(modes)
            for r, mode in zip(classes, assignment, strict=True):
                tried[r] = mode
            verdict, choice = self.test(tried, classes)
            if verdict is not None:
                found.append((verdict, choice))
        if len(found) != 1:
            raise Undecidable(f"{len(found)} continuations at a hyperplane")
        if found[0][0] != "ok":
            raise Undecidable("a velocity within rounding of zero")
        return found[0][1]
