"""Somebody at a browser, and what a test asks of what they see."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage

PATIENCE_MS: Final = 20_000
"""How long a visitor waits for what should come; no test passes faster or slower for it."""

PHONE: Final = 390
DESKTOP: Final = 1280


class Visitor:
    """A browser profile with one page. Errors on the page fail the test when the visitor leaves."""

    def __init__(self, browser: Browser, address: str, options: dict[str, Any]) -> None:
        self.address = address
        self._context = browser.new_context(base_url=address, **options)
        self._context.set_default_timeout(PATIENCE_MS)
        self.page = self._context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note_error)

    def _note_error(self, said: ConsoleMessage) -> None:
        if said.type == "error" and not said.location["url"].endswith("/favicon.ico"):  # Django's admin has none
            self.errors.append(said.text)

    def keep_cookie(self, name: str, value: str) -> None:
        self._context.add_cookies([{"name": name, "value": value, "url": self.address}])

    def leave(self) -> None:
        self._context.close()
        assert not self.errors

    def sees_cards(self, *titles: str) -> None:
        """Wait until the cards are these, in this order.

        Raises:
            AssertionError: they never were.
        """
        from playwright.sync_api import expect

        expect(self.page.locator(".cards strong")).to_have_text(list(titles), timeout=PATIENCE_MS)

    def sees(self, text: str) -> None:
        """Wait until a text is to be seen."""
        self.page.get_by_text(text).first.wait_for()

    def picture(self, name: str) -> None:
        """Write a picture of the whole page, if ``SCREENSHOTS`` names a directory for them."""
        directory = os.environ.get("SCREENSHOTS")
        if directory:
            self.page.screenshot(path=Path(directory) / f"{name}.png", full_page=True, animations="disabled")

    def bars_nobody(self, name: str, part: str | None = None) -> None:
        """Assert that the page fits a phone and a desk, and that axe finds nothing wrong with it, or with parts of it.

        Args:
            part: selector of those parts.
        """
        from axe_playwright_python.sync_playwright import Axe

        for width in (PHONE, DESKTOP):
            self.page.set_viewport_size({"width": width, "height": 844})
            self.picture(f"{name}-{width}")
            assert part or self.page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(self.page, context=part).response["violations"]
        assert [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]] == []
