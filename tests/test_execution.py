"""How to compute is chosen once: what a command line says arrives as one `Execution`, and a potential computes so."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import typer
from typer.testing import CliRunner

from mlanet.cli.computing import BATCHES, ONCE, OPTIONS, STEPS, computing
from mlanet.config import parse
from mlanet.errors import ConfigError
from mlanet.execution import Execution
from mlanet.potential import Potential
from mlanet.profiling.ours import configuration
from mlanet.statistics import Statistics
from mlanet.training.config import RunConfig, TrainConfig


def said(*words: str, names: tuple[str, ...] = tuple(OPTIONS), **defaults: object) -> Execution:
    """What a command with these options is given."""
    found: list[Execution] = []

    @computing(*names, **defaults)
    def command(place: str, *, execution: Execution) -> None:
        assert place == "here"
        found.append(execution)

    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, ["here", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return found[0]


def test_every_field_is_an_option() -> None:
    """And every option a field; nothing said is the default of both."""
    assert set(OPTIONS) == {one.name for one in dataclasses.fields(Execution)}
    assert {*ONCE, *BATCHES, *STEPS} <= set(OPTIONS)
    assert said() == Execution()
    assert said(names=STEPS, dtype="float64", skin=0.5) == Execution(dtype="float64", skin=0.5)


def test_what_is_said_arrives() -> None:
    words = ["--dtype", "float32", "--kernels", "plain", "--matmul", "tf32", "--device", "cuda", "--max-memory", "2"]
    found = said(*words, "--compile", "--capture", "--tabulated", "--skin", "0.25", dtype="float64")
    assert found == Execution("float32", "cuda", "plain", "tf32", True, True, True, 0.25, 2.0)
    with pytest.raises(AssertionError, match="fused"):
        said("--kernels", "blocks")
    with pytest.raises(AssertionError, match=r"(?i)no such option"):
        said("--skin", "0.1", names=ONCE)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="dtype 'float16' is not supported; use float32 or float64"):
        Execution(dtype="float16")
    for skin in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="skin must be zero or a positive number"):
            Execution(skin=skin)
    with pytest.raises(ConfigError, match="kernels: 'fast' is none of auto, plain, fused, native"):
        Execution(kernels="fast")
    for skin in (96.0, 1e9):
        with pytest.raises(ConfigError, match=r"skin .* 100 Å at most, and the cutoff of this model is 5 Å"):
            Execution(skin=skin).answering("elemental")
    with pytest.raises(ConfigError, match="capture is for NVIDIA GPUs"):
        Execution(capture=True).resolve("elemental")


def test_a_potential_computes_so() -> None:
    """A copy, in this precision, by these kernels; the original stays what it was."""
    torch.manual_seed(0)
    original = Potential.build(configuration("leignn:channels=4,layers=1"), Statistics.unit((14,), 10.0)).train()
    found = Execution(dtype="float64", kernels="plain").resolve(original, trained=False)
    assert found.dtype == torch.float64 and found.model.kernels == "plain" and not found.training
    assert not any(one.requires_grad for one in found.parameters())
    assert original.dtype == torch.float32 and original.training and next(original.parameters()).requires_grad
    assert Execution().resolve(original).model.kernels == "fused"
    with pytest.raises(ConfigError, match="none of auto, plain, fused, native"):
        Execution(kernels="blocks").resolve(original)


def test_a_training_computes_as_its_keys_say() -> None:
    """Every key of `run` and `budget` that says how is in its `Execution`, under the same name."""
    words = {"kernels": "plain", "matmul": "tf32", "compiled": True, "dtype": "float64"}
    config = {"data": {"train": ["a"]}, "budget": {"steps": 1, "max_memory": 2.0}, "run": {"folder": "b", **words}}
    execution = parse(config, TrainConfig, "test").execution("cpu")
    assert execution == Execution(device="cpu", max_memory=2.0, **words)  # type: ignore[arg-type]
    shared = {field.name for field in dataclasses.fields(Execution)} & {*RunConfig.__struct_fields__}
    assert shared == {*words, "device"}
