"""A report as one HTML file that needs nothing else: no network, no second file, readable on a phone and in the dark.

page = Page("Sweep of silicon", "What was trained, and what it cost.")
page.heading("Errors")
page.table(["model", "force error, meV/Å"], [["mlanet_l2", 31.4], ["leignn", None]])
page.write("report.html")
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from mlanet.errors import OutputError
from mlanet.files import write_result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MISSING = "–"
LONG = 32
"""Characters; a longer text in a table is folded."""

DIGITS = 4
"""Significant digits of a float in a table; the whole number stands in its tooltip and decides the order."""

_STYLE = """
:root{color-scheme:light dark;--ink:#20242b;--soft:#5c6370;--paper:#fff;--line:#d5d8dc;--band:#f4f5f7;--link:#2166ac}
@media (prefers-color-scheme:dark){:root{--ink:#e6e8eb;--soft:#a4abb6;--paper:#16181c;--line:#3a3f47;--band:#20242b;
--link:#8ab8e6}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:68rem;padding:1rem clamp(.8rem,4vw,2.5rem) 4rem;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.7rem;line-height:1.25;margin:1rem 0 .3rem}h2{font-size:1.25rem;margin:2.4rem 0 .6rem}
h1,h2{overflow-wrap:anywhere}
p{max-width:46rem;overflow-wrap:anywhere;white-space:pre-line}.intro,.caption,figcaption{color:var(--soft)}
a{color:var(--link)}nav ul{margin:.4rem 0;padding-left:1.2rem;columns:14rem}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15rem 1.2rem;margin:.6rem 0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:.8rem 0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
.caption{margin:.8rem 0 -.4rem;font-size:.92rem}
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{min-width:4.8rem;vertical-align:bottom;border-bottom:2px solid var(--line)}
tbody tr{background:var(--paper)}tbody tr:nth-child(even){background:var(--band)}
.scroll th:first-child,.scroll td:first-child{position:sticky;left:0;background:inherit}
.scroll th:first-child{background:var(--paper)}
td.n,th.n{text-align:right}td:not(.w){white-space:nowrap}td.w{min-width:16rem}
th button{all:unset;cursor:pointer;font-weight:600}th button:focus-visible{outline:2px solid var(--link)}
th[aria-sort=ascending] button::after{content:" \\25B4"}th[aria-sort=descending] button::after{content:" \\25BE"}
figure{margin:1.2rem 0}figure img{display:block;max-width:max(100%,32rem);height:auto;background:#fff;padding:.6rem;
border:1px solid var(--line);border-radius:6px}figcaption{margin-top:.4rem;max-width:46rem;font-size:.92rem}
@media (max-width:40rem){table{font-size:.82rem}th,td{padding:.3rem .45rem}dl{grid-template-columns:minmax(0,1fr)}
dd{margin-bottom:.4rem}.scroll td:first-child{white-space:normal;overflow-wrap:anywhere;min-width:6.5rem;max-width:8rem}
figure img{max-width:max(100%,26rem);padding:.2rem}}
"""

# Rows without a value stay at the end in both directions.
_SCRIPT = """
document.querySelectorAll("th button").forEach(button => button.addEventListener("click", () => {
  const head = button.parentNode, body = head.closest("table").tBodies[0], column = head.cellIndex;
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const one of head.parentNode.cells) one.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  const key = row => row.cells[column].dataset.v;
  const order = (a, b) => {
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    const x = Number(a), y = Number(b);
    return sign * (isNaN(x) || isNaN(y) ? a.localeCompare(b, "en", {numeric: true}) : x - y);
  };
  [...body.rows].sort((a, b) => order(key(a), key(b))).forEach(row => body.append(row));
}));
"""


class Page:
    """A report that is written from top to bottom; every text is escaped, every resource is inside the file."""

    def __init__(self, title: str, intro: str) -> None:
        self._title, self._intro = title, intro
        self._headings: list[str] = []
        self._parts: list[str] = []

    def heading(self, text: str) -> None:
        """A new section, which the table of contents leads to."""
        self._headings.append(text)
        self._parts.append(f'<h2 id="section-{len(self._headings)}">{escape(text)}</h2>')

    def text(self, text: str) -> None:
        """A paragraph; line breaks are kept."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def facts(self, pairs: Sequence[tuple[str, object]]) -> None:
        """Names and values below each other, as device, torch, commit."""
        lines = (f"<dt>{escape(name)}</dt><dd>{escape(_shown(value))}</dd>" for name, value in pairs)
        self._parts.append(f"<dl>{''.join(lines)}</dl>")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> None:
        """Rows that a click on a column's name sorts; a column with numbers only is aligned to the right.

        Raises:
            ValueError: a row with another number of cells than there are columns.
        """
        for number, row in enumerate(rows):
            if len(row) != len(columns):
                raise ValueError(f"row {number} has {len(row)} cells, expected {len(columns)}: {', '.join(columns)}")
        numeric = [_all_numbers([row[column] for row in rows]) for column in range(len(columns))]
        heads = (
            f'<th scope="col"{_class(right)}><button type="button">{escape(name)}</button></th>'
            for name, right in zip(columns, numeric, strict=True)
        )
        lines = ("".join(_cell(value, right) for value, right in zip(row, numeric, strict=True)) for row in rows)
        body = "\n".join(f"<tr>{line}</tr>" for line in lines)
        # Above the part that scrolls: as the table's own caption it would be as wide as the table, wider than a phone.
        title = f'<p class="caption">{escape(caption)}</p>\n' if caption else ""
        name = escape(caption or "table", quote=True)
        self._parts.append(
            f'{title}<div class="scroll" role="region" tabindex="0" aria-label="{name}"><table>'
            f"<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>{body}</tbody></table></div>"
        )

    def picture(self, draw: Callable[[], Figure | None], caption: str, heading: str = "") -> None:
        """A figure as a vector drawing, with its caption below and as its text for those who cannot see it.

        - draw: None, and nothing stands there, where there is nothing to draw; where matplotlib cannot be loaded (its
          OutputError), that stands there, and the page is written all the same
        - heading: above it
        """
        try:
            figure, why = draw(), ""
        except OutputError as error:
            figure, why = None, f"No picture: {error}. It would show: {caption}"
        if heading and (figure is not None or why):
            self.heading(heading)
        if why:
            self.text(why)
        if figure is None:
            return
        source = "data:image/svg+xml;base64," + base64.b64encode(_svg(figure)).decode()
        width, height = (round(96 * inches) for inches in figure.get_size_inches())
        words = escape(caption, quote=True)
        self._parts.append(
            f'<figure><div class="scroll"><img src="{source}" alt="{words}" width="{width}" height="{height}"></div>'
            f"<figcaption>{words}</figcaption></figure>"
        )

    def data(self, name: str, rows: Any) -> None:
        """Rows as a JSON file to download out of the page; numbers that are not finite become null."""
        text = json.dumps(_finite(rows), ensure_ascii=False, indent=1)
        source = "data:application/json;base64," + base64.b64encode(text.encode()).decode()
        file = escape(name if name.endswith(".json") else f"{name}.json", quote=True)
        size = max(len(text) / 1024, 0.1)
        self._parts.append(f'<p><a download="{file}" href="{source}">{file}</a> ({size:.1f} KiB)</p>')

    def write(self, path: str | os.PathLike[str]) -> None:
        """The file, whole or not at all.

        Raises:
            OutputError: the place cannot be written.
        """
        write_result(path, self._html().encode())

    def _html(self) -> str:
        links = "".join(
            f'<li><a href="#section-{number}">{escape(text)}</a></li>' for number, text in enumerate(self._headings, 1)
        )
        contents = f'<nav aria-label="Contents"><ul>{links}</ul></nav>' if links else ""
        parts = "\n".join(self._parts)
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self._title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<header>"
            f'<h1>{escape(self._title)}</h1><p class="intro">{escape(self._intro)}</p>{contents}</header>\n'
            f"<main>\n{parts}\n</main>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
        )


def _svg(figure: Figure) -> bytes:
    """The drawing without a date and with ids that are the same in every run, so that equal reports are equal files."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "mlanet"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _cell(value: object, right: bool) -> str:
    """One cell; `data-v` is what it is sorted by, and is left out where there is nothing."""
    if _missing(value):
        return f"<td{_class(right)}>{MISSING}</td>"
    shown = _shown(value)
    kind = ' class="w"' if len(shown) > LONG else _class(right)
    whole = f"{value:.17g}" if isinstance(value, float) else str(value)
    hint = f' title="{whole}"' if isinstance(value, float) and whole != shown else ""
    return f'<td{kind} data-v="{escape(whole, quote=True)}"{hint}>{escape(shown)}</td>'


def _class(right: bool) -> str:
    return ' class="n"' if right else ""


def _shown(value: object) -> str:
    """Text as people write it: few digits, a proper minus, yes and no."""
    if _missing(value):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f").replace("-", "−")
    if isinstance(value, float):
        return _digits(value)
    return str(value)


def _digits(value: float) -> str:
    """Four significant digits, and an exponent only where people would write one."""
    if not math.isfinite(value):
        return str(value).replace("-", "−")
    if value and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{DIGITS - 1}e}".replace("-", "−")
    before = math.floor(math.log10(abs(value))) + 1 if value else 1
    return f"{value:,.{max(0, DIGITS - before)}f}".replace(",", "\u202f").replace("-", "−")


def _missing(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _all_numbers(values: Sequence[object]) -> bool:
    """Whether everything that is there is a number, and something is."""
    there = [value for value in values if not _missing(value)]
    return bool(there) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in there)


def _finite(value: Any) -> Any:
    """The same rows with null for what JSON has no word for."""
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return _finite(value.item()) if hasattr(value, "item") else str(value)
