"""A sweep as a whole: resuming, failing, refusing; without processes of its own where these do not matter."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import ase.io
import pytest
from sweeping import crystals, here, lasting

from mlanet.errors import ConfigError, OutputError
from mlanet.ownership import owned
from mlanet.sweep.config import SweepConfig
from mlanet.sweep.engines import Ended, Job
from mlanet.sweep.folder import open_folder
from mlanet.sweep.run import sweep
from mlanet.sweep.table import DONE, MEASURED
from mlanet.training.state import Averaged

Settings = Callable[..., SweepConfig]


def test_a_sweep_leaves_its_files(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows in order with errors, costs and machine; pictures; a page with the recommendation; and a second start
    that runs nothing and gives the same, though without pictures where matplotlib cannot be loaded."""
    config = settings(sizes=[4, 8], seeds=[1, 2])
    result = sweep(config, here)
    assert result.done == 4 and not result.unfinished
    assert [(row.size, row.seed) for row in result.rows] == [(4, 1), (4, 2), (8, 1), (8, 2)]
    for row in result.rows:
        assert (
            row.preset == "tiny"
            and row.steps == 6
            and row.test_structures == 2
            and row.parameters
            and row.stress_mae_GPa is not None
        )
        assert row.epochs == pytest.approx(6 * 2 / row.size)
        assert all((getattr(row, name) or 0) > 0 for name in MEASURED[:3]) and row.peak_memory_MiB is not None
    folder = tmp_path / "sweep"
    for name in ("table.csv", "table.json", "report.html", "learning_curves.png", "costs.png"):
        assert (folder / name).stat().st_size > 0
    document = json.loads((folder / "table.json").read_text())
    assert document["machine"]["threads"] == 1 and document["recommendation"]["preset"]
    assert result.recommendation.sentences[0].replace("'", "&#x27;") in (folder / "report.html").read_text()
    assert sweep(config, lambda jobs: (pytest.fail("ran again") for _ in jobs)).rows == result.rows  # type: ignore[arg-type,return-value]
    for place in (*folder.glob("*.png"), folder / "report.html"):
        place.unlink()
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.warns(UserWarning, match="no picture: matplotlib"):
        again = sweep(config, lambda jobs: (pytest.fail("ran again") for _ in jobs))  # type: ignore[arg-type,return-value]
    assert again.rows == result.rows and not list(folder.glob("*.png"))
    assert "No picture: matplotlib" in (folder / "report.html").read_text()


