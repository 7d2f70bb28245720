"""One owner at a time of a folder that a run writes to: a lock that ends with its process and names it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from mlanet.errors import ConfigError, OutputError
from mlanet.files import remove_leftovers

LOCK = ".lock"
"""Stands in the folder while it has an owner; one that a killed process left behind locks nothing."""

POLL = 0.05
"""s between looks at a folder that is waited for."""

_held: set[int] = set()
"""Descriptors of the locks of this process."""


@contextlib.contextmanager
def owned(folder: Path, command: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold a folder, which is made if it is missing; another owner is refused, whatever command it runs.

    The system releases the lock when the process ends, however it ends, so that no crash ever blocks a folder. What
    former owners left of files that they were writing is removed. A folder that was made for this and is still empty
    at the end is removed.

    Args:
        folder: for files that only one process may write.
        command: what the owner does, for the message to another.
        wait: s for the present owner to end, before refusing.
    Raises:
        ConfigError: the folder has an owner; the message names it.
        OutputError: the folder cannot be written.
    """
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    lock = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _taken(lock, command, wait)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    _held.add(descriptor)
    try:
        remove_leftovers(folder)
        yield
    finally:
        if descriptor in _held:  # not so in a fork of the owner
            _held.discard(descriptor)
            with contextlib.suppress(OSError):
                lock.unlink()  # before others can take it: who has it open already looks again
            os.close(descriptor)
            with contextlib.suppress(OSError):
                for folder_ in made:
                    folder_.rmdir()


def _taken(lock: Path, command: str, wait: float) -> int:
    """A descriptor that holds the lock, with the owner's name written into the file."""
    end = time.monotonic() + wait
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            taken = _locked(descriptor)
            if taken and _is_still(lock, descriptor):
                _write(descriptor, command)
                return descriptor
            if not taken and time.monotonic() >= end:
                raise ConfigError(_refusal(lock.parent, _read(descriptor)))
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not taken:
            time.sleep(POLL)


def _locked(descriptor: int) -> bool:
    """Whether the lock is ours now. Where the file system knows no locks, what the last owner wrote decides."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        return not _lives(_read(descriptor))
    return True


def _is_still(lock: Path, descriptor: int) -> bool:
    """Whether the file that we hold is the one others find; its former owner removes it."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(lock), os.fstat(descriptor))
    return False


def _write(descriptor: int, command: str) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    owner = {"command": command, "process": os.getpid(), "host": platform.node(), "since": now, "birth": _birth("self")}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(owner).encode(), 0)


def _read(descriptor: int) -> dict[str, object]:
    """What the owner wrote; nothing if it is about to write."""
    with contextlib.suppress(OSError, ValueError):
        owner = json.loads(os.pread(descriptor, 4096, 0))
        return owner if isinstance(owner, dict) else {}
    return {}


def _refusal(folder: Path, owner: dict[str, object]) -> str:
    """Who holds it, and what can be done."""
    if not owner:
        return f"{folder}: another process has just begun to write there; choose another folder"
    who = f"{owner.get('command')} (process {owner.get('process')} on {owner.get('host')}, since {owner.get('since')})"
    if (owner.get("process"), owner.get("host")) == (os.getpid(), platform.node()):
        return f"{folder}: {who} is this very process, which has not ended that run; end it, or choose another folder"
    return f"{folder}: {who} is writing there; wait for it, end it, or choose another folder"


def _lives(owner: dict[str, object]) -> bool:
    """Whether the owner is a running process of this machine, and not another one that got its number later."""
    return owner.get("host") == platform.node() and owner.get("birth") == _birth(owner.get("process")) is not None


def _birth(process: object) -> str | None:
    """When a process began, in the system's own count; None where it does not run or the system does not tell."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    return None


def _forget() -> None:
    """A fork of the owner is not the owner: with the descriptor, it would keep the lock beyond the owner's end."""
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
