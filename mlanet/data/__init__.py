"""From files to graphs and labels: the only part of the package, beside the calculator, that knows ASE and pymatgen."""

from mlanet.lazily import spare_scipy

spare_scipy()
