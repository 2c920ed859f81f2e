"""What counts as the same output. No kernel runs here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import PIXEL, display, stream, v4

from llmlab.course.nb.compare import Tolerance, compare_outputs, compare_text


@pytest.mark.parametrize(
    ("reference", "new"),
    [
        ("loss 0.693147", "loss 0.693150"),
        ("loss -0.693147", "loss -0.693150"),
        ("p = 1.2345e-05 now", "p = 1.23455e-05 now"),
        ("accuracy 91.2345%", "accuracy 91.2340%"),
        ("1,234,567.8 tokens", "1,234,568.1 tokens"),
        ("difference 3.1e-09", "difference 4.4e-09"),  # within the absolute tolerance
        ("zero -0.0", "zero 0.0"),
        ("[ 9.99996  1.5]", "[10.00001  1.5]"),  # the blanks that align a column move
        ("ours  9.99996  1.5", "ours  10.00001 1.5"),
        ("ours  9.99996  ok", "ours  10.00001 ok"),
        ("took ⟨12.3 ms⟩ in all", "took ⟨1,204 µs⟩ in all"),
        ("nan and inf, -inf", "nan and inf, -inf"),
        ("name    time\n------  ---------\nours    ⟨1.0 ms⟩", "name    time\n------  ----------\nours    ⟨11.0 ms⟩"),
        ("1 to 2.5", "1 to 2.50001"),
        ("0.5,123", "0.50001,123"),
    ],
)
def test_agree(reference: str, new: str) -> None:
    assert compare_text(reference, new) is None


@pytest.mark.parametrize(
    ("reference", "new", "named"),
    [
        ("loss 0.6931", "loss 0.6941", "0.6931 became 0.6941"),
        ("loss 0.69310", "loss -0.69310", "0.69310 became -0.69310"),
        ("1.5e-05", "1.5e-04", "1.5e-05 became 1.5e-04"),
        ("91.2%", "91.3%", "91.2 became 91.3"),
        ("4 heads", "5 heads", "whole numbers are compared exactly"),
        ("1,234,567 tokens", "1,234,568 tokens", "1,234,567 became 1,234,568"),
        ("100000 rows", "100001 rows", "100000 became 100001"),
        ("value 0.5", "value nan", "'0.5' became 'nan'"),
        ("inf", "-inf", "'inf' became '-inf'"),
        ("the mask comes first", "the mask comes last", "'first' became 'last'"),
        ("A01.scaling holds", "A02.scaling holds", "'A01.scaling'"),
        ("torch 2.13.0", "torch 2.13.1", "'2.13.0' became '2.13.1'"),
        ("arXiv:2106.09685", "arXiv:2106.09686", "'arXiv:2106.09685'"),
        ("#1f77b4", "#1f77b5", "'#1f77b4'"),
        ("fp16", "bf16", "'fp16'"),
        ("took ⟨1 s⟩", "took 1 s", "became"),
        ("took 1 s", "took ⟨1 s⟩", "became"),
        ("⟨1 s⟩ fast", "⟨2 s⟩ slow", "'fast' became 'slow'"),
        ("one\ntwo", "one\ntwo\nthree", "is new at the end"),
        ("one\ntwo\nthree", "one\ntwo", "is missing at the end"),
        ("a  b", "a b", "became"),
        ("a  1.5", "a 1.5", "became"),
        ("2e-3", "3e-3", "2e-3 became 3e-3"),
        ("x = 1", "x = 1.1", "1 became 1.1"),
    ],
)
def test_differ(reference: str, new: str, named: str) -> None:
    difference = compare_text(reference, new)
    assert difference is not None
    assert named in difference


def test_the_sentence_quotes_both_lines() -> None:
    difference = compare_text("first line\naccuracy 0.9123 on test", "first line\naccuracy 0.8123 on test")
    assert difference is not None
    assert "reference: accuracy 0.9123 on test" in difference
    assert "now:       accuracy 0.8123 on test" in difference
    assert "allowed 0.0001" in difference


@pytest.mark.parametrize(
    ("reference", "new", "said"),
    [
        ("acc 0.5 x", "acc 0.6 x", "0.5 became 0.6 (off by 2.0e-01 relative, allowed 0.0001, absolute 1e-08)"),
        ("acc 0.0 x", "acc 1.0 x", "0.0 became 1.0 (off by inf relative, allowed 0.0001, absolute 1e-08)"),
        ("acc 4.0 x", "acc -2.0 x", "4.0 became -2.0 (off by 1.5e+00 relative, allowed 0.0001, absolute 1e-08)"),
        ("acc 3 x", "acc 4 x", "3 became 4 (whole numbers are compared exactly)"),
        ("acc 3 x", "acc 4.5 x", "3 became 4.5 (off by 5.0e-01 relative, allowed 0.0001, absolute 1e-08)"),
        ("one word here", "one wort here", "'word' became 'wort'"),
        ("foo here", "bar here", "'foo' became 'bar'"),
        ("a b", "a  b", "'b' became ' '"),
    ],
)
def test_every_sentence_names_what_differs_and_quotes_the_lines(reference: str, new: str, said: str) -> None:
    quoted = f"\n  reference: {reference}\n  now:       {new}"
    assert compare_text(reference, new) == said + quoted
    # The same in the middle of a text: neither the line before nor the line behind belongs to it.
    assert compare_text(f"before\n{reference}\nbehind", f"before\n{new}\nbehind") == said + quoted


def test_a_long_word_is_cut() -> None:
    whole, cut = compare_text("w" * 60, "w" * 59 + "v"), compare_text("w" * 61, "w" * 60 + "v")
    assert str(whole).startswith(f"'{'w' * 60}' became '{'w' * 59}v'\n")
    assert str(cut).startswith(f"'{'w' * 60}…' became '{'w' * 60}…'\n")


def test_a_long_line_is_quoted_around_the_place() -> None:
    sides = "a" * 61 + " {} " + "b" * 61
    assert str(compare_text(sides.format("0.5"), sides.format("0.7"))).splitlines()[1:] == [
        f"  reference: …{'a' * 60} 0.5 {'b' * 55}…",
        f"  now:       …{'a' * 60} 0.7 {'b' * 55}…",
    ]
    sides = "a" * 60 + " {} " + "b" * 55
    assert str(compare_text(sides.format("0.5"), sides.format("0.7"))).splitlines()[1] == (
        f"  reference: {sides.format('0.5')}"
    )


@pytest.mark.parametrize(
    ("reference", "new", "said"),
    [
        ("one\ntwo", "one\ntwo\nthree", "'three' is new at the end"),
        ("one 1", "one 1 2", "' 2' is new at the end"),
        ("one 1 2", "one 1", "' 2' is missing at the end"),
        ("", "new\nlines", "'new' is new at the end"),
        ("old", "", "'old' is missing at the end"),
        ("one t", "one two", "'wo' is new at the end"),
        ("one two", "one t", "'wo' is missing at the end"),
        ("1.5", "1.5 ", "' ' is new at the end"),
        ("1.5\n", "1.5\n\n", "'\\n' is new at the end"),
    ],
)
def test_what_is_new_or_missing_at_the_end(reference: str, new: str, said: str) -> None:
    assert compare_text(reference, new) == said


def test_the_edges_of_the_tolerance() -> None:
    for reference, new in (
        ("1.0", "1.00009"), ("-100.0", "-100.009"), ("0.0", "9.9e-9"), ("-0.0", "-9.9e-9"), ("1.0", "1"), ("2", "2.0"),
        ("1,000", "1000"), ("1e3", "1000"), ("−0.5", "-0.5"),
    ):  # fmt: skip
        assert compare_text(reference, new) is None
    for reference, new in (("1.0", "1.00015"), ("-100.0", "-100.015"), ("0.0", "1.5e-8"), ("0", "1.5e-8")):
        assert compare_text(reference, new) is not None
    exact = Tolerance(rtol=0, atol=0.5)
    assert exact.agree("1.0", "1.5") and not exact.agree("1.0", "1.625") and not exact.agree("1", "2")
    assert Tolerance(rtol=0.25, atol=0).agree("-4.0", "-5.0"), "the reference's size counts, not its sign"
    assert not Tolerance(rtol=0.25, atol=0).agree("-4.0", "-5.5")
    assert Tolerance(rtol=0.25, atol=0, whole=True).agree("4", "5")


def test_metadata_in_all_its_forms() -> None:
    assert Tolerance.of() == Tolerance.of(None, {}) == Tolerance.of({"rtol": None}) == Tolerance(1e-4, 1e-8, False)
    assert Tolerance.of({"rtol": 0.5}, {"atol": 2}) == Tolerance(0.5, 2.0, True)
    assert Tolerance.of({"atol": 0}) == Tolerance(1e-4, 0.0, False)
    with pytest.raises(ValueError, match=r"llmlab.atol is -1: expected a number of 0 or more"):
        Tolerance.of({"atol": -1})
    with pytest.raises(ValueError, match=r"llmlab.rtol is 1.0: expected a number from 0 to below 1"):
        Tolerance.of({"rtol": 1.0})


@pytest.mark.parametrize(
    ("reference", "new", "agree"),
    [
        ("⟨1⟩  a", "⟨2⟩ a", True), ("a  ⟨1⟩ \nb", "a ⟨2⟩\nb", True), ("⟨1⟩ a\n b", "⟨2⟩ a\nb", False),
        ("⟨1⟩ ---", "⟨2⟩ ------", True), ("⟨1⟩ ━━━", "⟨2⟩ ━━━━", True), ("⟨1⟩ --", "⟨2⟩ ---", False),
        ("a  b", "a ⟨1⟩", False), ("a ---", "a ----", False), ("⟨1⟩ 0.5", "⟨2⟩ 0.6", False),
        ("9.9999 b", "10.0000  b", True), ("9.99996  b", "10.00001 b", True), ("9.5  b", "9.5 b", False),
        ("x  9.5", "x 9.5", False), ("x  9.99996", "x 10.00001", True), ("9.99996 8.0", "10.00001  8.0", True),
    ],
)  # fmt: skip
def test_where_the_width_of_blanks_is_free(reference: str, new: str, agree: bool) -> None:
    assert (compare_text(reference, new) is None) == agree


def test_a_cell_may_widen_or_narrow_the_tolerance() -> None:
    assert compare_text("0.912", "0.915", Tolerance.of({"rtol": 1e-2})) is None
    assert compare_text("0.912", "0.915", Tolerance.of({"rtol": 1e-2}, {"rtol": 1e-3})) is not None
    assert compare_text("0.91200", "0.91201", Tolerance.of({"rtol": 0, "atol": 0})) is not None
    assert compare_text("1000 steps", "1004 steps") is not None
    assert compare_text("1000 steps", "1004 steps", Tolerance.of(None, {"rtol": 1e-2})) is None


@pytest.mark.parametrize(
    "bad", [{"rtol": 1}, {"rtol": -0.1}, {"rtol": "1e-3"}, {"atol": -1}, {"rtol": True}, {"atol": float("nan")}]
)
def test_a_tolerance_that_would_pass_everything_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        Tolerance.of(bad)


floats = st.floats(min_value=1e-3, max_value=1e6)


@given(st.lists(floats, min_size=1, max_size=6), st.floats(-0.9e-4, 0.9e-4))
def test_every_text_agrees_with_its_near_copy(values: list[float], nudge: float) -> None:
    near = [value * (1 + nudge) for value in values]
    assert compare_text(f"scores: {values!r} done", f"scores: {near!r} done") is None


@given(st.lists(floats, min_size=1, max_size=6), st.integers(0, 5), st.sampled_from([1 - 3e-4, 1 + 3e-4, -1.0]))
def test_one_number_that_moved_is_found_wherever_it_stands(values: list[float], at: int, factor: float) -> None:
    moved = list(values)
    moved[at % len(moved)] *= factor
    assert compare_text(f"scores: {values!r} done", f"scores: {moved!r} done") is not None


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_two_texts_can_be_compared(a: str, b: str) -> None:
    assert compare_text(a, a) is None
    difference = compare_text(a, b)
    assert difference is None or difference.strip()


def test_streams_are_merged_and_overwritten_as_on_a_screen() -> None:
    pieces = [stream("0%\r"), stream("oops\n", "stderr"), stream("50%\r"), stream("100%\ndone\n")]
    assert compare_outputs([stream("100%\ndone\n"), stream("oops\n", "stderr")], pieces) is None


def test_outputs_missing_extra_and_of_another_kind() -> None:
    one, two = stream("one\n"), display(text_plain="two")
    assert "missing output: 2 outputs in the reference, 1 output now" in str(compare_outputs([one, two], [one]))
    assert "'two'" in str(compare_outputs([one, two], [one]))
    assert "extra output: 1 output in the reference, 2 outputs now" in str(compare_outputs([one], [one, two]))
    assert "display_data" in str(compare_outputs([one], [two]))
    assert "stderr" in str(compare_outputs([one], [stream("one\n", "stderr")]))


def test_outputs_are_told_apart_in_full_sentences() -> None:
    text, page = display(text_plain="a", text_html="b"), display(text_plain="a", image_png=PIXEL)
    failed = v4.new_output("error", ename="E", evalue="m", traceback=[])
    result = v4.new_output("execute_result", data={"text/plain": "a"}, execution_count=1)
    table = [v4.new_output("display_data", data={"application/json": {"b": 1, "a": x}}) for x in (0.5, 0.6)]
    for reference, new, said in (
        ([stream("a\n")], [], "missing output: 1 output in the reference, 0 outputs now; first missing: stdout, 'a'"),
        ([], [stream("a\nb")], "extra output: 0 outputs in the reference, 1 output now; first extra: stdout, 'a'"),
        ([text], [text, page], "extra output: 1 output in the reference, 2 outputs now; first extra: display_data, 'a'"),
        ([display(image_png=PIXEL)], [], "missing output: 1 output in the reference, 0 outputs now; "
         "first missing: display_data, 'image/png'"),
        ([failed], [stream("m")], "output 1: the reference has an exception, now there is stdout: m"),
        ([text, stream("m")], [text, failed], "output 2: the reference has stdout, now there is an exception: E: m"),
        ([text], [result], "output 1: the reference has display_data, now there is execute_result: a"),
        ([text], [page], "output 1 (display_data): no text/html any more; image/png is new"),
        ([table[0]], [table[1]], "output 1 (display_data): application/json: 0.5 became 0.6 (off by 2.0e-01 relative, "
         'allowed 0.0001, absolute 1e-08)\n  reference: {"a": 0.5, "b": 1}\n  now:       {"a": 0.6, "b": 1}'),
    ):  # fmt: skip
        assert compare_outputs(reference, new) == said
    assert compare_outputs([table[0]], [table[1]], Tolerance(rtol=0.3)) is None
    assert compare_outputs([stream("0.5\n")], [stream("0.6\n")], Tolerance(rtol=0.3)) is None
    assert compare_outputs([failed], [failed]) is None


def test_the_alternative_is_compared_and_the_pixels_are_not() -> None:
    old = display(image_png=PIXEL, text_plain="Figure: loss falls from 4.16 to 1.52")
    assert (
        compare_outputs([old], [display(image_png="QUJD", text_plain="Figure: loss falls from 4.16 to 1.52")]) is None
    )
    worse = display(image_png=PIXEL, text_plain="Figure: loss falls from 4.16 to 1.92")
    assert "1.52 became 1.92" in str(compare_outputs([old], [worse]))
    assert "no image/png any more" in str(
        compare_outputs([old], [display(text_plain="Figure: loss falls from 4.16 to 1.52")])
    )


def test_html_is_compared_without_its_pictures() -> None:
    page = "<p>loss {}</p><img src='data:image/png;base64,{}'>"
    old = display(text_html=page.format("1.52", PIXEL))
    assert compare_outputs([old], [display(text_html=page.format("1.52", "QUJD"))]) is None
    assert "1.52 became 1.53" in str(compare_outputs([old], [display(text_html=page.format("1.53", PIXEL))]))


def test_widget_ids_are_ignored_and_other_forms_are_not() -> None:
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "abc"}, "text/plain": "Explore: heads"}
    old = v4.new_output("display_data", data={"text/plain": "Explore: heads"})
    assert compare_outputs([old], [v4.new_output("display_data", data=view)]) is None
    assert "Explore" in str(
        compare_outputs([old], [v4.new_output("display_data", data={**view, "text/plain": "Explore: tails"})])
    )


def test_exceptions_by_name_and_message() -> None:
    def error(name: str, message: str) -> object:
        return v4.new_output("error", ename=name, evalue=message, traceback=["differs"])

    old = error("ValueError", "scale is 0.125, expected 0.25")
    assert compare_outputs([old], [error("ValueError", "scale is 0.125, expected 0.25")]) is None
    assert "became TypeError" in str(compare_outputs([old], [error("TypeError", "scale is 0.125, expected 0.25")]))
    assert "0.25 became 0.5" in str(compare_outputs([old], [error("ValueError", "scale is 0.125, expected 0.5")]))


def test_addresses_and_temporary_names_do_not_matter() -> None:
    old = stream("<object at 0x7f00aa>\n/tmp/ipykernel_12/34.py:1: UserWarning: hm\n")
    new = stream("<object at 0x7fffbb>\n/var/x/ipykernel_9/8.py:1: UserWarning: hm\n")
    assert compare_outputs([old], [new]) is None
    assert compare_outputs([stream("bits 0x3F800000")], [stream("bits 0x3F800001")]) is not None
