"""A lab in the browser: the check says no and why, then yes, and the start page knows it."""

from __future__ import annotations

from screen import PANEL

LAB, SOLUTION, START = "labs/01_self_attention.ipynb", "solutions/01_self_attention.ipynb", "notebooks/00_start.ipynb"


def source(screen, path: str, name: str) -> str:
    return next(cell.source for cell in screen.file(path).cells if cell.id == name)


def test_a_check_says_no_then_yes_and_the_start_page_remembers(screen):
    screen.open(LAB)
    screen.run(screen.cell(LAB, "begin"))
    answer, check = screen.cell(LAB, "answer-attention"), screen.cell(LAB, "check-attention")

    screen.run(answer)
    assert "○ 01.attention: still to do" in screen.run(check)

    right = source(screen, SOLUTION, "answer-attention")
    wrong = right.replace("q @ k.mT / d**0.5", "q @ k.mT")
    assert wrong != right
    screen.write(answer, wrong)
    screen.run(answer)
    said = screen.run(check)
    assert "✗ 01.attention" in said and "not divided by the root of d" in said
    screen.shoot("lab-says-no")

    screen.write(answer, right)
    screen.run(answer)
    assert "✓ 01.attention: passed" in screen.run(check)

    number, check = screen.cell(LAB, "answer-score-bytes"), screen.cell(LAB, "check-score-bytes")
    screen.write(number, "score_gib = 131_072**2 * 2 / 2**30", typed=True)  # one head only
    screen.run(number)
    assert "✗ 01.score_bytes" in screen.run(check)
    screen.write(number, "score_gib = 32 * 131_072**2 * 2 / 2**30", typed=True)
    screen.run(number)
    assert "✓ 01.score_bytes: passed" in screen.run(check)

    screen.open(START)
    screen.run(screen.cell(START, "predict"))  # the first cell imports what the others use
    shown = screen.cell(START, "progress")
    screen.run(shown)
    row = shown.locator("tr", has_text="01 Self-attention")
    assert row.locator("td").nth(2).inner_text() == "2 of 5"
    assert row.locator("td").nth(3).inner_text() == "begun"
    assert screen.page.locator(f"{PANEL} .jp-OutputArea a", has_text="01 Self-attention").count() > 0
    screen.shoot("start-with-progress")


def test_an_unsolved_lab_runs_from_top_to_bottom(screen):
    lab = "labs/untouched.ipynb"
    (screen.server.home / lab).write_bytes((screen.server.home / LAB).read_bytes())
    screen.open(lab)
    screen.run_all()
    cells = [cell for cell in screen.save(lab).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert [o.evalue for cell in cells for o in cell.outputs if o.output_type == "error"] == []
    assert "○ 01.share: still to do" in screen.outputs()
