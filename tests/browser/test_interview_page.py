"""The interview page in the browser: ten cards by keyboard alone, an interview with a stopped clock, a search, a sum."""

from __future__ import annotations

import re
import sqlite3

import nbformat
import pytest
from screen import PANEL

from llmlab.course.cards import cards
from llmlab.course.drills import drill
from llmlab.course.faults import faults
from llmlab.course.mock import draw
from llmlab.course.mock.session import drill_of, rubric
from llmlab.course.questions import question

PAGE, STOPPED = "notebooks/interview.ipynb", "notebooks/interview_stopped.ipynb"


def rows(server, query: str) -> list[tuple]:
    db = sqlite3.connect(server.data / "progress.sqlite")
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


@pytest.fixture(scope="module")
def page(screen):
    """The page with its cells run; the interview's clock is stopped."""
    home = screen.server.home
    book = nbformat.read(home / PAGE, as_version=4)
    cell = next(cell for cell in book.cells if cell.id == "interview")
    cell.source = "interview_panel(minutes=5, seed=7, clock=lambda: 0.0)"
    nbformat.write(book, home / STOPPED)
    screen.open(STOPPED)
    screen.run_all()
    saved = screen.save(STOPPED)
    assert not [o for c in saved.cells if c.cell_type == "code" for o in c.outputs if o.output_type == "error"]
    return screen


def panel(page, name: str):
    box = page.page.locator(f"{PANEL} .llmlab-{name}")
    box.scroll_into_view_if_needed()
    return box


def press(box, name: str) -> None:
    box.get_by_role("button", name=name, exact=True).click()


def test_ten_cards_are_reviewed_by_keyboard_alone(page):
    box = panel(page, "cards")
    deck = [card for card in cards() if card.kind == "question"][:10]
    box.get_by_role("button", name="Show answer").focus()
    for card in deck:
        page.page.wait_for_function(
            "t => document.querySelector('.llmlab-cards').textContent.includes(t)", arg=f"{card.id} ·"
        )
        page.page.wait_for_function("document.activeElement.textContent.includes('Show answer')")
        page.page.keyboard.press("Enter")
        page.page.wait_for_function("document.activeElement.textContent.includes('Good')")
        assert card.back()[:60] in box.inner_text()
        page.page.keyboard.press("Enter")
    page.page.wait_for_function("document.querySelector('.llmlab-cards').textContent.includes('Nothing more is due')")
    page.shoot("cards-done")
    assert rows(page.server, "SELECT card, rating FROM reviews ORDER BY n") == [(card.id, 3) for card in deck]
    press(box, "Undo")
    page.page.wait_for_function("document.querySelector('.llmlab-cards').textContent.includes('taken back')")
    assert len(rows(page.server, "SELECT n FROM reviews")) == 9


def test_a_five_minute_interview_with_a_stopped_clock(page):
    box, plan = panel(page, "interview"), draw(7, minutes=5)
    assert [item.kind for item in plan.items] == ["concept", "calculation"]
    press(box, "Begin")
    q = question(plan.items[0].ref)
    box.get_by_text(q.question_en).wait_for()
    page.page.keyboard.type("softmax of the scaled products")  # the box has the focus
    page.shoot("interview-question")
    press(box, "Submit")
    box.get_by_text("Which of these did you reach?").wait_for()
    assert "softmax of the scaled products" in box.inner_text() and q.answer_en[:60] in box.inner_text()
    ticks = box.get_by_role("checkbox")
    ticks.nth(len(rubric(q)) - 1).wait_for()
    assert ticks.count() == len(rubric(q))
    for tick in ticks.all():
        tick.check()
    press(box, "Mark")
    box.get_by_text("Then: ").wait_for()
    press(box, "Skip")
    one = drill_of(plan.items[1])
    box.get_by_text(one.text[:50]).wait_for()
    box.get_by_role("textbox").fill(repr(one.answer))
    press(box, "Submit")
    box.get_by_text("What to study next").wait_for()
    assert "0:00 used; 2 of 2 items marked; mark 100%" in box.inner_text()
    page.shoot("interview-report")
    with page.page.expect_download() as waiting:
        box.get_by_text("Save the report as a page").click()
    report = waiting.value.path().read_text("utf8")
    assert waiting.value.suggested_filename == "interview-7.html" and q.answer_en[:60] in report
    assert len(rows(page.server, "SELECT n FROM interview_steps")) == 5


def test_the_search_box_finds_and_links(page):
    box = panel(page, "find")
    box.get_by_role("textbox").fill("kv cache")
    page.page.keyboard.press("Enter")
    box.locator("li").first.wait_for()
    links = [a.get_attribute("href") for a in box.locator("a").all()]
    assert links and all(re.match(r"\.\./(notebooks|labs)/\d\d_\w+\.ipynb", link) for link in links)
    assert (page.server.home / links[0].removeprefix("../").split("#")[0]).exists()
    box.get_by_role("textbox").fill("注意力")
    page.page.keyboard.press("Enter")
    box.get_by_text("自注意力").first.wait_for()


def test_a_sum_is_judged(page):
    box, one = panel(page, "drills"), drill(1)
    slip, value = next(iter(one.slips.items()))
    box.get_by_role("textbox").fill(repr(value))
    page.page.keyboard.press("Enter")
    box.get_by_text(slip).wait_for()
    box.get_by_role("textbox").fill(repr(one.answer))
    page.page.keyboard.press("Enter")
    box.get_by_text("✓ Right").wait_for()


def test_a_fault_is_found_and_mended(page):
    box, fault = panel(page, "faults"), faults()[0]
    box.get_by_text(fault.diagnosis).click()
    box.get_by_text("That is it.").wait_for()
    press(box, "Check")
    box.get_by_text(f"✗ {fault.id}").wait_for()
    box.get_by_role("textbox").fill(fault.mended)
    press(box, "Check")
    box.get_by_text(f"✓ {fault.id}").wait_for()
    page.shoot("fault-mended")


def test_it_can_be_read_at_twice_the_size(page):
    """Twice the size is half the width: nothing may stand beside the screen."""
    size = page.page.viewport_size
    page.page.set_viewport_size({"width": size["width"] // 2, "height": size["height"]})
    try:
        for name in ("cards", "interview", "drills", "faults", "find"):
            box = panel(page, name)
            wide = box.evaluate("e => [e.scrollWidth, e.clientWidth]")
            assert wide[0] <= wide[1] + 2, f"{name} is {wide[0]} wide in {wide[1]}"
        page.shoot("interview-narrow")
    finally:
        page.page.set_viewport_size(size)
