"""A reader of the documentation: writes a page's files, types its commands, and compares what they print.

Each reader has a database and a Redis of its own. A page's well-known addresses (``localhost:6379``, port 6432) stand
for free ports of this machine, its database for one that nobody else has. A command that does not end, such as a
worker, goes on in the background, as in another terminal, until the reader leaves.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from importlib.metadata import distribution
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from demo.servers import UNPRIVILEGED, Process, Valkey
from tests.commands import ROOT
from tests.docs.pages import Command, Console, File, Step
from tests.programs import postgresql, valkey
from tests.waiting import until

SERVICES: Mapping[str, str] = {
    r"celery -A \S+ worker\b": " ready.",
    r"celery -A \S+ beat\b": "beat: Starting",
    r"valkey-server .*--sentinel": "+monitor master",
    r"valkey-server\b": "Ready to accept connections",
    r"pgbouncer\b": "process up",
    r"python manage.py runserver\b": "Quit the server",
    r"python -u -m http.server\b": "Serving HTTP",
    r"uvicorn\b": "Uvicorn running",
}
"""Commands that do not end, and what each prints when it is ready."""

PORTS = ("6432", "7000", "8000", "26379")
"""Well-known ports in pages, besides those of PostgreSQL, Redis and RabbitMQ."""

WITHIN_S = 60.0


class Reader:
    """Follows pages in ``directory``; a context manager that ends what it started.

    Args:
        base: a reader whose project and database this one begins with.
        broker: the URL of a broker that ``localhost:5672`` stands for.
    """

    def __init__(self, directory: Path, base: Reader | None = None, broker: str = "") -> None:
        self.directory = directory
        self.database = f"docs_{os.getpid()}_{directory.name}"[:60].replace("-", "_")
        self._base = base
        self._services: dict[str, Process] = {}
        self._stack = ExitStack()
        self._number = count()
        self._postgresql = urlsplit(os.environ["DATABASE_URL"])
        self._addresses = {port: str(low_port()) for port in PORTS}
        for before in ("createdb ", "psql ", '"NAME": "'):
            self._addresses[f"{before}proj"] = f"{before}{self.database}"
        self._addresses["host=localhost port=5432"] = f"host={self._postgresql.hostname} port={self._postgresql.port}"
        if broker:
            self._addresses["localhost:5672"] = urlsplit(broker).netloc.rpartition("@")[2]

    def __enter__(self) -> Reader:
        server = Valkey(self.directory.parent / f"{self.directory.name}-valkey")
        self._stack.callback(server.stop)
        server.start()
        self._addresses["localhost:6379"] = f"127.0.0.1:{server.port}"
        self._stack.callback(self._run, f"dropdb --force --if-exists {self.database}")
        if self._base is None:
            self.directory.mkdir(parents=True)
        else:
            self._copy(self._base)
        return self

    def __exit__(self, *_: object) -> None:
        for service in self._services.values():
            service.stop(signal.SIGKILL)
        self._stack.close()

    def _copy(self, base: Reader) -> None:
        shutil.copytree(base.directory, self.directory)
        redis = "localhost:6379"
        for path in self.directory.rglob("*.py"):
            text = path.read_text().replace(base.database, self.database)
            path.write_text(text.replace(base._addresses[redis], self._addresses[redis]))
        done = self._run(f"createdb -T {base.database} {self.database}")
        assert done.returncode == 0, done.stderr

    def follow(self, steps: Iterable[Step]) -> None:
        """Take every step.

        Raises:
            AssertionError: a command failed, or printed something else than the page shows.
        """
        for step in steps:
            if isinstance(step, File):
                File(step.name, self._here(step.text), step.append).write(self.directory)
                continue
            if step.is_patient:
                self._wait_for(step)
            for command in step.commands:
                self._type(command)

    def stop_services(self) -> None:
        """End every service, in the ordinary way."""
        while self._services:
            self._services.popitem()[1].stop(within_s=WITHIN_S)

    def _type(self, command: Command) -> None:
        program = re.sub(r"^env( \w+=\S+)+ ", "", command.typed)
        ready = next((line for pattern, line in SERVICES.items() if re.match(pattern, program)), None)
        if ready is not None:
            self._start(command.typed, ready)
        elif command.typed.startswith("pip install "):
            _assert_installed(command.typed)
        else:
            done = self._run(command.typed)
            actual = f"$ {self._here(command.typed)}\n{done.stdout}{done.stderr}\nexit status {done.returncode}"
            logs = "\n".join(f"{name}:\n{each.log.read_text()[-3_000:]}" for name, each in self._services.items())
            assert self._is_as_shown(command, done), f"{actual}\ninstead of\n{command.output}\n{logs}"
            assert str(done.returncode) == command.status, f"{actual}\n{logs}"

    def _is_as_shown(self, command: Command, done: subprocess.CompletedProcess[str]) -> bool:
        return Command(command.typed, self._here(command.output)).prints(done.stdout)

    def _wait_for(self, step: Console) -> None:
        def is_as_shown(command: Command) -> bool:
            done = self._run(command.typed)
            return self._is_as_shown(command, done) and str(done.returncode) == command.status

        with suppress(AssertionError):  # they are typed once more afterwards, and then the failure is explained
            until(lambda: all(map(is_as_shown, step.commands)), within_s=WITHIN_S)

    def _start(self, typed: str, ready: str) -> None:
        log = self.directory.parent / f"{self.directory.name}-{next(self._number)}.log"
        environment = [f"{name}={value}" for name, value in self._environment.items()]
        shell = ["sh", "-c", f"cd {self.directory} && exec {self._here(typed)}"]
        user = UNPRIVILEGED if typed.startswith("pgbouncer ") and os.geteuid() == 0 else None
        service = Process(["env", "-i", *environment, *shell], log, user=user)
        self._services[typed] = service
        ports = [int(self._addresses[port]) for port in PORTS if re.search(rf"(?<!:)\b{port}\b", typed)]
        service.start(lambda: ready in log.read_text() and all(map(listens, ports)))

    def _run(self, typed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", self._here(typed)], cwd=self.directory if self.directory.exists() else None,
            env=self._environment, text=True, check=False, capture_output=True, timeout=90,
        )  # fmt: skip

    @property
    def _environment(self) -> dict[str, str]:
        """A shell's own: this machine's programs, and libpq's variables."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("TEST_", "DJANGO_", "CELERY_"))}
        names = {"PGHOST": "hostname", "PGPORT": "port", "PGUSER": "username", "PGPASSWORD": "password"}
        libpq = {name: str(getattr(self._postgresql, part) or "") for name, part in names.items()}
        path = os.pathsep.join([str(Path(sys.executable).parent), str(self._programs()), os.environ["PATH"]])
        # Root may run these tests, and one page asks for pickle.
        ours = {"PATH": path, "PYTHONPATH": str(ROOT), "C_FORCE_ROOT": "1", "COLUMNS": "120"}
        return {**clean, **libpq, **ours}

    def _programs(self) -> Path:
        """A directory with the wheels' programs, by the names that they have in a distribution."""
        directory = self.directory.parent / "programs"
        if not directory.exists():
            directory.mkdir()
            (directory / "valkey-server").symlink_to(valkey())
            for name in ("createdb", "dropdb", "psql"):
                (directory / name).symlink_to(postgresql(name))
        return directory

    def _here(self, text: str) -> str:
        for shown, here in self._addresses.items():
            text = re.sub(rf"(?<![\w.]){re.escape(shown)}\b(?!\.)", here, text)
        return text


def _assert_installed(typed: str) -> None:
    """What a page says to install is here already, from the pinned requirements; so is this package, from its clone."""
    for package in shlex.split(typed)[2:]:
        name, _, extra = package.rstrip("]").partition("[")
        if not name.startswith("./"):
            offered = distribution(name).metadata.get_all("Provides-Extra") or []
            assert not extra or extra in offered, f"{name} has no extra {extra}"


def low_port() -> int:
    """A free port below those that the kernel gives out by itself."""
    return next(port for port in iter(lambda: random.randrange(12_000, 22_000), None) if not listens(port))


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
