"""Results appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlanet.errors import OutputError
from mlanet.workflows.output import atomic_path, refuse_overwriting


def test_a_failure_leaves_the_former_file(tmp_path: Path) -> None:
    """Whatever ends the block early, the former file is there and no part of the new one is."""
    place = tmp_path / "a.txt"
    place.write_text("former")
    for mishap in (RuntimeError, KeyboardInterrupt, OSError):
        with pytest.raises((mishap, OutputError)), atomic_path(place) as temporary:
            temporary.write_text("half")
            raise mishap
    assert place.read_text() == "former" and list(tmp_path.iterdir()) == [place]


def test_success_replaces_at_once(tmp_path: Path) -> None:
    """Until the block ends a reader sees the former file; folders are made on the way."""
    place = tmp_path / "new" / "a.txt"
    with atomic_path(place) as temporary:
        temporary.write_text("complete")
        assert not place.exists()
    assert place.read_text() == "complete" and list(place.parent.iterdir()) == [place]


def test_an_error_of_reading_is_not_called_an_error_of_writing(tmp_path: Path) -> None:
    """A file that is missing inside the block keeps its own error."""
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        (tmp_path / "nowhere").read_text()


def test_inputs_and_twins_are_refused(tmp_path: Path) -> None:
    """An output may be neither an input nor another output, under whatever name."""
    a = tmp_path / "a"
    with pytest.raises(OutputError, match="input"):
        refuse_overwriting((tmp_path / "x" / ".." / "a", None), (a,))
    with pytest.raises(OutputError, match="two"):
        refuse_overwriting((a, a), ())
    refuse_overwriting((a, tmp_path / "b"), (tmp_path / "c",))
