"""A run kept in a file, written whole or not at all; nothing is ever unpickled."""

import json
import os
from pathlib import Path
from typing import TypeVar

import equinox as eqx
from jaxtyping import PyTree

State = TypeVar("State")


class Checkpoint(eqx.Module):
    """A run in a file: one line that says of which run, then its arrays.

    Attributes:
        path: The file.
        fingerprint: A digest of everything that the numbers of the run depend on.
    """

    path: Path
    fingerprint: str

    def save(self, run: PyTree) -> None:
        """Write the run, whole or not at all."""
        aside = self.path.with_name(self.path.name + ".part")
        with aside.open("wb") as file:
            file.write(json.dumps({"fingerprint": self.fingerprint}).encode() + b"\n")
            eqx.tree_serialise_leaves(file, run)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, self.path)

    def load(self, run: State) -> State:
        """Return the run in the file, or the given one if there is no file."""
        if not self.path.exists():
            return run
        with self.path.open("rb") as file:
            try:
                header = json.loads(file.readline())
            except ValueError:
                header = {}
            if header.get("fingerprint") != self.fingerprint:
                raise ValueError(
                    f"Argument `checkpoint` must name a file of this run, but {self.path} "
                    "belongs to another one (or is damaged). Remove it to start anew."
                )
            return eqx.tree_deserialise_leaves(file, run)

    def remove(self) -> None:
        """Remove the file: the run is complete."""
        self.path.unlink(missing_ok=True)
