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
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--runs", "5000")

Start = Callable[..., "Demo"]

pytestmark = pytest.mark.timeout(150)


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

    def says(self, pattern: str) -> re.Match[str]:
        """Wait until it has said something."""

        def found_or_ended() -> re.Match[str] | bool | None:
            return re.search(pattern, self.said) or self.child.poll() is not None

        until(found_or_ended, within_s=100)
        found = re.search(pattern, self.said)
        assert found, f"{pattern!r} was never said:\n{self.said}"
        return found

    def descendants(self) -> list[psutil.Process]:
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


def gone(processes: list[psutil.Process]) -> bool:
    """True when none of them runs; one that only waits to be reaped does not."""
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


def directories_of(pid: int) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"{scratch.PREFIX}{pid}-*"))


def test_once_shows_the_main_job_checks_it_and_ends(start: Start) -> None:
    demo = start("once", "--runs", "20000", "--seconds", "4")
    assert demo.child.wait(55) == 0, demo.said
    for expected in (
        r"The old query.* ms",
        r"[\d,]+ rows written",
        r"[\d,]+ saves of \d+ runs",
        r"\d+ flush messages for [\d,]+ saves",
        r"From commit to visible: p50 \d\.\d\d s, p99 \d\.\d\d s",
        r"before +after",
        r"Index Only Scan using recent_workflow_read",
        r"EXCEPT ALL both ways .* equal, [\d,]+ rows",
        r"OK: the table is exact",
    ):
        assert re.search(expected, demo.said), f"{expected!r} is missing:\n{demo.said}"
    assert directories_of(demo.child.pid) == []


def test_killed_it_leaves_no_process_behind(start: Start) -> None:
    demo = start("once", *SMALL, "--seconds", "50")
    demo.says("Saving for")
    children = demo.descendants()
    # PostgreSQL, Valkey, the worker with its two processes, beat.
    names = [each.name() for each in children]
    assert names.count("postgres") >= 1
    assert "valkey-server" in names
    assert sum("celery" in each.cmdline() for each in children) >= 4
    demo.child.kill()
    demo.child.wait()
    until(lambda: gone(children))


def test_what_a_killed_demo_left_on_disk_the_next_one_removes(start: Start) -> None:
    demo = start("once", *SMALL)
    until(lambda: directories_of(demo.child.pid))
    demo.child.kill()
    demo.child.wait()
    assert directories_of(demo.child.pid)
    with scratch.directory():
        assert directories_of(demo.child.pid) == []


def test_it_ends_when_whoever_started_it_is_killed(start: Start) -> None:
    demo = start("once", *SMALL, "--seconds", "50", through=("sh", "-c", '"$@"; true', "sh"))
    demo.says("Saving for")
    processes = demo.descendants()
    (main,) = [each for each in processes if "demo" in each.cmdline()]
    demo.child.kill()
    until(lambda: gone(processes), within_s=60)
    assert directories_of(main.pid) == []


def test_serve_shows_the_home_page_until_it_is_interrupted(start: Start) -> None:
    demo = start("serve", *SMALL)
    address = demo.says(r"http://localhost:\d+/")[0]
    with urllib.request.urlopen(address, timeout=10) as answer:  # its own address
        page = answer.read().decode()
    assert "Recent workflows" in page
    assert len(page) < 50_000
    children = demo.descendants()
    demo.child.send_signal(signal.SIGINT)
    assert demo.child.wait(60) == 0, demo.said
    assert gone(children)


def test_the_temporary_directory_can_be_passed_by_any_user() -> None:
    with scratch.directory() as directory:
        assert directory.stat().st_mode & 0o001
        assert all(parent.stat().st_mode & 0o001 for parent in directory.parents) or os.geteuid() != 0
    assert not directory.exists()
