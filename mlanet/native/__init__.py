"""The native engine: models without torch and without Python, from a flat file, in C++ (docs/native.md).

`engine` calls it from Python and imports no torch · `file` the file it reads · `export` makes one from a potential,
which needs torch · `cpp` the sources; `cpp/engine.hpp` is the interface for other programs.
"""

from mlanet.native.engine import Answer, Engine

__all__ = ["Answer", "Engine"]
