"""The native engine: models without torch and without Python, from a flat file, in C++ (docs/native.md).

`engine` calls it from Python and imports no torch · `potential` is a whole potential of it, and needs none either ·
`file` the file it reads, `kept` where files of models are kept once they are made · `export` makes one from a
potential, `answers` lets it answer for one: these need torch · `cpp` the sources; `cpp/engine.hpp` is the interface for
other programs.
"""

from mlanet.native.engine import Answer, Engine
from mlanet.native.potential import NativePotential

__all__ = ["Answer", "Engine", "NativePotential"]
