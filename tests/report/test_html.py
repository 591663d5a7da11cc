from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from advnets.report.html import Html, element, join, property_table, void


class Reader(HTMLParser):
    """Tags, attributes and text, as parsed by a browser."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.text = [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


readable = st.text(st.characters(exclude_categories=("Cc", "Cs")))


@given(text=readable, title=readable)
def test_text_is_escaped(text, title):
    """A parser reads any text and attribute back, and finds no other tag."""
    reader = Reader(element("p", text, title=title))
    assert reader.tags == [("p", {"title": title})]
    assert reader.text == text


def test_html_is_not_escaped_twice():
    assert element("p", Html("<b>"), "<b>") == "<p><b>&lt;b&gt;</p>"


def test_none_is_omitted():
    assert element("p", None, "a", class_=None) == "<p>a</p>"
    assert join(["<", None, 1]) == "&lt;1"


def test_names_of_attributes():
    assert element("p", class_="a", aria_label="b") == '<p class="a" aria-label="b"></p>'


def test_void_elements_have_no_end_tag():
    assert void("img", alt="") == '<img alt="">'


def test_properties_are_rows_with_headers():
    reader = Reader(property_table("Data", {"name": "digits", "train": 7}))
    assert [tag for tag, _ in reader.tags] == [
        "table", "caption", "tbody", "tr", "th", "td", "tr", "th", "td",
    ]  # fmt: skip
    assert reader.text == "Datanamedigitstrain7"
