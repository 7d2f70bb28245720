"""docs/add_a_model.md, followed to the letter in a copy of the package, gives a model that works everywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "add_a_model.md").read_text(encoding="utf-8")
TESTS = (
    "systems.py",
    "forked.py",
    "compilers.py",
    "conftest.py",
    "test_laws.py",
    "models/test_mlanet.py",
    "cli/conftest.py",
    "cli/test_info.py",
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package after the page's three steps, and what is needed to test it."""
    root = tmp_path_factory.mktemp("package")
    for name in ("mlanet", "irreps_configs"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", *(f"tests/{one}" for one in TESTS)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    (root / "mlanet/models/lennard_jones.py").write_text(blocks("python")[0], encoding="utf-8")
    apply(root / "mlanet/models/__init__.py", blocks("diff")[0])
    (root / "irreps_configs/lennard_jones.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    return root


def blocks(language: str) -> list[str]:
    """Code of the page in one language, without the indentation that a list gives it."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", PAGE, flags=re.M | re.S)
    return [re.sub(rf"^{indent}", "", text, flags=re.M) for indent, text in found]


def apply(path: Path, diff: str) -> None:
    """Put the lines behind `+` where those behind `-` before them stand."""
    text = path.read_text(encoding="utf-8")
    for old, new in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)+)", diff, flags=re.M):
        before, after = (re.sub(r"^[-+]", "", lines, flags=re.M) for lines in (old, new))
        assert text.count(before) == 1, f"{path.name} has no lines\n{before}"
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")


USE = """
import sys
from pathlib import Path

import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

import mlanet
from mlanet.cli.main import main

assert Path(mlanet.__file__).parts[:-2] == Path.cwd().parts, mlanet.__file__
frames = []
for seed in range(10):
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.rattle(0.1, seed=seed)
    atoms.calc = LennardJones(epsilon=0.0104, sigma=3.4, rc=8.0)
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    frames.append(atoms)
write("argon.extxyz", frames)
Path("argon.yaml").write_text(
    "data: {train: [argon.extxyz]}\\nmodel: {model: lennard_jones, epsilon: 0.01}\\nbudget: {steps: 3}\\n"
    "run: {folder: run}\\n"
)
model = "run/model.safetensors"
for words in (
    "presets", "info lennard_jones", "train argon.yaml --json", f"info {model}",
    f"predict argon.extxyz --model {model}", f"evaluate argon.extxyz --model {model}", f"check --model {model}",
    "profile compare lennard_jones --system Si:8 --rounds 1 --mode train", f"relax argon.extxyz --model {model} --json",
    "sweep argon.extxyz --presets lennard_jones,leignn --l-max 1,2 --steps 3 --plan",
    "sweep argon.extxyz --presets lennard_jones --steps 3 --json",
):
    print("$ mlanet", words, flush=True)
    status = main(words.split())
    assert status == 0, (words, status)
tests = ["tests/test_laws.py", "tests/models/test_mlanet.py", "tests/cli/test_info.py"]
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-k", "lennard_jones or whole_list", *tests]))
"""


def run(package: Path, *command: str) -> str:
    """What a command in the copy printed; it must end well."""
    environment = os.environ | {"PYTHONPATH": str(package)}
    done = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    return done.stdout


@pytest.mark.slow
def test_the_new_model_is_used_like_any_other(package: Path) -> None:
    """Every command takes it, on the page's own three steps; the tests for every preset include it and pass."""
    out = run(package, sys.executable, "-c", USE)
    found = re.search(r"(\d+) passed", out)
    assert found is not None and int(found[1]) >= 6, out[-2000:]
    assert "lennard_jones: l is 0 by construction" in out and "leignn, l = 1" in out


@pytest.mark.slow
def test_the_new_model_has_the_right_types(package: Path) -> None:
    """The page's code satisfies the type check of the package, registered as the page says."""
    if (ROOT / ".mypy_cache").is_dir():
        shutil.copytree(ROOT / ".mypy_cache", package / ".mypy_cache", dirs_exist_ok=True)
    run(package, sys.executable, "-m", "mypy", "mlanet/models", "mlanet/sweep/plan.py")
