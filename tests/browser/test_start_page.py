"""The start page: it opens, its links lead somewhere, and it teaches how a notebook is worked with."""

from __future__ import annotations

import re
import urllib.parse

from screen import BROKEN, PANEL, SOON

START = "notebooks/00_start.ipynb"


def test_the_printed_address_leads_to_the_start_page(screen):
    screen.page.goto(f"{screen.server.url}/?token={screen.server.token}")
    screen.wait_for(START)
    title = screen.page.locator(f"{PANEL} h1").first
    assert "Fifty questions, fifty experiments" in title.inner_text()
    screen.shoot("start")


def test_every_link_of_the_map_leads_to_a_file(screen):
    screen.open(START)
    screen.page.locator(f"{PANEL} td a", has_text="01 Self-attention").first.wait_for()
    hrefs = screen.page.locator(f"{PANEL} .jp-MarkdownCell a").evaluate_all(
        "all => all.filter(a => !a.classList.contains('jp-InternalAnchorLink')).map(a => a.href)"
    )
    inside = [urllib.parse.urlsplit(link).path for link in hrefs if link.startswith(screen.server.url)]
    files = [urllib.parse.unquote(re.sub(r"^/(files|lab/tree)/", "", path)) for path in inside]
    home = screen.server.home
    there = [
        path.relative_to(home).as_posix() for part in ("notebooks", "labs") for path in (home / part).glob("[0-9]*")
    ]
    assert set(there) - {START} <= set(files)
    assert [name for name in files if not (home / name).exists()] == []


def test_a_click_on_the_map_opens_the_notebook(screen):
    screen.open(START)
    screen.page.locator(f"{PANEL} td a", has_text="01 Self-attention").first.click()
    screen.wait_for("notebooks/01_self_attention.ipynb")
    assert "Self-attention" in screen.page.locator(f"{PANEL} h1").first.inner_text()


def test_a_check_typed_into_the_page_says_no_then_yes(screen):
    screen.open(START)
    screen.run(screen.cell(START, "predict"))  # the first cell imports what the others use
    cell = screen.cell(START, "check")
    source = next(c.source for c in screen.file(START).cells if c.id == "check")
    said = {}
    for answer in ("1", "0.25"):
        screen.write(cell, source.replace("...", answer), typed=True)
        said[answer] = screen.run(cell)
    assert "✗ 00.equal_scores" in said["1"] and "sum to 1" in said["1"]
    assert "✓ 00.equal_scores: passed" in said["0.25"]


def test_a_saved_page_shows_its_widgets_or_their_static_forms_but_no_error_whenever_it_is_opened_again(screen):
    again = "notebooks/again.ipynb"
    (screen.server.home / again).write_bytes((screen.server.home / START).read_bytes())

    def shown(name: str, what: str) -> None:
        """Opened without the kernel that made it, a cell's output has the given thing in it, and nothing is broken."""
        screen.page.goto("about:blank")
        screen.end_kernels()
        screen.open(again)
        screen.cell(again, name).locator(f".jp-OutputArea {what}").first.wait_for()
        assert not BROKEN.search(screen.outputs())

    screen.open(again)
    screen.run_all()
    screen.save(again)
    shown("explore", "[role=slider]")
    screen.run(screen.cell(again, "predict"))  # JupyterLab now forgets the other widget, which it still shows
    screen.save(again)
    shown("predict", "input[type=radio]")
    shown("explore", "[data-mime-type='text/html'] table")


def test_the_recorder_sees_what_a_page_asks_of_another_machine(screen):
    """The proof that `nothing_leaves` can fail."""
    screen.open(START)
    failed = screen.page.evaluate("fetch('https://example.org/').then(() => false, () => true)")
    screen.page.evaluate("void new WebSocket('wss://example.org/socket')")
    end = screen.page.evaluate("performance.now()") + SOON * 1000
    while len(screen.strangers) < 2 and screen.page.evaluate("performance.now()") < end:
        screen.page.wait_for_timeout(50)
    seen = sorted(screen.strangers)
    screen.strangers.clear()
    assert failed and seen == ["https://example.org/", "wss://example.org/socket"]
