"""Text that acts on no terminal: control characters are written out."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""All control characters but tab and line feed, line separators, and those that turn the direction of text."""
_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""The same where JSON does not escape them itself."""


def plain(text: str) -> str:
    r"""Text of a file or of a name with every character that acts on a terminal written out.

    >>> plain("red\x1b[31m")
    'red\\x1b[31m'
    """
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def plain_json(text: str) -> str:
    r"""The same for a JSON document, which stays one.

    >>> plain_json('"\x9b31m"')
    '"\\u009b31m"'
    """
    return _IN_JSON.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def literal(text: str) -> str:
    r"""A name as it stands in a picture of matplotlib: a dollar begins no formula.

    >>> literal("a$b")
    'a\\$b'
    """
    return plain(text).replace("$", r"\$")
