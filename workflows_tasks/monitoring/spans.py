"""OpenTelemetry's spans, of each flush task and each batch of a backfill. Without its API package this does nothing.

The host chooses where spans go, with the SDK. A host that has none set up pays for a few calls that do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from celery import current_task

from workflows_tasks.monitoring.telemetry import brief

try:
    from opentelemetry import propagate, trace
    from opentelemetry.context import Context
except ImportError:
    INSTALLED = False
else:
    INSTALLED = True

SCOPE: Final = "workflows_tasks"
"""What tracers and meters call this package."""

PREFIX: Final = "recent_workflows."

Told = Callable[..., None]


def headers() -> dict[str, str]:
    """Headers of a message, which carry the sender's trace; empty if it is in none."""
    carried: dict[str, str] = {}
    if INSTALLED:
        propagate.inject(carried)
    return carried


@contextmanager
def span(name: str, **attributes: float | str) -> Iterator[Told]:
    """A span, linked to the trace of whoever sent the message at work. Its block may tell more attributes.

    Of an error it says what the log says: one line, for the rest may quote a row.
    """
    if not INSTALLED:
        yield lambda **_: None
        return
    tracer = trace.get_tracer(SCOPE)
    with tracer.start_as_current_span(
        PREFIX + name, links=_links(), record_exception=False, set_status_on_exception=False
    ) as current:

        def tell(**more: float | str) -> None:
            current.set_attributes({PREFIX + key: value for key, value in more.items()})

        tell(**attributes)
        try:
            yield tell
        except Exception as error:
            current.set_status(trace.StatusCode.ERROR, brief(error))
            raise


def _links() -> list[trace.Link]:
    """The sender's span. A link and not the parent: a flush is the work of many savers."""
    carried = (current_task.request.headers if current_task else None) or {}
    # From an empty context, or what is current here would be taken for the sender's.
    sender = trace.get_current_span(propagate.extract(carried, Context())).get_span_context()
    return [trace.Link(sender)] if sender.is_valid else []
