"""Every setting, with its unit, its default and its rules.

``settings()`` is what the code reads. ``problems()`` is what ``manage.py check`` prints about the settings themselves.
Both ask ``_problems``, so neither accepts what the other refuses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from typing import Any, Final, ParamSpec, TypeVar, cast

from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.db.models import Q

from workflows_tasks.errors import ConfigurationError

P = ParamSpec("P")
T = TypeVar("T")

NAME: Final = "RECENT_WORKFLOWS"

WORKSPACE: Final = "workspace"
USER: Final = "user"
GRAINS: Final = (WORKSPACE, USER)
"""What a row of the table can speak for."""

MOST_SHARDS: Final = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """``settings.RECENT_WORKFLOWS``, typed. Keys are these names in upper case."""

    run_model: str
    """``app_label.Model`` of the run: one row each time a workflow is executed. Any primary key."""

    workspace_field: str
    """Foreign key on the run to its workspace. May be null: such a run is nobody's recent workflow."""

    user_field: str
    """Column or foreign key on the run that names its user. May be null: such a run counts for the workspace only.
    Required even if ``GRAINS`` leaves users out."""

    published_run_path: str
    """Path of foreign keys from the run to its workflow, hops joined by ``__``. Each may be null."""

    used_at_field: str
    """``DateTimeField`` on the run: when the workflow was last used through it. May be null: such a run counts
    for nobody."""

    run_filter: Q | str = Q()
    """Which runs count: a ``Q`` over the run, or the dotted path of a callable that returns one."""

    backfill_filter: Q | str = Q()
    """Which old runs a backfill fills in: those that match this and ``RUN_FILTER``. The others come in when they are
    saved, when the newer runs of their key are gone, or with a rescan. ``RUN_FILTER`` keeps runs out for good."""

    grains: tuple[str, ...] = ("workspace", "user")
    """What pages read: the newest workflows of a whole ``workspace``, of each ``user`` in it, or both."""

    user_attribute: str = "pk"
    """If ``USER_FIELD`` is a plain column: the attribute of a user object that has the column's value. A foreign key
    needs no such hint."""

    redis_url: str = ""
    """URL of the Redis or Valkey that holds one marker a shard, or the dotted path of ``factory(*, timeout_s) ->
    Redis``. Optional: without it, each process sends its own flush messages."""

    key_prefix: str = "recent-workflows"
    """Start of every Redis key, so that several installations can share one Redis."""

    shards: int = 8
    """Parts of the table, by workspace. One flush writes a shard at a time. Every process must agree."""

    flush_window_s: float = 1.0
    """Seconds between two flushes of a busy shard; about the time until a save there is visible."""

    tick_period_s: float = 2.0
    """Seconds between two looks for changes that no flush is due for (Celery beat)."""

    queue: str = "recent-workflows"
    """Celery queue of the live tasks. Give it a worker of its own: flushes behind long tasks are late."""

    backfill_queue: str = "recent-workflows-backfill"
    """Celery queue of backfill chunks."""

    save_timeout_s: float = 0.04
    """Seconds a save waits for Redis, once to connect and once for the answer."""

    broker_timeout_s: float = 0.25
    """Seconds a save waits for the broker when it is the one that sends the flush message."""

    pause_s: float = 5.0
    """Seconds a process leaves Redis or the broker alone after it failed."""

    flush_time_limit_s: float = 20.0
    """Seconds after which a worker kills a flush. After a quarter of that, a flush begins no new transaction."""

    audit_period_s: float = 86_400.0
    """Seconds in which the audit compares every key of the table with the runs."""

    audit_step_s: float = 60.0
    """Seconds between two steps of the audit."""

    audit_chunk: int = 50_000
    """About how many runs one comparison reads."""

    compare_timeout_s: float = 60.0
    """Seconds after which one comparison of the audit or of ``verify`` gives up. Its range is noted and passed over."""

    backfill_lease_s: float = 30.0
    """Seconds after which the chunk of a worker that says nothing is given to another."""

    backfill_stop_s: float = 4.0
    """Age of the oldest change in the log, in seconds, past which a backfill begins no new transaction."""

    backfill_throttle: str | None = None
    """Dotted path of your own ``() -> str | None``: a reason for a backfill to wait, or None if there is none."""

    @classmethod
    def from_mapping(cls, raw: object) -> Settings:
        """Return the typed settings.

        Raises:
            ConfigurationError: names the key, the consequence and the fix.
        """
        wrong = _problems(raw)
        if wrong:
            raise wrong[0]
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
    kind = _FIELDS[name].type
    return float(value) if kind == "float" else tuple(value) if kind == "tuple[str, ...]" else value


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
        f"{NAME}[{name.upper()!r}] is missing and has no default; no change would be flushed.",
        hint="Set it; docs/install.md says to what.",
        id="recent_workflows.E003",
    )


def _wrong_value(key: str, value: object) -> ConfigurationError | None:
    kind = str(_FIELDS[key.lower()].type)
    if not isinstance(value, _TYPES[kind]) or isinstance(value, bool):
        return ConfigurationError(
            f"{NAME}[{key!r}] is {value!r}, a {type(value).__name__}; expected {kind}; no change would be flushed.",
            hint=f"Set {key} to a value of that type.",
            id="recent_workflows.E004",
        )
    if kind == "str" and not value and _FIELDS[key.lower()].default != "":
        return ConfigurationError(
            f"{NAME}[{key!r}] is empty; no change would be flushed.", hint="Set it.", id="recent_workflows.E004"
        )
    if key == "GRAINS" and (not value or len(set(value)) < len(value) or not set(value) <= set(GRAINS)):  # type: ignore[arg-type,call-overload]
        return ConfigurationError(
            f"{NAME}['GRAINS'] is {value!r}; pages can read {' and '.join(map(repr, GRAINS))} only.",
            hint=f"Set GRAINS to {GRAINS!r}, or to a tuple of one of them.",
            id="recent_workflows.E004",
        )
    if key == "SHARDS" and isinstance(value, int) and value > MOST_SHARDS:
        return ConfigurationError(
            f"{NAME}['SHARDS'] is {value}; a change that concerns every shard is written once for each.",
            hint=f"Set SHARDS to at most {MOST_SHARDS}.",
            id="recent_workflows.E005",
        )
    if isinstance(value, int | float) and not 0 < value < math.inf:
        consequence = "no change could be flushed" if key == "SHARDS" else "no work could be done"
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
        ("flush_window_s", "flush_time_limit_s", "a flush would be killed before the next one is due"),
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


_caches: list[Any] = []


def cached(function: Callable[P, T]) -> Callable[P, T]:
    """A function whose results are kept until the settings change, as they do in tests."""
    kept = lru_cache(maxsize=1_000, typed=True)(function)
    _caches.append(kept)
    return cast("Callable[P, T]", kept)


@cached
def settings() -> Settings:
    """The settings in force.

    Raises:
        ConfigurationError: the first of ``problems()``.
    """
    return Settings.from_mapping(getattr(django_settings, NAME, None))


def _forget(*, setting: str, **_: object) -> None:
    if setting == NAME:
        for each in _caches:
            each.cache_clear()


setting_changed.connect(_forget, dispatch_uid="workflows_tasks.conf")
