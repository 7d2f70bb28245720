from __future__ import annotations

import subprocess
import sys

import pytest

UNTOUCHED = """
import mlanet.data.read, mlanet.models, sys
assert not {"e3nn.o3._linear", "sympy", "scipy.linalg", "ase.dft.dos"} & set(sys.modules)
"""

USES = {
    "a name of the package": "from scipy.spatial import cKDTree; cKDTree([[0.0, 1.0]])",
    "an attribute": "import scipy.spatial; scipy.spatial.ConvexHull([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])",
    "a submodule as an attribute": "import scipy; scipy.spatial.distance.pdist([[0.0], [1.0]])",
    "all names": "from e3nn.o3 import *; Linear('2x0e', '2x0e')",
    "a class of the same kind": "from e3nn import o3; import mlanet.irreps as m; assert m.o3 is o3\n"
    "assert isinstance(o3.Linear('0e', '0e').irreps_in, o3.Irreps) and o3.Irreps is m.o3.Irreps",
    "a list of names": "import ase.optimize; assert 'BFGS' in dir(ase.optimize)",
    "no such name": "import ase.dft\ntry:\n    ase.dft.nothing\n"
    "except AttributeError:\n    pass\nelse:\n    raise ValueError",
}
COMPILER = {
    "the compiler": "import torch\nfrom mlanet.irreps import o3\n"
    "f = lambda x: x * o3.wigner_3j(1, 1, 2).sum()\n"
    "assert torch.equal(torch.compile(f, backend='eager')(torch.ones(2)), f(torch.ones(2)))",
}


@pytest.mark.parametrize("uses", [USES, pytest.param(COMPILER, marks=pytest.mark.slow)], ids=["packages", "compiler"])
def test_to_everybody_else_the_packages_are_as_ever(uses: dict[str, str]) -> None:
    """A package that was deferred is there, whole, however it is used first."""
    program = f"""{UNTOUCHED}
import os, traceback
for name, use in {uses!r}.items():
    child = os.fork()  # so that each use is the first
    if not child:
        try:
            exec(use, {{}})
        except BaseException:
            print(name, file=sys.stderr)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_package_that_is_not_there_is_an_error() -> None:
    """As of an import."""
    from mlanet.lazily import deferred

    with pytest.raises(ModuleNotFoundError, match="no package named 'json.nothing'"):
        deferred("json.nothing")
