"""A report is one valid, safe and self-contained file."""

import base64
import json
from html.parser import HTMLParser

import pytest

from mlanet.errors import OutputError
from mlanet.page import Page
from mlanet.plots import new_figure

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Outline(HTMLParser):
    """Tags with their attributes and the text within; refuses tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def written(tmp_path):
    page = Page("Errors <&> costs", "Two models")
    page.heading("Where")
    page.facts([("device", "CPU"), ("threads", 1), ("commit", None)])
    page.text("<script>alert('no')</script>")
    page.heading("Numbers")
    page.table(
        ["model", "error, meV/Å", "steps", "stable"],
        [["a<b", 1.23456789, 2000, True], ["b", float("nan"), -5, None], ["c", 1.5e-9, 0, False]],
        caption='of "both"',
    )
    for caption in ("first", "second"):
        figure = new_figure(3, 2)
        figure.add_subplot().plot([1, 2], [3, 4], label=caption)
        page.picture(lambda figure=figure: figure, caption)
    page.data("rows", [{"x": float("inf"), "y": 0.1, "name": "</script>"}])
    path = tmp_path / "new" / "report.html"
    page.write(path)
    return path


def test_nothing_comes_from_elsewhere(written):
    """No address of another file: the page opens without a network."""
    outline = Outline(written.read_text())
    addresses = [a[k] for _, a in outline.tags for k in ("src", "href", "action", "data") if k in a]
    assert addresses and all(one.startswith(("#", "data:")) for one in addresses)
    assert not outline.all("link") and not outline.all("iframe") and "@import" not in written.read_text()


def test_ids_are_unique_and_contents_lead_to_them(written):
    """Each heading is reached from the table of contents."""
    outline = Outline(written.read_text())
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) == 2
    links = [one["href"] for one in outline.all("a") if one["href"].startswith("#")]
    assert links == [f"#{one}" for one in ids]


def test_text_is_never_markup(written):
    """A text that looks like a script is shown, not run: one script, ours."""
    outline = Outline(written.read_text())
    assert len(outline.all("script")) == 1
    assert "<script>alert('no')</script>" in outline.words and "a<b" in outline.words
    assert "Errors <&> costs" in outline.words


def test_numbers_are_short_to_read_and_whole_to_sort(written):
    """Four digits are shown, sorting sees all of them, and what is missing has no value."""
    outline = Outline(written.read_text())
    cells = outline.all("td")
    assert [one.get("data-v") for one in cells[:4]] == ["a<b", "1.2345678899999999", "2000", "True"]
    assert "data-v" not in cells[5] and cells[5]["class"] == "n"
    for word in ("1.235", "2\u202f000", "−5", "–", "1.500e−09", "yes"):
        assert word in outline.words, word
    classes = [one.get("class") for one in outline.all("th")]
    assert classes == [None, "n", "n", None]


def test_accessible(written):
    """Language, alternative texts, scopes and a width for phones."""
    outline = Outline(written.read_text())
    assert outline.all("html")[0]["lang"] == "en"
    assert [one["alt"] for one in outline.all("img")] == ["first", "second"]
    assert all(one["scope"] == "col" for one in outline.all("th"))
    assert any(one.get("name") == "viewport" for one in outline.all("meta"))
    assert "prefers-color-scheme" in written.read_text()


def test_wide_tables_scroll_and_keep_their_first_column(written):
    """A table never widens the page: its region scrolls, by keyboard too, and the names stay in sight."""
    text = written.read_text()
    regions = [one for one in Outline(text).all("div") if one.get("class") == "scroll" and one.get("role") == "region"]
    assert regions and all(one["tabindex"] == "0" and one["aria-label"] for one in regions)
    assert text.count("<table>") == text.count('"><table>') == len(regions)
    assert '<p class="caption">of &quot;both&quot;</p>\n<div class="scroll"' in text and "<caption" not in text
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert ".scroll{overflow-x:auto" in style and "td:first-child{position:sticky;left:0" in style


def test_pictures_are_vector_drawings_and_reproducible(written, tmp_path):
    """The same picture is the same bytes in every run."""
    source = Outline(written.read_text()).all("img")[0]["src"]
    drawing = base64.b64decode(source.removeprefix("data:image/svg+xml;base64,"))
    assert drawing.startswith(b"<?xml") and b"</svg>" in drawing and b"dc:date" not in drawing


def test_data_can_be_taken_out(written):
    """The embedded rows are JSON again, null where the number was not finite."""
    link = next(one for one in Outline(written.read_text()).all("a") if "download" in one)
    rows = json.loads(base64.b64decode(link["href"].partition("base64,")[2]))
    assert link["download"] == "rows.json" and rows == [{"x": None, "y": 0.1, "name": "</script>"}]


def test_whole_or_not_at_all(tmp_path):
    """A place that cannot be written is an error, and what was there stays."""
    target = tmp_path / "report.html"
    target.mkdir()
    with pytest.raises(OutputError, match=r"report\.html: cannot be written"):
        Page("a", "b").write(target)
    assert not [one for one in tmp_path.iterdir() if one.name.endswith(".partial")]


def test_uneven_rows_are_refused():
    """A cell too few would shift a row under wrong names."""
    with pytest.raises(ValueError, match="row 1 has 1 cells, expected 2: a, b"):
        Page("a", "b").table(["a", "b"], [[1, 2], [3]])