@pytest.mark.slow
def test_half_trained_points_go_on_to_the_same_table(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the middle of the second training, the sweep ends with the table of one never interrupted."""
    sweep(settings(output=str(tmp_path / "whole")), here)
    right, calls = Averaged.update, []

    def watched(self, potential, now):
        right(self, potential, now)
        calls.append(now)
        if len(calls) == 9:  # the third step of the second point
            raise KeyboardInterrupt

    config = settings(output=str(tmp_path / "cut"), budget={"steps": 6, "max_structures": 2})
    with monkeypatch.context() as patch:
        patch.setattr(Averaged, "update", watched)
        with pytest.raises(KeyboardInterrupt):
            sweep(config, here)
    assert len(lasting(tmp_path / "cut")) == 1 and "still to come" in (tmp_path / "cut/report.html").read_text()
    steps = len(calls)
    with monkeypatch.context() as patch:
        patch.setattr(Averaged, "update", lambda self, potential, now: (right(self, potential, now), calls.append(now)))
        sweep(config, here)
    assert len(calls) - steps <= 4, "the second point began anew"
    assert lasting(tmp_path / "cut") == lasting(tmp_path / "whole")


def test_a_failed_point_is_a_row(settings: Settings, tmp_path: Path) -> None:
    """A training that diverges, and a process that is killed, are rows with reasons; the others go on. `retry` runs
    them again."""

    def killing(jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        yield Ended(jobs[0], -9)
        yield from here(jobs[1:])

    config = settings(seeds=[1, 2], sizes=[4])
    result = sweep(config, killing)
    assert [row.status for row in result.rows] == ["failed", DONE] and "memory" in result.rows[0].remark
    assert "1 of 2 points failed" in result.recommendation.sentences[-1]
    assert sweep(config, here).rows == result.rows
    assert [row.status for row in sweep(config, here, retry=True).rows] == [DONE, DONE]
    wild = sweep(settings(optimizer={"lr": 1e30}, output=str(tmp_path / "wild"), sizes=[4]), here)
    assert not wild.done and "not finite" in wild.rows[0].remark and (tmp_path / "wild/report.html").exists()


def test_a_bug_in_a_point_is_told_and_kept(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """An error that nobody foresaw is named in the row; its traceback is in the point's output."""
    monkeypatch.setattr("mlanet.sweep.point.microseconds_per_atom", lambda *_: 1 / 0)
    row = sweep(settings(sizes=[4]), here).rows[0]
    assert row.remark == "ZeroDivisionError: division by zero" and "Traceback" in capsys.readouterr().err


def test_a_full_disk_is_no_result(settings: Settings, tmp_path: Path) -> None:
    """Files that cannot be written end the sweep with an error; the point is run another time."""

    def full(jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        Path(jobs[0].place).mkdir(parents=True)
        (Path(jobs[0].place) / "output.txt").write_text("working\nerror: No space left on device\n")
        yield Ended(jobs[0], 3)

    config = settings(sizes=[4])
    with pytest.raises(OutputError, match="No space left"):
        sweep(config, full)
    assert sweep(config, here).done == 1


def test_other_settings_are_refused(settings: Settings, tmp_path: Path, labelled: str) -> None:
    """One folder holds one sweep; the message says what is different, and nothing is touched."""
    sweep(settings(sizes=[4]), here)
    before = (tmp_path / "sweep/table.csv").read_bytes()
    with pytest.raises(ConfigError, match=r"sizes: was \[4\], is \[4, 8\].*optimizer.lr: was 0.005, is 0.1") as told:
        sweep(settings(sizes=[4, 8], optimizer={"lr": 0.1}), here)
    assert "another output folder" in str(told.value)
    ase.io.write(tmp_path / "copy.extxyz", crystals(20), format="extxyz")
    same = {"files": [str(tmp_path / "copy.extxyz")]}
    assert sweep(settings(sizes=[4], data=same), here).done == 1
    ase.io.write(tmp_path / "copy.extxyz", crystals(21), format="extxyz")
    with pytest.raises(ConfigError, match=r"copy\.extxyz: has another content"):
        sweep(settings(sizes=[4], data=same), here)
    with pytest.raises(ConfigError, match="files: were 2, are 3"):
        sweep(settings(sizes=[4], data={"files": [labelled, str(tmp_path / "copy.extxyz")]}), here)
    Path(tmp_path / "copy.extxyz").unlink()  # the parts are kept in the sweep's folder
    assert sweep(settings(sizes=[4], data=same), here).done == 1
    assert (tmp_path / "sweep/table.csv").read_bytes() == before


def test_a_preset_of_ones_own_may_not_change(settings: Settings, tmp_path: Path, tiny: str, monkeypatch) -> None:
    """Points before and after would be other models. Where the command is typed does not matter."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(Path(tiny).read_text())
    monkeypatch.chdir(tmp_path)
    assert sweep(settings(sizes=[4], presets=["mine.yaml"]), here).done == 1
    mine.write_text(Path(tiny).read_text().replace("layers: 1", "layers: 2"))
    with pytest.raises(ConfigError, match=r"mine\.yaml: has another content"):
        sweep(settings(sizes=[4], presets=["mine.yaml"]), here)


def test_a_foreign_or_busy_folder_is_refused(settings: Settings, tmp_path: Path) -> None:
    """Nothing is written among files that are no sweep's, nor by two sweeps at once."""
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="no sweep's"):
        sweep(settings(), here)
    (tmp_path / "busy").mkdir()
    with owned(tmp_path / "busy", "mlanet train"), pytest.raises(ConfigError, match=r"mlanet train \(process \d+ on "):
        sweep(settings(output=str(tmp_path / "busy")), here)


def test_a_sweep_killed_while_writing_its_first_file_can_start(settings: Settings, tmp_path: Path) -> None:
    """What it was writing is not taken for somebody else's file."""
    (tmp_path / "sweep").mkdir()
    for name in (".sweep.yaml.0f.partial", ".data.0f.partial"):
        (tmp_path / "sweep" / name).touch()
    with owned(tmp_path / "sweep", "mlanet sweep"):
        assert open_folder(settings(), 1).plan.points
    assert sorted(one.name for one in (tmp_path / "sweep").iterdir()) == ["data", "sweep.yaml"]
