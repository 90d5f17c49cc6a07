"""Queues, routes and beat entries, and the one function that adds them to a Celery app.

A host with an app of its own::

    from workflows_tasks.queues import configure

    app = Celery("proj")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    configure(app)

``celeryconfig.py`` at the top of this repository does this for a host that has no app.
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
    """A task that beat sends. Its messages expire, even if a scheduler ignores the options of beat's entries."""

    abstract = True

    @property
    def expires(self) -> float:  # type: ignore[override]  # as late as the settings are read
        (entry,) = (entry for entry in beat_schedule().values() if entry["task"] == self.name)
        return float(entry["options"]["expires"])


def configure(app: Celery) -> None:
    """Add this package's queues, routes and beat entries to a host's app. The host's own stay.

    The host's default queue is kept among the queues, so that a worker started without ``-Q`` still consumes it. If
    the settings cannot be used nothing is added: Django can then start as far as its system checks, which say why.
    """
    if conf.problems():
        return
    present = app.amqp.Queues(app.conf.task_queues)  # as Celery itself would make them, with all their arguments
    _set(app, "task_queues", [*present.values(), *(queue for queue in queues(app) if queue.name not in present)])
    _set(app, "task_routes", [*_as_list(app.conf.task_routes), routes()])
    _set(app, "beat_schedule", {**beat_schedule(), **(app.conf.beat_schedule or {})})


def _set(app: Celery, name: str, value: object) -> None:
    """Under the name with the host's namespace too: before Celery 5.7 that is found first."""
    prefix: str = app.conf.prefix or ""
    named = prefix + name
    app.conf[name] = app.conf[named.upper() if prefix.isupper() else named.lower()] = value


def queues(app: Celery) -> list[Queue]:
    """The live queue and the backfill queue, of the type that the host's default queue has.

    A quorum queue gets a topic exchange of its own, because RabbitMQ delays messages only through a topic exchange.
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
    """Beat entries. Each message expires, so that an outage leaves no pile of them.

    The backfill's tick is named here because this package does not import that one. It goes to the live queue: in its
    own it would wait behind the chunks that it looks after.
    """
    settings = conf.settings()
    periods_s = {
        "tick": ("workflows_tasks.tasks.tick", settings.tick_period_s),
        "audit": ("workflows_tasks.tasks.audit", settings.audit_step_s),
    }
    # Asked of the settings, since an app may be configured before Django's registry is ready.
    if any(entry.split(".")[0] == "backfill" for entry in django_settings.INSTALLED_APPS):
        periods_s["backfill"] = ("backfill.tasks.tick", settings.tick_period_s)
    return {
        f"recent-workflows-{name}": {
            "task": task,
            "schedule": period_s,
            "options": {"queue": settings.queue, "expires": expires_s(period_s)},
        }
        for name, (task, period_s) in periods_s.items()
    }


def expires_s(period_s: float) -> float:
    """Seconds until a periodic message expires: several periods, because a busy worker comes to it late."""
    return 5 * period_s


def _as_list(routes: Any) -> Iterable[Any]:
    if routes is None:
        return []
    return routes if isinstance(routes, list | tuple) else [routes]
