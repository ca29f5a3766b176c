"""Which run a checkpoint is of: a digest of everything that its numbers depend on."""

import hashlib
import re
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import equinox as eqx
import jax
import jax.extend.core as jex
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PyTree

from ...model.network import TwoLayerReLU
from ...model.problem import Problem
from ...observe.milestones import Milestone


class Fingerprint:
    """A digest that grows by what it is told; the versions of JAX and of this package are in it."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.words(jax.__version__, _own_version())

    def __str__(self) -> str:
        return self._digest.hexdigest()

    def words(self, *values: object) -> None:
        """Add values by what they print, without addresses, which differ between processes."""
        self._digest.update(re.sub("0x[0-9a-f]+", "", repr(values)).encode())

    def arrays(self, tree: PyTree) -> None:
        """Add the arrays of a tree."""
        for leaf in jax.tree.leaves(tree):
            self._array(leaf)

    def program(self, function: Callable[..., Any], *arguments: PyTree) -> None:
        """Add what a function computes of such arguments, whatever its source looks like.

        So what it has captured and what it calls is in it too, and its name is not.
        """
        closed = eqx.filter_make_jaxpr(function)(*arguments)[0]
        self.words(str(closed.jaxpr))
        self.arrays(closed.consts)
        for literal in _literals(closed.jaxpr):
            self._array(literal)

    def milestones(
        self, milestones: Iterable[Milestone], problem: Problem, network: TwoLayerReLU
    ) -> None:
        """Add milestones: names, levels, directions, and what their observables compute."""
        for milestone in milestones:
            self.words(milestone.name, float(milestone.level), milestone.direction)
            self.program(milestone.observable, problem, network)

    def _array(self, leaf: Any) -> None:
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jr.key_data(leaf) if is_key else leaf)
        self._digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())


def _literals(jaxpr: Any) -> Iterable[Any]:
    """Yield the numbers that are written into a program: printed they may lose digits."""
    for equation in jaxpr.eqns:
        for operand in equation.invars:
            if isinstance(operand, jex.Literal):
                yield operand.val
        for inner in jax.tree.leaves(equation.params, is_leaf=_is_program):
            if isinstance(inner, jex.ClosedJaxpr):
                yield from inner.consts
                inner = inner.jaxpr
            if isinstance(inner, jex.Jaxpr):
                yield from _literals(inner)


def _is_program(leaf: Any) -> bool:
    return isinstance(leaf, jex.Jaxpr | jex.ClosedJaxpr)


def _own_version() -> str:
    try:
        return version("relu-flow")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
