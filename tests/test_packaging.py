"""The wheel alone gives what the clone gives."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import mlanet
from mlanet import examples
from mlanet.errors import DataError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("mlanet-*.whl"))


def test_wheel_holds_everything_a_user_needs(wheel: Path) -> None:
    """Presets, typing marker, packaged models, examples and licence travel with the code; tests and docs do not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "mlanet").rglob("*.py")}
    presets = {f"mlanet/irreps_configs/{path.name}" for path in (ROOT / "irreps_configs").glob("*.yaml")}
    models = {f"mlanet/pretrained/{path.name}" for path in (ROOT / "mlanet/pretrained").glob("*.safetensors")}
    examples = {f"mlanet/examples/{path.name}" for path in (ROOT / "mlanet/examples").iterdir()}
    assert presets and models and examples
    assert sources | presets | models | examples | {"mlanet/py.typed"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not {name.split("/")[0] for name in names} - {"mlanet", f"mlanet-{mlanet.__version__}.dist-info"}


def test_examples_are_reached_by_name() -> None:
    """Every one is a structure; a name that is none is answered with those that there are."""
    assert {"si.cif", "licoo2.cif"} < set(examples.names())
    assert all(len(examples.read(name)) for name in examples.names())
    assert examples.path("si.cif") == ROOT / "mlanet/examples/si.cif"
    with pytest.raises(DataError, match=r"no example is called 'Si\.cif'; there are gaas\.cif, "):
        examples.path("Si.cif")


@pytest.mark.slow
def test_wheel_alone_gives_the_command_line(wheel: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere, without the clone, the packaged model and presets are found and predict a real crystal."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import mlanet; assert mlanet.__file__.startswith(sys.argv[1]); "
        "from mlanet.cli.main import main; from mlanet.config import preset_folder; "
        "assert str(preset_folder()).startswith(sys.argv[1]); "
        "sys.exit(main(['predict', sys.argv[1] + '/mlanet/examples/si.cif', '--model', 'elemental', '--json']))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"energy_eV"' in done.stdout


def test_constraints_satisfy_the_declared_bounds() -> None:
    """The tested versions lie within the bounds that the package declares."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    versions = {canonicalize_name(name): version for name, version in pinned.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_version_is_told_once() -> None:
    """The version stands in one place, and the changelog speaks of it or of what is to come."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" in project["dynamic"]
    assert "[Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
