"""The demo as a stranger runs it: it ends well, says what it should, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from demo import scratch
from tests.commands import ROOT
from tests.waiting import until

SMALL = ("--runs", "5000")

Start = Callable[..., "Demo"]

pytestmark = [pytest.mark.timeout(200), pytest.mark.host_independent]


class Demo:
    """``python -m demo``, or a command that runs it, as a child with its output in a file."""

    def __init__(self, command: list[str], output: Path) -> None:
        self._output = output
        # As from a shell of its own: a session, and the environment without this test run's servers.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("TEST_", "DJANGO_"))}
        with output.open("wb") as written:
            self.child = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=written, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def said(self) -> str:
        return self._output.read_text()

    def says(self, pattern: str) -> str:
        """Wait until it has said something; returns what."""
        said = lambda: re.search(pattern, self.said) or self.child.poll() is not None  # noqa: E731
        until(said, within_s=60, progress=lambda: self.said)
        found = re.search(pattern, self.said)
        assert found, f"{pattern!r} was never said:\n{self.said}"
        return found[0]

    def processes(self) -> list[psutil.Process]:
        return list(psutil.Process(self.child.pid).children(recursive=True))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Demo] = []

    def demo(*arguments: str, through: tuple[str, ...] = ()) -> Demo:
        command = [*through, sys.executable, "-m", "demo", *arguments]
        started.append(Demo(command, tmp_path / f"output-{len(started)}"))
        return started[-1]

    yield demo
    for each in started:
        with suppress(ProcessLookupError):
            os.killpg(each.child.pid, signal.SIGKILL)
        each.child.wait()
    with scratch.directory():
        pass  # which removes what the killed ones left


def _gone(processes: list[psutil.Process]) -> bool:
    """True when none of them runs; one that only waits to be reaped does not."""
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes if _exists(each))


def _exists(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status())
    return False


def _directories_of(pid: int) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"{scratch.PREFIX}{pid}-*"))


def test_it_shows_the_main_job_and_ends_exact(start: Start) -> None:
    demo = start("once", *SMALL, "--seconds", "4", "--rate", "60")
    assert demo.child.wait(180) == 0, demo.said
    for expected in (
        r"The old query.* ms",
        r"Unique",
        r"triggers on bots_savedrun, bots_publishedrunversion",
        r"[\d,]+ rows written, all verified",
        r"Django: [\d,]+ saves of \d+ runs",
        r"SQL: +\d+ INSERT, \d+ UPDATE, \d+ DELETE, \d+ UPDATE of a version",
        r"\d+ flush messages: .* a second",
        r"From write to visible: p50 \d\.\d\d s, p99 \d+\.\d\d s",
        r"written by Django is on its user's own page at once .* in the table \d\.\d\d s later",
        r"written by SQL +is on its user's own page at once",
        r"Scan .*recent_workflow_read",
        r"EXCEPT ALL both ways .* equal, [\d,]+ rows",
        r"OK: the table is exact",
    ):
        assert re.search(expected, demo.said), f"{expected!r} is missing:\n{demo.said}"
    assert _directories_of(demo.child.pid) == []


def test_killed_it_leaves_no_process_behind_and_the_next_one_removes_its_files(start: Start) -> None:
    demo = start("once", *SMALL, "--seconds", "500")
    demo.says("A backfill")
    children = demo.processes()
    # PostgreSQL, Valkey, the worker with its processes, beat.
    names = [each.name() for each in children]
    assert names.count("postgres") >= 1
    assert "valkey-server" in names
    assert sum("celery" in each.cmdline() for each in children) >= 3
    demo.child.kill()
    demo.child.wait()
    until(lambda: _gone(children), within_s=30)
    assert _directories_of(demo.child.pid)
    with scratch.directory():
        assert _directories_of(demo.child.pid) == []


def test_it_ends_when_whoever_started_it_is_killed(start: Start) -> None:
    demo = start("once", *SMALL, "--seconds", "500", through=("sh", "-c", '"$@"; true', "sh"))
    demo.says("Loading history")
    processes = demo.processes()
    (main,) = [each for each in processes if "demo" in each.cmdline()]
    demo.child.kill()
    until(lambda: _gone(processes), within_s=60)
    assert _directories_of(main.pid) == []


def test_serve_shows_the_home_page_until_it_is_interrupted(start: Start) -> None:
    demo = start("serve", *SMALL)
    address = demo.says(r"http://localhost:\d+/")
    with urllib.request.urlopen(address, timeout=30) as answer:  # its own address
        assert "Recent workflows" in answer.read().decode()
    children = demo.processes()
    demo.child.send_signal(signal.SIGINT)
    assert demo.child.wait(60) == 0, demo.said
    assert _gone(children)
