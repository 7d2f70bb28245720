"""`mlanet sweep`: what is typed becomes settings, a table and a page; mistakes become messages."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from sweeping import here

from mlanet.cli import sweep as module

TINY = "{model: mlanet, irreps: 4x0e+4x1o, layers: 1, hidden: 4, heads: 2, key_dim: 2, radial_hidden: [4], cutoff: 3.5}"
YAML = """
data: {files: [LABELLED], test_fraction: 0.2, valid_fraction: 0.2}
presets: [tiny.yaml]
l_max: [1, 2]
sizes: [2]
budget: {steps: 3, max_structures: 2}
run: {device: cpu, threads: 1}
output: out
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Points run in this process, on networks of a few weights."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.setattr(module, "_engine", lambda *_: here)


def test_from_a_yaml_to_a_page(mlanet, quick, tmp_path: Path, labelled: Path) -> None:
    """The YAML gives the points; the folder can be named to go on; options and the YAML mean the same settings."""
    (tmp_path / "sweep.yaml").write_text(YAML.replace("LABELLED", str(labelled)))
    first = mlanet("sweep", "sweep.yaml", "--json")
    assert first.status == 0 and first.document["done"] == 2 and not first.document["unfinished"]
    assert [row["l_max"] for row in first.document["rows"]] == [1, 2]
    assert "<figure>" in Path("out/report.html").read_text()
    again = mlanet("sweep", "out")
    assert again.status == 0 and "tiny, l = 2" in again.out and "training structures" in again.out
    words = ["--presets", "tiny.yaml", "--l-max", "1,2", "--sizes", "2", "--steps", "3", "--output", "out"]
    for change in ("data.test_fraction=0.2", "data.valid_fraction=0.2", "budget.max_structures=2", "run.threads=1"):
        words += ["--set", change]
    same = mlanet("sweep", labelled, *words, "--set", "run.device=cpu", "--json")
    assert same.status == 0 and same.document["rows"] == first.document["rows"]
    other = mlanet("sweep", "out", "--steps", "4")
    assert other.status == 2 and "budget.steps: was 3, is 4" in other.err


def test_presets_may_follow_each_other(labelled: Path) -> None:
    """`--presets a b`, `--presets a,b` and `--presets a --presets b` are the same."""
    rest = {"l_max": None, "sizes": None, "seeds": "1, 2", "steps": 5, "minutes": None, "test": None, "output": None}
    spread = module._config([str(labelled), "mlanet_l2"], rest | {"presets": ["leignn"]}, ())
    for presets in (["leignn,mlanet_l2"], ["leignn", "mlanet_l2"]):
        assert module._config([str(labelled)], rest | {"presets": presets}, ()) == spread
    assert spread.presets == ("leignn", "mlanet_l2") and spread.seeds == (1, 2) and len(spread.data.files) == 1


def test_plan_writes_nothing(mlanet, quick, labelled: Path) -> None:
    """Points, expected times and remarks; no folder is made."""
    words = ["--presets", "tiny.yaml,leignn", "--l-max", "1,2", "--steps", "50", "--set", "data.test_fraction=0.2"]
    told = mlanet("sweep", labelled, *words, "--plan", "--json")
    assert told.status == 0 and len(told.document["points"]) == 3 and told.document["minutes"] > 0
    assert "by construction" in told.document["remarks"][0] and not Path("sweep").exists()
    shown = mlanet("sweep", labelled, *words[:-4], "--minutes", "2", *words[-2:], "--plan")
    assert shown.status == 0 and "about, minutes" in shown.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a budget"),
        (["--steps", "3", "--sizes", "50"], "50 structures are asked for, the training part has 4"),
        (["--steps", "3", "--l-max", "one"], "not of the form 1,2,3"),
        (["--steps", "3", "--minutes", "1"], "exactly one of"),
        (["--steps", "3", "--set", "optimiser.lr=1"], "did you mean 'optimizer'"),
        (["--steps", "3", "--presets", "mlanet_l9"], "no preset 'mlanet_l9'"),
        (["--steps", "3", "--test", "nowhere.xyz"], "nowhere.xyz"),
    ],
)
def test_mistakes_are_told(mlanet, quick, labelled: Path, words: list[str], message: str) -> None:
    """One message that says what and where, exit status 2."""
    result = mlanet("sweep", labelled, *words, "--set", "data.test_fraction=0.2")
    assert result.status == 2 and message in result.err and "Traceback" not in result.err


def test_a_device_that_is_not_there(mlanet, labelled: Path) -> None:
    """Known before the first point, and nothing is written."""
    result = mlanet("sweep", labelled, "--steps", "3", "--set", "run.device=cuda:99")
    assert result.status == 2 and "run.device 'cuda:99'" in result.err and not Path("sweep").exists()


def test_ctrl_c_says_how_to_go_on(mlanet, monkeypatch: pytest.MonkeyPatch, labelled: Path) -> None:
    """Exit status 130, and the command to type."""

    def interrupted(jobs):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(module, "_engine", lambda *_: interrupted)
    result = mlanet("sweep", labelled, "--steps", "3", "--set", "data.test_fraction=0.2", "-o", "later")
    assert result.status == 130 and "go on with: mlanet sweep later" in result.err
    assert json.loads(Path("later/table.json").read_text())["rows"] == []


def test_without_ray_it_says_so(mlanet, monkeypatch: pytest.MonkeyPatch, labelled: Path) -> None:
    """The extra is named."""
    monkeypatch.setitem(sys.modules, "ray", None)
    result = mlanet("sweep", labelled, "--steps", "3", "--ray", "local")
    assert result.status == 2 and "mlanet[ray]" in result.err
