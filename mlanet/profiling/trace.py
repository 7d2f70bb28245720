"""Where the time of a computation goes: by layer, by operation, by kernel, and how near each comes to the machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from mlanet.profiling.ceilings import Ceilings, measure_ceilings
from mlanet.profiling.clock import PHASES, WARM_UP, Stopwatch
from mlanet.profiling.ledger import Account, Key, booked, summed

MOST_ROWS = 25


def trace(run: Callable[[], object], module: nn.Module, device: torch.device, path: Path | None) -> dict[str, Any]:
    """Tables `layers`, `operations`, `kernels`, the `ceilings` they are compared with, and the time undisturbed.

    Args:
        path: where to leave the trace of torch.profiler for a viewer (Perfetto, chrome://tracing), or None.
    """
    watch = Stopwatch(device)
    alone = sorted(watch.time(run) for _ in range(WARM_UP + 5))[2]
    dtype = next(module.parameters()).dtype
    ceilings = measure_ceilings(device, dtype)
    accounts = booked(run, module, device)
    whole = sum(account.ms for account in accounts.values()) or 1.0
    operations = summed(accounts, lambda key: key[2])
    return {
        "ms": alone,
        "booked_ms": whole,
        "ceilings": asdict(ceilings),
        "layers": _layers(accounts, whole),
        "operations": [
            {"operation": name, **_figures(one, whole, ceilings)} for name, one in list(operations.items())[:MOST_ROWS]
        ],
        "kernels": _kernels(run, device, path),
    }


def _layers(accounts: dict[Key, Account], whole: float) -> list[dict[str, Any]]:
    """Time of each module in each pass, the innermost module that is at work."""
    rows = []
    for name, total in summed(accounts, lambda key: key[0]).items():
        of_module = {key: account for key, account in accounts.items() if key[0] == name}
        phases = summed(of_module, lambda key: key[1])
        row: dict[str, Any] = {"layer": name, "ms": round(total.ms, 4), "share": round(total.ms / whole, 4)}
        row |= {f"{phase}_ms": round(phases[phase].ms, 4) if phase in phases else 0.0 for phase in PHASES}
        rows.append(row | {"operations": total.calls, "MB": round(1e-6 * total.bytes, 3)})
    return rows[:MOST_ROWS]


def _figures(account: Account, whole: float, ceilings: Ceilings) -> dict[str, Any]:
    """Time, traffic and work of an operation, and the share of the machine's best in whichever binds it more."""
    seconds = max(1e-3 * account.ms, 1e-12)
    gbs, gflops = 1e-9 * account.bytes / seconds, 1e-9 * account.flops / seconds
    of_copy, of_product = gbs / ceilings.gb_per_s, gflops / ceilings.gflop_per_s
    return {
        "calls": account.calls,
        "ms": round(account.ms, 4),
        "share": round(account.ms / whole, 4),
        "MB": round(1e-6 * account.bytes, 3),
        "MFLOP": round(1e-6 * account.flops, 3),
        "flop_per_byte": round(account.flops / max(account.bytes, 1.0), 3),
        "GB_per_s": round(gbs, 2),
        "GFLOP_per_s": round(gflops, 2),
        "of_ceiling": round(max(of_copy, of_product), 3),
        "bound": "memory" if of_copy >= of_product else "arithmetic",
    }


def _kernels(run: Callable[[], object], device: torch.device, path: Path | None) -> list[dict[str, Any]]:
    """torch.profiler's view: kernels on a GPU, operators on a CPU, by the time they take themselves."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        run()
        if on_gpu:
            torch.cuda.synchronize(device)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        profiled.export_chrome_trace(str(path))
    averages = profiled.key_averages()
    timed = [
        (average, average.self_device_time_total if on_gpu else average.self_cpu_time_total) for average in averages
    ]
    timed = sorted((pair for pair in timed if pair[1] > 0), key=lambda pair: -pair[1])[:MOST_ROWS]
    return [{"kernel": one.key[:120], "calls": one.count, "ms": round(1e-3 * spent, 4)} for one, spent in timed]
