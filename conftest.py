"""Doctests are sought where there are any: to import every module for them takes longer than to run them."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from _pytest.doctest import DoctestModule


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Neither modules without an example, nor programs that tests start."""
    if collection_path.suffix != ".py" or collection_path.name.startswith(("test_", "conftest")):
        return None
    return ">>>" not in collection_path.read_text(encoding="utf-8") or None


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Tests have no examples. Sought there nevertheless, they would hide that a file of tests cannot be imported."""
    found = yield
    tests = file_path.name.startswith(("test_", "conftest"))
    return [one for one in found if not (tests and isinstance(one, DoctestModule))]
