"""`mlanet data`: look at labelled files before training, split and convert them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlanet.cli.options import Files, Json, KeepGoing, KeepUnconverged, Keys
from mlanet.cli.output import note, print_json, print_table, refused_part, report_refused, say

if TYPE_CHECKING:
    from mlanet.data.samples import Sample

app = typer.Typer(help="Audit, split and convert labelled files.", no_args_is_help=True)


@app.command("check")
def check(
    files: Files,
    valid: Annotated[
        list[Path] | None, typer.Option(help="Also look for frames of FILES in this set; may be repeated.")
    ] = None,
    key: Keys = None,
    require: Annotated[str, typer.Option(help="Labels that must be there, comma-separated.")] = "energy,forces",
    cutoff: Annotated[float, typer.Option(help="Å, for the neighbour statistics.", min=0.1)] = 5.0,
    keep_unconverged: KeepUnconverged = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 1 where there is a warning.")] = False,
    json: Json = False,
) -> None:
    """Print what is labelled, in which range, and what looks wrong: units, signs, missing labels, duplicates, leaks."""
    from mlanet.data.audit import audit, audit_pair
    from mlanet.data.dataset import load_samples
    from mlanet.workflows.datasets import label_keys

    keys = label_keys(key or ())
    wanted = tuple(word.strip() for word in require.split(",") if word.strip())

    def loaded(paths: list[Path]) -> list[Sample]:
        return load_samples(paths, cutoff, keys, require=wanted, progress=not json, keep_unconverged=keep_unconverged)

    samples = loaded(files)
    reports = {"audit": audit(samples)}
    if valid:
        others = loaded(valid)
        reports |= {"valid": audit(others), "together": audit_pair(samples, others)}
    warnings = [warning for report in reports.values() for warning in report.warnings]
    if json:
        print_json({name: report.to_data() for name, report in reports.items()} | {"warnings": warnings})
    else:
        say("\n\n".join(reports[name].render() for name in ("audit", "valid") if name in reports))
        for warning in reports["together"].warnings if valid else ():
            say(f"warning: {warning}")
    if strict and warnings:
        raise typer.Exit(1)


@app.command("split")
def split(
    files: Files,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for train, valid and test.extxyz.")],
    sizes: Annotated[str, typer.Option(help="Fractions or counts for train, valid (and test).")] = "0.8,0.1,0.1",
    seed: Annotated[int, typer.Option(help="The same seed gives the same split anywhere.")] = 0,
    by_group: Annotated[
        bool, typer.Option("--by-group", help="Keep one trajectory (info traj, group, config_type or file) together.")
    ] = False,
    json: Json = False,
) -> None:
    """Split FILES into train, valid and test sets."""
    from mlanet.workflows.datasets import read_sizes
    from mlanet.workflows.datasets import split as split_files

    parts = split_files(files, output, read_sizes(sizes), seed, by_group)
    if json:
        print_json({"seed": seed, "by_group": by_group, "parts": parts})
    else:
        rows = [(part.name, str(part.frames), f"{part.wanted:.4g}", part.file) for part in parts]
        print_table("", ("part", "frames>", "asked for>", "file"), rows)
        if by_group:
            placed = [(part.name, group, str(count)) for part in parts for group, count in part.groups.items()]
            print_table("", ("part", "group", "frames>"), placed)


@app.command("convert")
def convert(
    files: Files,
    output: Annotated[Path, typer.Option("--output", "-o", help="One file: .extxyz, .xyz or .traj.")],
    keep_going: KeepGoing = False,
    json: Json = False,
) -> None:
    """Write every frame of FILES into one file of another format; labels, charges and info are kept."""
    from mlanet.workflows.answers import Refusals
    from mlanet.workflows.datasets import convert as convert_files

    refused = Refusals() if keep_going else None
    count = convert_files(files, output, refused, note)
    if json:
        print_json({"file": str(output), "frames": count, **refused_part(refused)})
    else:
        note(f"wrote {count} frames to {output}" if count else f"nothing to write to {output}")
    report_refused(refused)
