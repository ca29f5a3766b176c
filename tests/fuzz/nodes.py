"""Polynomials through Chebyshev nodes of a step, and their first roots."""

import numpy as np
from numpy.polynomial import chebyshev

GRID = 96


class Graze(Exception):
    """A function touches zero, or misses it, by less than float64 can tell."""

    def __init__(self, where, why="a graze"):
        super().__init__(why)
        self.where = where


class Nodes:
    """Operators on the values of functions at the nodes of the unit interval."""

    def __init__(self, count):
        angle = np.pi * np.arange(count) / (count - 1)
        self.count = count
        self.at = np.sin(angle / 2) ** 2
        vander = chebyshev.chebvander(2 * self.at - 1, count - 1)
        self.coefficients = np.linalg.inv(vander)
        integral = np.array([chebyshev.chebint(row, lbnd=-1, scl=0.5) for row in np.eye(count)])
        self.integrate = (
            chebyshev.chebvander(2 * self.at - 1, count) @ integral.T @ self.coefficients
        )
        slope = np.array([2 * np.pad(chebyshev.chebder(row), (0, 1)) for row in np.eye(count)]).T
        self.slope = slope  # on coefficients
        self.divide = np.diag(1 / np.maximum(self.at, 1e-300))
        self.divide[:, 0] = -1 / np.maximum(self.at, 1e-300)
        self.divide[0] = vander[0] @ slope @ self.coefficients
        grid = np.linspace(0, 1, GRID + 1)
        self.grid = grid
        self.on_grid = chebyshev.chebvander(2 * grid - 1, count - 1)

    def row(self, x):
        """Return the weights of the node values in the polynomial's value at `x`."""
        return chebyshev.chebvander(np.atleast_1d(2 * x - 1), self.count - 1) @ self.coefficients

    def first_roots(self, values, noise):
        """Return for each column the first root in (0, 1], `inf` where there is none.

        Columns are positive just after 0. A column that is not positive at 0 by no more than
        `noise` has its root at 0. Raises `Graze` for a minimum within `noise` of zero that
        comes before every root.
        """
        found = np.full(values.shape[1], np.inf)
        coefficients = self.coefficients @ values
        rest = np.sum(np.abs(coefficients[1:]), axis=0)
        grazes = []
        for k in np.flatnonzero(coefficients[0] - rest <= 2 * noise):
            try:
                found[k] = self._first_root(coefficients[:, k], values[0, k], noise[k])
            except Graze as graze:
                grazes.append(graze.where)
        if grazes and min(grazes) <= np.min(found):
            raise Graze(min(grazes))
        return found

    def _first_root(self, coefficients, start, noise):
        on_grid = self.on_grid @ coefficients
        if start <= 0:
            if start < -noise:
                raise Graze(0.0)
            # On the wrong side by rounding: it is met now if it is going further that way.
            if self._value(self._slope(coefficients), 0) < 0:
                return 0.0
            on_grid = on_grid[1:] if on_grid[1] > 0 else on_grid
        offset = len(self.grid) - len(on_grid)
        negative = np.flatnonzero(on_grid < 0)
        last = int(negative[0]) if negative.size else len(on_grid) - 1
        dip = self._dip(coefficients, on_grid[: last + 1], offset, noise)
        if dip is not None:
            return self._bracketed(coefficients, self.grid[dip[0] + offset], dip[1])
        if not negative.size:
            return np.inf
        return self._bracketed(
            coefficients, self.grid[max(last + offset - 1, 0)], self.grid[last + offset]
        )

    def _dip(self, coefficients, on_grid, offset, noise):
        """Return a point at which the polynomial is negative between positive grid points."""
        if len(on_grid) < 3:
            return None
        bend = np.diff(on_grid, 2)
        low = (on_grid[1:-1] <= on_grid[:-2]) & (on_grid[1:-1] <= on_grid[2:])
        low &= on_grid[1:-1] <= 2 * np.abs(bend) + 2 * noise
        slope = self._slope(coefficients)
        bend_of = self._slope(slope)
        for k in np.flatnonzero(low):
            x, left, right = (self.grid[k + offset + d] for d in (1, 0, 2))
            for _ in range(8):
                curvature = self._value(bend_of, x)
                if curvature <= 0:
                    break
                x = min(max(x - self._value(slope, x) / curvature, left), right)
            value = self._value(coefficients, x)
            if abs(value) <= noise:
                raise Graze(x)
            if value < 0:
                return k, x
        return None

    def _slope(self, coefficients):
        return self.slope @ coefficients

    def _value(self, coefficients, x):
        return chebyshev.chebval(2 * x - 1, coefficients)

    def _bracketed(self, coefficients, left, right):
        slope = self._slope(coefficients)
        x = 0.5 * (left + right)
        for _ in range(80):
            value = self._value(coefficients, x)
            if value > 0:
                left = x
            else:
                right = x
            steep = self._value(slope, x)
            new = x - value / steep if steep else np.inf
            if not left <= new <= right:
                new = 0.5 * (left + right)
            if abs(new - x) <= 1e-17 + 2e-16 * abs(x):
                return new
            x = new
        return x
