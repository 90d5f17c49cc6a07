"""Models of a platform that runs workflows. Nothing here knows the package under demonstration."""

from __future__ import annotations

from django.db import models


class Workspace(models.Model):
    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name


class PublishedRun(models.Model):
    """A workflow as it is shown to people; ``title`` changes, the row stays."""

    title = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.title


class PublishedRunVersion(models.Model):
    published_run = models.ForeignKey(PublishedRun, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(default=1)

    def __str__(self) -> str:
        return f"{self.published_run} v{self.number}"


class SavedRun(models.Model):
    """One execution, saved at every step; ``state`` is large."""

    workspace = models.ForeignKey(Workspace, null=True, blank=True, on_delete=models.SET_NULL, related_name="runs")
    uid = models.CharField(max_length=128, null=True, blank=True)  # noqa: DJ001  # an identity provider's id
    parent_version = models.ForeignKey(
        PublishedRunVersion, null=True, blank=True, on_delete=models.SET_NULL, related_name="runs"
    )
    surface = models.IntegerField(default=0, help_text="0 is a run; anything else is a preview and does not count.")
    state = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [
            models.Index(fields=["uid", "workspace", "surface", "-updated_at"], name="run_by_user"),
            models.Index(fields=["workspace", "surface", "-updated_at"], name="run_by_workspace"),
            models.Index(fields=["-updated_at"], name="run_by_time"),
        ]

    def __str__(self) -> str:
        return f"run {self.pk}"
