"""Watching and changing what layers give, for as long as one looks."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def watched(layers: Iterable[nn.Module]) -> Generator[list[Tensor]]:
    """What these layers give, in the order in which they give it."""
    seen: list[Tensor] = []

    def note(_: nn.Module, __: Any, output: Any) -> None:
        seen.append(output)

    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def scaled(layer: nn.Module, by: Tensor) -> Generator[None]:
    """Multiply what a layer gives."""

    def multiply(_: nn.Module, __: Any, output: Any) -> Tensor:
        return output * by.to(output)

    handle = layer.register_forward_hook(multiply)
    try:
        yield
    finally:
        handle.remove()
