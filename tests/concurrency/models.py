"""A host with everything that a change can come through, and no constraint that keeps writers from anything.

Three foreign keys lead from a run to its workflow, and what counts depends on the run's workspace too.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.db.models import DO_NOTHING

ANYTHING: dict[str, Any] = {"on_delete": DO_NOTHING, "db_constraint": False, "null": True, "related_name": "+"}


class Workspace(models.Model):
    objects: ClassVar[models.Manager[Workspace]] = models.Manager()

    id = models.IntegerField(primary_key=True)
    hidden = models.BooleanField(default=False)

    class Meta:
        db_table = "workspace"

    def __str__(self) -> str:
        return f"workspace {self.pk}"


class Workflow(models.Model):
    objects: ClassVar[models.Manager[Workflow]] = models.Manager()

    id = models.IntegerField(primary_key=True)

    class Meta:
        db_table = "workflow"

    def __str__(self) -> str:
        return f"workflow {self.pk}"


class Line(models.Model):
    objects: ClassVar[models.Manager[Line]] = models.Manager()

    id = models.IntegerField(primary_key=True)
    workflow = models.ForeignKey(Workflow, **ANYTHING)

    class Meta:
        db_table = "line"

    def __str__(self) -> str:
        return f"line {self.pk}"


class Version(models.Model):
    objects: ClassVar[models.Manager[Version]] = models.Manager()

    id = models.IntegerField(primary_key=True)
    line = models.ForeignKey(Line, **ANYTHING)

    class Meta:
        db_table = "version"

    def __str__(self) -> str:
        return f"version {self.pk}"


class Run(models.Model):
    objects: ClassVar[models.Manager[Run]] = models.Manager()

    id = models.IntegerField(primary_key=True)
    workspace = models.ForeignKey(Workspace, **ANYTHING)
    user = models.TextField(null=True)
    version = models.ForeignKey(Version, **ANYTHING)
    hidden = models.BooleanField(default=False)
    used_at = models.DateTimeField()

    class Meta:
        db_table = "run"
        indexes = [models.Index(fields=["workspace", "-used_at"], name="run_by_time")]

    def __str__(self) -> str:
        return f"run {self.pk}"
