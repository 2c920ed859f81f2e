"""Find the fault: every program against its bank, the command, the box, and what a learner may do to a program."""

import ast
import re
from collections import Counter

import pytest

from llmlab.course import progress
from llmlab.course.checking import run_check
from llmlab.course.faults import faults, find_fault, main, run_fault_bank, try_mending
from llmlab.course.faults.ask import Box
from llmlab.course.faults.model import Fault, Mending
from llmlab.course.lessons import lessons

EVERY = faults()


@pytest.fixture
def store(monkeypatch, tmp_path):
    monkeypatch.setenv("LLMLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(progress, "_said", set())


@pytest.mark.parametrize("fault", EVERY, ids=[fault.id for fault in EVERY])
def test_the_check_rejects_and_accepts_what_the_bank_says(fault):
    assert run_fault_bank(fault) == []


def test_programs_are_short_and_can_be_read():
    numbers = {entry.number for entry in lessons()}
    for fault in EVERY:
        tree = ast.parse(fault.program)
        assert len(fault.program.splitlines()) <= 30, fault.id
        assert max(map(len, fault.program.splitlines())) <= 100, fault.id
        assert any(getattr(node, "name", None) == fault.name for node in tree.body), (
            f"{fault.id}: {fault.name} is not in it"
        )
        assert fault.notebook in numbers and fault.difficulty in (1, 2, 3)
        assert all(re.fullmatch(r"[A-E]\d\d-\d+", number) for number in fault.errata), fault.id
        texts = [fault.title, fault.story, fault.diagnosis, *fault.lures, *fault.lures.values()]
        assert all(10 <= len(text) <= 300 for text in texts if text != fault.title), fault.id
        assert fault.diagnosis not in fault.story, fault.id
        programs = [fault.program, fault.mended, fault.also_right, *(m.program for m in fault.wrong)]
        assert max(Counter(p.strip() for p in programs).values()) == 1, f"{fault.id}: two programs are the same"


def test_the_diagnosis_is_one_of_the_choices_and_not_always_in_the_same_place():
    places = {list(fault.choices()).index(fault.diagnosis) for fault in EVERY}
    assert all(set(fault.choices()) == {fault.diagnosis, *fault.lures} for fault in EVERY)
    assert len(EVERY) < 5 or len(places) >= 3


FAULT = find_fault("01.mask_after_softmax")


@pytest.mark.parametrize(
    "program, said",
    [
        ("def causal_attention(q, k, v):\n    while True:\n        pass\n", "still running"),
        ("while True:\n    pass\n", "still running"),
        ("def causal_attention(q, k, v)\n    return q\n", "no Python, at line 1"),
        ("x = 1\n", "no longer defines `causal_attention`"),
        ("import nothing_like_it\n", "ModuleNotFoundError"),
        ("def causal_attention(q, k, v):\n    raise KeyError('x')\n", "line 2"),
        ("def causal_attention(q, k):\n    return q\n", "argument"),
        ("def causal_attention(q, k, v):\n    return q[0]\n", "shape"),
        ("def causal_attention(q, k, v):\n    return v * float('nan')\n", "is NaN"),
        ("def causal_attention(q, k, v):\n    v.zero_()\n    return v\n", "input"),
        ("import os\nos._exit(3)\n", "exit"),
        ("causal_attention = 5\n", "the int 5"),
        ("\x00", "no Python"),
    ],
)  # fmt: skip
def test_whatever_a_learner_writes_gets_a_sentence(store, program, said):
    task = FAULT.task()
    result = run_check(type(task)(**{**vars(task), "limit": 1.0}), program)
    assert not result and said in result.message, result.message
    assert "Traceback" not in result.message


def test_a_mended_program_is_remembered(store):
    assert not try_mending(FAULT, FAULT.program)
    assert progress.passed() == {}
    assert try_mending(FAULT, FAULT.mended)
    assert list(progress.passed()) == [f"fault:{FAULT.id}"]
    assert progress.summary().passed == 1


def test_a_fault_without_lures_or_bank_is_refused():
    fields = {name: getattr(FAULT, name) for name in FAULT.__dataclass_fields__}
    for wrong in ({"lures": {"a": "b"}}, {"wrong": (Mending("a", "x", "y"),)}, {"id": "mask"}, {"id": "01.Mask"}):
        with pytest.raises(ValueError, match="expected two"):
            Fault(**{**fields, **wrong})


def test_the_command(store, monkeypatch, capsys, tmp_path):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(fault.id in out for fault in EVERY) and f"{len(EVERY)} faults" in out
    right = list(FAULT.choices()).index(FAULT.diagnosis) + 1
    for typed, said in (
        (str(right), "✓ That is it."),
        (str(right % 3 + 1), "It is: "),
        ("x", "Mend it"),
        ("9", "Mend it"),
    ):
        monkeypatch.setattr("builtins.input", lambda prompt, typed=typed: typed)
        assert main([FAULT.id]) == 0
        assert said in capsys.readouterr().out
    file = tmp_path / "mine.py"
    assert main([FAULT.id, "--save", str(file)]) == 0 and file.read_text() == FAULT.program
    assert main([FAULT.id, "--save", str(file)]) == 2 and "there already" in capsys.readouterr().err
    assert main([FAULT.id, "--check", str(file)]) == 1
    file.write_text(FAULT.mended)
    assert main([FAULT.id, "--check", str(file)]) == 0
    assert f"✓ {FAULT.id}: passed" in capsys.readouterr().out
    assert main(["1"]) == 0 and f"✓ {FAULT.id}" in capsys.readouterr().out
    assert main(["99"]) == 2 and main(["01.nothing"]) == 2 and main(["77.x"]) == 2
    said = capsys.readouterr().err
    assert "notebook 01 has" in said and "there are some for" in said
    assert main([FAULT.id, "--check", str(tmp_path / "none")]) == 2


def test_the_box(store, monkeypatch):
    box = Box(FAULT)
    assert box.code.value == FAULT.program and FAULT.diagnosis in box.choice.options and not box.why.value
    box.choice.value = next(iter(FAULT.lures))
    assert "✗" in box.why.value
    box.choice.value = FAULT.diagnosis
    assert "✓ That is it." in box.why.value
    box.check.click()
    assert "✗" in box.verdict.value
    box.code.value = FAULT.mended
    box.check.click()
    assert "✓" in box.verdict.value
    box.again.click()
    assert box.code.value == FAULT.program and not box.verdict.value
    other = EVERY[-1]
    box.take(other)
    assert box.fault is other and box.code.value == other.program and not box.why.value
