"""Generation of HTML: text is escaped unless it is marked as HTML."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Iterable, Mapping
from importlib import resources
from string import Template


class Html(str):
    """A string that is HTML, and is not escaped again."""

    __slots__ = ()


def element(tag: str, *children: object, **attributes: object) -> Html:
    """Return an element; attributes, and children that are not `Html`, are escaped.

    Children and attributes that are None are omitted. `class_` stands for the attribute class,
    `aria_label` for aria-label.
    """
    text = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Html(f"<{tag}{text}>{join(children)}</{tag}>")


def void(tag: str, **attributes: object) -> Html:
    """Return an element without an end tag."""
    return Html(element(tag, **attributes).removesuffix(f"</{tag}>"))


def join(parts: Iterable[object]) -> Html:
    """Concatenate parts; those that are not `Html` are escaped, those that are None omitted."""
    texts = (
        part if isinstance(part, Html) else html.escape(str(part))
        for part in parts
        if part is not None
    )
    return Html("".join(texts))


def document(
    *, title: str, heading: object, subtitle: object, sections: Iterable[object], footer: object
) -> str:
    """Return a page in the package's template: one file, without scripts or requests."""
    template = resources.files("advnets.report").joinpath("report_template.html")
    return Template(template.read_text("utf-8")).substitute(
        title=join([title]),
        heading=join([heading]),
        subtitle=join([subtitle]),
        sections=join(sections),
        footer=join([footer]),
    )


def data_uri(content: bytes, image_format: str = "png") -> str:
    """Return a data URI with the content of an image file."""
    return f"data:image/{image_format};base64," + b64encode(content).decode("ascii")


def property_table(caption: str, properties: Mapping[str, object]) -> Html:
    """Return a table of two columns: names and values."""
    rows = [
        element("tr", element("th", name, scope="row"), element("td", value))
        for name, value in properties.items()
    ]
    body = element("tbody", *rows)
    return element("table", element("caption", caption), body, class_="properties")
