from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from tests.hosts.adapter import Host, Truth
from tests.hosts.library.models import Branch, Loan, Renewal, Title


class Library(Host):
    name = "library"
    workspace_field = "branch"
    user_field = "borrower"
    used_at_field = "borrowed_at"
    large_column = "receipt"
    hidden = {"voided": True}
    shown = {"voided": False}
    closed = {"closed": True}
    opened = {"closed": False}
    allows = frozenset({"alias", "cascade"})
    poison = ("garbage", "", "17", "x" * 5_000, f"{uuid.UUID(int=1)}0", f"{uuid.UUID(int=1)}\x00")
    absent = str(uuid.UUID(int=2**128 - 1))
    run_model = Loan
    alias_model = Renewal
    workspace_model = Branch
    workflow_model = Title

    def make_workspace(self) -> Any:
        return Branch.objects.create(slug=f"branch-{uuid.uuid4()}")

    def make_user(self) -> Any:
        return User.objects.create(username=str(uuid.uuid4()))

    def make_workflow(self) -> Any:
        return Title.objects.create()

    def leading_to(self, workflow: Any) -> dict[str, Any]:
        return {"title": workflow}

    def without_last_hop(self) -> dict[str, Any]:
        raise NotImplementedError("there is one hop, and it is never null")

    def touch(self, run: Loan) -> None:
        run.borrowed_at = timezone.now()

    def insert_runs(self, rows: Sequence[dict[str, Any]]) -> list[Any]:
        return [loan.pk for loan in Loan.objects.bulk_create([Loan(**row) for row in rows], batch_size=2_000)]

    def truths(self) -> Iterable[Truth]:
        closed = set(Branch.objects.filter(**self.closed).values_list("pk", flat=True))
        for loan, branch, borrower, title, borrowed_at, voided in Loan.objects.values_list(
            "pk", "branch_id", "borrower_id", "title_id", "borrowed_at", "voided"
        ):
            yield Truth(loan, branch, str(borrower), title, borrowed_at, not voided and branch not in closed)

    def user_text(self, user: Any) -> str:
        return str(user.pk)


HOST = Library()
