"""Packages whose names are imported when they are first used (PEP 562).

A package that loaded all of its modules would load a decoder or a network library for callers that
need neither: the service uses `nciihash` and must never load a decoder, and the process that
decodes must not import its own parent.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeAlias

Hooks: TypeAlias = tuple[Callable[[str], Any], Callable[[], list[str]]]


def attach(package: str, homes: Mapping[str, Sequence[str]], public: Sequence[str]) -> Hooks:
    """Return `__getattr__` and `__dir__` of a package.

    Args:
        package: the full name of the package.
        homes: for each of its modules, by its name in the package, the names that the package
            re-exports.
        public: `__all__` of the package.
    """
    home = {name: module for module, names in homes.items() for name in names}

    def load(name: str) -> Any:  # noqa: ANN401 - a module attribute can be anything
        full = f"{package}.{name}"
        if module := home.get(name):
            return getattr(import_module(f"{package}.{module}"), name)
        try:
            return import_module(full)
        except ModuleNotFoundError as error:
            if error.name != full:
                raise
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load, lambda: sorted(public)
