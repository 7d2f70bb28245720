"""Programs that take a calculator of ASE get from this one what ASE gets, where they are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule

from mlanet.calculator import MLANetCalculator

INPUT = """\
<simulation verbosity="low">
  <output prefix="run">
    <properties stride="1"> [step, conserved{electronvolt}, potential{electronvolt}] </properties>
  </output>
  <total_steps>3</total_steps>
  <ffsocket name="mlanet" mode="unix"> <address>NAME</address> </ffsocket>
  <system>
    <initialize nbeads="2">
      <file mode="ase" units="angstrom">start.xyz</file> <velocities mode="thermal" units="kelvin">300</velocities>
    </initialize>
    <forces> <force forcefield="mlanet"></force> </forces>
    <ensemble> <temperature units="kelvin">300</temperature> </ensemble>
    <motion mode="dynamics">
      <dynamics mode="nve"> <timestep units="femtosecond">0.5</timestep> </dynamics>
    </motion>
  </system>
</simulation>
"""


@pytest.mark.slow
def test_ipi(tmp_path: Path) -> None:
    """A path-integral run through ASE's socket: the first potential is ASE's, energy is conserved."""
    pytest.importorskip("ipi")
    import time

    from ase.calculators.socketio import SocketClient

    name = f"mlanet-{tmp_path.name}"
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.02, seed=1)
    atoms.write(tmp_path / "start.xyz")
    (tmp_path / "input.xml").write_text(INPUT.replace("NAME", name))
    server = subprocess.Popen([str(Path(sys.executable).with_name("i-pi")), "input.xml"], cwd=tmp_path)
    try:
        place, begun = Path(f"/tmp/ipi_{name}"), time.monotonic()
        while not place.exists() and time.monotonic() < begun + 60:
            time.sleep(0.1)
        atoms.calc = MLANetCalculator()
        first = atoms.get_potential_energy()
        SocketClient(unixsocket=name).run(atoms)
        assert server.wait(timeout=60) == 0
    finally:
        server.kill()
    _, conserved, potential = np.loadtxt(tmp_path / "run.out").T
    assert potential[0] == pytest.approx(first, abs=1e-5)
    assert np.ptp(conserved) < 1e-3 < np.ptp(potential)


@pytest.mark.slow
def test_openmm() -> None:
    """Energy and forces through OpenMM-ML's ASE potential."""
    openmm = pytest.importorskip("openmm")
    potential = pytest.importorskip("openmmml").MLPotential("ase")
    from openmm import app, unit

    atoms = molecule("CH3CH2OH")
    atoms.calc = MLANetCalculator()
    topology = app.Topology()
    residue = topology.addResidue("ethanol", topology.addChain())
    for symbol in atoms.symbols:
        topology.addAtom(symbol, app.Element.getBySymbol(symbol), residue)
    system = potential.createSystem(topology, calculator=atoms.calc)
    context = openmm.Context(system, openmm.VerletIntegrator(0.5 * unit.femtosecond))
    context.setPositions(atoms.positions * 0.1)
    state = context.getState(getEnergy=True, getForces=True)
    per_mol = 96.4853321
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoules_per_mole) / per_mol
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoules_per_mole / unit.angstrom) / per_mol
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    assert forces == pytest.approx(atoms.get_forces(), abs=1e-6)


@pytest.mark.slow
def test_matcalc() -> None:
    """A relaxation by matcalc ends at the lattice constant of this package's own."""
    matcalc = pytest.importorskip("matcalc")
    from pymatgen.io.ase import AseAtomsAdaptor

    from mlanet.workflows.relax import relaxation

    calculator = MLANetCalculator(dtype="float64")
    own = bulk("Si", a=5.5)
    there = matcalc.RelaxCalc(calculator, fmax=0.001).calc(AseAtomsAdaptor.get_structure(own))
    own.calc = calculator
    for _ in relaxation(own, cell="full", fmax=0.001):
        pass
    assert there["final_structure"].lattice.a == pytest.approx(own.cell.lengths()[0], abs=2e-3)


@pytest.mark.slow
def test_janus() -> None:
    """A relaxation by janus-core, of a structure that brings its calculator."""
    pytest.importorskip("janus_core")
    from janus_core.calculations.geom_opt import GeomOpt

    atoms = bulk("Si", a=5.5)
    atoms.calc = MLANetCalculator(dtype="float64")
    optimised = GeomOpt(struct=atoms, fmax=0.001)
    optimised.run()
    assert np.abs(optimised.struct.get_stress()).max() < 1e-3
    assert optimised.struct.get_potential_energy() < bulk_energy()


def bulk_energy() -> float:
    atoms = bulk("Si", a=5.5)
    atoms.calc = MLANetCalculator(dtype="float64")
    return float(atoms.get_potential_energy())
