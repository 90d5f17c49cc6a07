"""Every setting, with its unit, its default and its rules.

``settings()`` is what the code reads; ``problems()`` is what ``manage.py check`` prints. Both go through
``Settings.from_mapping``, so a setting cannot be accepted by one and refused by the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, Final

from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.db.models import Q

from workflows_tasks.errors import ConfigurationError

NAME: Final = "RECENT_WORKFLOWS"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """``settings.RECENT_WORKFLOWS``, typed. Keys are these names in upper case."""

    run_model: str
    """``app_label.Model`` of the run: one row each time a workflow is executed. Any primary key."""

    workspace_field: str
    """Foreign key on the run to its workspace. May be null: such a run is nobody's recent workflow."""

    user_field: str
    """Column or foreign key on the run that names its user. May be null: such a run counts for the workspace only."""

    published_run_path: str
    """Path of foreign keys from the run to its workflow, hops joined by ``__``. Each may be null."""

    used_at_field: str
    """``DateTimeField`` on the run: when the workflow was last used through it."""

    redis_url: str
    """URL of the Redis or Valkey that holds the inbox, or the dotted path of ``factory(*, timeout_s) -> Redis``."""

    run_filter: Q | str = Q()
    """Which runs count: a ``Q`` over the run, or the dotted path of a callable that returns one."""

    backfill_filter: Q | str = Q()
    """And-ed to ``RUN_FILTER`` when history is filled: which *old* runs count."""

    soft_delete_signals: tuple[str, ...] = ()
    """Dotted paths of signals sent when an object is hidden or shown, such as django-safedelete's
    ``safedelete.signals.post_softdelete`` and ``post_undelete``."""

    shards: int = 8
    """Parts the inbox is split into by workspace, each with one writer at a time. Every process must agree."""

    flush_window_s: float = 1.0
    """Seconds that announced runs are gathered before a flush; about the time until a save is visible."""

    queue: str = "recent-workflows"
    """Celery queue of the live tasks. Give it a worker of its own: flushes behind long tasks are late."""

    backfill_queue: str = "recent-workflows-backfill"
    """Celery queue of backfill chunks."""

    key_prefix: str = "recent-workflows"
    """Start of every Redis key, so that several installations can share one Redis."""

    inbox_limit: int = 100_000
    """Most run ids pending per shard. Past it announcements are dropped, counted, and left to the sweep."""

    flush_batch: int = 10_000
    """Most run ids written in one transaction."""

    save_timeout_s: float = 0.04
    """Seconds a save waits for Redis, once to connect and once for the answer."""

    broker_timeout_s: float = 0.25
    """Seconds a save waits for the broker when it is the one that sends the flush message."""

    breaker_s: float = 5.0
    """Seconds the save path leaves Redis or the broker alone after it failed."""

    marker_s: float = 8.0
    """Seconds after which a flush message counts as lost and another may be sent."""

    flush_time_limit_s: float = 20.0
    """Seconds after which a worker kills a flush. A statement gives up after a sixth of it, a lock after an eighth."""

    claim_lease_s: float = 30.0
    """Seconds after which a claim that was not acknowledged is flushed again by somebody else."""

    rescue_period_s: float = 10.0
    """Seconds between two looks for lost messages and expired claims (Celery beat)."""

    sweep_period_s: float = 30.0
    """Seconds between two sweeps: what a lost announcement or an emptied Redis costs at most."""

    sweep_overlap_s: float = 120.0
    """Seconds that each sweep looks at again: more than the clocks of the machines that save runs differ."""

    sweep_page: int = 20_000
    """Most runs, and most rows, one sweep statement reads."""

    audit_period_s: float = 86_400.0
    """Seconds in which the audit compares every key of the table with the runs."""

    audit_step_s: float = 60.0
    """Seconds between two steps of the audit."""

    audit_chunk: int = 50_000
    """About how many runs one audit statement reads; a workspace with more is read by itself."""

    backfill_parallel: int = 2
    """Chunks that a backfill works on at the same time, unless it is told otherwise."""

    backfill_chunk: int = 200_000
    """Runs in one chunk of a backfill, unless it is told otherwise."""

    backfill_target_s: float = 0.5
    """Seconds that one transaction of a backfill should take; the number of runs in it is adapted to that."""

    backfill_statement_timeout_s: float = 4.0
    """Seconds after which a statement of a backfill gives up; a tenth of its runs is then tried. A pause takes about
    as long."""

    backfill_plan_timeout_s: float = 3_600.0
    """Seconds after which a statement that plans a backfill gives up; it counts all runs."""

    backfill_lease_s: float = 30.0
    """Seconds after which the chunk of a worker that says nothing is given to another."""

    backfill_slice_s: float = 60.0
    """Seconds after which one Celery message of a backfill begins no other transaction; it has had one by then."""

    backfill_tick_s: float = 2.0
    """Seconds between two looks at the running backfill (Celery beat)."""

    backfill_shed_s: float = 2.0
    """Age of the oldest id in the live inbox, in seconds, past which a backfill works on one chunk fewer."""

    backfill_stop_s: float = 10.0
    """The same, past which it does not begin another transaction."""

    backfill_replication_lag_s: float = 10.0
    """Seconds that a replica may be behind; past it a backfill does not begin another transaction."""

    backfill_throttle: str | None = None
    """Dotted path of your own ``() -> str | None``: a reason for a backfill to wait, or None if there is none."""

    @classmethod
    def from_mapping(cls, raw: object) -> Settings:
        """Return the typed settings.

        Raises:
            ConfigurationError: names the key, the consequence and the fix.
        """
        found = _problems(raw)
        if found:
            raise found[0]
        assert isinstance(raw, Mapping)
        return cls(**{key.lower(): _coerced(key.lower(), value) for key, value in raw.items()})


