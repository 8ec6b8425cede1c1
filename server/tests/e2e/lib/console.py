"""The console in a real Chromium: a page that notes what it asks for and what goes wrong in it."""

import os
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page

from .http import send
from .tollgate import Tollgate

EXECUTABLE = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]
SCREENSHOTS = os.environ.get("TOLLGATE_SCREENSHOTS")
"""A folder for pictures of what the tests see; without it none are made."""

# Every text that can be seen, with its contrast to the first ground under it that is not transparent: WCAG 2.2, 1.4.3.
CONTRASTS = """
() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const opaque = (colour) => { const alpha = parts(colour)[3]; return alpha === undefined || alpha === 1; };
  const luminance = (colour) => {
    const [red, green, blue] = parts(colour).map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (opaque(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const text = texts.currentNode.textContent.trim();
    if (!text || !element.checkVisibility({ visibilityProperty: true })) continue;
    const style = getComputedStyle(element);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const [light, dark] = [luminance(ink), luminance(ground(element))].sort((one, other) => other - one);
    found.push({ text, ink, ground: ground(element), contrast: (light + 0.05) / (dark + 0.05) });
  }
  return found;
}
"""


class Console:
    """The console of `server`, open in a tab of its own."""

    def __init__(self, browser: Browser, server: Tollgate, *, scheme: str = "light"):
        self.server = server
        self.origin = f"http://127.0.0.1:{server.admin}"
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._context = browser.new_context(color_scheme=scheme, viewport={"width": 1360, "height": 900})
        self.page: Page = self._context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._hear)
        self.page.goto(f"{self.origin}/console")
        self.page.locator("#live").get_by_text("live", exact=True).wait_for(timeout=15_000)

    def _hear(self, message) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.text} ({message.location.get('url')})")

    def find(self, selector: str, **more) -> Locator:
        return self.page.locator(selector, **more)

    def row(self, table: str, text: str, *, exact: bool = False) -> Locator:
        """The rows of a table that have `text` in a cell, or as a whole cell if `exact`."""
        cell = self.page.get_by_text(text, exact=exact)
        return self.page.locator(f"#{table} tbody tr").filter(has=cell)

    def seen(self, table: str, text: str, timeout: float = 15) -> list[str]:
        """The cells of the first row with `text`, once there is one."""
        row = self.row(table, text).first
        row.wait_for(timeout=1000 * timeout)
        return row.locator("th, td").all_inner_texts()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        self.page.keyboard.type(text)

    def focused(self, attribute: str = "id") -> str:
        """An attribute of the element that has the focus."""
        return self.page.evaluate("name => document.activeElement.getAttribute(name) ?? ''", attribute)

    def tab_to(self, wanted: str, attribute: str = "id", most: int = 40) -> None:
        """Presses Tab until an element has the focus; it has to be there within `most` times."""
        for _ in range(most):
            self.press("Tab")
            if self.focused(attribute) == wanted:
                return
        raise AssertionError(f"{attribute}={wanted} is not reached by {most} times Tab; last: {self.focused(attribute)}")

    def picture(self, name: str) -> None:
        """A picture of the whole page, if pictures are wanted."""
        if SCREENSHOTS:
            self.page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)

    def close(self) -> None:
        self._context.close()


def state(server: Tollgate) -> dict:
    """What the console knows."""
    return send(server.admin, "/console/state").json()
