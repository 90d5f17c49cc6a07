from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from django.db import connection, models
from django.utils import timezone

from tests.hosts.adapter import Host, Truth
from tests.hosts.deep.models import Blueprint, Execution, Job, Member, Revision, Team, Ticket


class Deep(Host):
    name = "deep"
    workspace_field = "team"
    user_field = "member"
    used_at_field = "finished_at"
    large_column = "protocol"
    hidden = {"archived": True}
    shown = {"archived": False}
    closed = {"disbanded": True}
    opened = {"disbanded": False}
    allows = frozenset({"workspace", "user", "workflow", "used_at", "last_hop", "alias"})
    poison = ("nul\x00",)  # any other text could be a key here
    absent = "no such job, and longer than the forty characters that a reference can have"
    run_model = Job
    alias_model = Execution
    workspace_model = Team
    workflow_model = Blueprint

    def make_workspace(self) -> Any:
        return Team.objects.create(number=random.randrange(2**31))

    def workspace_key(self, workspace: Any) -> Any:
        return workspace.number

    def make_user(self) -> Any:
        return Member.objects.create()

    def make_workflow(self) -> Any:
        return Blueprint.objects.create(code=Decimal(random.randrange(10**12)).scaleb(-2))

    def leading_to(self, workflow: Any) -> dict[str, Any]:
        if workflow is None:
            return {"ticket": None}
        return {"ticket": Ticket.objects.create(revision=Revision.objects.create(blueprint=workflow))}

    def without_last_hop(self) -> dict[str, Any]:
        return {"ticket": Ticket.objects.create(revision=Revision.objects.create(blueprint=None))}

    def touch(self, run: Job) -> None:
        run.finished_at = timezone.now()
        if not run.reference:  # neither in the order of saving nor of one case, for text sorts by its bytes
            run.reference = random.choice((str.upper, str.lower))(uuid.uuid4().hex)

    def insert_runs(self, rows: Sequence[dict[str, Any]]) -> list[Any]:
        jobs = [Job(reference=uuid.uuid4().hex, **row) for row in rows]
        parents = [Execution(reference=j.reference, finished_at=j.finished_at, archived=j.archived) for j in jobs]
        Execution.objects.bulk_create(parents, batch_size=2_000)
        # Django does not insert children in bulk.
        columns = [field for field in Job._meta.local_concrete_fields if not isinstance(field, models.OneToOneField)]
        names = ", ".join(["execution_ptr_id", *(str(field.column) for field in columns)])
        marks = ", ".join(["%s"] * (len(columns) + 1))
        with connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO workshop_job ({names}) VALUES ({marks})",
                [(job.reference, *(getattr(job, field.attname) for field in columns)) for job in jobs],
            )
        return [job.reference for job in jobs]

    def truths(self) -> Iterable[Truth]:
        blueprint_of = dict(Revision.objects.values_list("pk", "blueprint_id"))
        revision_of = dict(Ticket.objects.values_list("pk", "revision_id"))
        parents = {parent.reference: parent for parent in Execution.objects.all()}
        disbanded = set(Team.objects.filter(**self.closed).values_list("number", flat=True))
        for reference, team, member, ticket, kind in Job.objects.values_list(
            "execution_ptr_id", "team_id", "member_id", "ticket_id", "kind"
        ):
            parent = parents[reference]
            yield Truth(
                reference,
                team,
                None if member is None else str(member),
                blueprint_of.get(revision_of.get(ticket)),
                parent.finished_at,
                not parent.archived and kind != "rehearsal" and team not in disbanded,
            )

    def user_text(self, user: Any) -> str:
        return str(user.pk)


HOST = Deep()
