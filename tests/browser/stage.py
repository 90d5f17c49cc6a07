"""What there is to see on the page."""

from __future__ import annotations

from backfill import runner, work
from demo.bots.models import PublishedRun, PublishedRunVersion, SavedRun, Workspace


class Stage:
    """A workspace and workflows of the platform, some with a photo."""

    def __init__(self) -> None:
        self.backfill = runner.start(actor="the test")
        work.work(self.backfill.pk)  # there is no history yet, so all of it is in
        self.workspace = Workspace.objects.create(name="Alder Labs")
        self.home = f"/workspaces/{self.workspace.pk}/"

    def workflow(self, title: str) -> PublishedRun:
        made: PublishedRun = PublishedRun.objects.create(title=title)
        if made.pk % 2:
            made.photo_url = f"/photos/{made.pk}.svg"
            made.save()
        PublishedRunVersion.objects.create(published_run=made)
        return made

    def run(self, workflow: PublishedRun, *, by: str = "ada-1") -> SavedRun:
        """Somebody uses a workflow, now."""
        made: SavedRun = SavedRun.objects.create(
            workspace=self.workspace, uid=by, parent_version=workflow.versions.get(), state={"step": 3, "steps": 20}
        )
        return made
