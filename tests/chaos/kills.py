"""A flush or a fill in a process of its own, killed or stopped at one of its statements while another takes over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.chaos.victim import NEVER
from tests.commands import ROOT
from tests.hosts.adapter import Host, moment
from tests.oracle import assert_exact
from tests.sessions import execute
from tests.waiting import until
from workflows_tasks import conf, history
from workflows_tasks.keys import shard_of
from workflows_tasks.models import CHANGES, WorkspaceRecentWorkflow
from workflows_tasks.projection import changes
from workflows_tasks.projection.flush import flush


class Victim:
    """The program ``tests.chaos.victim``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def statements(self, act: str, *arguments: Any) -> list[str]:
        """The statements of an act that nobody disturbs."""
        texts: list[str] = self._order(act=act, arguments=arguments, at=NEVER, after=False, signal=0)["statements"]
        assert self._answer()["status"] == 0
        return texts

    def strike(self, act: str, *arguments: Any, at: int, after: bool, by: signal.Signals) -> int | None:
        """Let it act, and kill or stop itself at a statement. Returns the process that stands still, if it does."""
        answer = self._order(act=act, arguments=arguments, at=at, after=after, signal=int(by))
        if answer["stopped"]:
            return int(answer["pid"])
        assert answer["status"] == (-by if by == signal.SIGKILL else 0), answer
        return None

    def go_on(self, pid: int) -> int:
        """Let the one that stands still go on to its end; returns its exit status: 3 if its session was ended."""
        return int(self._order(go_on=pid)["status"])

    def _order(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@contextmanager
def victim(env: Mapping[str, str]) -> Iterator[Victim]:
    """Start the program; it ends with its input."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.victim"], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield Victim(process)
        finally:
            process.kill()


class Scene:
    """A workspace some of whose rows rise, come down, go and come when ``change`` is called."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.here, self.user = host.make_workspace(), host.make_user()
        self.text = history.workspace_text(self.here)
        self.shard = shard_of(self.text, conf.settings().shards)
        self._workflows = [host.make_workflow() for _ in range(4)]
        self._stays = self._run(2, 4)
        self._goes: list[Any] = []

    def _run(self, workflow: int, minute: float) -> Any:
        return self.host.make_run(
            workspace=self.here, workflow=self._workflows[workflow], user=self.user, used_at=moment(minute)
        )

    def settle(self) -> None:
        """Rows that are true, and nothing in the log."""
        self._goes = [self._run(0, 1), self._run(0, 2), self._run(1, 3)]
        flush(self.shard)
        execute(f"DELETE FROM {CHANGES}")  # of the other shards, which have no workspace here
        assert_exact(self.host)

    def change(self) -> None:
        """One row comes down, one goes, one rises, one comes."""
        _, latest, only = self._goes
        latest.delete()
        only.delete()
        self.host.save_again(self._stays)
        self._run(3, 5)

    def change_again(self) -> None:
        """What the one that stands still does not know."""
        self._goes[0].delete()

    def empty(self) -> None:
        """The workspace's history is not filled, and no change is known of it."""
        self._goes = [self._run(0, 1), self._run(0, 2), self._run(1, 3)]
        execute(f"DELETE FROM {CHANGES}")
        execute(f'DELETE FROM "{WorkspaceRecentWorkflow._meta.db_table}"')

    def delete_latest(self) -> None:
        """What the fill may just have written."""
        self._goes[1].delete()

    def take_over(self) -> None:
        """Another worker flushes: at once if nobody holds the shard, else when the server has ended his session."""
        until(lambda: not flush(self.shard).is_busy, within_s=20)
        assert not changes.status()[self.shard].pending

    def fill_and_look(self) -> None:
        """Another worker has the chunk now."""
        among = history.Range(first=self.text, last=self.text)
        history.fill(among)
        with history.read_committed({}):
            history.recheck_filled(among)
        flush(self.shard)


def flush_struck(scene: Scene, by: Victim, *, at: int, after: bool, sig: signal.Signals) -> None:
    """The table is exact after another took over, and still after the first has gone on."""
    scene.settle()
    scene.change()
    stopped = by.strike("flush", scene.shard, at=at, after=after, by=sig)
    scene.take_over()
    assert_exact(scene.host)
    if stopped is not None:
        scene.change_again()
        assert by.go_on(stopped) in {0, 3}
        flush(scene.shard)
        assert_exact(scene.host)


def fill_struck(scene: Scene, by: Victim, *, at: int, after: bool, sig: signal.Signals) -> None:
    """A run goes while the fill stands still, or after it was killed; another worker fills the chunk again."""
    scene.empty()
    stopped = by.strike("fill", scene.text, at=at, after=after, by=sig)
    scene.delete_latest()
    scene.fill_and_look()
    assert_exact(scene.host)
    if stopped is not None:
        assert by.go_on(stopped) in {0, 3}
        flush(scene.shard)
        assert_exact(scene.host)
