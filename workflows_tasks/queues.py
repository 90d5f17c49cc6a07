"""Celery's side: queues, routes and beat entries, and the one helper that gives them to an app.

A host with an app of its own::

    from workflows_tasks.queues import configure

    app = Celery("proj")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    configure(app)

``celeryconfig.py`` at the top of this repository does just that for a host that has none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from celery import Celery, Task
from django.conf import settings as django_settings
from kombu import Exchange, Queue

from workflows_tasks import conf

if TYPE_CHECKING:  # an older Celery's class takes no parameter
    BaseTask = Task[Any, Any]
else:
    BaseTask = Task

QUORUM: Final = "quorum"


class Periodic(BaseTask):
    """A task that beat sends: its messages expire, also with a scheduler that drops what beat's entries say."""

    abstract = True

    @property
    def expires(self) -> float:  # type: ignore[override]  # as late as the settings are read
        (entry,) = (entry for entry in beat_schedule().values() if entry["task"] == self.name)
        return float(entry["options"]["expires"])


def configure(app: Celery) -> None:
    """Add this package's queues, routes and beat entries to a host's app; what the host set stays.

    The host's default queue is kept among the queues, so that a worker started without ``-Q`` still consumes it. If
    the settings cannot be used nothing is added: Django can then start as far as its system checks, which say why.
    """
    if conf.problems():
        return
    present = app.amqp.Queues(app.conf.task_queues)  # as Celery itself would make them, with all their arguments
    app.conf.task_queues = [*present.values(), *(queue for queue in queues(app) if queue.name not in present)]
    app.conf.task_routes = [*_as_list(app.conf.task_routes), routes()]
    app.conf.beat_schedule = {**beat_schedule(), **(app.conf.beat_schedule or {})}


def queues(app: Celery) -> list[Queue]:
    """The live queue and the backfill queue, of the type that the host's default queue has.

    A quorum queue gets a topic exchange of its own: RabbitMQ delays messages on their way to such a queue only.
    """
    settings = conf.settings()
    names = (settings.queue, settings.backfill_queue)
    if app.conf.get("task_default_queue_type") != QUORUM:
        return [Queue(name, routing_key=name) for name in names]
    arguments = {"x-queue-type": QUORUM}
    return [Queue(n, Exchange(n, type="topic"), routing_key=n, queue_arguments=arguments) for n in names]


def delays_in_whole_seconds(app: Celery) -> bool:
    """Whether the live queue is one to which RabbitMQ delays messages itself, by whole seconds."""
    queue = app.amqp.queues.get(conf.settings().queue)
    return queue is not None and (queue.queue_arguments or {}).get("x-queue-type") == QUORUM


def routes() -> dict[str, dict[str, str]]:
    """Which queue each task goes to."""
    settings = conf.settings()
    return {
        "workflows_tasks.tasks.*": {"queue": settings.queue},
        "backfill.tasks.*": {"queue": settings.backfill_queue},
    }


def beat_schedule() -> dict[str, dict[str, Any]]:
    """Beat entries. Each message expires, so that an outage leaves no pile of them."""
    settings = conf.settings()
    periods_s = {
        "tick": settings.tick_period_s,
        "audit": settings.audit_step_s,
    }
    return {
        f"recent-workflows-{name}": {
            "task": f"workflows_tasks.tasks.{name}",
            "schedule": period_s,
            "options": {"queue": settings.queue, "expires": expires_s(period_s)},
        }
        for name, period_s in periods_s.items()
    } | (_backfill_schedule(settings) if _has_backfill() else {})


def expires_s(period_s: float) -> float:
    """Seconds until a periodic message expires: several periods, for a busy worker comes to it late."""
    return 5 * period_s


def _backfill_schedule(settings: conf.Settings) -> dict[str, dict[str, Any]]:
    """By name, for this package does not import that one. On the live queue: in its own, ticks would wait behind the
    chunks that they look after."""
    entry = {
        "task": "backfill.tasks.tick",
        "schedule": settings.backfill_tick_s,
        "options": {"queue": settings.queue, "expires": expires_s(settings.backfill_tick_s)},
    }
    return {"recent-workflows-backfill": entry}


def _has_backfill() -> bool:
    """Asked of the settings, since an app may be configured before Django's registry is ready."""
    return any(entry.split(".")[0] == "backfill" for entry in django_settings.INSTALLED_APPS)


def _as_list(routes: Any) -> Iterable[Any]:
    if routes is None:
        return []
    return routes if isinstance(routes, list | tuple) else [routes]
