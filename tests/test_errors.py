"""Errors: what nobody has named gets the name of its file, once."""

from __future__ import annotations

import pytest

from mlanet.errors import DataError, GeometryError, NotFiniteError, named


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("structure: atoms 0 and 1 overlap", "a.xyz, frame 3: atoms 0 and 1 overlap"),
        ("structure, atom 2 (Si): no place", "a.xyz, frame 3, atom 2 (Si): no place"),
        ("a.xyz, frame 3, atom 2: no place", "a.xyz, frame 3, atom 2: no place"),
        ("structures are written as .cif", "a.xyz, frame 3: structures are written as .cif"),
        ("no layers", "a.xyz, frame 3: no layers"),
    ],
)
def test_a_name_takes_the_place_of_none(text: str, said: str) -> None:
    """And the kind of error stays."""
    for kind in (DataError, GeometryError, NotFiniteError):
        found = named(kind(text), "a.xyz, frame 3")
        assert type(found) is kind and str(found) == said
