"""Checks of a study's tables, and messages that name the key."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from .families import FAMILIES, INITIALISERS, Kind


def as_values(given: Any) -> Any:
    """Return a single value as a tuple of one, and a sequence as a tuple."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        return (given,)
    return tuple(given)


def settings_table(family: str, given: dict[str, Any]) -> dict[str, tuple]:
    """Return the parameters of a data family, each as a tuple of values, in a fixed order."""
    chosen = FAMILIES[family]
    _check_keys("data", given, ("family", *chosen.parameters), chosen.required)
    return {
        name: _values(f"data.{name}", kind, given[name])
        for name, kind in chosen.parameters.items()
        if name in given
    }


def initialiser_table(name: str, given: dict[str, Any]) -> dict[str, tuple]:
    """Return the further parameters of an initialiser, each as a tuple of values."""
    _, parameters = INITIALISERS[name]
    _check_keys("initialiser", given, ("name", *parameters), parameters)
    return {key: _values(f"initialiser.{key}", "real", given[key]) for key in parameters}


def house_message(error: ValidationError, keys: list[str]) -> str:
    """Return the first complaint of pydantic as a sentence that names the key."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if message.startswith("Argument"):
        return message
    where = ".".join(str(part) for part in first["loc"]) or "study"
    if first["type"] == "extra_forbidden":
        known = f"; there are {sorted([*keys, 'scales'])}" if len(first["loc"]) == 1 else ""
        return f"Argument `{where}` must be left out, but it is given: there is no such key{known}."
    if first["type"] == "missing":
        either = " (or `scales`)" if where == "log_scales" else ""
        return f"Argument `{where}` must be given{either}, but it is missing."
    should = message.removeprefix("Input should be ").removeprefix("Input should ")
    should = should[:1].lower() + should[1:]
    return f"Argument `{where}` must be {should}, but it is {first['input']!r}."


def _check_keys(table: str, given: dict, known: Sequence[str], required: Sequence[str]) -> None:
    for key in given:
        if key not in known:
            raise ValueError(
                f"Argument `{table}.{key}` must be left out, but it is given: there is no such "
                f"key; there are {list(known)}."
            )
    for key in required:
        if key not in given:
            raise ValueError(f"Argument `{table}.{key}` must be given, but it is missing.")


def _values(key: str, kind: Kind, given: Any) -> tuple:
    if kind in ("pair", "reals"):
        nested = isinstance(given, Sequence) and not isinstance(given, str) and len(given) > 0
        values = given if nested and isinstance(given[0], Sequence) else (given,)
    else:
        values = as_values(given)
    if not len(values):
        raise ValueError(f"Argument `{key}` must have at least one value, but it is empty.")
    return tuple(_value(key, kind, value) for value in values)


def _value(key: str, kind: Kind, value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "size" and number and int(value) == value:
        return int(value)
    if kind == "real" and number and abs(value) < float("inf"):
        return float(value)
    if kind == "flag" and isinstance(value, bool):
        return value
    if kind == "word" and isinstance(value, str):
        return value
    if kind in ("pair", "reals") and isinstance(value, Sequence) and not isinstance(value, str):
        numbers = tuple(float(x) for x in value if isinstance(x, int | float))
        if len(numbers) == len(value) and (kind == "reals" or len(value) == 2):
            return numbers
    raise ValueError(f"Argument `{key}` must be {_WANTED[kind]}, but it is {value!r}.")


_WANTED = {
    "size": "an integer (or a list of them)",
    "real": "a finite number (or a list of them)",
    "flag": "true or false (or a list of them)",
    "word": "a word (or a list of them)",
    "pair": "two numbers (or a list of pairs)",
    "reals": "a list of numbers (or a list of such lists)",
}
