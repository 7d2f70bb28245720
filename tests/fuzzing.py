"""Fuzz the program: python tests/fuzzing.py --count 10000. Reports whatever is not a result or one line and a status.

Inputs are made and tried one after another in a process of its own, which a second one watches: an input that takes too
long, too much memory or kills the process is named and passed over.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import IO

MOST_SECONDS = 60.0
"""An input that takes longer hangs; a loaded machine needs some of them."""
MOST_BYTES = 2**30
"""By which an input may raise the memory that is in use."""
HERE = Path(__file__).resolve()


def work(seed: int, first: int, count: int, report: IO[str]) -> None:
    """Try inputs one after another in the current folder; a line of JSON before and after each."""
    import resource

    from fuzz_inputs import act, kind_of
    from fuzz_material import prepare

    from mlanet.memory import forget_highest_resident, highest_resident, resident

    prepare()
    act(seed, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(first, first + count):
        print(json.dumps({"begin": number}), file=report, flush=True)
        forget_highest_resident()
        before, started, fault = resident(), time.process_time(), ""
        kind = kind_of(seed, number)
        try:
            act(seed, number)
        except BaseException as error:
            fault = "".join(traceback.format_exception(error))
        rise = highest_resident() - before
        if rise > MOST_BYTES:
            fault = f"memory rose by {rise / 2**20:.0f} MiB"
        facts = {"end": number, "kind": kind, "seconds": time.process_time() - started, "bytes": rise, "fault": fault}
        print(json.dumps(facts), file=report, flush=True)


def watch(seed: int, first: int, count: int, folder: str) -> tuple[list[dict[str, object]], int]:
    """One process until it is done, hangs or dies: what it reported, and the number to go on with."""
    reading, writing = os.pipe()
    words = [sys.executable, str(HERE), "--seed", str(seed), "--first", str(first), "--count", str(count)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE.parents[1])])}
    with open(Path(folder) / "stderr", "wb") as said:
        child = subprocess.Popen(
            [*words, "--report", str(writing)],
            cwd=folder,
            pass_fds=[writing],
            env=environment,
            stdout=said,
            stderr=said,
        )
    os.close(writing)
    found: list[dict[str, object]] = []
    current, rest = first, b""
    with open(reading, "rb", buffering=0) as stream, selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            patience = MOST_SECONDS if found else 10 * MOST_SECONDS  # the first waits for imports
            if not selector.select(patience):
                child.kill()
                child.wait()
                return [
                    *found,
                    {"end": current, "kind": "?", "fault": f"hangs for more than {patience} s"},
                ], current + 1
            data = stream.read(1 << 16)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                facts = json.loads(line)
                if "begin" in facts:
                    current = facts["begin"]
                else:
                    found.append(facts)
                    current = facts["end"] + 1
    status = child.wait()
    if current < first + count:
        fault = f"the process ended with {status}: {(Path(folder) / 'stderr').read_text(errors='replace')[-2000:]}"
        return [*found, {"end": current, "kind": "?", "fault": fault}], current + 1
    return found, first + count


def run(seed: int, first: int, count: int) -> list[dict[str, object]]:
    """All inputs, in as many processes as it takes."""
    found: list[dict[str, object]] = []
    next_one, end = first, first + count
    with tempfile.TemporaryDirectory() as folder:
        while next_one < end:
            more, next_one = watch(seed, next_one, min(end - next_one, 1000), folder)
            found += more
            for one in more:
                if one["fault"]:
                    print(f"--- input {one['end']} ({one['kind']}): {str(one['fault'])[-1500:]}", flush=True)
            print(f"{len(found)} of {count}, {sum(bool(one['fault']) for one in found)} faults", file=sys.stderr)
    return found


def main() -> int:
    """Status 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input, to repeat one")
    parser.add_argument("--report", type=int, help="file descriptor: be the process that tries them")
    asked = parser.parse_args()
    if asked.report is not None:
        with open(asked.report, "w") as report:
            work(asked.seed, asked.first, asked.count, report)
        return 0
    found = run(asked.seed, asked.first, asked.count)
    faults = [one for one in found if one["fault"]]
    kinds = Counter(str(one["kind"]) for one in found)
    for kind in kinds:
        spent = [float(str(one.get("seconds", 0))) for one in found if one["kind"] == kind]
        print(f"{kind}: {len(spent)}, {sum(spent) / len(spent):.3f} s each, {max(spent):.1f} s at most")
    largest = max((int(str(one.get("bytes", 0))) for one in found), default=0)
    print(f"{len(found)} inputs, {len(faults)} faults, largest rise of memory {largest / 2**20:.0f} MiB")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
