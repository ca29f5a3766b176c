"""Names of a package that are imported when they are first used."""

import ast
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

# Imported under this name, so that a type checker and this module see the same block.
_GUARD = "_TYPE_CHECKING"


def attach(
    package: str, optional: str | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package whose imports are for type checkers alone.

    The names are read from the package's own source, from the block that type checkers see: a
    list of names for the interpreter beside the imports would be the same list twice.

    Args:
        package: Name of the package.
        optional: Subpackage whose requirements are those of the extra `app`, if there is one.
    """
    homes = dict(_imports(package))
    namespace = vars(sys.modules[package])
    subpackages = {home.split(".")[1] for home in homes.values()} - {optional}

    def load(name: str) -> Any:
        if name in homes:
            try:
                value = getattr(import_module(homes[name], package), name)
            except ModuleNotFoundError as error:
                if optional is None or not homes[name].startswith(f".{optional}."):
                    raise
                raise ImportError(
                    f'{package}.{name} needs {error.name}: pip install "relu-flow[app]"'
                ) from error
        elif name in subpackages:
            # As an attribute a subpackage has its modules, as if all had been imported.
            for home in {home for home in homes.values() if home.startswith(f".{name}.")}:
                import_module(home, package)
            value = sys.modules[f"{package}.{name}"]
        elif name == "__all__":
            value = sorted(homes)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        namespace[name] = value  # the next look finds it without asking here
        return value

    return load, lambda: sorted({*homes, *namespace})


def _imports(package: str) -> Iterator[tuple[str, str]]:
    """Yield each name of the block for type checkers, and the module that it comes from."""
    spec = find_spec(package)
    source = getattr(spec and spec.loader, "get_source")(package)  # noqa: B009
    for block in ast.parse(source).body:
        if not (isinstance(block, ast.If) and getattr(block.test, "id", None) == _GUARD):
            continue
        for statement in block.body:
            if isinstance(statement, ast.ImportFrom):
                for name in statement.names:
                    yield name.asname or name.name, f".{statement.module}"
