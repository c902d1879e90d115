"""Packages that import what they re-export on first use (PEP 562).

Eager imports would load a decoder or a network library for callers that need neither: the service
uses `nciihash` and must never load a decoder, and the sandboxed child process must not import the
module of its parent.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeAlias

Hooks: TypeAlias = tuple[Callable[[str], Any], Callable[[], list[str]]]


def attach(package: str, exports: Mapping[str, Sequence[str]], public: Sequence[str]) -> Hooks:
    """Return `__getattr__` and `__dir__` for a package.

    Args:
        package: the package's full name.
        exports: the names that the package re-exports, by module (relative to the package).
        public: the package's `__all__`.
    """
    module_of = {name: module for module, names in exports.items() for name in names}

    def load(name: str) -> Any:  # noqa: ANN401 - a module attribute can be anything
        full = f"{package}.{name}"
        if module := module_of.get(name):
            return getattr(import_module(f"{package}.{module}"), name)
        try:
            return import_module(full)
        except ModuleNotFoundError as error:
            if error.name != full:
                raise
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load, lambda: sorted(public)
