"""The page follows what happens, through a real worker: no reload, nothing jumps, and nobody loses their place."""

from __future__ import annotations

import pytest
from pytest_celery import CeleryTestWorker

from tests.browser.conftest import Visit
from tests.browser.stage import Stage
from workflows_tasks import inbox

pytestmark = pytest.mark.workers(FLUSH_WINDOW_S=1.0, MARKER_S=8.0)

PROMISED_MS = 2_000


def test_a_saved_run_moves_its_card_to_the_front(celery_worker: CeleryTestWorker, stage: Stage, visit: Visit) -> None:
    """Within two seconds, while the visitor's focus stays on the card that moves and nothing else is shifted."""
    titles = ["Rank menus", "Tag tenders", "Draft recipes", "Compare maps", "Redact letters"]
    workflows = {title: stage.workflow(title) for title in titles}
    for title in titles:
        stage.run(workflows[title])
    visitor = visit(stage.home)
    visitor.sees_cards("Redact letters", "Compare maps", "Draft recipes", "Tag tenders")
    visitor.page.get_by_role("link", name="Draft recipes").first.focus()
    stage.run(workflows["Draft recipes"])
    visitor.sees_cards("Draft recipes", "Redact letters", "Compare maps", "Tag tenders", within_ms=PROMISED_MS)
    assert "Draft recipes" in visitor.page.evaluate("document.activeElement.innerText")
    visitor.page.locator(":focus").blur()
    stage.run(workflows["Rank menus"])  # from the sidebar to the front, and one card goes
    visitor.sees_cards("Rank menus", "Draft recipes", "Redact letters", "Compare maps", within_ms=PROMISED_MS)
    assert visitor.layout_shift < 0.01
    assert visitor.page.evaluate("performance.getEntriesByType('navigation').length") == 1


def test_two_visitors_see_their_own(celery_worker: CeleryTestWorker, stage: Stage, visit: Visit) -> None:
    menus, maps = stage.workflow("Rank menus"), stage.workflow("Compare maps")
    stage.run(menus, by="ada-1")
    stage.run(maps, by="alan-1")
    ada, alan, both = visit(f"{stage.home}?user=ada-1"), visit(f"{stage.home}?user=alan-1"), visit(stage.home)
    ada.sees_cards("Rank menus")
    alan.sees_cards("Compare maps")
    both.sees_cards("Compare maps", "Rank menus")
    stage.run(menus, by="alan-1")
    alan.sees_cards("Rank menus", "Compare maps")
    both.sees_cards("Rank menus", "Compare maps")
    ada.sees_cards("Rank menus")


def test_a_deleted_workflow_goes(celery_worker: CeleryTestWorker, stage: Stage, visit: Visit) -> None:
    menus, maps = stage.workflow("Rank menus"), stage.workflow("Compare maps")
    runs = [stage.run(menus), stage.run(maps)]
    visitor = visit(stage.home)
    visitor.sees_cards("Compare maps", "Rank menus")
    maps.delete()
    visitor.sees_cards("Rank menus")
    runs[0].delete()
    visitor.sees("No workflow used yet")


def test_while_the_worker_is_gone_the_page_says_so(
    celery_worker: CeleryTestWorker, stage: Stage, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And catches up when it is back: nothing is lost."""
    monkeypatch.setattr("demo.home.condition.LATE_S", 1.5)
    menus = stage.workflow("Rank menus")
    visitor = visit(stage.home)
    celery_worker.kill()
    stage.run(menus)
    visitor.sees("more than 10 seconds behind")
    celery_worker.restart()
    visitor.sees_cards("Rank menus")
    visitor.sees("Live")
    assert not any(shard.pending for shard in inbox.status())
