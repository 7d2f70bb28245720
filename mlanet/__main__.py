"""`python -m mlanet`: the command line, for where the script is not on the path."""

import sys

from mlanet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
