"""Whoever follows a page: writes its files, types its commands, and reads what they print.

Servers are real and the reader's own: a page's well-known addresses (``localhost:6379``, port 6432) stand for free
ports of this machine, and its database for one nobody else has. What does not end, a worker for example, goes on in
the background, as in another terminal, until the reader stops.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import distribution
from itertools import count
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from demo.servers import UNPRIVILEGED, Process, Valkey
from tests.commands import ROOT
from tests.docs.pages import Command, Console, File, Page
from tests.programs import postgresql, valkey
from tests.waiting import until

SERVICES: Mapping[str, str] = {
    r"celery -A \S+ worker\b": " ready.",
    r"celery -A \S+ beat\b": "beat: Starting",
    r"valkey-server .*--sentinel": "+monitor master",
    r"valkey-server\b": "Ready to accept connections",
    r"pgbouncer\b": "process up",
    r"python manage.py runserver\b": "Quit the server",
    r"uvicorn\b": "Uvicorn running on",
}
"""Commands that do not end, and what each says when it is ready."""

PORTS = ("6432", "7000", "7001", "7002", "8000", "26379")
"""Well-known ports in pages, besides those of the servers below."""

WITHIN_S = 30.0


def _server() -> SplitResult:
    """The tests' own PostgreSQL."""
    return urlsplit(os.environ["DATABASE_URL"])


