"""What a host does, as rules: hypothesis picks which, when, and with what."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import Model
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, multiple, precondition, rule

from tests.endurance import changes
from tests.endurance.changes import CREATES, DELETES, SILENT, WRITES, Change, Delete, Give, Hide, Lead, Move, Show, Use
from tests.endurance.world import MOMENTS_S, SHARD_OF, UNSWEPT, USERS, WORKFLOW_OF, World
from tests.oracle import flush_all
from workflows_tasks.host import host as resolved

T = TypeVar("T")
HowTo: TypeAlias = tuple[Change, str]
"""A change, and the way of writing it."""

run = Bundle("run")
runs = st.lists(run, min_size=1, max_size=3, unique=True)
workspaces = st.sampled_from(tuple(SHARD_OF))
users = st.sampled_from(USERS)
ways = st.sampled_from(tuple(WORKFLOW_OF))
moments = st.sampled_from((None, *MOMENTS_S))
assignments: st.SearchStrategy[Change] = st.one_of(
    st.builds(Use, moments),
    st.builds(Move, workspaces),
    st.builds(Give, users),
    st.builds(Lead, ways),
    st.sampled_from((Hide(), Show(), Move(None), Give(None), Lead(None))),
)
assigned = st.tuples(assignments, st.sampled_from(WRITES))
deleted = st.tuples(st.just(Delete()), st.sampled_from(DELETES))
announced_changes = st.one_of(assigned, assigned, assigned, deleted)
silent_changes = st.tuples(assignments | st.just(Delete()), st.just(SILENT))


UNAIDED, NOTHING_LOST, LOSSES = "unaided", "nothing is lost", "losses"
"""Kinds of history. Unaided, nothing looks at a run twice unless it must: no fill, no sweep, nothing comes again."""


def losing(happening: T) -> T:
    """Only in histories in which things get lost. In the others the table must come right without sweep or audit."""
    restricted: T = precondition(lambda machine: machine.kind == LOSSES)(happening)  # type: ignore[type-var]
    return restricted


def aiding(happening: T) -> T:
    """Only in histories in which one mistake may be made good by something else that happens."""
    restricted: T = precondition(lambda machine: machine.kind != UNAIDED)(happening)  # type: ignore[type-var]
    return restricted


class Doings(RuleBasedStateMachine):
    """Runs come, change and go, and so does what they point to.

    Attributes:
        kind: of this history.
        lost: something was written that nobody announced, or an announcement was lost.
        unswept: a run was used at a moment that the sweep does not look at.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.kind = ""
        self.lost = self.unswept = False

    @initialize(
        target=run,
        kind=st.sampled_from((UNAIDED, NOTHING_LOST, LOSSES)),
        several=st.lists(st.tuples(workspaces, users, ways, moments), min_size=2, max_size=4),
    )
    def a_history_with_runs(self, kind: str, several: list[tuple[str, str, str, str | None]]) -> MultipleResults[int]:
        self.kind = kind
        return multiple(*(self._new(*each, by="save") for each in several))

    @rule(
        target=run,
        count=st.integers(1, 3),
        workspace=workspaces,
        user=users,
        way=ways,
        at=moments,
        by=st.sampled_from(CREATES),
    )
    def new_runs(
        self, count: int, workspace: str, user: str, way: str, at: str | None, by: str
    ) -> MultipleResults[int]:
        return multiple(*(self._new(workspace, user, way, at, by) for _ in range(count)))

    @rule(runs=runs, how=announced_changes)
    def change(self, runs: Sequence[int], how: HowTo) -> None:
        self._change(runs, how)

    @losing
    @rule(runs=runs, how=silent_changes)
    def change_silently(self, runs: Sequence[int], how: HowTo) -> None:
        self.lost = True
        self._change(runs, how)

    @rule(run=run, several=st.lists(assignments, min_size=2, max_size=3), commit=st.booleans())
    def change_in_one_transaction(self, run: int, several: list[Change], commit: bool) -> None:
        with transaction.atomic():
            for change in several:
                with transaction.atomic():
                    self._change([run], (change, "save"))
            transaction.set_rollback(not commit)

    @rule(run=run)
    def save_what_does_not_matter(self, run: int) -> None:
        for found in self.world.present([run]):
            self.world.host.save_irrelevant(found)

    @rule(run=run, how=announced_changes, flushed=st.booleans(), whole=st.booleans())
    def change_and_save_an_older_copy(self, run: int, how: HowTo, flushed: bool, whole: bool) -> None:
        """Two have loaded a run. One changes it; then the other saves what it has, or only that it was used."""
        copies = self.world.present([run])
        self._change([run], how)
        if flushed:
            flush_all()
        for copy in copies:
            self.world.host.touch(copy)
            with suppress(IntegrityError, DatabaseError):  # it, or what it points to, may be gone
                copy.save(update_fields=None if whole else [self.world.host.used_at_field])

    @rule(way=ways, to=st.none() | ways, hop=st.integers(1, 2))
    def lead_a_version_elsewhere(self, way: str, to: str | None, hop: int) -> None:
        path = resolved().path
        version = self.world.hop(way, hop) if hop < len(path) else None
        target = self.world.hop(to, hop + 1) if version and to else None
        if version is not None and (target is not None or path[hop].null):
            setattr(version, path[hop].name, target)
            version.save()

    @rule(
        what=st.sampled_from(("version", "version of the version", "workflow", "workspace")),
        way=ways,
        name=workspaces,
        queryset=st.booleans(),
    )
    def delete_what_runs_point_to(self, what: str, way: str, name: str, queryset: bool) -> None:
        last = len(resolved().path)
        hop = min({"version": 1, "version of the version": 2}.get(what, last), last)
        _delete(self.world.workspace(name) if what == "workspace" else self.world.hop(way, hop), queryset=queryset)

    @losing
    @rule(name=users)
    def delete_a_user(self, name: str) -> None:
        # Where runs outlive their user they lose it by one UPDATE that nobody announces.
        self.lost |= resolved().user.null
        _delete(self.world.user(name), queryset=False)

    def _new(self, workspace: str, user: str, way: str, at: str | None, by: str) -> int:
        fields: dict[str, Any] = dict(self.world.host.shown)
        for part in (Move(workspace), Give(user), Lead(way)):
            fields |= part.fields(self.world)
        self.unswept |= at in UNSWEPT
        return self.world.number(changes.create(self.world, fields, at=at, by=by))

    def _change(self, runs: Sequence[int], how: HowTo) -> None:
        change, by = how
        self.unswept |= isinstance(change, Use) and change.at in UNSWEPT
        if isinstance(change, Delete):
            changes.delete(self.world, runs, by)
        elif self.world.allows(change.fields(self.world)):
            changes.write(self.world, runs, change, by)


def _delete(thing: Any, *, queryset: bool) -> None:
    if isinstance(thing, Model):
        if queryset:
            type(thing)._base_manager.filter(pk=thing.pk).delete()
        else:
            thing.delete()
