"""Receivers on the host's models: runs, and what stands between a run and its workflow.

Deleted runs, workspaces and workflows are seen by the table's own foreign keys: see ``models``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.apps import apps
from django.db import transaction
from django.db.models import Field, Model
from django.db.models.constants import LOOKUP_SEP
from django.db.models.signals import post_save, pre_delete, pre_save
from django.dispatch import Signal
from django.utils.module_loading import import_string

from workflows_tasks import announcements, conf
from workflows_tasks.host import Host
from workflows_tasks.ids import ROWS, RUNS, Scope

WAS = "_recent_workflows_was"
"""Attribute of a version being saved: the workflow it led to before."""


def connect(host: Host) -> None:
    """Announce every save of a run, and every change of a version that moves its runs to another workflow."""
    for model in _family(host.run):
        _connect(post_save, _run_saved, host, sender=model)
    for hops in range(1, len(host.path)):
        for model in _family(host.path[hops - 1].related_model):
            _connect(pre_save, _hop_saving, host, hops, sender=model)
            _connect(post_save, _hop_saved, host, hops, sender=model)
            _connect(pre_delete, _hop_deleting, host, hops, sender=model)
    for path in conf.settings().soft_delete_signals:
        _connect(import_string(path), _soft_deleted, host)


def _connect(signal: Signal, receive: Callable[..., None], host: Host, *hops: int, sender: Any = None) -> None:
    # One model may play several parts, a hop of the path twice for example: each has a receiver of its own.
    uid = ("workflows_tasks", receive.__name__, *hops)
    signal.connect(_safe(receive, host, *hops), sender=sender, weak=False, dispatch_uid=uid)


def _family(model: type[Model]) -> Iterator[type[Model]]:
    """A model, its proxies and children, and its multi-table parents: saving any of them saves it."""
    for other in apps.get_models():
        if issubclass(other, model) or other in model._meta.parents:
            yield other


def _safe(receive: Callable[..., None], *bound: Any) -> Callable[..., None]:
    """A receiver that reports its own failure: a host's save or delete must never fail because of this table."""

    def receiver(**signal: Any) -> None:
        if signal.get("raw"):  # a fixture: its rows may point to what is not loaded yet; the sweep finds them
            return
        try:
            receive(*bound, **signal)
        except Exception as error:
            announcements.report(error)

    return receiver


def _run_saved(host: Host, *, instance: Model, using: str, update_fields: frozenset[str] | None, **_: Any) -> None:
    if update_fields is not None:
        relevant = host.relevant_fields
        if relevant is not None and relevant.isdisjoint(update_fields):
            return
    announcements.gather(instance, using=using)


def _hop_saving(
    host: Host, hops: int, *, instance: Model, using: str, update_fields: frozenset[str] | None, **_: Any
) -> None:
    """Before a version is saved: where did it lead? Two queries, in a rare save, and never in a run's."""
    instance.__dict__.pop(WAS, None)
    next_hop: Field[Any, Any] = host.path[hops]
    touched = update_fields is None or not {next_hop.name, next_hop.attname}.isdisjoint(update_fields)
    with announcements.unharmed(using):
        if touched and _is_stored(instance, using):
            instance.__dict__[WAS] = _workflow_left(host, hops, instance, using)


def _hop_saved(host: Host, hops: int, *, instance: Model, using: str, **_: Any) -> None:
    if WAS not in instance.__dict__:
        return
    was = instance.__dict__.pop(WAS)
    with announcements.unharmed(using):
        now = _workflow_of(host, hops, instance, using)
    if was != now:
        announcements.gather_scope(Scope(RUNS, _lookup(host, hops), _key(host, hops, instance)), using=using)
        if was is not None:
            announcements.gather_scope(Scope(ROWS, host.path_lookup, was), using=using)


def _hop_deleting(host: Host, hops: int, *, instance: Model, using: str, **_: Any) -> None:
    """Its runs leave their workflow by one UPDATE, in all workspaces, and none of them is seen."""
    with announcements.unharmed(using):
        was = _workflow_left(host, hops, instance, using)
    if was is not None:
        announcements.gather_scope(Scope(ROWS, host.path_lookup, was), using=using)


def _soft_deleted(host: Host, *, instance: Model, using: str | None = None, **_: Any) -> None:
    """A library hid or showed an object: whatever our filter makes of that, both ways are looked at."""
    using = using or host.database
    if isinstance(instance, host.run):
        announcements.gather(instance, using=using)
    for lookup, field in ((host.workspace.name, host.workspace), (host.path_lookup, host.workflow)):
        if isinstance(instance, field.related_model):
            key = getattr(instance, field.target_field.attname)
            for part in (ROWS, RUNS):
                announcements.gather_scope(Scope(part, lookup, key), using=using)
    for hops in range(1, len(host.path)):
        if isinstance(instance, host.path[hops - 1].related_model):
            _hop_deleting(host, hops, instance=instance, using=using)
            announcements.gather_scope(Scope(RUNS, _lookup(host, hops), _key(host, hops, instance)), using=using)


def _is_stored(instance: Model, using: str) -> bool:
    """Whether saving changes a row: also one that was not loaded, but named by its key, is then led on."""
    if not instance._state.adding:
        return True
    return instance.pk is not None and type(instance)._base_manager.using(using).filter(pk=instance.pk).exists()


def _workflow_left(host: Host, hops: int, instance: Model, using: str) -> Any:
    """The workflow that a version leads to until this transaction changes or deletes it.

    Locked first, where there is a transaction to hold the lock, which the write is about to do anyway: otherwise
    another transaction could lead it on in between, and its rows would name what nobody knows to have left.
    """
    if transaction.get_connection(using).in_atomic_block:
        held = type(instance)._base_manager.using(using).filter(pk=instance.pk)
        held.select_for_update(no_key=True).order_by().values_list("pk").first()
    return _workflow_of(host, hops, instance, using)


def _workflow_of(host: Host, hops: int, instance: Model, using: str) -> Any:
    rest = LOOKUP_SEP.join(hop.name for hop in host.path[hops:])
    stored = type(instance)._base_manager.using(using).filter(pk=instance.pk)
    return stored.values_list(rest, flat=True).first()


def _lookup(host: Host, hops: int) -> str:
    return LOOKUP_SEP.join(hop.name for hop in host.path[:hops])


def _key(host: Host, hops: int, instance: Model) -> Any:
    return getattr(instance, host.path[hops - 1].target_field.attname)
