"""The question bank: complete, in two languages, and no answer without a claim that runs."""

import copy
import dataclasses
import re
from collections import Counter

import nbformat
import pytest

from llmlab.course import questions as module
from llmlab.course.lessons import TableError, lesson, lessons
from llmlab.course.questions import (
    MINUTE,
    claims_in,
    coverage,
    family,
    fold,
    for_notebook,
    ids_in,
    main,
    parse,
    question,
    questions,
    raw_bank,
    spoken_length,
)

THERE = [entry for entry in lessons() if entry.exists()]


@pytest.fixture(scope="module")
def raw():
    return raw_bank()


def test_a_question_stands_in_the_file_of_its_lesson(raw, tmp_path, monkeypatch):
    assert len(raw["questions"]) == 180
    (tmp_path / "questions").mkdir()
    (tmp_path / "questions" / "02.yaml").write_text('- id: A01\n  notebook: "01"\n')
    monkeypatch.setattr(module, "DATA", tmp_path)
    with pytest.raises(TableError, match="02.yaml holds A01, whose notebook is 01"):
        raw_bank()


def test_an_answer_without_claims_says_that_nothing_runs_behind_it(capsys):
    q = next(q for q in questions() if q.answered)
    bare = dataclasses.replace(q, claims=())
    assert q.backed and not bare.backed
    assert "Not yet backed" in "\n".join(module._shown(bare, answer=True, zh=False))
    assert "Not yet backed" not in "\n".join(module._shown(q, answer=True, zh=False))


def chinese(text):
    return len(re.findall(r"[\u4e00-\u9fff]", text))


def test_the_bank_meets_its_schema_and_rules(raw):
    assert parse(raw) == questions()


def test_a_notebook_that_opens_does_not_wait_for_the_schema(monkeypatch):
    def validate(*arguments):
        raise AssertionError("the schema was checked")

    monkeypatch.setattr(module, "validate", validate)
    assert questions.__wrapped__() == questions()


def test_all_180_are_there():
    assert Counter(q.id[0] for q in questions()) == {"A": 50, "B": 50, "C": 30, "D": 30, "E": 20}
    ids = [f"{letter}{n:02d}" for letter, last in zip("ABCDE", (50, 50, 30, 30, 20)) for n in range(1, last + 1)]
    assert [q.id for q in questions()] == ids


def test_every_question_is_asked_in_both_languages():
    for q in questions():
        assert chinese(q.question_zh) >= 5, q.id
        assert not chinese(q.question_en), q.id
        assert len(q.question_en.split()) >= 3, q.id


def test_no_question_is_asked_twice_in_the_same_words():
    for field in ("question_en", "question_zh"):
        twice = [text for text, n in Counter(getattr(q, field) for q in questions()).items() if n > 1]
        assert not twice


def test_every_lesson_is_asked_about_and_every_question_has_a_lesson():
    assert {q.notebook for q in questions()} == {entry.number for entry in lessons()}
    assert sum(len(for_notebook(entry.number)) for entry in lessons()) == 180


def test_questions_of_a_lesson_are_those_at_home_there():
    assert [q.id for q in for_notebook("12")] == ["A12", "B46", "B49", "C23", "C29", "D28"]
    with_others = for_notebook("12", also=True)
    assert with_others[:6] == for_notebook("12")
    assert {q.id for q in with_others[6:]} == {q.id for q in questions() if "12" in q.also}


def test_a_family_bears_the_id_of_its_first_question():
    assert [q.id for q in family("B39")] == ["B29", "B34", "B39"]
    for q in questions():
        assert question(q.family).family == q.family
        assert min(m.id for m in family(q.id)) == q.family
    assert coverage()["families"] == 97


def test_members_of_a_family_answer_in_their_own_words():
    for q in questions():
        for other in family(q.id):
            if other.id != q.id and q.answered and other.answered:
                assert q.answer_en != other.answer_en
                assert q.answer_zh != other.answer_zh


def test_an_answer_can_be_said_in_a_minute():
    answered = [q for q in questions() if q.answered]
    assert answered
    for q in answered:
        assert 80 <= len(q.answer_en.split()) <= MINUTE["en"], q.id
        assert 120 <= spoken_length(q.answer_zh) <= MINUTE["zh"], q.id
        assert chinese(q.answer_zh) > 100, q.id
        assert len(q.followups) >= 2, q.id
        assert all(len(f.answer.split()) <= 60 for f in q.followups), q.id


def test_spoken_length_counts_both_scripts():
    assert spoken_length("one two, three") == 3
    assert spoken_length("除以 √d，得到 softmax 的权重。") == 7 + 2
    assert spoken_length("") == 0


@pytest.mark.parametrize("entry", THERE, ids=[entry.name for entry in THERE])
def test_every_question_of_a_notebook_is_answered_and_rests_on_its_claims(entry):
    made = claims_in(entry.path())
    for q in for_notebook(entry.number):
        assert q.answered, f"{q.id} has no answer, but {entry.name} exists"
        assert made & set(q.claims), f"{q.id} rests on {q.claims}, none of which {entry.name} makes"


