"""What this machine has, asked without torch."""

from __future__ import annotations

import os
from pathlib import Path


def available_bytes() -> int:
    """Bytes of memory that a computation may still take."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
