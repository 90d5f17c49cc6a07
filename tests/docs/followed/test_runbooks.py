"""Each runbook is followed on a project that has the trouble it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest

from tests.docs.followed.conftest import Copy
from tests.docs.pages import DOCS, Command, Console, File, Step, page

pytestmark = [pytest.mark.host_independent, pytest.mark.timeout(300)]

NAMES = sorted(path.stem for path in (DOCS / "runbooks").glob("*.md") if path.stem != "index")


def tells(part: str) -> Console:
    """Wait until ``health`` says that something is wrong with this part."""
    return Console([Command(f"{HEALTH} | grep -c 'FAIL  {part}'", "1")], is_patient=True)


def typed(*commands: str) -> Console:
    return Console([Command(command) for command in commands])


def python(code: str) -> Console:
    return typed(f'python manage.py shell -v 0 -c "{code}"')


def sql(statement: str) -> Console:
    return typed(f'psql proj -v ON_ERROR_STOP=1 -qc "{statement}"')


WORKERS = "celery -A proj worker -Q recent-workflows,recent-workflows-backfill --loglevel=INFO"
LIVE = "celery -A proj worker -n live@%h -Q recent-workflows --loglevel=INFO"
SLOW = "celery -A proj worker -n slow@%h -Q celery --loglevel=INFO"
BEAT = "celery -A proj beat --loglevel=INFO"
BEAT_WITH_PID = f"{BEAT} --pidfile=beat.pid"
HEALTH = "python manage.py recent_workflows health"
IS_OK = Console([Command(HEALTH)], is_patient=True)
SAVED = "from bots.models import SavedRun; SavedRun.objects.get(pk=5).save()"
REFUSE = """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    \\$\\$ BEGIN IF NEW.last_run_id = 5 THEN RAISE 'not this one'; END IF; RETURN NEW; END \\$\\$;
    CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON workflows_tasks_workspacerecentworkflow
    FOR EACH ROW EXECUTE FUNCTION refuse()"""
SHOP_IS_OPEN = Command("python manage.py backfill status", "...waiting: ...the shop is open...")

SHOP: Final[list[Step]] = [
    File("bots/throttle.py", "def look():\n    return 'the shop is open'\n"),
    File(
        "proj/settings.py",
        "RECENT_WORKFLOWS |= {'BACKFILL_THROTTLE': 'bots.throttle.look', 'TICK_PERIOD_S': 0.5}\n",
        append=True,
    ),
    sql("TRUNCATE backfill_backfill RESTART IDENTITY CASCADE"),
    typed(WORKERS, BEAT),
]
"""No backfill gets on."""

TROUBLES: Final[Mapping[str, list[Step]]] = {
    "backfill-waits": [*SHOP, typed("python manage.py backfill start"), Console([SHOP_IS_OPEN], is_patient=True)],
    "beat-stopped": [typed(WORKERS, BEAT_WITH_PID), IS_OK, typed("kill $(cat beat.pid)"), tells("tick")],
    "drift": [sql("SET session_replication_role = replica; UPDATE bots_savedrun SET updated_at = now() WHERE id = 5")],
    "flush-fails": [
        sql(REFUSE),
        python("from bots.models import SavedRun; [run.save() for run in SavedRun.objects.all()]"),
        typed("python manage.py recent_workflows flush"),
    ],
    "log-grows": [python("from bots.models import SavedRun; [run.save() for run in SavedRun.objects.all()]")],
    "not-captured": [sql("DROP TRIGGER recent_workflows_capture ON bots_savedrun")],
    "stale": [python(SAVED), tells("changes")],
    "turn-off": [typed(LIVE, SLOW)],
    "upgrade": [python(SAVED), typed(WORKERS, BEAT)],
}
"""What goes before: by the runbook's name."""

OURS = """SELECT relname FROM pg_class WHERE relname ~ '^(workflows_tasks|backfill)_' UNION ALL
    SELECT proname FROM pg_proc WHERE proname ~ 'recent_workflows' UNION ALL
    SELECT tgname FROM pg_trigger WHERE tgname ~ 'recent_workflows'"""
CONSUMES = "celery -A proj inspect active_queues --json --destination {}@$(hostname) | grep -c recent-workflows"
CURES: Final[Mapping[str, list[Step]]] = {"flush-fails": [sql("DROP FUNCTION refuse CASCADE")]}
"""What is done before the page's last command: by the runbook's name. The page says to remove the cause."""

AFTERWARDS: Final[Mapping[str, list[Step]]] = {
    "backfill-waits": [IS_OK],
    "beat-stopped": [IS_OK],
    "roll-back": [IS_OK],
    "upgrade": [IS_OK],
    "turn-off": [
        Console([Command(CONSUMES.format("live"), "1"), Command(CONSUMES.format("slow"), "0", status="1")]),
        Console([Command(f'psql proj -Atc "{OURS}"; echo over', "over")]),
    ],
}
"""What must be so after it: by the runbook's name. Otherwise health is ok, with a worker and beat."""


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook(name: str, copy: Copy) -> None:
    reader = copy()
    *steps, last = page(f"runbooks/{name}")
    afterwards = AFTERWARDS.get(name, [typed(WORKERS, BEAT), IS_OK])
    reader.follow([*TROUBLES.get(name, []), *steps, *CURES.get(name, []), last, *afterwards])


def test_the_page_that_leads_to_them(copy: Copy) -> None:
    copy().follow([typed(WORKERS, BEAT), IS_OK, *page("operate")])


def test_the_page_of_backfills(copy: Copy) -> None:
    copy().follow([*SHOP, *page("backfill")])