@dataclass
class Reader:
    """Follows pages in ``directory``; a context manager that ends what it started.

    Args:
        base: whose project to start from, in the state it is in; the database is copied too.
        broker: URL of a broker for ``localhost:5672``.
    """

    directory: Path
    base: Reader | None = None
    broker: str | None = None
    addresses: dict[str, str] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)
    _services: dict[str, Process] = field(default_factory=dict)
    _number: Iterator[int] = field(default_factory=count)

    def __enter__(self) -> Reader:
        valkey = Valkey(self.directory.parent / f"{self.directory.name}-valkey")
        self._stack.callback(valkey.stop)
        valkey.start()
        self.addresses["localhost:6379"] = f"127.0.0.1:{valkey.port}"
        if self.broker:
            self.addresses["localhost:5672"] = urlsplit(self.broker).netloc.rpartition("@")[2]
        self.addresses |= {port: str(low_port()) for port in PORTS}
        # "proj" is a name that pages may use for other things than the database.
        self.addresses |= {f"{before}proj": f"{before}{self.database}" for before in ("createdb ", '"NAME": "')}
        self.addresses["host=localhost port=5432"] = f"host={_server().hostname} port={_server().port}"
        self._stack.callback(self._run, f"dropdb --force --if-exists {self.database}")
        self._begin()
        return self

    def _begin(self) -> None:
        if self.base is None:
            self.directory.mkdir(parents=True)
            return
        shutil.copytree(self.base.directory, self.directory)
        for path in self.directory.rglob("*.py"):
            text = path.read_text().replace(self.base.database, self.database)
            told = "localhost:6379"
            path.write_text(text.replace(self.base.addresses[told], self.addresses[told]))
        done = self._run(f"createdb -T {self.base.database} {self.database}")
        assert done.returncode == 0, done.stderr

    @property
    def database(self) -> str:
        """Its name: several readers share a server."""
        return f"docs_{os.getpid()}_{self.directory.name}"[:60].replace("-", "_")

    def __exit__(self, *_: object) -> None:
        for service in self._services.values():
            service.stop(signal.SIGKILL)
        self._stack.close()

    @property
    def environment(self) -> dict[str, str]:
        """A shell's own: this machine's programs, and libpq's variables that say where the database is."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("TEST_", "DJANGO_", "CELERY_"))}
        server = _server()
        of_libpq = {
            "PGHOST": server.hostname or "",
            "PGPORT": str(server.port or ""),
            "PGUSER": server.username or "",
            "PGPASSWORD": server.password or "",
        }
        path = os.pathsep.join([str(Path(sys.executable).parent), str(self._programs()), os.environ["PATH"]])
        # Root may run these tests, and a page may ask for pickle.
        return {**clean, **of_libpq, "PATH": path, "PYTHONPATH": str(ROOT), "C_FORCE_ROOT": "1", "COLUMNS": "120"}

    def follow(self, page: Page) -> None:
        """Do all that the page asks.

        Raises:
            AssertionError: a command failed, or printed something else than the page shows.
        """
        for step in page.steps:
            if isinstance(step, File):
                File(step.name, self._here(step.text), step.at_the_end).write(self.directory)
            elif step.patient:
                self._look(step)
            else:
                for command in step.commands:
                    self.type(command)

    def type(self, command: Command) -> None:
        """One command, to its end or until it is ready."""
        ready = next((said for pattern, said in SERVICES.items() if re.match(pattern, command.typed)), None)
        if ready is not None:
            self._start(command, ready)
        elif command.typed.startswith("pip install "):
            self._has_installed(command.typed)
        else:
            self._expect(command, self._run(command.typed))

    def _expect(self, command: Command, done: subprocess.CompletedProcess[str]) -> None:
        said = f"$ {self._here(command.typed)}\n{done.stdout}{done.stderr}\nexit status {done.returncode}"
        assert self._is_as_shown(command, done), f"{said}\ninstead of\n{command.printed}\n{self.logs}"
        assert str(done.returncode) == command.status, f"{said}\n{self.logs}"

    def stop(self, pattern: str, sig: int = signal.SIGTERM) -> str:
        """Stop the services whose command has ``pattern``; returns what they said."""
        said = ""
        for typed in [typed for typed in self._services if re.search(pattern, typed)]:
            service = self._services.pop(typed)
            service.stop(sig, within_s=WITHIN_S)
            said += service.log.read_text()
        return said

    @property
    def logs(self) -> str:
        """The ends of what the services have said, for a failure's message."""
        return "\n".join(f"{typed}:\n{s.log.read_text()[-3_000:]}" for typed, s in self._services.items())

    def _is_as_shown(self, command: Command, done: subprocess.CompletedProcess[str]) -> bool:
        return replace(command, printed=self._here(command.printed)).is_as_shown(done.stdout)

    def _look(self, step: Console) -> None:
        """Until everything is as shown; then, or when time is up, once more in earnest."""
        with suppress(AssertionError):
            until(lambda: all(self._is_as_shown(c, self._run(c.typed)) for c in step.commands), within_s=WITHIN_S)
        for command in step.commands:
            self.type(command)

    def _start(self, command: Command, ready: str) -> None:
        log = self.directory.parent / f"{self.directory.name}-{next(self._number)}.log"
        environment = [f"{name}={value}" for name, value in self.environment.items()]
        shell = ["sh", "-c", f"cd {self.directory} && exec {self._here(command.typed)}"]
        user = UNPRIVILEGED if command.typed.startswith("pgbouncer ") and os.geteuid() == 0 else None
        service = Process(["env", "-i", *environment, *shell], log, user=user)
        self._services[command.typed] = service
        ports = [int(here) for told, here in self.addresses.items() if re.search(rf"(?<!:)\b{told}\b", command.typed)]
        service.start(lambda: ready in log.read_text() and all(map(listens, ports)))

    def _run(self, typed: str) -> subprocess.CompletedProcess[str]:
        """What it says on stderr, progress bars for example, is not compared with the page."""
        return subprocess.run(
            ["sh", "-c", self._here(typed)], cwd=self.directory, env=self.environment,
            text=True, check=False, capture_output=True, timeout=50,
        )  # fmt: skip

    def _has_installed(self, typed: str) -> None:
        """What a page says to install is installed here already, from the pinned requirements."""
        for name, extra in re.findall(r"([\w-]+)(?:\[(\w+)\])?", typed.removeprefix("pip install ").replace("'", "")):
            offered = distribution(name).metadata.get_all("Provides-Extra") or []
            assert not extra or extra in offered, f"{name} has no extra {extra}"

    def _here(self, text: str) -> str:
        for told, here in self.addresses.items():
            text = re.sub(rf"(?<![\w.]){re.escape(told)}\b(?!\.)", here, text)
        return text

    def _programs(self) -> Path:
        """A directory with the servers' programs by the names they have where a distribution installs them."""
        programs = self.directory.parent / "programs"
        if not programs.exists():
            programs.mkdir()
            (programs / "valkey-server").symlink_to(valkey())
            for name in ("createdb", "dropdb"):
                (programs / name).symlink_to(postgresql(name))
        return programs


def low_port() -> int:
    """A free port that the kernel gives nobody by itself, and whose cluster bus, 10,000 above, it does not either."""
    return next(port for port in iter(lambda: random.randrange(12_000, 22_000), None) if not listens(port))


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
