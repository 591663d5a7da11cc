"""Lazy imports for the `__init__` of packages (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from types import MappingProxyType


def lazy_attributes(
    package: str,
    modules: Mapping[str, str],
    synonyms: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package whose names are imported on first use.

    `modules` has the full name of the module that defines each name; a module of the package is
    listed under its own name. The AttributeError for another name has the nearest
    one, or the one of which it is among the `synonyms`.
    """

    def getattribute(name: str) -> object:
        if name not in modules:
            names = {*modules, *vars(sys.modules[package])}
            near = [synonyms[name]] if name in synonyms else get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise AttributeError(f"module {package!r} has no attribute {name!r}{hint}")
        module = importlib.import_module(modules[name])
        return module if modules[name] == f"{package}.{name}" else getattr(module, name)

    def directory() -> list[str]:
        return sorted(modules)

    return getattribute, directory
