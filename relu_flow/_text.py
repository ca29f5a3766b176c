"""Text for people."""

from collections.abc import Iterable

_WIDTH = 11  # of the column of names


def rows(title: str, lines: Iterable[tuple[str, str]]) -> str:
    """Return a title and a row for each name and what is said of it, if anything is."""
    return "\n".join([title, *(f"  {name:<{_WIDTH}}{said}" for name, said in lines if said)])
