"""Processes that are copies of this one: as good as new ones for signals, locks and death, without long imports."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any


class Forked(subprocess.Popen):  # type: ignore[type-arg]
    """A process that runs a function, whose result is its exit status, or what a Python interpreter is told to run.

    Made and used as `subprocess.Popen` is; another command than this interpreter's starts as it always does.
    """

    def _execute_child(self, args: Any, executable: Any, *rest: Any) -> None:
        python = isinstance(args, list | tuple) and str(args[0]) == sys.executable
        # phonopy's kernels keep threads, of which a copy has none: it would wait for them for ever.
        if not callable(args) and (not python or "phonors" in sys.modules):
            super()._execute_child(args, executable, *rest)  # type: ignore[misc]
            return
        import torch._dynamo  # noqa: F401  # optimisers do, for seconds: here once, instead of in each copy

        _, _, kept, folder, environment, _, _, _, *pipes = rest[:14]
        session = rest[19]
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            work = args if callable(args) else lambda: _run([*map(str, args[1:])])
            _be(work, [pipes[0], pipes[3], pipes[5]], kept, folder, environment, session)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def _be(
    work: Callable[[], int | None],
    streams: list[int],
    kept: tuple[int, ...],
    folder: Any,
    environment: dict[str, str] | None,
    session: bool,
) -> None:
    """The copy, to its end."""
    status = 1
    try:
        for number, one in enumerate([os.dup(number if one == -1 else one) for number, one in enumerate(streams)]):
            os.dup2(one, number)
        for number in [int(name) for name in os.listdir("/proc/self/fd")]:
            if number > 2 and number not in kept:
                with contextlib.suppress(OSError):
                    os.close(number)
        sys.stdin, sys.stdout, sys.stderr = (open(k, "w" if k else "r", closefd=False) for k in range(3))  # noqa: SIM115
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        if session:
            os.setsid()
        if folder is not None:
            os.chdir(folder)
        if environment is not None:
            os.environ.clear()
            os.environ.update(environment)
            sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
        status = work() or 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, io.UnsupportedOperation):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _run(words: list[str]) -> int:
    """`-m MODULE …`, `-c CODE …` or `FILE …`."""
    sys.argv = words[words[0] in ("-m", "-c") :]
    if words[0] == "-m":
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv[0] = "-c"
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(words[0], run_name="__main__")
    return 0
