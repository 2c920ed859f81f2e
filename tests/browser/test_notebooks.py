"""Every notebook in the browser: what stands there before it runs, then from top to bottom, then its widgets used."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import TimeoutError
from screen import BROKEN, PANEL, SOON, Screen, opened

from llmlab.course.places import repository

NOTEBOOKS = sorted(path.stem for path in (repository() / "notebooks").glob("[0-9][0-9]_*.ipynb"))


@dataclass(frozen=True)
class Opened:
    """A notebook on the screen: what its outputs said before it ran, and what was saved after it ran."""

    path: str
    screen: Screen
    before: str
    folded: int
    saved: Any


@pytest.fixture(scope="module", params=NOTEBOOKS)
def notebook(request, server, browser) -> Iterator[Opened]:
    """Each notebook is opened and run once; the tests below share its window."""
    path = f"notebooks/{request.param}.ipynb"
    with opened(browser, server) as screen:
        screen.open(path)
        asked = len(_asked(screen.file(path)))
        answers = screen.page.locator(f"{PANEL} .jp-OutputArea details summary", has_text=re.compile("^Answer$"))
        with contextlib.suppress(TimeoutError):  # what is below the screen is drawn a little later
            answers.nth(asked - 1).wait_for(state="attached")
        before, folded = screen.outputs(), answers.count()
        screen.shoot(f"{request.param[:2]}-before")
        screen.run_all()
        yield Opened(path, screen, before, folded, screen.save(path))


@pytest.fixture
def screen(notebook: Opened) -> Screen:
    """The window that `nothing_leaves` watches is the notebook's own."""
    return notebook.screen


def test_before_it_runs_the_static_forms_stand_there(notebook):
    assert not BROKEN.search(notebook.before)
    asked = [
        c.source for c in notebook.saved.cells if c.cell_type == "code" and re.search(r"^predict\(", c.source, re.M)
    ]
    assert notebook.folded == len(asked) > 0


def test_it_runs_from_top_to_bottom(notebook):
    cells = [cell for cell in notebook.saved.cells if cell.cell_type == "code"]
    announced = [cell for cell in cells if "raises-exception" in cell.metadata.get("tags", [])]
    failed = [
        f"{cell.id}: {output.ename}: {output.evalue}"
        for cell in cells
        for output in cell.outputs
        if output.output_type == "error" and cell not in announced
    ]
    assert failed == []
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not BROKEN.search(notebook.screen.outputs())


def test_a_prediction_is_answered_explained_and_remembered(notebook):
    screen, number = notebook.screen, notebook.path.split("/")[1][:2]
    boxes = screen.page.locator(f"{PANEL} [class*=llmlab-predict-{number}-]")
    assert boxes.count() > 0
    for box in boxes.all():
        name = re.search(r"llmlab-predict-\d\d-(\w+)", box.get_attribute("class") or "")
        assert name
        box.scroll_into_view_if_needed()
        radios = box.get_by_role("radio")
        assert [radio.is_checked() for radio in radios.all()] == [False] * radios.count()
        choice = (box.locator(".widget-radio-box label").last.text_content() or "").strip()
        radios.last.click()
        box.locator("text=/✓ Right|✗ Not this/").first.wait_for()
        assert choice in box.locator("strong", has_text=re.compile("✓ Right|✗ Not this")).first.inner_text()
        screen.shoot(f"{number}-predict-{name[1]}")
        assert (choice,) in _answers(screen, f"{number}.{name[1]}")


def test_a_prediction_can_be_answered_with_the_keyboard(notebook):
    screen = notebook.screen
    first = screen.page.locator(f"{PANEL} [class*=llmlab-predict-]").first
    cell = screen.page.locator(f"{PANEL} .jp-CodeCell", has=screen.page.locator("[class*=llmlab-predict-]")).first
    screen.page.evaluate("document.activeElement.blur()")  # the mouse left it on another radio button
    screen.select(cell)
    radio = first.get_by_role("radio").first
    for _ in range(30):
        screen.page.keyboard.press("Tab")
        if radio.evaluate("e => e == document.activeElement"):
            break
    else:
        pytest.fail("no radio button was reached with thirty times Tab from its cell")
    before = first.inner_text()
    screen.page.keyboard.press("Space")
    screen.until("([e, before]) => e.innerText != before", SOON, [first.element_handle(), before])
    assert radio.is_checked()


def test_a_control_used_with_the_keyboard_changes_what_is_shown(notebook):
    """Each slider takes a step; without sliders each text box gets more text, for a moment; without those a menu."""
    screen = notebook.screen
    boxes = screen.page.locator(f"{PANEL} .llmlab-explore")
    assert boxes.count() > 0
    used = 0
    for index, box in enumerate(boxes.all()):
        box.scroll_into_view_if_needed()
        view = box.locator(".widget-html-content").last
        sliders = box.get_by_role("slider")
        texts, menus = box.locator("input[type=text]"), box.locator("select")
        for control in (sliders if sliders.count() else texts if texts.count() else menus).all():
            shown = view.inner_html()
            control.focus()
            if sliders.count():
                now, high = (float(control.get_attribute(f"aria-value{x}") or "nan") for x in ("now", "max"))
                screen.page.keyboard.press("ArrowRight" if now < high else "ArrowLeft")
            elif texts.count():
                written = control.input_value()
                screen.page.keyboard.press("End")
                screen.page.keyboard.type(" 很不好。 Not good.")
                screen.page.keyboard.press("Enter")
            else:
                last = control.locator("option").count() - 1 == control.evaluate("e => e.selectedIndex")
                for key in (
                    "Alt+ArrowDown",
                    "ArrowUp" if last else "ArrowDown",
                    "Enter",
                ):  # bare arrows are JupyterLab's
                    screen.page.keyboard.press(key)
            screen.until("([e, shown]) => e.innerHTML != shown", SOON, [view.element_handle(), shown])
            assert "⚠" not in view.inner_text()
            if (
                not sliders.count() and texts.count()
            ):  # two boxes may have to agree: the next is tried on what was there
                changed = view.inner_html()
                control.fill(written)
                control.press("Enter")
                screen.until("([e, shown]) => e.innerHTML != shown", SOON, [view.element_handle(), changed])
            used += 1
        for picture in view.locator("img").all():
            assert len(picture.get_attribute("alt") or "") >= 20
        screen.shoot(f"{notebook.path.split('/')[1][:2]}-explore-{index}")
    assert used > 0


def _asked(notebook: Any) -> list[str]:
    """The cells that ask for a prediction."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return [source for source in cells if re.search(r"^predict\(", source, re.MULTILINE)]


def _answers(screen: Screen, key: str) -> list[tuple[str]]:
    """What the learner's store holds for a prediction; the kernel writes it a moment after the click."""
    store = screen.server.data / "progress.sqlite"
    for _ in range(SOON * 10):
        if store.exists():
            with sqlite3.connect(store, timeout=10) as db:
                found = db.execute("SELECT choice FROM predictions WHERE key = ?", (key,)).fetchall()
            if found:
                return found
        screen.page.wait_for_timeout(100)
    return []
