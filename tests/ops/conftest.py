"""Triton's interpreter, started once: it must be chosen before triton is imported, hence in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def interpreted() -> Iterator[Callable[..., None]]:
    """Run a program of this folder, named first, in the interpreter; it ends with an error where numbers differ."""
    folder = Path(__file__).parent
    path = os.pathsep.join([str(folder.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path}
    command = [sys.executable, str(folder / "interpreted_server.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdin is not None and server.stdout is not None

        def run(program: str, *words: object) -> None:
            server.stdin.write(json.dumps([program, [str(word) for word in words]]) + "\n")
            server.stdin.flush()
            status, said = json.loads(server.stdout.readline())
            assert status == 0, said[-3000:]

        yield run
        server.stdin.close()
