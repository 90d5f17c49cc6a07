"""Somebody at a browser, and what a test asks of what they see."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator

PATIENCE_MS: Final = 10_000
"""How long a visitor waits for what should come; no test passes faster or slower for it."""

PHONE: Final = 390
DESKTOP: Final = 1280
LIGHT: Final = "light"
DARK: Final = "dark"

SHIFTS: Final = """
    window.shifts = [];
    new PerformanceObserver(list => shifts.push(...list.getEntries().filter(entry => !entry.hadRecentInput)))
        .observe({type: "layout-shift", buffered: true});
"""


class Visitor:
    """A browser profile with one page. Errors on the page fail the test when the visitor leaves."""

    def __init__(self, browser: Browser, address: str, *, dark: bool, scripts: bool) -> None:
        self._address = address
        self._width = DESKTOP
        self._scheme: Literal["dark", "light"] = DARK if dark else LIGHT
        self._context = browser.new_context(
            base_url=address,
            viewport={"width": DESKTOP, "height": 800},
            color_scheme=self._scheme,
            java_script_enabled=scripts,
        )
        self._context.set_default_timeout(PATIENCE_MS)
        self._context.add_init_script(SHIFTS)
        self.page = self._context.new_page()
        self.errors: list[str] = []
        self.transferred: dict[str, int] = {}
        """Bytes of each answer's body and head, as they came over the wire, by address."""
        self.asked: list[str] = []
        """Addresses in the order in which the page asked for them."""
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note_error)
        self._count_bytes()

    def _note_error(self, said: ConsoleMessage) -> None:
        if said.type == "error" and not said.location["url"].endswith("/favicon.ico"):  # Django's admin has none
            self.errors.append(said.text)

    def _count_bytes(self) -> None:
        network = self._context.new_cdp_session(self.page)
        network.send("Network.enable")
        urls: dict[str, str] = {}

        def sent(request: dict[str, Any]) -> None:
            urls[request["requestId"]] = request["request"]["url"]
            self.asked.append(request["request"]["url"])

        def arrived(answer: dict[str, Any]) -> None:
            self.transferred[urls[answer["requestId"]]] = answer["encodedDataLength"]

        network.on("Network.requestWillBeSent", sent)
        network.on("Network.loadingFinished", arrived)

    def go(self, path: str) -> None:
        self.page.goto(path)

    def keep_cookie(self, name: str, value: str) -> None:
        self._context.add_cookies([{"name": name, "value": value, "url": self._address}])

    def resize(self, width: int) -> None:
        self._width = width
        self.page.set_viewport_size({"width": width, "height": 844 if width == PHONE else 800})

    def leave(self) -> None:
        self._context.close()
        assert not self.errors

    def cards(self) -> list[str]:
        """Titles of the cards, as they are read."""
        return self.page.locator(".card .name").all_inner_texts()

    def sees_cards(self, *titles: str, within_ms: float = PATIENCE_MS) -> None:
        """Wait until the cards are these, in this order.

        Raises:
            AssertionError: they never were.
        """
        from playwright.sync_api import expect

        expect(self.page.locator(".card .name")).to_have_text(list(titles), timeout=within_ms)

    def sees(self, text: str) -> Locator:
        """Wait until a text is to be seen."""
        found = self.page.get_by_text(text).first
        found.wait_for()
        return found

    def picture(self, name: str) -> None:
        """Write a picture of the whole page, if pictures are asked for."""
        directory = os.environ.get("SCREENSHOTS")
        if directory:
            Path(directory).mkdir(parents=True, exist_ok=True)
            file = Path(directory) / f"{name}-{self._width}-{self._scheme}.png"
            self.page.screenshot(path=file, full_page=True, animations="disabled")

    @property
    def layout_shift(self) -> float:
        """The sum of what moved without the visitor's doing, as browsers measure it."""
        return float(self.page.evaluate("shifts.reduce((sum, shift) => sum + shift.value, 0)"))

    def violations(self, part: str | None = None) -> list[str]:
        """What axe finds wrong with the page, or with parts of it that a selector names."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page, context=part).response["violations"]
        return [f"{each['id']}: {node['html']} {node['failureSummary']}" for each in found for node in each["nodes"]]