def test_every_claim_that_an_answer_cites_is_made():
    made = {entry.number: claims_in(entry.path()) for entry in THERE}
    for q in questions():
        for claim in q.claims:
            home = question(claim.partition(".")[0]).notebook
            assert home in made, f"{q.id} cites {claim}, but lesson {home} has no notebook"
            assert claim in made[home], f"{q.id} cites {claim}, which {lesson(home).name} does not make"


def test_every_claim_of_a_notebook_belongs_to_a_question_of_it():
    for entry in THERE:
        for claim in claims_in(entry.path()):
            q = question(claim.partition(".")[0])
            assert entry.number in (q.notebook, *q.also), f"{entry.name} claims {claim}, but {q.id} is not asked there"


def test_mistakes_and_sources_are_whole():
    for q in questions():
        if q.answered:
            assert q.popular_mistake is not None, q.id
            assert q.sources, q.id
            assert all(s.cite().startswith(s.authors) for s in q.sources)


def notebook_with(path, *cells):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nb.cells.append(nbformat.v4.new_markdown_cell('claim("A09.text", "prose", True)'))
    nbformat.write(nb, path)
    return path


def test_claims_are_read_from_code_cells_alone(tmp_path):
    path = notebook_with(
        tmp_path / "x.ipynb",
        '%matplotlib inline\nclaim("A01.one", f"found {3}", 1 < 2)\n# claim("A01.comment", "no", True)',
        'for k in range(2):\n    if k:\n        claim("B04.two", "s", k == 1)',
        'text = \'claim("A01.string", "no", True)\'\npredict("01.sink", "q", {}, "a")',
        "  \n",
    )
    assert claims_in(path) == {"A01.one", "B04.two"}
    assert ids_in(path, "predict") == {"01.sink"}


def test_a_claim_without_a_written_id_is_refused(tmp_path):
    path = notebook_with(tmp_path / "x.ipynb", 'name = "A01.one"\nclaim(name, "s", True)')
    with pytest.raises(ValueError, match="no id in quotes"):
        claims_in(path)


def test_coverage_counts(monkeypatch, tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "27_lime.ipynb").write_text("{}")
    monkeypatch.setattr("llmlab.course.lessons.repository", lambda: tmp_path)
    count = coverage()
    assert (count["questions"], count["due"], count["due_answered"]) == (180, 1, 1)
    assert count["answered"] == sum(bool(q.answer_zh) for q in questions())
    assert count["backed"] == sum(bool(q.claims) for q in questions()) <= count["answered"]


def test_the_schema_finds_what_is_malformed(raw):
    a01 = next(i for i, q in enumerate(raw["questions"]) if q["id"] == "A01")
    for change, message in [
        (lambda q: q.pop("question_zh"), "question_zh"),
        (lambda q: q.update(question_zh="only English?"), "question_zh"),
        (lambda q: q.pop("answer_zh"), "answer_zh"),
        (lambda q: q.update(claims=["variance"]), "claims"),
        (lambda q: q.update(followups=q["followups"][:1]), "followups"),
        (lambda q: q.update(kind="trivia"), "kind"),
        (lambda q: q.update(difficulty=4), "difficulty"),
        (lambda q: q.update(note="x"), "note"),
    ]:
        bank = {**raw, "questions": copy.deepcopy(raw["questions"])}
        change(bank["questions"][a01])
        with pytest.raises(TableError, match=message):
            parse(bank)


def test_the_rules_find_what_does_not_fit(raw):
    def first(bank):
        return bank["questions"][0]

    for change, message in [
        (lambda b: b["questions"].insert(0, b["questions"][0]), "unique and in order"),
        (lambda b: first(b).update(notebook="51"), "does not have"),
        (lambda b: first(b).update(also=["01"]), "stands in 'also'"),
        (lambda b: b["questions"][1].update(family="A03"), "should bear the id of its first question"),
        (lambda b: first(b).update(answer_en="word " * 151), "a minute holds 150"),
        (lambda b: first(b).update(answer_zh="字" * 261), "a minute holds 260"),
        (lambda b: first(b).update(sources=["nobody1999"]), "not in the table of sources"),
        (
            lambda b: b["sources"].update(nobody1999={"authors": "No", "year": 1999, "title": "No", "venue": "No"}),
            "no answer cites",
        ),
    ]:
        bank = copy.deepcopy(raw)
        change(bank)
        with pytest.raises(TableError, match=message):
            parse(bank)


def test_an_unknown_id_is_named():
    with pytest.raises(KeyError, match="A01 to E20"):
        question("F01")
    assert question("a01") is question("A01")


