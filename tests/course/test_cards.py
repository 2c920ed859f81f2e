"""Cards: what is due and when, under two kernels, kills, damage and wrong clocks; the terminal, the panel, the exports."""

import csv
import dataclasses
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta

import pytest
from fsrs import Card as Fsrs
from fsrs import Rating, Scheduler
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from llmlab.course import progress
from llmlab.course.cards import (
    Review,
    cards,
    choose,
    due,
    main,
    memories,
    memory_chart,
    record,
    review_cards,
    reviews,
    undo,
)
from llmlab.course.cards import terminal as terminal_module
from llmlab.course.cards.anki import figure_for, write_apkg
from llmlab.course.cards.deck import KINDS
from llmlab.course.cards.panel import Panel
from llmlab.course.cards.schedule import settled
from llmlab.course.cards.sheet import COLUMNS
from llmlab.course.lessons import lessons
from llmlab.course.questions import question, questions

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(monkeypatch, tmp_path):
    monkeypatch.setenv("LLMLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(progress, "_said", set())
    return tmp_path / "data" / "progress.sqlite"


# --- the deck


def test_every_answer_gives_its_cards():
    by_id = {card.id: card for card in cards()}
    assert len(by_id) == len(cards())
    for q in questions():
        wanted = [q.id, *(f"{q.id}.f{i}" for i in range(1, len(q.followups) + 1)), f"{q.id}.m"] if q.answered else []
        assert [id for id in by_id if id.partition(".")[0] == q.id] == wanted
    a01, first, mistake = by_id["A01"], by_id["A01.f1"], by_id["A01.m"]
    q = question("A01")
    assert (a01.front(), a01.back(), a01.front(zh=True), a01.back(zh=True)) == (
        q.question_en, q.answer_en, q.question_zh, q.answer_zh,
    )  # fmt: skip
    assert (first.front(), first.back()) == (q.followups[0].question, q.followups[0].answer)
    assert q.popular_mistake.says in mistake.front() and mistake.back() == q.popular_mistake.right


def test_cards_stand_in_the_order_in_which_the_course_teaches():
    order = [entry.number for entry in lessons()]
    places = [order.index(card.notebook) for card in cards()]
    assert places == sorted(places)


def test_a_session_is_what_is_due_and_then_something_new(store):
    first, second, third = [card.id for card in cards() if card.kind == "question"][:3]
    record(second, 3, now=NOON)
    record(first, 1, now=NOON)
    later = NOON + timedelta(minutes=30)
    chosen = choose(memories(now=later), now=later, new=1)
    assert [card.id for card in chosen] == [first, second, third], "the one more likely forgotten comes first"
    assert [card.id for card in choose(memories(now=NOON), now=NOON, new=1)] == [third], "nothing is due at once"
    assert choose(memories(now=NOON), now=NOON, new=0) == []


def test_filters(store):
    for card in choose({}, new=999, part="I", difficulty=2):
        assert card.part == "I" and card.question.difficulty == 2 and card.kind == "question"
    assert {card.notebook for card in choose({}, new=999, notebook="3")} == {"03"}
    assert {card.kind for card in choose({}, new=999, kinds=tuple(KINDS))} == set(KINDS)
    for rating in (3, 1, 1):
        record("A02", rating, now=NOON)
    for rating in (3, 1):
        record("A01", rating, now=NOON)
    record("A03", 1, now=NOON)
    weak = choose(memories(now=NOON), now=NOON, weak=True)
    assert [card.id for card in weak] == ["A02", "A01"], "a first look that failed is no forgetting"


@pytest.mark.parametrize(
    "wrong", [{"kinds": ("quiz",)}, {"kinds": ()}, {"part": "IX"}, {"difficulty": 4}, {"new": -1}], ids=str
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match="expected|has the parts"):
        choose({}, **wrong)
    with pytest.raises(KeyError):
        choose({}, notebook="77")


# --- the schedule


def test_the_schedule_is_the_one_of_fsrs(store):
    times = [NOON, NOON + timedelta(minutes=12), NOON + timedelta(days=3), NOON + timedelta(days=20)]
    theirs, scheduler = Fsrs(card_id=7, due=NOON), Scheduler(enable_fuzzing=False)
    for at, rating in zip(times, (3, 4, 1, 3)):
        record("A01", rating, now=at)
        theirs, _ = scheduler.review_card(theirs, Rating(rating), at)
    now = times[-1] + timedelta(days=2)
    mine = memories(now=now)["A01"]
    assert (mine.due, mine.stability) == (theirs.due, theirs.stability)
    assert mine.recall == pytest.approx(scheduler.get_card_retrievability(theirs, now))
    assert (mine.reviews, mine.forgotten) == (4, 1)


def test_undo_takes_one_review_back_and_only_once(store):
    record("A01", 3, now=NOON)
    before = memories(now=NOON)
    n = record("A01", 1, now=NOON)
    assert memories(now=NOON) != before
    assert undo(n) and memories(now=NOON) == before
    assert not undo(n)
    assert record("A02", 3, now=NOON) > n, "a row's number is never given twice"


@pytest.mark.parametrize("rating", [0, 5, "3", None])
def test_a_rating_is_one_to_four(store, rating):
    with pytest.raises(ValueError, match="expected 1"):
        record("A01", rating)


def test_without_a_store_nothing_breaks(monkeypatch):
    monkeypatch.delenv("LLMLAB_DATA", raising=False)
    monkeypatch.setenv("LLMLAB_REFERENCE", "1")
    assert record("A01", 3) is None and reviews() == [] and memories() == {} and not undo(1)


moments = st.integers(-2000, 2000).map(lambda hours: NOON + timedelta(hours=hours))


@given(st.lists(moments, max_size=40), moments)
@hypothesis_settings(max_examples=150, deadline=None)
def test_settled_times_never_run_backwards(times, now):
    out = settled(times, now)
    assert len(out) == len(times)
    assert all(a <= b for a, b in zip(out, out[1:]))
    assert all(t <= now for t in out)
    assert set(out) <= {*times, now}, "no time is invented"
    if times == sorted(times) and all(t <= now for t in times):
        assert out == times, "right clocks are believed"


@given(st.lists(moments, min_size=3, max_size=20), st.data())
@hypothesis_settings(max_examples=100, deadline=None)
def test_one_wrong_clock_costs_one_time(times, data):
    times = sorted(times)
    now = times[-1] + timedelta(days=1)
    wrong = data.draw(st.integers(0, len(times) - 1))
    broken = [*times]
    broken[wrong] = data.draw(moments)
    out = settled(broken, now)
    assert sum(a != b for a, b in zip(out, broken)) <= 1


@given(st.lists(st.tuples(st.sampled_from(["A01", "A02"]), st.integers(1, 4), moments), max_size=30), moments)
@hypothesis_settings(max_examples=100, deadline=None)
def test_any_history_gives_a_schedule(rows, now):
    known = memories([Review(i, *row) for i, row in enumerate(rows)], now=now)
    assert set(known) == {card for card, _, _ in rows}
    for m in known.values():
        assert m.due.tzinfo and 0 <= m.recall <= 1 and m.stability >= 0 and 0 <= m.forgotten < m.reviews


def test_a_clock_set_back_and_mended_leaves_the_schedule_whole(store):
    for day, rating in ((0, 3), (3, 3)):
        record("A01", rating, now=NOON + timedelta(days=day))
    record("A02", 3, now=datetime(2000, 1, 1, tzinfo=UTC))  # a flat battery
    record("A02", 3, now=datetime(2000, 1, 1, 1, tzinfo=UTC))
    record("A01", 3, now=NOON + timedelta(days=14))
    now = NOON + timedelta(days=15)
    straight = memories([r for r in reviews() if r.card == "A01"], now=now)
    assert memories(now=now)["A01"] == straight["A01"]


def test_a_clock_that_was_ahead_does_not_freeze_the_cards(store):
    record("A01", 3, now=NOON + timedelta(days=4000))
    record("A02", 3, now=NOON)
    now = NOON + timedelta(days=2)
    assert memories(now=now)["A01"].due <= now + timedelta(minutes=10)
    assert [m.card for m in due(memories(now=now).values(), now=now)] == ["A01", "A02"]


# --- the store under two kernels, kills and damage

WRITER = """
import sys
from llmlab.course.cards.schedule import record
sys.stdin.readline()
for i in range(int(sys.argv[2])):
    print(record(sys.argv[1], 3), flush=True)
"""


def writer(name, count):
    command = [sys.executable, "-c", WRITER, name, str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_kernels_review_at_once_and_lose_nothing(store):
    pair = [writer(name, 25) for name in ("A01", "A02")]
    for process in pair:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [int(line) for process in pair for line in process.communicate(timeout=120)[0].split()]
    assert sorted(said) == [r.n for r in reviews()]
    assert {m.reviews for m in memories().values()} == {25}


def test_a_kill_in_the_middle_loses_no_review_that_was_acknowledged(store):
    process = writer("A01", 100_000)
    process.stdin.write("go\n")
    process.stdin.flush()
    said = [int(process.stdout.readline()) for _ in range(20)]
    os.kill(process.pid, signal.SIGKILL)
    said += [int(line) for line in process.stdout.read().split("\n")[:-1] if line]
    process.wait()
    kept = [r.n for r in reviews()]
    assert set(said) <= set(kept) and len(kept) <= len(said) + 1
    assert memories()["A01"].reviews == len(kept)
    assert record("A02", 4) == kept[-1] + 1


def damage(store):
    """4,000 reviews, and a page of rubbish in the middle of the file: its head can be read, some rows cannot."""
    record("B00", 3, now=NOON)
    db = sqlite3.connect(store)
    rows = [(f"B{i % 50:02d}", 3, (NOON + timedelta(minutes=i)).isoformat()) for i in range(1, 4000)]
    db.executemany("INSERT INTO reviews (card, rating, at) VALUES (?, ?, ?)", rows)
    db.commit()
    db.close()
    with store.open("r+b") as file:
        file.seek(store.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096)


def test_a_damaged_file_is_set_aside_and_what_can_be_read_comes_back(store, capsys):
    progress.record_pass("01.attention")
    damage(store)
    before = len(reviews())
    assert before == 0 and "llmlab cards --recover" in capsys.readouterr().out
    aside = store.with_name("progress.sqlite.damaged-1")
    record("A09", 2, now=NOON)
    assert main(["--recover", str(aside)]) == 0
    out = capsys.readouterr().out
    back = [r for r in reviews() if r.card.startswith("B")]
    assert f"{len(back)} reviews" in out and "1 passes" in out and "01.attention" in progress.passed()
    assert 3500 < len(back) < 4000, "from both ends of the hole"
    assert {r.at for r in back} >= {NOON, NOON + timedelta(minutes=3999)}
    assert main(["--recover", str(aside)]) == 0, "a second time brings nothing double"
    assert len(reviews()) == len(back) + 1
    assert aside.exists()


def test_what_cannot_be_recovered_is_said(store, capsys, tmp_path):
    record("A01", 3)
    (tmp_path / "x").write_text("no database")
    for file in (tmp_path / "none", tmp_path / "x", store):
        assert main(["--recover", str(file)]) == 2
    said = capsys.readouterr().err
    assert "there is no file" in said and "can be read any more" in said and "in use" in said
    assert len(reviews()) == 1


def test_an_old_progress_file_gets_the_new_tables(store):
    store.parent.mkdir(parents=True)
    db = sqlite3.connect(store)
    db.executescript(progress.MIGRATIONS[0])
    db.execute("INSERT INTO passes (task, first_at) VALUES ('01.mask', '2026-01-01')")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    assert record("A01", 3) == 1
    assert list(progress.passed()) == ["01.mask"]


# --- the terminal


def typed(monkeypatch, *words):
    left = iter(words)

    def answer(prompt):
        print(prompt, end="")
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", answer)


def test_a_session_in_the_terminal(store, monkeypatch, capsys):
    typed(monkeypatch, "", "3", "", "1", "", "u", "", "4", "", "7", "s", "", "q")
    assert main(["--new", "4"]) == 0
    out = capsys.readouterr().out
    first, second = [card for card in cards() if card.kind == "question"][:2]
    assert [(r.card, r.rating) for r in reviews()] == [(first.id, 3), (second.id, 4)]
    assert f"{second.id}: the rating is taken back." in out and "1, 2, 3, 4, u, s or q." in out
    assert "Good. Again in 10 minutes." in out and out.rstrip().endswith("2 reviewed.")
    assert "".join(first.back().split()) in "".join(out.split())


def test_what_is_forgotten_comes_again_in_the_same_session(store, monkeypatch, capsys):
    typed(monkeypatch, "", "1", "", "3", "", "3")
    assert main(["--new", "2"]) == 0
    first, second = [card.id for card in cards() if card.kind == "question"][:2]
    assert [r.card for r in reviews()] == [first, second, first]
    assert "3 reviewed." in capsys.readouterr().out


def test_the_end_of_the_input_keeps_everything(store, monkeypatch, capsys):
    typed(monkeypatch, "", "3", "")
    assert main(["--new", "2", "--zh"]) == 0
    assert len(reviews()) == 1
    assert "自注意力" in capsys.readouterr().out
    assert main(["--new", "0"]) == 0
    assert "Nothing is due" in capsys.readouterr().out


def test_the_counts(store, capsys):
    record("A01", 4, now=datetime.now(UTC) - timedelta(minutes=1))
    record("A02", 1, now=datetime.now(UTC) - timedelta(minutes=5))
    assert main(["--stats"]) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("I The block"))
    deck = [card for card in cards() if card.kind == "question" and card.part == "I"]
    assert line.split()[-3:] == ["1", "1", str(len(deck) - 2)]
    assert "Due now: 1. Reviews so far: 2." in out


@pytest.mark.parametrize("words", [["--part", "X"], ["--notebook", "88"], ["--export", "x.pdf"], ["--difficulty", "9"]])
def test_the_command_refuses_nonsense(store, capsys, words):
    assert main(words) == 2
    assert capsys.readouterr().err.strip()


def test_waiting_times_are_said_in_one_unit():
    said = {seconds: terminal_module.wait(timedelta(seconds=seconds)) for seconds in (-5, 59, 60, 600, 3600, 200_000)}
    assert list(said.values()) == [
        "less than a minute",
        "less than a minute",
        "1 minute",
        "10 minutes",
        "1 hour",
        "2 days",
    ]


# --- the panel and the chart


def test_the_panel_reviews_and_takes_back(store):
    panel = Panel(2)
    first, second = panel.queue
    assert first.front() in panel.face.value and first.back()[:40] not in panel.face.value
    assert all(button.layout.display == "none" for button in panel.rate)
    panel.show.click()
    assert first.back()[:40].split()[0] in panel.face.value and panel.show.layout.display == "none"
    panel.rate[0].click()
    assert [r.rating for r in reviews()] == [1] and panel.queue == [second, first]
    assert second.front() in panel.face.value
    panel.back.click()
    assert reviews() == [] and panel.queue == [first, second] and panel.back.disabled
    panel.show.click()
    panel.rate[2].click()
    panel.language.value = True
    assert second.front(zh=True) in panel.face.value
    assert "Again in 10 minutes" in panel.said.value and "role='status'" in panel.said.value
    panel.part.value = "VII"
    assert {card.part for card in panel.queue} == {"VII"}
    panel.weak.value = True
    assert panel.queue == [] and "Nothing more is due" in panel.face.value


def test_the_static_form_shows_the_first_card(store, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    review_cards(new=3)
    first = next(card for card in cards() if card.kind == "question")
    assert shown[0]["text/plain"] == f"Cards: 3 wait, the first is {first.id}"
    assert "<details>" in shown[0]["text/html"]
    for card in cards():
        record(card.id, 4)
    review_cards()
    assert shown[1]["text/plain"] == "Cards: nothing is due"


def test_the_chart_counts(store):
    import matplotlib.pyplot as plt

    record("A02", 3, now=NOON - timedelta(days=90))
    for day, rating in ((0, 3), (3, 3), (10, 1)):
        record("A03", rating, now=NOON - timedelta(days=40 - day))
    record("A01", 4, now=NOON)
    fig, alt = memory_chart(memories(now=NOON), now=NOON)
    plt.close(fig)
    total = sum(card.kind == "question" for card in cards())
    seen = [int(n) for n in re.findall(r"(\d+) (?:known|fading|forgotten)", alt)]
    assert alt.startswith(f"Of {total} question cards: 1 known,") and sum(seen) == 3
    assert "2 due now or today" in alt


# --- the exports


def test_the_sheet_holds_every_card(store, tmp_path, capsys):
    file = tmp_path / "new" / "cards.csv"
    assert main(["--export", str(file), "--deck", "all"]) == 0
    assert file.read_bytes().startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(file.read_text("utf-8-sig"), newline="")))
    assert tuple(rows[0]) == COLUMNS and len(rows) == len(cards()) + 1
    for row, card in zip(rows[1:], cards()):
        assert row[0] == card.id and row[7].lstrip("'") == card.back_en.lstrip("'")
        assert not row[5].startswith(("=", "+", "-", "@"))


