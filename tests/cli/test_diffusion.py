"""`mlanet diffusion`: dynamics at several temperatures, gone on with, then analysed from their folders too."""

from __future__ import annotations

from pathlib import Path

import ase.io
from ase.build import bulk

RUN = (
    "diffusion",
    "li.cif",
    "--temperatures",
    "400,700",
    "--time",
    0.08,
    "--every",
    2,
    "--timestep",
    1,
    "-m",
    "elemental",
)


def test_short_runs_say_that_they_are_short(mlanet) -> None:
    """Two folders of dynamics; a second call computes nothing anew; their folders give the same numbers."""
    ase.io.write("li.cif", bulk("Li", "bcc", 3.44))
    first = mlanet(*RUN, "--repeat", "2x2x2", "--json", "--charge", "Li=1")
    assert first.status == 0, first.err
    rows = first.document["diffusion"]
    assert [row["element"] for row in rows] == ["Li", "Li"] and not any(row["in_fit"] for row in rows)
    assert "vibration" in first.err and "400K: 0.08 of 0.08 ps" in first.err and not first.document["arrhenius"]
    assert first.document["extrapolation"] in ("inside", "edge", "outside")
    assert all(row["conductivity_S_per_m"] is not None for row in rows)
    log = Path("diffusion/400K/log.csv").read_bytes()
    again = mlanet(*RUN, "--repeat", "2x2x2", "--json", "--charge", "Li=1")
    assert again.document["diffusion"] == rows and "of 0.08 ps" not in again.err
    assert Path("diffusion/400K/log.csv").read_bytes() == log
    people = mlanet("diffusion", "diffusion/400K", "diffusion/700K/trajectory.extxyz", "-o", "other")
    assert people.status == 0 and "Li" in people.out and "wrote other/diffusion.csv" in people.err
    other = mlanet(*RUN, "--repeat", "2x2x2", "--timestep", 0.5)
    assert other.status == 2 and "another timestep" in other.err


def test_what_is_asked_wrongly_is_said(mlanet) -> None:
    """Words that are none, a structure with no file, a file without times."""
    ase.io.write("li.cif", bulk("Li", "bcc", 3.44))
    for words, reason in (
        (("li.cif", "-T", "hot"), "600,800"),
        (("li.cif", "li.cif", "-T", "600"), "one structure"),
        (("li.cif", "--charge", "Li3"), "Li=1,O=-2"),
        (("nothing",), "nothing"),
        (("li.cif",), "li.cif: the frames do not say their time"),
        (("li.cif", "--interval", 1), "no velocities"),
        (("li.cif", "--interval", 1, "--temperature", 300), "diffusion needs at least"),
    ):
        given = mlanet("diffusion", *words)
        assert given.status == 2 and reason in given.err.replace("\n", " ").replace("│ ", ""), (words, given.err)
    kept = mlanet("diffusion", "nothing", "--keep-going", "--json")
    assert kept.status == 1 and len(kept.document["refused"]) == 1
