"""JupyterLab as a person works with it: open, run, click, type, read."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

#: Seconds for what takes one second on a quiet machine, and for a whole notebook, whose budget is 60 s of CPU.
SOON, LONG = 120, 900

IDLE = "document.querySelector('#jp-main-statusbar')?.innerText.includes('| Idle')"
#: What JupyterLab and ipywidgets write where a widget cannot be drawn.
BROKEN = re.compile(r"model not found|error (displaying|rendering|creating) widget", re.IGNORECASE)
#: The notebook that is seen; others may be open in tabs behind it.
PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"


class Screen:
    """One browser page on a running JupyterLab. ``strangers`` lists what the page asked of other machines."""

    def __init__(self, page: Any, server: Any) -> None:
        self.page, self.server = page, server
        self.strangers: list[str] = []
        page.set_default_timeout(SOON * 1000)
        page.context.route("**/*", self._route)
        page.on("websocket", lambda socket: self._own(socket.url) or self.strangers.append(socket.url))

    def _own(self, url: str) -> bool:
        host = self.server.url.partition("://")[2]
        return url.startswith(("data:", "blob:", "about:", f"http://{host}/", f"ws://{host}/"))

    def _route(self, route: Any) -> None:
        if self._own(route.request.url):
            route.continue_()
        else:
            self.strangers.append(route.request.url)
            route.abort()

    def address(self, path: str) -> str:
        """Where JupyterLab shows this file, with nothing left of earlier windows."""
        return f"{self.server.url}/lab/tree/{path}?token={self.server.token}&reset"

    def open(self, path: str) -> None:
        """Open a notebook in a fresh window, and wait for its kernel."""
        self.page.goto(self.address(path))
        self.wait_for(path)

    def wait_for(self, path: str) -> None:
        """Wait until this notebook is the one that is seen and its kernel is idle."""
        name = path.rsplit("/", 1)[-1]
        self.page.locator(f"#jp-main-dock-panel .lm-TabBar-tab.jp-mod-current >> text={name}").wait_for()
        self.page.locator(f"{PANEL} .jp-Cell").first.wait_for()
        self.until(IDLE, SOON)

    def until(self, expression: str, seconds: float, argument: Any = None) -> None:
        """Wait until a JavaScript expression holds; a JupyterLab error dialog ends the waiting at once."""
        self.page.wait_for_function(expression, arg=argument, timeout=seconds * 1000)

    def run_all(self, seconds: float = LONG) -> None:
        """Run ▸ Run All Cells, and wait for the last one."""
        self.menu("Run", "Run All Cells")
        prompts = f"[...document.querySelectorAll('{PANEL} .jp-CodeCell .jp-InputPrompt')].map(e => e.textContent)"
        self.until(f"{prompts}.some(text => text.includes('*'))", SOON)
        self.until(f"!{prompts}.some(text => text.includes('*')) && {IDLE}", seconds)

    def menu(self, name: str, entry: str) -> None:
        """Choose an entry of the menu bar."""
        self.page.get_by_role("menuitem", name=name, exact=True).click()
        self.page.get_by_role("menuitem", name=entry, exact=True).click()

    def cell(self, path: str, name: str) -> Any:
        """A cell by its id in the file, which JupyterLab does not show."""
        ids = [cell["id"] for cell in self.file(path).cells]
        return self.page.locator(f"{PANEL} .jp-Cell").nth(ids.index(name))

    def select(self, cell: Any) -> Any:
        """Click a cell's prompt, after unfolding a folded source; returns the prompt."""
        cell.scroll_into_view_if_needed()
        folded = cell.locator(".jp-Cell-inputArea .jp-Placeholder, .jp-Cell-inputWrapper .jp-Placeholder")
        if folded.count():
            folded.first.click()
        prompt = cell.locator(".jp-InputPrompt").first
        prompt.click()
        return prompt

    def run(self, cell: Any) -> str:
        """Run one cell with Shift + Enter; returns the text of its output."""
        prompt = self.select(cell)
        self.page.keyboard.press("Enter")  # into the editor, from which Shift + Enter runs this cell
        handle = prompt.element_handle()
        self.page.evaluate("e => { e.dataset.before = 'unknown' }", handle)
        self.page.evaluate(
            "e => new MutationObserver(() => { e.dataset.before = 'changed' })"
            ".observe(e, {childList: true, characterData: true, subtree: true})",
            handle,
        )
        self.page.keyboard.press("Shift+Enter")
        self.until("e => e.dataset.before == 'changed' && /\\[\\d+\\]/.test(e.textContent)", SOON, handle)
        self.until(IDLE, SOON)
        return cell.locator(".jp-OutputArea").first.inner_text()

    def write(self, cell: Any, source: str, *, typed: bool = False) -> None:
        """Replace what stands in a cell: key by key, or at once as a paste does."""
        cell.scroll_into_view_if_needed()
        cell.locator(".cm-content").click()
        self.page.keyboard.press("ControlOrMeta+a")
        if typed:
            self.page.keyboard.type(source, delay=5)
        else:
            self.page.keyboard.insert_text(source)

    def save(self, path: str) -> Any:
        """Ctrl + S; returns the notebook as it now is on the disk."""
        before = (self.server.home / path).stat().st_mtime_ns
        self.page.keyboard.press("ControlOrMeta+s")
        end = time.monotonic() + SOON
        while time.monotonic() < end:
            if (self.server.home / path).stat().st_mtime_ns != before:
                with contextlib.suppress(nbformat.reader.NotJSONError):  # half written
                    return self.file(path)
            self.page.wait_for_timeout(100)
        raise AssertionError(f"{path} was not saved within {SOON} s")

    def file(self, path: str) -> Any:
        """The learner's copy of a notebook, as it is on the disk."""
        return nbformat.read(self.server.home / path, as_version=4)

    def outputs(self) -> str:
        """The text of all outputs, seen or not, once no widget is loading any more."""
        texts = f"[...document.querySelectorAll('{PANEL} .jp-OutputArea')].map(e => e.textContent)"
        self.until(f"!{texts}.some(text => text.includes('Loading widget'))", SOON)
        return "\n".join(self.page.evaluate(texts))

    def end_kernels(self) -> None:
        """Shut down all kernels; a notebook with a language model in it holds a gigabyte."""
        rights = {"Authorization": f"token {self.server.token}"}
        sessions = self.page.request.get(f"{self.server.url}/api/sessions", headers=rights).json()
        for session in sessions:
            self.page.request.delete(f"{self.server.url}/api/sessions/{session['id']}", headers=rights)

    def shoot(self, name: str) -> None:
        """Keep a picture in the folder that LLMLAB_SCREENSHOTS names, for people to look at."""
        folder = os.environ.get("LLMLAB_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}.png")


@contextlib.contextmanager
def opened(browser: Any, server: Any, *, width: int = 1280, height: int = 1000) -> Iterator[Screen]:
    """A page with nothing remembered; the kernels that it started end with it."""
    context = browser.new_context(viewport={"width": width, "height": height}, service_workers="block")
    screen = Screen(context.new_page(), server)
    try:
        yield screen
    finally:
        screen.end_kernels()
        context.close()
