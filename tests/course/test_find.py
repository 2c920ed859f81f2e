"""Where is it taught: English and Chinese, sections, claims, questions and tasks; and what is said when nothing is."""

import re

import pytest

from llmlab.course.find import _near, find, find_box, main, terms
from llmlab.course.labs import all_tasks
from llmlab.course.lessons import lessons
from llmlab.course.places import repository
from llmlab.course.questions import claims_in, questions


def test_words_are_compared_without_case_and_plural_and_chinese_by_pairs():
    assert terms("KV-caches, heads_2 and Bias") == ["kv", "cache", "head", "2", "and", "bia"]
    assert terms("loss class gas") == ["loss", "class", "gas"]
    assert terms("自注意力 attention 层") == ["自注", "注意", "意力", "attention", "层"]
    assert terms("·→ ½!") == ["½"]


@pytest.mark.parametrize(
    "query, kind, number",
    [
        ("attention sink", None, "01"),
        ("induction heads", None, "03"),
        ("inverted dropout", None, "06"),
        ("logit lens", None, "04"),
        ("自注意力", None, "01"),
        ("位置编码", "section", "02"),
        ("outlier channels", "section", "05"),
    ],
)
def test_the_first_hit_is_where_it_is_taught(query, kind, number):
    hit = find(query, kind=kind)[0]
    assert hit.lesson.number == number
    assert (repository() / hit.file).exists()


def test_every_question_is_found_by_its_id_and_every_kind_can_be_chosen():
    for q in questions():
        assert find(q.id)[0].name.startswith(q.id)
    for kind in ("section", "claim", "question", "task"):
        hits = find("attention heads loss mask", kind=kind)
        assert hits and {hit.kind for hit in hits} == {kind}


def test_every_claim_and_every_task_is_in_the_index():
    for entry in lessons():
        if entry.exists():
            names = {hit.name for hit in find(f"{entry.number} {entry.title} claim", limit=100_000)}
            assert names
            for claim in sorted(claims_in(entry.path()))[:3]:
                assert claim in {
                    hit.name for hit in find(claim.replace(".", " ").replace("_", " "), kind="claim", limit=40)
                }
    for task in (task for task in all_tasks() if not task.id.startswith("00.")):  # those stand on the start page
        assert any(hit.name.startswith(task.id) for hit in find(task.id.replace("_", " "), kind="task", limit=40)), (
            task.id
        )


def test_the_hints_of_a_lab_are_not_shown():
    for task in all_tasks()[:20]:
        for hit in find(task.title, kind="task"):
            assert not any(hint in hit.text for hint in task.hints)


def test_a_planned_lesson_is_found_and_called_planned():
    planned = next((entry for entry in lessons() if not entry.exists()), None)
    if planned is None:
        pytest.skip("every lesson has its notebook")
    hit = next(h for h in find(planned.title, limit=50) if h.lesson == planned)
    assert hit.file is None and hit.where.endswith("planned")


def test_a_heading_leads_to_its_place_in_the_notebook():
    hit = next(h for h in find("what is current", kind="section") if h.lesson.number == "01")
    assert hit.anchor == "What-is-current"


def test_the_text_beside_a_hit_is_near_the_word():
    text = "far away " * 50 + "the needle is here " + "and on " * 50
    assert "needle" in _near(text, "needle", 120) and len(_near(text, "needle", 120)) < 140
    assert _near("short text", "zebra", 120) == "short text"
    assert _near(text, "zebra", 60).endswith(" …") and not _near(text, "zebra", 60).startswith("…")


def test_the_command(capsys):
    assert main(["attention", "sink", "-n", "2"]) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"^(?:section|claim|question|task)  ", out, re.M)) == 2 and "01_self_attention" in out
    assert main(["qqqqzzz"]) == 1 and "Nothing found" in capsys.readouterr().out
    assert main(["!!"]) == 2 and "write a word" in capsys.readouterr().err
    with pytest.raises(ValueError, match="expected one of"):
        find("x", kind="picture")


def test_the_box_searches_and_survives_anything(monkeypatch):
    shown = []
    monkeypatch.setattr("llmlab.course.widgets._display", lambda widget, static: shown.append((widget, static)))
    find_box()
    panel, static = shown[0]
    _, box, out = panel.children
    for typed, said in (
        ("rope", "<a href="),
        ("!!", "write a word"),
        ("qqqqzzz", "Nothing found"),
        ("<b>", "</ol>|found"),
        ("", "^<div[^>]*></div>$"),
    ):
        box.value = typed
        assert re.search(said, out.value), typed
    assert "llmlab find" in static["text/plain"]
