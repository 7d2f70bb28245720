"""What is made of an input's text, and of masses, without any LAMMPS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlanet.errors import DataError
from mlanet.lammps.elements import as_numbers, of_masses, require_known
from mlanet.lammps.program import errors_of_lammps
from mlanet.lammps.translate import commands, files_of, translated


class Masses:
    """As much of LAMMPS as tells masses."""

    def __init__(self, *masses: float) -> None:
        self.masses = masses

    def extract_setting(self, name: str) -> int:
        return len(self.masses)

    def extract_atom(self, name: str) -> Any:
        return (0.0, *self.masses)


def test_commands_are_lines_without_comments_joined_where_they_go_on() -> None:
    """A # within quotes is none, & and triple quotes go on, and nothing of the text is lost."""
    text = (
        'run 5 # five\npair_coeff * * a &\n  Si O\nprint "# 1" # 2\npython f here """\ndef f(): pass # all\n"""\nlast'
    )
    found = list(commands(text))
    assert [line.split() for _, line in found[:2]] == [["run", "5"], ["pair_coeff", "*", "*", "a", "Si", "O"]]
    assert found[2][1] == 'print "# 1"'
    assert "def f(): pass # all" in found[3][1]
    assert "".join(written for written, _ in found) == text


def deck(folder: Path, **texts: str) -> str:
    """The first file, translated."""
    for name, text in texts.items():
        (folder / name).write_text(text)
    given = files_of(folder / next(iter(texts)))
    return next(iter(translated(given, folder / "new", [Path("talk"), Path("connect")]).values()))


def test_the_named_potential_is_asked_for_where_it_stands(tmp_path: Path) -> None:
    """Other lines stay as they are, other styles' coefficients too."""
    text = (
        "units metal\npair_style lj/cut 3\npair_coeff * * 1 1\nrun 0\n"
        "pair_style mlanet\npair_coeff * * universal Si # x\nrun 0\n"
    )
    asked = (
        'variable mlanet_words delete\nvariable mlanet_words string "universal Si"\ninclude "talk"\ninclude "connect"\n'
    )
    expected = "units metal\npair_style lj/cut 3\npair_coeff * * 1 1\nrun 0\npair_style none\n" + asked + "run 0\n"
    assert deck(tmp_path, start=text) == expected


@pytest.mark.parametrize("maker", ["create_box 1 b", "read_data a.data", "read_restart r.1"])
def test_without_a_pair_style_every_box_gets_the_potential(maker: str, tmp_path: Path) -> None:
    """After each line that makes a box."""
    assert deck(tmp_path, start=f"units metal\n{maker}\nrun 0\n").count('include "talk"') == 1


@pytest.mark.parametrize(
    "style", ["pair_style lj/cut 3", "pair_style hybrid/overlay mlanet zbl 1 2", "pair_style mlanet float64"]
)
def test_pair_styles_that_one_process_cannot_have(style: str, tmp_path: Path) -> None:
    """A deck whose potential would be another, or combined with others, is refused."""
    with pytest.raises(DataError, match="pair_style mlanet"):
        deck(tmp_path, start=f"units metal\n{style}\npair_coeff * * x\n")


def test_an_input_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.in"):
        files_of(tmp_path / "nothing.in")


def test_masses_tell_elements_or_are_refused() -> None:
    """Usual roundings; nothing between two elements; an element the model does not know is named as itself."""
    known = (1, 3, 8, 14, 20, 26, 27, 28)
    assert of_masses(Masses(15.9994, 28.0855, 6.94, 1.008, 55.85, 58.69, 58.93), known) == [8, 14, 3, 1, 26, 28, 27]
    for mass in (59.0, 2.014, 28.5, 0.0, 1e6):
        with pytest.raises(DataError, match="atom type 1"):
            of_masses(Masses(mass), known)
    with pytest.raises(DataError, match="Ar or Ca"):
        of_masses(Masses(40.0), (18, 20))
    assert of_masses(Masses(39.948), (18, 20)) == [18]
    with pytest.raises(DataError, match="not trained on Au"):
        require_known(of_masses(Masses(196.97), known), known)


@pytest.mark.parametrize("given", [[], ["Si"], ["Si", "X"], ["si", "O"], ["14", "8"]])
def test_elements_that_do_not_fit_the_types(given: list[str]) -> None:
    """Too few, none, or words that are no symbols."""
    with pytest.raises(DataError, match="type"):
        as_numbers(given, 2)


def test_errors_of_lammps_come_with_advice() -> None:
    """Its message without places in its source, and what to do; errors of this package pass."""
    from mlanet.errors import EngineError

    with pytest.raises(EngineError, match=r"in.si: LAMMPS: Lost atoms: original 8 current 7; atoms left the box"):  # noqa: SIM117
        with errors_of_lammps("in.si"):
            raise Exception("ERROR: Lost atoms: original 8 current 7 (src/src/thermo.cpp:494)")
    with pytest.raises(DataError, match="mine"), errors_of_lammps("in.si"):
        raise DataError("mine")


def test_a_source_tree_says_its_version(tmp_path: Path) -> None:
    """The plugin is for the version in src/version.h; a folder that is no tree is refused."""
    from mlanet.errors import ConfigError
    from mlanet.lammps.build import mpi_headers, target

    with pytest.raises(ConfigError, match="no source tree"):
        target(tmp_path)
    (tmp_path / "src" / "STUBS").mkdir(parents=True)
    (tmp_path / "src" / "pair.h").touch()
    (tmp_path / "src" / "version.h").write_text('#define LAMMPS_VERSION "2 Aug 2023"\n')
    found = target(tmp_path)
    assert (found.number, found.version, found.installed) == (20230802, "2 Aug 2023", False)
    with pytest.raises(ConfigError, match="--mpi"):
        mpi_headers(tmp_path / "nowhere", found.headers)
    (tmp_path / "src" / "STUBS" / "mpi.h").touch()
    assert mpi_headers(tmp_path / "src" / "STUBS", found.headers) == tmp_path / "src" / "STUBS"
