"""Drills: the working leads to llmlab's own answer, slips are told apart, and any way of writing a number is read."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.course.drills import KINDS, Drill, Step, drill, drill_box, main, number
from llmlab.course.drills.ask import Box
from llmlab.course.drills.model import said
from llmlab.course.lessons import lesson

SEEDS = range(40)


@pytest.mark.parametrize("kind", KINDS)
def test_the_working_by_hand_leads_to_the_answer_of_the_library(kind):
    for seed in SEEDS:
        one = drill(seed, kind)
        assert one.working[-1].value == pytest.approx(one.answer, rel=1e-9), one
        assert one.judge(repr(one.answer)).right
        assert one.text.endswith("?") and lesson(one.notebook)


@pytest.mark.parametrize("kind", KINDS)
def test_each_sum_of_the_working_gives_its_value(kind):
    for seed in SEEDS:
        for step in drill(seed, kind).working:
            shown = step.sum.replace("·", "*").replace("^", "**").replace(",", "").replace("²", "**2")
            shown = shown.replace("√", "math.sqrt(") + ")" * step.sum.count("√")
            shown = shown.replace("ln ", "math.log(") + ")" * step.sum.count("ln ")
            shown = re.sub(r"\be\*\*\(?([-\d.]+)\)?", r"math.exp(\1)", shown)
            try:
                value = eval(shown, {"math": math})
            except (SyntaxError, NameError):
                continue  # a step in words, such as "2 + 2 bytes a parameter"
            assert value == pytest.approx(step.value, rel=0.02), step


@pytest.mark.parametrize("kind", KINDS)
def test_a_slip_is_named_and_is_never_right(kind):
    named = 0
    for seed in SEEDS:
        one = drill(seed, kind)
        for slip, value in one.slips.items():
            verdict = one.judge(repr(value))
            assert not verdict.right and verdict.sentence == f"Not quite: {slip}.", one
            named += 1
    assert named >= len(SEEDS) / 2


def test_the_same_seed_gives_the_same_drill_and_others_differ():
    assert drill(5) == drill(5)
    assert len({drill(seed).text for seed in range(60)}) > 50
    assert len({drill(seed).kind for seed in range(60)}) > 10
    assert {drill(seed, "f1").kind for seed in range(5)} == {"f1"}
    with pytest.raises(KeyError, match="there are"):
        drill(0, "magic")


@pytest.mark.parametrize(
    "typed, value",
    [
        ("3.15e23", 3.15e23), ("3.15 x 10^23", 3.15e23), ("3.15 × 10**23", 3.15e23), ("3.15*10^23 FLOPs", 3.15e23),
        ("1,200", 1200), ("1_200 steps", 1200), ("1 200", 1200), ("2.8 TB", 2.8e12), ("350GB", 3.5e11),
        ("40 GiB", 40 * 2**30), ("7B parameters", 7e9), ("7 billion", 7e9), ("12 %", 0.12), (".5", 0.5), ("34 days", 34),
        ("$3,000", 3000), ("-1", -1), ("2,5e3", 25_000), ("12 tokens/s", 12), ("3 PFLOPs", 3e15), ("50k", 50_000),
    ],
)  # fmt: skip
def test_numbers_are_read_as_they_are_written(typed, value):
    assert number(typed) == pytest.approx(value)


@pytest.mark.parametrize(
    "typed", ["", "many", "3 apples", "1e9999999999", "1 2 x", "--3", "nan", "inf", "3..4", "10^5", "🙂"]
)
def test_what_is_no_number_gets_a_sentence(typed):
    verdict = drill(1).judge(typed)
    assert not verdict.right and len(verdict.sentence) > 15


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_nothing_that_can_be_typed_breaks_the_judge(typed):
    assert isinstance(drill(3).judge(typed).right, bool)


@given(st.floats(1e-6, 1e24), st.sampled_from(["", "bytes", "tokens", "days"]))
@settings(max_examples=200, deadline=None)
def test_what_is_said_can_be_typed(value, unit):
    assert number(said(value, unit)) == pytest.approx(value, rel=6e-3)


ONE = Drill("x", 0, "01", "How many?", "bytes", 1e9, (Step("a", "1", 1e9),), {"that is half": 5e8}, 0.05)


@pytest.mark.parametrize(
    "typed, right, sentence",
    [
        ("1.04 GB", True, "Right: 1 GB"), ("1.06 GB", False, "1.1 times the answer"), ("1 MB", False, "a thousand"),
        ("1 TB", False, "a thousand"), ("1", False, "a billion"), ("0", False, "positive"), ("-1 GB", False, "positive"),
        ("500 MB", False, "that is half"), ("20 MB", False, "the answer is 50 times 20 MB"),
    ],
)  # fmt: skip
def test_what_the_judge_says(typed, right, sentence):
    verdict = ONE.judge(typed)
    assert verdict.right is right and sentence in verdict.sentence


def typed(monkeypatch, *words):
    left = iter(words)

    def answer(prompt):
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", answer)


def test_the_command_gives_two_tries_and_then_the_working(monkeypatch, capsys):
    typed(monkeypatch, repr(drill(7, "lora").answer), "1", "2")
    assert main(["lora", "--seed", "7", "-n", "3"]) == 0
    out = capsys.readouterr().out
    assert "Right:" in out and "1 of 2 right" in out and "llmlab drills --seed 7" in out
    assert drill(8, "lora").shown()[-1] in out and "Notebook 19" in out
    assert drill(9, "lora").text[:30] in " ".join(out.split())


def test_the_command_prints_worked_drills_and_refuses_nonsense(monkeypatch, capsys):
    assert main(["--worked", "--seed", "1", "-n", "2"]) == 0
    out = capsys.readouterr().out
    assert drill(1).shown()[0] in out and drill(2).shown()[-1] in out
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(kind in listed for kind in KINDS)
    assert main(["magic"]) == 2 and main(["-n", "0"]) == 2
    assert "there are" in capsys.readouterr().err


def test_the_box_judges_counts_and_goes_on(monkeypatch):
    box = Box(11, "perplexity")
    box.typed.value = "lots"
    assert "no number" in box.said.value and "0 of 1 right at once" in box.said.value
    box.typed.value = repr(box.one.answer)
    assert "✓" in box.said.value and "0 of 1 right at once" in box.said.value
    box.show.click()
    assert box.one.shown()[-1].split()[-1] in box.said.value
    before = box.one
    box.next.click()
    assert box.one == drill(12, "perplexity") != before and box.typed.value == box.said.value == ""
    box.typed.value = repr(box.one.answer)
    assert "1 of 2 right at once" in box.said.value
    box.kind.value = "f1"
    assert box.one.kind == "f1"
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    drill_box(seed=3)
    assert shown[0]["text/plain"] == f"Drill ({drill(3).kind}): {drill(3).text}"
