"""What playing a part gave, kept beside its pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union

from advnets.files import write_atomically
from advnets.paper.blocks import Block, Shown

_FILE = "result.json"


@dataclass(frozen=True)
class Scale:
    """At what scale the paper is played; a result of another scale is not this one's."""

    full: bool
    seeds: int
    seed: int = 0

    @property
    def name(self) -> str:
        """As the command line has it."""
        return "full" if self.full else "quick"


@dataclass(frozen=True)
class Result:
    """A part that was played."""

    part: str
    scale: Scale
    advnets: str
    versions: Mapping[str, str]
    seconds: float
    shown: Shown

    @classmethod
    def read(cls, folder: Path) -> Result | None:
        """The result that lies in a folder, if a whole one does."""
        try:
            stored = json.loads((folder / _FILE).read_text("utf-8"))
            return _converter().structure(stored, cls)
        except (OSError, ValueError, KeyError, ExceptionGroup):
            return None

    def write(self, folder: Path) -> None:
        """Lay the result into a folder, beside its pictures."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_converter().unstructure(self), indent=1, ensure_ascii=False)
        write_atomically(folder / _FILE, lambda part: part.write_text(text, "utf-8"))


def _converter() -> Any:
    converter = make_converter(forbid_extra_keys=True)
    configure_tagged_union(Block, converter, tag_name="kind")
    return converter
