"""The course table: fifty lessons that can be learned in the order in which they stand."""

import copy
import re

import pytest

from llmlab.course import lessons as module
from llmlab.course.lessons import DATA, TableError, lesson, lessons, load_yaml, parse, part, parts


@pytest.fixture(scope="module")
def raw():
    return load_yaml(DATA / "course.yaml")


def broken(raw, change):
    """The raw table after a change to a copy of it."""
    table = copy.deepcopy(raw)
    change(table)
    return table


def test_the_table_meets_its_schema_and_rules(raw):
    assert parse(raw) == (parts(), lessons())


def test_a_notebook_that_opens_does_not_wait_for_the_schema(monkeypatch):
    """jsonschema takes a second to import; the tests check the schema."""

    def validate(*arguments):
        raise AssertionError("the schema was checked")

    monkeypatch.setattr(module, "validate", validate)
    assert module._read() == (parts(), lessons())


def test_fifty_lessons_in_eight_parts():
    assert sorted(entry.number for entry in lessons()) == [f"{n:02d}" for n in range(1, 51)]
    assert [p.number for p in parts()] == ["I", "II", "III", "IV", "V", "VI", "VII", "VIII"]
    assert [entry.order for entry in lessons()] == list(range(1, 51))
    assert {entry.part for entry in lessons()} == {p.number for p in parts()}


def test_every_prerequisite_comes_first():
    order = {entry.number: entry.order for entry in lessons()}
    assert any(entry.prerequisites for entry in lessons())
    for entry in lessons():
        for needed in entry.prerequisites:
            assert order[needed] < entry.order, f"{entry.number} needs {needed}, which comes later"


def test_no_prerequisite_follows_from_another():
    """A prerequisite that another one needs already says nothing new."""
    needs = {}
    for entry in lessons():
        needs[entry.number] = set(entry.prerequisites).union(*(needs[n] for n in entry.prerequisites))
    for entry in lessons():
        for needed in entry.prerequisites:
            others = set(entry.prerequisites) - {needed}
            through = [other for other in others if needed in needs[other]]
            assert not through, f"{entry.number} names {needed}, which it needs through {through} already"


def test_both_titles_differ_between_lessons():
    assert len({entry.title for entry in lessons()}) == 50
    assert len({entry.title_zh for entry in lessons()}) == 50


@pytest.mark.parametrize("word", ["01", "1", 1, "01_self_attention"])
def test_a_lesson_is_found_by_number_or_name(word):
    assert lesson(word).name == "01_self_attention"


@pytest.mark.parametrize("word", ["51", "00", "x", "", "01/../02", 101])
def test_what_is_no_lesson_is_named(word):
    with pytest.raises(KeyError, match="no lesson"):
        lesson(word)


def test_parts_are_found_by_number():
    assert part("VII").title == "Trust"
    with pytest.raises(KeyError, match="the parts are I, II"):
        part("IX")


def test_existence_is_read_from_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "repository", lambda: tmp_path)
    assert not lesson("01").exists()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_self_attention.ipynb").write_text("{}")
    assert lesson("01").exists()
    assert not lesson("01").exists("labs")
    with pytest.raises(ValueError, match="notebooks, labs, solutions"):
        lesson("01").path("src")


def test_every_numbered_notebook_is_in_the_table():
    stems = {entry.name for entry in lessons()}
    for folder in module.FOLDERS:
        for file in (module.repository() / folder).glob("[0-9][0-9]_*.ipynb"):
            if re.fullmatch(r"\d\d_[a-z0-9_]+", file.stem) and file.stem != "00_start":
                assert file.stem in stems, f"{folder}/{file.name} has no entry in the course table"


def test_the_schema_finds_what_is_malformed(raw):
    for change, message in [
        (lambda t: t["lessons"][0].pop("able"), "'able' is a required"),
        (lambda t: t["lessons"][0].update(minutes=5), "minutes"),
        (lambda t: t["lessons"][0].update(number="1"), "number"),
        (lambda t: t["lessons"][0].update(exists=True), "exists"),
        (lambda t: t["lessons"][0].update(experiment="No full stop here but long enough"), "experiment"),
        (lambda t: t.pop("parts"), "parts"),
    ]:
        with pytest.raises(TableError, match=message):
            parse(broken(raw, change))


def test_the_rules_find_what_does_not_fit(raw):
    first, second = raw["lessons"][0], raw["lessons"][1]
    for change, message in [
        (lambda t: t["lessons"][1].update(number=first["number"]), "stands twice"),
        (lambda t: t["lessons"][1].update(slug=first["slug"]), "stands twice"),
        (lambda t: t["lessons"][0].update(prerequisites=[second["number"]]), "no lesson that stands before"),
        (lambda t: t["lessons"][0].update(prerequisites=[first["number"]]), "no lesson that stands before"),
        (lambda t: t["lessons"][0].update(prerequisites=["77"]), "no lesson that stands before"),
        (lambda t: t["lessons"][0].update(part="X"), "not among the parts"),
        (lambda t: t["lessons"][0].update(part="II"), "stands after part II"),
        (lambda t: t["parts"].append(dict(t["parts"][0])), "stands twice"),
    ]:
        with pytest.raises(TableError, match=message):
            parse(broken(raw, change))
