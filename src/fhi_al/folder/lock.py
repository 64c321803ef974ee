"""One job a folder: a lock that dies with its job, and signs of life for other hosts to see."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fhi_al.errors import InputError
from fhi_al.record.files import storage_error

STALE_S = 120.0
_HELD = (errno.EWOULDBLOCK, errno.EACCES)


@dataclass(frozen=True)
class Holder:
    """Who works in a folder.

    Attributes:
        host: where the job runs; its rank 0, if it has several.
        pid: of that process.
        since: when it took the lock, in seconds since 1970.
        last_sign: when it last showed a sign of life, likewise.
    """

    host: str
    pid: int
    since: float
    last_sign: float


def read_holder(folder: Path, host: str | None = None) -> Holder | None:
    """Look who works in a folder, without touching anything there; None if nobody does.

    The lock itself is not tried: a job that starts at that moment would be turned away. So a job of
    this host is at work if its process is there, one of another host if it has shown a sign of life
    in the last two minutes.

    Args:
        folder: `restart/`.
        host: name of this host.
    """
    path = folder / "lock"
    try:
        data = json.loads(path.read_bytes())
        holder = Holder(data["host"], data["pid"], data["time"], path.stat().st_mtime)
    except (OSError, ValueError, LookupError, TypeError):
        return None
    if holder.host == (host or socket.gethostname()):
        return holder if _is_process(holder.pid) else None
    return holder if time.time() - holder.last_sign < STALE_S else None


class FolderLock:
    """The right to write in `restart/`.

    The file is locked with `flock`, which the system undoes when the process ends, however it
    does. Some file systems know no locks, or none between hosts; so the file also says who holds
    it, and its time of modification is a heartbeat. A holder on another host whose heart has not
    beaten for two minutes counts as dead.

    Args:
        folder: `restart/`; made if need be.
        host: name of this host.

    Raises:
        InputError: another job holds the lock.
        StorageError: the file can't be written.
    """

    def __init__(self, folder: Path, host: str | None = None) -> None:
        self._path = folder / "lock"
        self._host = host or socket.gethostname()
        self._since = round(time.time(), 3)
        self._holder = {"host": self._host, "pid": os.getpid(), "time": self._since}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._open()
        except OSError as error:
            raise storage_error(self._path, error) from error

    def _open(self) -> int:
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                locked = _flock(file)
                # Whoever held it before may have removed the file meanwhile.
                if not (
                    self._path.exists() and os.path.samestat(os.fstat(file), self._path.stat())
                ):
                    os.close(file)
                    continue
                holder = self._read(file)
                if locked is False or (holder is not None and self._alive(file, holder, locked)):
                    raise InputError(self._refusal(file, holder))
                data = json.dumps(self._holder).encode()
                os.ftruncate(file, 0)
                os.pwrite(file, data, 0)
                return file
            except BaseException:
                with contextlib.suppress(OSError):
                    os.close(file)
                raise

    @property
    def holder(self) -> Holder:
        """This job, as others see it."""
        return Holder(self._host, os.getpid(), self._since, self._since)

    def beat(self) -> bool:
        """Show a sign of life.

        Returns:
            Whether the lock is still this job's: it isn't if the job stood still for so long that
            another one took it for dead.
        """
        try:
            holder = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return False
        if holder != self._holder:
            return False
        with contextlib.suppress(OSError):
            os.utime(self._file)
        return True

    def release(self) -> None:
        """Let the next one in. Leaves no file, and no folder that is empty."""
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self._file), self._path.stat()):
                self._path.unlink()
        os.close(self._file)
        with contextlib.suppress(OSError):
            self._path.parent.rmdir()

    def _alive(self, file: int, holder: dict[str, Any], locked: bool | None) -> bool:
        """Whether a holder that left its name may be at work."""
        if holder["host"] == self._host:
            # Its own lock is gone; without locks, its process decides.
            return locked is None and _is_process(holder["pid"])
        return self._age(file) < STALE_S

    def _age(self, file: int) -> float:
        """Seconds since the last heartbeat, by the clock of the file system."""
        with tempfile.TemporaryFile(dir=self._path.parent) as probe:
            return os.fstat(probe.fileno()).st_mtime - os.fstat(file).st_mtime

    def _refusal(self, file: int, holder: dict[str, Any] | None) -> str:
        if holder is None:
            who = "another job"
        else:
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["time"]))
            who = f"a job on {holder['host']}, process {holder['pid']}, since {since},"
        return (
            f"{self._path.parent.parent}: {who} works in this folder (last sign of life "
            f"{max(self._age(file), 0):.0f} s ago). Wait for its end, or stop it; if it is dead, "
            f"try again in {STALE_S / 60:.0f} minutes"
        )

    def _read(self, file: int) -> dict[str, Any] | None:
        try:
            holder = json.loads(os.pread(file, 4096, 0))
        except ValueError:
            return None
        whole = isinstance(holder, dict) and set(holder) == set(self._holder)
        return holder if whole else None


def _flock(file: int) -> bool | None:
    """Lock a file: whether it worked; None where the file system knows no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
