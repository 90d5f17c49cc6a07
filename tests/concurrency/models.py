"""A host with everything that a change can come through, and no constraint that keeps writers from anything.

Three foreign keys lead from a run to its workflow, and what counts depends on the run's workspace too.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.db.models import DO_NOTHING

ANYTHING: dict[str, Any] = {"on_delete": DO_NOTHING, "db_constraint": False, "null": True, "related_name": "+"}


class Numbered(models.Model):
    objects: ClassVar[models.Manager[Any]] = models.Manager()

    id = models.IntegerField(primary_key=True)

    class Meta:
        abstract = True


class Workspace(Numbered):
    hidden = models.BooleanField(default=False)

    class Meta:
        db_table = "workspace"


class Workflow(Numbered):
    class Meta:
        db_table = "workflow"


class Line(Numbered):
    workflow = models.ForeignKey(Workflow, **ANYTHING)

    class Meta:
        db_table = "line"


class Version(Numbered):
    line = models.ForeignKey(Line, **ANYTHING)

    class Meta:
        db_table = "version"


class Run(Numbered):
    workspace = models.ForeignKey(Workspace, **ANYTHING)
    user = models.TextField(null=True)
    version = models.ForeignKey(Version, **ANYTHING)
    hidden = models.BooleanField(default=False)
    used_at = models.DateTimeField()

    class Meta:
        db_table = "run"
        indexes = [models.Index(fields=["workspace", "-used_at"], name="run_by_time")]
