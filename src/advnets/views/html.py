"""HTML from values: text is escaped unless it is HTML already."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(tag: str, *children: object, **attributes: object) -> Html:
    """An element; children that are not `Html` are escaped, as are attributes.

    An attribute that is None is left out; `class_` stands for class, `aria_label` for aria-label.
    """
    said = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Html(f"<{tag}{said}>{join(children)}</{tag}>")


def void(tag: str, **attributes: object) -> Html:
    """An element that has no end tag."""
    return Html(element(tag, **attributes).removesuffix(f"</{tag}>"))


def join(parts: Iterable[object]) -> Html:
    """Parts one after another; None leaves no trace."""
    texts = (
        part if isinstance(part, Html) else html.escape(str(part))
        for part in parts
        if part is not None
    )
    return Html("".join(texts))


def facts_table(caption: str, facts: Mapping[str, object]) -> Html:
    """A table of names and values."""
    rows = [
        element("tr", element("th", name, scope="row"), element("td", value))
        for name, value in facts.items()
    ]
    body = element("tbody", *rows)
    return element("table", element("caption", caption), body, class_="facts")