def test_a_figure_belongs_to_its_claim():
    data, alt = figure_for(question("A01"))
    assert data.startswith(b"\x89PNG") and len(alt) > 20
    assert figure_for(dataclasses.replace(question("A01"), claims=())) is None
    assert figure_for(dataclasses.replace(question("A01"), claims=("A01.no_such",))) is None


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    file = tmp_path_factory.mktemp("anki") / "cards.apkg"
    chosen = [card for card in cards() if card.notebook in ("01", "27")]
    return file, chosen, write_apkg(file, chosen)


def imported(collection, file):
    from anki.collection import ImportAnkiPackageOptions, ImportAnkiPackageRequest

    options = ImportAnkiPackageOptions(merge_notetypes=True)
    return collection.import_anki_package(ImportAnkiPackageRequest(package_path=str(file), options=options)).log


def test_anki_itself_imports_the_package(package, tmp_path):
    pytest.importorskip("anki", reason="Anki's library is not installed: it is part of the test requirements")
    from anki.collection import Collection

    file, chosen, pictures = package
    collection = Collection(str(tmp_path / "collection.anki2"))
    try:
        log = imported(collection, file)
        assert len(log.new) == len(chosen)
        names = {deck.name for deck in collection.decks.all_names_and_ids()}
        assert {"Fifty questions::I The block", "Fifty questions::VII Trust"} <= names
        (note,) = [collection.get_note(n) for n in collection.find_notes("Id:A01")]
        assert note["Front"].startswith("Explain how self-attention") and "√d" in note["Back"]
        assert "Then:" in note["More"] and "partI" in note.tags and "<img src=" in note["Picture"]
        media = collection.media.check()
        assert not media.missing and not media.unused
        assert len(os.listdir(collection.media.dir())) == pictures > 3
        question_side = note.cards()[0].render_output().question_text
        assert "notebook 01" in question_side and note["Back"] not in question_side
        again = imported(collection, file)
        assert not again.new and len(collection.find_notes("")) == len(chosen), "the guids are stable"
    finally:
        collection.close()


def test_the_same_cards_have_the_same_guids_in_every_export(package, tmp_path):
    file, chosen, _ = package

    def guids(path):
        with zipfile.ZipFile(path) as archive:
            archive.extract("collection.anki2", tmp_path)
            media = json.loads(archive.read("media"))
        db = sqlite3.connect(tmp_path / "collection.anki2")
        try:
            return dict(db.execute("SELECT flds, guid FROM notes")), sorted(media.values())
        finally:
            db.close()

    write_apkg(tmp_path / "again.apkg", chosen)
    write_apkg(tmp_path / "zh.apkg", chosen, zh=True)
    assert guids(file) == guids(tmp_path / "again.apkg")
    assert not set(guids(file)[0].values()) & set(guids(tmp_path / "zh.apkg")[0].values())


def test_an_export_that_fails_leaves_the_old_file(package, tmp_path, monkeypatch, capsys):
    import genanki

    def full(*arguments, **more):
        raise OSError("no space left on device")

    old = tmp_path / "cards.apkg"
    old.write_bytes(b"old")
    monkeypatch.setattr(genanki.Package, "write_to_file", full)
    assert main(["--export", str(old)]) == 2
    assert old.read_bytes() == b"old" and "no space left" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["cards.apkg"]