def test_the_command_prints_a_lesson(capsys):
    assert main(["27"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("A27  What does explaining") and "LIME" not in out


def test_the_command_prints_an_answer_folded(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    for words in (["A27", "--answer"], ["A27", "-a", "--zh"]):
        assert main(words) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(module.columns(line) for line in lines) <= 62  # a Chinese full stop may hang over the edge
        assert any("A27.units" in line for line in lines)
        assert any("1602.04938" in line for line in lines)


def test_every_question_is_answered_in_both_languages():
    assert coverage()["answered"] == 180
    assert all(q.answer_en and q.answer_zh and q.popular_mistake and len(q.followups) >= 2 for q in questions())


def test_a_question_without_an_answer_names_its_lesson():
    bare = dataclasses.replace(question("A50"), answer_en="", answer_zh="")
    said = "\n".join(module._shown(bare, answer=True, zh=False))
    assert "No answer yet" in said and lesson("50").name in said and "Claims" not in said


def test_the_command_counts_them_all(capsys):
    assert main([]) == 0
    assert "180 questions in 97 families" in capsys.readouterr().out


def test_the_command_refuses_nonsense(capsys):
    assert main(["99"]) == 2
    assert main(["Z99"]) == 2
    assert "neither a lesson" in capsys.readouterr().err


def test_fold_breaks_where_the_terminal_ends():
    assert fold("one two three four", indent="  ", first="", width=10) == ["one two", "  three", "  four"]
    assert fold("one two three", indent="  ", width=13) == ["  one two", "  three"], "the first line is indented too"
    assert fold("well-known well-known", width=12) == ["well-known", "well-known"]
    assert fold("注意力把每个词，和别的词比较。", width=12) == ["注意力把每个", "词，和别的词", "比较。"]
    assert fold("注意力 softmax(x) 是什么，对吗", indent="  ", first="A ", width=14) == [
        "A 注意力", "  softmax(x)", "  是什么，对吗",
    ]  # fmt: skip
    assert fold("注意力", indent="    ", width=6) == ["    注", "    意", "    力"]
    assert fold("每个词。", width=6) == ["每个词。"], "a full stop hangs over the edge"


def test_fold_asks_the_terminal_and_never_goes_beyond_120(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    assert max(map(len, fold("word " * 60))) <= 20
    monkeypatch.setenv("COLUMNS", "300")
    assert max(map(len, fold("word " * 60))) == 119 == max(map(len, fold("word " * 60, width=300)))
    assert max(module.columns(line) for line in fold("词" * 200)) == 120


def test_what_is_printed_of_an_answered_question(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    q = question("A27")
    assert main(["A27"]) == 0 and main(["A27", "--zh"]) == 0
    both = capsys.readouterr().out
    assert both.count("A27  ") == 2 and q.question_zh[:8] in both and q.answer_en[:20] not in both
    for words, answer, other in (
        (["A27", "-a"], q.answer_en, q.answer_zh),
        (["A27", "-a", "--zh"], q.answer_zh, q.answer_en),
    ):
        assert main(words) == 0
        said = re.sub(r"\s", "", capsys.readouterr().out)
        wanted = [
            answer,
            *(t for f in q.followups for t in (f"Then: {f.question}", f.answer)),
            *(f"· {n}" for n in q.numbers),
        ]
        wanted += [f"Often said: {q.popular_mistake.says}", f"Right: {q.popular_mistake.right}"]
        wanted += [f"Claims: {', '.join(q.claims)}", *(s.cite() for s in q.sources)]
        for text in wanted:
            assert re.sub(r"\s", "", text) in said
        assert re.sub(r"\s", "", other) not in said


def test_every_line_but_the_first_of_a_question_is_indented(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    for words in (["A27"], ["A27", "--zh"], ["A27", "-a"], ["A27", "-a", "--zh"]):
        assert main(words) == 0
        first, *rest = capsys.readouterr().out.splitlines()
        assert first.startswith("A27  ") and rest and all(not line or line.startswith("     ") for line in rest)


def test_several_are_printed_in_the_order_asked_and_none_is_counted(capsys):
    assert main(["B34", "a27", "27"]) == 0
    out = capsys.readouterr().out
    asked = ["B34", "A27", *(q.id for q in for_notebook("27"))]
    assert [line[:3] for line in out.splitlines() if re.match(r"[A-E]\d\d  ", line)] == asked
    assert "families" not in out


def test_a_source_is_cited_by_its_number_or_its_venue():
    source = module.Source("k", "A and B", 2017, "On C", arxiv="1706.03762", venue="NeurIPS")
    assert source.cite() == "A and B, 2017, On C, arXiv:1706.03762"
    assert (
        module.Source("k", "A", 1998, "On D", venue="Neural Computation").cite() == "A, 1998, On D, Neural Computation"
    )


def test_fold_keeps_every_character():
    for text in (question("A01").answer_zh, question("A01").answer_en):
        folded = "".join(fold(text, indent="   ", width=40))
        assert re.sub(r"\s", "", folded) == re.sub(r"\s", "", text)
