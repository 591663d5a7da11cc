"""The attributes of a module, as TAB completion shows them; some are imported on first use."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

_NONE: Mapping[str, str] = MappingProxyType({})


def set_attributes(
    module: str, sources: Mapping[str, str] = _NONE, synonyms: Mapping[str, str] = _NONE
) -> None:
    """Set the `__getattr__` and `__dir__` of a module (PEP 562): dir() returns its `__all__`.

    `sources` has the full name of the module that defines each name to be imported on first use; a
    module of the package is listed under its own name. The AttributeError for another name has the
    nearest one, or the one of which it is among the `synonyms`.
    """
    namespace = vars(sys.modules[module])

    def import_attribute(name: str) -> object:
        if name not in sources:
            known = {*sources, *namespace}
            near = [synonyms[name]] if name in synonyms else get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise AttributeError(f"module {module!r} has no attribute {name!r}{hint}")
        source = importlib.import_module(sources[name])
        return source if sources[name] == f"{module}.{name}" else getattr(source, name)

    namespace["__getattr__"] = import_attribute
    namespace["__dir__"] = lambda: sorted(namespace["__all__"])
