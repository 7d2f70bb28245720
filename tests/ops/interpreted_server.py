"""Runs programs of this folder in copies of a process that has imported Triton's interpreter.

`TRITON_INTERPRET=1 python interpreted_server.py` reads lines `["PROGRAM", ["WORD", …]]`, answers `[STATUS, "ERRORS"]`.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import tempfile
import traceback
from pathlib import Path
from typing import IO

import interpreted  # noqa: F401  imports what takes long
import torch

import mlanet.kernels  # noqa: F401

HERE = Path(__file__).parent


def run(program: str, words: list[str], errors: IO[str]) -> int:
    """Its exit status, from a copy of this process."""
    copy = os.fork()
    if copy:
        return os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
    status = 1
    try:
        os.dup2(errors.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        sys.argv = [program, *words]
        runpy.run_path(str(HERE / program), run_name="__main__")
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in sys.stdin:
        with tempfile.TemporaryFile("w+") as file:
            answer = run(*json.loads(line), file)
            file.seek(0)
            print(json.dumps([answer, file.read()]), flush=True)
