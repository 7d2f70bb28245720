"""LAMMPS with models of this package: from Python in one process, or as a compiled pair style (docs/lammps.md)."""

from __future__ import annotations

from mlanet.lammps.external import Attached, attach

__all__ = ["Attached", "attach"]
