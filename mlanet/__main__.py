"""The command line, as `mlanet` and as `python -m mlanet`."""

import gc
import sys


def main() -> int:
    """Load the commands and run one.

    Python's garbage collector rests meanwhile and passes over what was loaded: a tenth of the time until `--help`.
    """
    gc.disable()
    from mlanet.cli.main import main as command
    from mlanet.lazily import spare_markdown

    if len(sys.argv) == 1 or not {"-h", "--help"}.isdisjoint(sys.argv):
        spare_markdown()
    gc.freeze()
    gc.enable()
    return command()


if __name__ == "__main__":
    sys.exit(main())
