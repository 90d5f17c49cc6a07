"""Each runbook is followed on a project that is in the trouble it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest

from tests.docs.followed.conftest import Host
from tests.docs.pages import DOCS, Command, Console, File, Page
from tests.programs import of_the_system

NAMES = sorted(path.stem for path in (DOCS / "runbooks").glob("*.md") if path.stem != "index")


def typed(*commands: str) -> Console:
    return Console([Command(command, "") for command in commands], patient=False)


def python(code: str) -> Console:
    return typed(f'python manage.py shell -v 0 -c "{code}"')


def settings(line: str) -> File:
    return File("proj/settings.py", f"{line}\n", at_the_end=True)


NEWEST = "from bots.models import SavedRun; run = SavedRun.objects.latest('updated_at'); "
WORKERS = "celery -A proj worker -Q recent-workflows,recent-workflows-backfill --loglevel=INFO"
SHOP_IS_OPEN = Command("python manage.py backfill status", "...waiting: ...the shop is open...")

TROUBLES: Final[Mapping[str, list[File | Console]]] = {
    "backfill-waits": [
        File("bots/throttle.py", "def look():\n    return 'the shop is open'\n", at_the_end=False),
        settings("RECENT_WORKFLOWS |= {'BACKFILL_THROTTLE': 'bots.throttle.look', 'BACKFILL_TICK_S': 0.5}"),
        typed(WORKERS, "celery -A proj beat --loglevel=INFO", "python manage.py backfill start"),
        Console([SHOP_IS_OPEN], patient=True),
    ],
    "claim-stuck": [
        python(NEWEST + "run.save(); from workflows_tasks import inbox; [inbox.claim(n) for n in range(8)]")
    ],
    "drift": [
        settings("RECENT_WORKFLOWS |= {'FLUSH_WINDOW_S': 0.2}"),  # a comparison looks for two windows
        python(NEWEST + "SavedRun.objects.filter(pk=run.pk).update(uid='carl')"),
    ],
    "inbox-grows": [python("from bots.models import SavedRun; [run.save() for run in SavedRun.objects.all()]")],
    # A run whose announcement went with Redis, long enough ago not to be only on its way.
    "redis-emptied": [
        python(
            "from datetime import timedelta; from django.db.models import F; from bots.models import SavedRun; "
            "from workflows_tasks import inbox, repair; repair.sweep(); inbox.connection.client().flushdb(); "
            "SavedRun.objects.filter(pk=3).update(updated_at=F('updated_at') + timedelta(seconds=1))"
        )
    ],
    "set-aside": [python("from workflows_tasks import flush, inbox; inbox.add({'not-a-number': 0}); flush.flush(0)")],
    "stale": [python(NEWEST + "run.save()")],
    "turn-off": [typed(WORKERS)],
    "upgrade": [python(NEWEST + "run.save()")],
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", NAMES)
def test_a_runbook(name: str, host: Host) -> None:
    page = Page.read(f"runbooks/{name}")
    if any(command.startswith("redis-cli ") for command in page.commands):
        of_the_system("redis-cli")
    reader = host()
    reader.follow(Page(f"the trouble of {name}", TROUBLES.get(name, [])))
    reader.follow(page)


@pytest.mark.timeout(120)
def test_the_page_that_leads_to_them(host: Host) -> None:
    host().follow(Page.read("operate"))
