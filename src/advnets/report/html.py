"""HTML from values: text is escaped unless it is HTML already."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Iterable, Mapping
from importlib import resources
from string import Template


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


def document(
    *, title: str, heading: object, kicker: object, sections: Iterable[object], footer: object
) -> str:
    """A page of the house: one file without script or request."""
    template = resources.files("advnets.report").joinpath("report_template.html")
    return Template(template.read_text("utf-8")).substitute(
        title=join([title]),
        heading=join([heading]),
        kicker=join([kicker]),
        sections=join(sections),
        footer=join([footer]),
    )


def data_uri(content: bytes, kind: str = "png") -> str:
    """An image's file as an address that holds it."""
    return f"data:image/{kind};base64," + b64encode(content).decode("ascii")


def facts_table(caption: str, facts: Mapping[str, object]) -> Html:
    """A table of names and values."""
    rows = [
        element("tr", element("th", name, scope="row"), element("td", value))
        for name, value in facts.items()
    ]
    body = element("tbody", *rows)
    return element("table", element("caption", caption), body, class_="facts")
