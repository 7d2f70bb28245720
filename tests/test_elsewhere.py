"""Everything that people do works on a device that is not the CPU (`elsewhere_checks`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_everything_works_elsewhere() -> None:
    """In a process of its own: torch counts its devices when it first computes a gradient."""
    checks = Path(__file__).with_name("elsewhere_checks.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(checks)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=checks.parents[1])
    assert done.returncode == 0 and "13 passed" in done.stdout, done.stdout[-4000:]
