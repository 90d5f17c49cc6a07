"""A project's processes: whoever saves, whoever reads, and workers. Nothing here knows how the package works.

python -m tests.integration.versions.project save COUNT     save runs; prints their workspace and the slowest save
python -m tests.integration.versions.project show WORKSPACE  wait until the newest workflows are right
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from demo.servers import Process

ROOT: Final = Path(__file__).resolve().parents[3]
WORKFLOWS: Final = 4
WITHIN_S: Final = 20.0


def save(count: int) -> dict[str, Any]:
    """Save runs of a new workspace, each in a transaction of its own."""
    from demo.bots.models import PublishedRun, PublishedRunVersion, SavedRun, Workspace

    workspace = Workspace.objects.create(name="Kitchen")
    workflows = [PublishedRun.objects.create(title=str(number)) for number in range(WORKFLOWS)]
    versions = [PublishedRunVersion.objects.create(published_run=workflow) for workflow in workflows]
    slowest_s = 0.0
    for number in range(count):
        began_s = time.monotonic()
        SavedRun.objects.create(workspace=workspace, uid="anna", parent_version=versions[number % WORKFLOWS])
        slowest_s = max(slowest_s, time.monotonic() - began_s)
    return {"workspace": workspace.pk, "slowest_s": slowest_s}


def show(workspace: int) -> dict[str, Any]:
    """Wait until the newest workflows are those of the newest runs."""
    from demo.bots.models import SavedRun
    from tests.waiting import until
    from workflows_tasks import recent_workflows

    newest = SavedRun.objects.filter(workspace=workspace).order_by("-updated_at")[:WORKFLOWS]
    due = [run.pk for run in newest]

    def right() -> bool:
        return [row.last_run_id for row in recent_workflows(workspace, limit=WORKFLOWS)] == due

    until(right, within_s=WITHIN_S)
    return {"runs": due}


class Project:
    """The processes of one project; a directory is its logs'."""

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        self._directory = directory
        self._env = {
            **env,
            "DJANGO_SETTINGS_MODULE": "tests.integration.versions.settings",
            "PYTHONPATH": str(ROOT),
            "C_FORCE_ROOT": "1",  # root may run these tests
        }

    def migrate(self) -> None:
        self._run("-m", "django", "migrate", "--verbosity=0")

    def verify(self) -> None:
        """Fails where a row of the table is not as a query over all runs has it."""
        self._run("-m", "django", "recent_workflows", "verify")

    def save(self, count: int) -> dict[str, Any]:
        return self._of_this_module("save", count)

    def show(self, workspace: int) -> dict[str, Any]:
        return self._of_this_module("show", workspace)

    def worker(self) -> Process:
        """Started and ready."""
        return self._celery(
            "worker", " ready.", "-Q", "recent-workflows", "--concurrency=1", "--without-gossip", "--without-mingle"
        )

    def beat(self) -> Process:
        return self._celery("beat", "beat: Starting...", "--schedule", str(self._directory / "schedule"), "--pidfile=")

    def logs(self) -> str:
        return "".join(f"\n== {log.name}\n{log.read_text()[-4_000:]}" for log in self._directory.glob("*.log"))

    def _celery(self, program: str, ready_line: str, *arguments: str) -> Process:
        log = self._directory / f"{program}.log"
        log.unlink(missing_ok=True)
        process = Process([*_celery(program), *arguments], log, env=self._env)
        process.start(lambda: ready_line in log.read_text())
        return process

    def _of_this_module(self, *arguments: object) -> dict[str, Any]:
        said = self._run("-m", __name__, *map(str, arguments))
        answer: dict[str, Any] = json.loads(said.splitlines()[-1])
        return answer

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT, env={**os.environ, **self._env}, capture_output=True, text=True, check=False, timeout=50,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()
        return done.stdout


def _celery(program: str) -> Sequence[str]:
    return [sys.executable, "-m", "celery", "-A", "celeryconfig", program, "--loglevel=INFO"]


def _main(action: str, number: str) -> None:
    import django

    import celeryconfig  # noqa: F401  # saves send their messages through the host's Celery app

    django.setup()
    print(json.dumps({"save": save, "show": show}[action](int(number))))  # noqa: T201


if __name__ == "__main__":
    _main(*sys.argv[1:])
