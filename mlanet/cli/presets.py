"""`mlanet presets`: the packaged configurations in irreps_configs/, as a table or as YAML to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mlanet.cli.options import Json
from mlanet.cli.output import print_json, print_table


def presets(
    name: Annotated[str | None, typer.Argument(help="Print this preset as YAML.", metavar="[NAME]")] = None,
    json: Json = False,
) -> None:
    """List the packaged model configurations, or print one as YAML to copy and change.

    A copy works the same way: [bold]mlanet presets mlanet_l2 > my.yaml[/bold].
    """
    from mlanet.config import preset_names, preset_path, read_yaml

    if name is not None:
        path = preset_path(name)
        if json:
            print_json(read_yaml(path))
        else:
            print(path.read_text(encoding="utf-8"), end="")
        return
    configs = {each: read_yaml(preset_path(each)) for each in preset_names()}
    if json:
        print_json(configs)
        return
    shown = ("irreps", "layers", "cutoff", "forces")
    rows = [
        (each, *(str(_with_irreps(config).get(key, "-")) for key in shown), _purpose(preset_path(each)))
        for each, config in configs.items()
    ]
    print_table("", ("preset", "irreps", "layers", "cutoff Å", "forces", "what it is"), rows)


def _purpose(path: Path) -> str:
    """The comment that a preset begins with."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _with_irreps(config: dict[str, Any]) -> dict[str, Any]:
    """LEIGNN's features in the same notation: it is given their number only."""
    width = config.get("channels")
    return config if config["model"] != "leignn" else {"irreps": f"{width}x0e+{width}x1o", **config}
