"""The only numeric physical constants of the package (CODATA 2018, as in ASE's defaults to 8 digits), and the order of
the six numbers of a stress.

Units everywhere: energy eV, length Å, force eV/Å, stress eV/Å³ (tension positive, as in ASE), charge e, mass amu.
"""

COULOMB_CONSTANT = 14.399645
"""1 / (4π ε₀) in eV Å / e²."""

EV_PER_CUBIC_ANGSTROM_IN_GPA = 160.21766208
"""1 eV/Å³ in GPa."""

EV_PER_CUBIC_ANGSTROM_IN_KBAR = 1602.1766208
"""1 eV/Å³ in kbar; VASP prints kbar with the opposite sign."""

EV_PER_SQUARE_ANGSTROM_IN_JOULE_PER_SQUARE_METER = 16.02176634
"""1 eV/Å² in J/m², which is N/m."""

HARTREE_IN_EV = 27.211386
"""1 hartree in eV."""

BOHR_IN_ANGSTROM = 0.52917721
"""1 bohr in Å."""

KCAL_PER_MOL_IN_EV = 0.0433641
"""1 kcal/mol in eV."""

MAX_ATOMIC_NUMBER = 118
"""The heaviest element with a name."""

MAX_CUTOFF = 100.0
"""Å, the longest cutoff of a model or search; a dense solid has 400 000 neighbours within it."""

VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
"""ASE's order xx yy zz yz xz xy, as rows and columns of a 3 × 3 stress: `stress[VOIGT]`."""
