"""What there is to see on the page: a workspace of the demo's platform, and its workflows."""

from __future__ import annotations

from backfill import control, worker
from demo.bots.models import PublishedRun, PublishedRunVersion, SavedRun, Workspace
from tests.oracle import flush_all

TITLES = ("Rank menus", "Tag tenders", "Draft recipes", "Compare maps", "A workflow whose title is far too long for it")


class Platform:
    """A workspace, whose history is in the table."""

    def __init__(self) -> None:
        worker.work(control.start(actor="the test").pk)  # there is no run yet, so all of history is in
        self.workspace = Workspace.objects.create(name="Alder Labs")
        self.home = f"/?workspace={self.workspace.pk}"

    def run(self, title: str, *, by: str = "ada-1") -> SavedRun:
        """Somebody uses a workflow, now. It waits for a flush."""
        workflow, _ = PublishedRun.objects.get_or_create(title=title)
        version, _ = PublishedRunVersion.objects.get_or_create(published_run=workflow)
        made: SavedRun = SavedRun.objects.create(workspace=self.workspace, uid=by, parent_version=version)
        return made

    def run_all(self) -> list[SavedRun]:
        """Use every workflow in turn, and flush."""
        runs = [self.run(title) for title in TITLES]
        flush_all()
        return runs