_FIELDS: Final = {field.name: field for field in fields(Settings)}
_REQUIRED: Final = [name for name, field in _FIELDS.items() if field.default is MISSING]
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "float": (float, int),
    "Q | str": (Q, str),
    "tuple[str, ...]": (tuple, list),
}


def _coerced(name: str, value: Any) -> Any:
    return float(value) if _FIELDS[name].type == "float" else value


def _problems(raw: object) -> list[ConfigurationError]:
    if not isinstance(raw, Mapping):
        return [
            ConfigurationError(
                f"settings.{NAME} is {'missing' if raw is None else 'not a dict'}; no workflow can be tracked.",
                hint=f"Set {NAME} = {{{', '.join(repr(n.upper()) + ': ...' for n in _REQUIRED)}}}.",
                id="recent_workflows.E001",
            )
        ]
    unknown = [key for key in raw if not isinstance(key, str) or key != key.upper() or key.lower() not in _FIELDS]
    missing = [name for name in _REQUIRED if name.upper() not in raw]
    if unknown or missing:
        return [*map(_unknown, unknown), *map(_missing, missing)]
    wrong = [p for key, value in raw.items() if (p := _wrong_value(key, value))]
    return wrong or _across({key.lower(): value for key, value in raw.items()})


def _unknown(key: object) -> ConfigurationError:
    return ConfigurationError(
        f"{NAME}[{key!r}] is no setting of this package; it would be ignored.",
        hint=f"Remove it or correct its name. Known: {', '.join(sorted(n.upper() for n in _FIELDS))}.",
        id="recent_workflows.E002",
    )


def _missing(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{NAME}[{name.upper()!r}] is missing and has no default; no run would be announced.",
        hint="Set it; docs/install.md says to what.",
        id="recent_workflows.E003",
    )


def _wrong_value(key: str, value: object) -> ConfigurationError | None:
    kind = str(_FIELDS[key.lower()].type)
    if not isinstance(value, _TYPES[kind]) or isinstance(value, bool):
        return ConfigurationError(
            f"{NAME}[{key!r}] is {value!r}, a {type(value).__name__}; expected {kind}; no run would be announced.",
            hint=f"Set {key} to a value of that type.",
            id="recent_workflows.E004",
        )
    if kind == "str" and not value and value != _FIELDS[key.lower()].default:
        return ConfigurationError(
            f"{NAME}[{key!r}] is empty; no run would be announced.", hint="Set it.", id="recent_workflows.E004"
        )
    if isinstance(value, tuple | list) and not all(isinstance(item, str) for item in value):
        return ConfigurationError(
            f"{NAME}[{key!r}] is {value!r}; expected dotted paths; no run would be announced.",
            hint="Give strings.",
            id="recent_workflows.E004",
        )
    if isinstance(value, int | float) and not 0 < value < math.inf:
        consequence = "runs would have no inbox to go to" if key == "SHARDS" else "no work could be done"
        return ConfigurationError(
            f"{NAME}[{key!r}] is {value}; {consequence}.",
            hint=f"Set {key} to at least 1." if kind == "int" else f"Set {key} to more than 0.",
            id="recent_workflows.E005",
        )
    return None


def _across(raw: dict[str, Any]) -> list[ConfigurationError]:
    """Rules between two settings: ``(smaller, larger, what happens otherwise)``."""

    def value(name: str) -> float:
        return float(raw.get(name, _FIELDS[name].default))

    rules = [
        ("flush_time_limit_s", "claim_lease_s", "a claim would be taken from a flush that still works on it"),
        ("flush_window_s", "marker_s", "a second flush message would be sent while the first still waits"),
        ("backfill_target_s", "backfill_statement_timeout_s", "a backfill's transactions could never take their time"),
        (
            "backfill_statement_timeout_s",
            "backfill_lease_s",
            "a chunk would be taken from a worker that still fills it",
        ),
        ("backfill_tick_s", "backfill_lease_s", "a worker's death would be noticed before it is looked for"),
        ("backfill_shed_s", "backfill_stop_s", "a backfill would stop before it slows down"),
    ]
    return [
        ConfigurationError(
            f"{NAME}[{small.upper()!r}] ({value(small):g}) is not below {large.upper()!r} ({value(large):g}): {why}.",
            hint=f"Raise {large.upper()} or lower {small.upper()}.",
            id="recent_workflows.E006",
        )
        for small, large, why in rules
        if value(small) >= value(large)
    ]


def problems() -> list[ConfigurationError]:
    """Everything wrong with ``settings.RECENT_WORKFLOWS`` by itself, the host's models apart."""
    return _problems(getattr(django_settings, NAME, None))


@cache
def settings() -> Settings:
    """The settings in force.

    Raises:
        ConfigurationError: the first of ``problems()``.
    """
    return Settings.from_mapping(getattr(django_settings, NAME, None))


def _forget(*, setting: str, **_: object) -> None:
    if setting == NAME:
        settings.cache_clear()


setting_changed.connect(_forget, dispatch_uid="workflows_tasks.conf")
