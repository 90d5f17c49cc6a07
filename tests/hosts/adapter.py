"""What the tests ask of a host project, so that they need not know its names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar, NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import Model, Q
from django.utils.timezone import make_naive

EPOCH = datetime(2026, 1, 15, 12, tzinfo=timezone.utc)


def moment(minutes: float) -> datetime:
    """A fixed moment, ``minutes`` after noon of a day in the past, as the host stores moments."""
    at = EPOCH + timedelta(minutes=minutes)
    return at if settings.USE_TZ else make_naive(at)


class Truth(NamedTuple):
    """A run as the oracle sees it: plain values, read from the host's own rows."""

    run: Any
    workspace: Any
    user: str | None
    workflow: Any
    used_at: datetime | None
    counts: bool


class Host(ABC):
    """One host project. Workspaces, workflows and runs are its model instances, users whatever its runs take."""

    name: ClassVar[str]
    workspace_field: ClassVar[str]
    user_field: ClassVar[str]
    used_at_field: ClassVar[str]
    large_column: ClassVar[str]
    """A column of the run that nothing here needs, and which may be megabytes."""

    hidden: ClassVar[dict[str, Any]]
    """Field values with which a run does not count; ``shown`` has those with which it does."""

    shown: ClassVar[dict[str, Any]]
    closed: ClassVar[dict[str, Any]]
    """Field values of a workspace with which none of its runs counts; ``opened`` has those with which they may."""

    opened: ClassVar[dict[str, Any]]
    filter_on_workspace: ClassVar[Q | None] = None
    """``RUN_FILTER`` that reads those fields, where the host's own does not."""

    allows: ClassVar[frozenset[str]]
    """What a run may be without: ``workspace``, ``user``, ``workflow``, ``used_at``, ``last_hop``. ``alias``: there is
    another model of the same rows. ``cascade``: deleting a workspace or a workflow deletes its runs."""

    poison: ClassVar[tuple[str, ...]]
    """Texts that are no run's key, for one reason each."""

    absent: ClassVar[str]
    """A run key, as text, that no run has."""

    @property
    @abstractmethod
    def run_model(self) -> Any: ...

    @property
    @abstractmethod
    def workspace_model(self) -> Any: ...

    @property
    @abstractmethod
    def workflow_model(self) -> Any: ...

    @property
    def alias_model(self) -> Any:
        """A proxy or a multi-table parent of the run model."""
        raise NotImplementedError("the run model is the only one of its rows")

    @abstractmethod
    def make_workspace(self) -> Any: ...

    @abstractmethod
    def make_user(self) -> Any: ...

    @abstractmethod
    def make_workflow(self) -> Any: ...

    @abstractmethod
    def leading_to(self, workflow: Any) -> dict[str, Any]:
        """Fields of a run that make it a run of this workflow; of none for None."""

    @abstractmethod
    def without_last_hop(self) -> dict[str, Any]:
        """Fields of a run whose path to a workflow breaks off after the first hop."""

    @abstractmethod
    def insert_runs(self, rows: Sequence[dict[str, Any]]) -> list[Any]:
        """Insert runs in bulk, without signals; returns their keys."""

    @abstractmethod
    def truths(self) -> Iterable[Truth]:
        """Every run, found by plain look-ups."""

    @abstractmethod
    def user_text(self, user: Any) -> str:
        """What the table calls this user."""

    def workspace_key(self, workspace: Any) -> Any:
        """The value that runs hold for this workspace."""
        return workspace.pk

    def make_run(
        self, *, workspace: Any, workflow: Any, user: Any, used_at: datetime | None = None, hidden: bool = False
    ) -> Any:
        """Save a new run the ordinary way; ``used_at`` is now unless given."""
        fields = {self.workspace_field: workspace, self.user_field: user, **self.leading_to(workflow)}
        fields |= self.hidden if hidden else self.shown
        with transaction.atomic():
            run = self.run_model(**fields)
            self.touch(run)
            run.save(force_insert=True)
            if used_at is not None:
                self.set_used_at(run, used_at)
        return run

    def touch(self, run: Any) -> None:  # noqa: B027  # nothing to do where the host has auto_now
        """Set when the run was used to now, where saving does not by itself. ``run`` need not be saved yet."""

    def make_runs(
        self, count: int, *, workspaces: Sequence[Any], workflows: Sequence[Any], users: Sequence[Any]
    ) -> list[Any]:
        """Insert many runs without signals, dealt out round robin; returns their keys."""
        paths = [self.leading_to(workflow) for workflow in workflows]
        return self.insert_runs(
            [
                {
                    self.workspace_field: workspaces[i % len(workspaces)],
                    self.user_field: users[i % len(users)],
                    self.used_at_field: moment(i / 7),
                    **paths[i % len(paths)],
                    **self.shown,
                }
                for i in range(count)
            ]
        )

    def save_again(self, run: Any) -> None:
        """One more step of an execution: the run was used now."""
        self.touch(run)
        run.save()

    def save_irrelevant(self, run: Any) -> None:
        """A save that says nothing about recent workflows."""
        run.save(update_fields=[self.large_column])

    def move(self, run: Any, **fields: Any) -> None:
        """Change fields of a run by an ordinary save, as an admin does, and leave its time as it is."""
        used_at = getattr(run, self.used_at_field)
        for name, value in fields.items():
            setattr(run, name, value)
        with transaction.atomic():
            run.save()
            self.set_used_at(run, used_at)

    def move_to_workspace(self, run: Any, workspace: Any) -> None:
        self.move(run, **{self.workspace_field: workspace})

    def move_to_workflow(self, run: Any, workflow: Any) -> None:
        self.move(run, **self.leading_to(workflow))

    def move_to_user(self, run: Any, user: Any) -> None:
        self.move(run, **{self.user_field: user})

    def hide(self, run: Any) -> None:
        self._set(run, self.hidden)

    def unhide(self, run: Any) -> None:
        self._set(run, self.shown)

    def _set(self, run: Any, fields: dict[str, Any]) -> None:
        for name, value in fields.items():
            setattr(run, name, value)
        run.save(update_fields=list(fields))

    def set_used_at(self, run: Model, when: datetime) -> None:
        """Change only the moment, which no signal sees and no ``auto_now`` overrules."""
        self.run_model._base_manager.filter(pk=run.pk).update(**{self.used_at_field: when})
        setattr(run, self.used_at_field, when)
