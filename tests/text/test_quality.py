"""Each measure by hand, the published limits at their edges, and real prose that must pass."""

import numpy as np
import pytest

from llmlab import assets
from llmlab.text import C4, FINEWEB, GOPHER, GOPHER_REPETITION, SHORT_CHINESE, NgramBayes, Rule, failures, measures
from llmlab.text.quality import fit_reference, keep_terminal_lines, likeness

LIMITS = {rule.measure: rule for rules in (GOPHER, GOPHER_REPETITION, C4, FINEWEB) for rule in rules}


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("one two, three -- 4", "words", 4),
        ("ab cdef", "word_length", 3),
        ("# a b c", "hashes", 1 / 3),
        ("a... b… c d", "ellipses", 2 / 4),
        ("- a\n• b\nc", "bullet_lines", 2 / 3),
        ("a...\nb…\nc.\nd", "ellipsis_lines", 2 / 4),
        ('a.\nb\nc"\n\nd。', "terminal_lines", 3 / 4),
        ("x" * 30 + "\n" + "x" * 31, "short_lines", 1 / 2),
        ("a\nb\na\na", "duplicate_lines", 2 / 4),
        ("aaa\nb\naaa", "duplicate_line_characters", 3 / 7),
        ("a 1 b2 3", "alphabetic_words", 2 / 4),
        ("The the OF, with!", "stop_words", 3),
        ("A. B! C?? d", "sentences", 3),
        ("ab，！", "symbols", 1 / 2),
        ("<b>x</b> &amp; &#32431; {", "markup", 5),
        ("{}{", "curly_brackets", 3),
        ("Lorem Ipsum dolor", "lorem_ipsum", 1),
        ("a b c d", "top_2gram", 0),
        ("a b x a b y", "top_2gram", 4 / 6),
        ("a b c a b c d", "top_3gram", 6 / 7),
        ("a b c d e f a b c d e", "duplicate_5grams", 5 / 11),
        ("a a a a a a a", "duplicate_5grams", 6 / 7),
        ("a b c d e f g h i j", "duplicate_10grams", 0),
    ],
)
def test_measures_by_hand(text, name, value):
    assert measures(text)[name] == pytest.approx(value)


def test_a_chinese_character_is_a_word():
    found = measures("我买了iPhone 5，很好用！", "characters")
    assert found["words"] == 8 and found["word_length"] == pytest.approx(13 / 8)
    assert measures("我买了，很好用！")["words"] == 1
    assert measures("不错不错不错不错", "characters")["top_4gram"] == 1
    assert measures("很好很好", "characters")["top_2gram"] == 1 and measures("这个很好", "characters")["top_2gram"] == 0


def test_an_empty_text_has_nothing_and_every_measure_is_finite():
    for text in ("", " \n", "。", "a", "\x00"):
        for unit in ("words", "characters"):
            assert all(np.isfinite(value) and value >= 0 for value in measures(text, unit).values())
    assert set(measures("").values()) == {0}


def test_published_limits():
    """Gopher's and C4's as in the papers; where the limit itself passes and where it does not."""
    assert (LIMITS["words"].low, LIMITS["words"].high) == (50, 100_000)
    assert LIMITS["word_length"] == Rule("word_length", 3, 10)
    highs = {"hashes": 0.1, "ellipses": 0.1, "bullet_lines": 0.9, "ellipsis_lines": 0.3, "duplicate_lines": 0.3}
    highs |= {f"top_{n}gram": x for n, x in ((2, 0.20), (3, 0.18), (4, 0.16))}
    highs |= {f"duplicate_{n}grams": x for n, x in zip(range(5, 11), (0.15, 0.14, 0.13, 0.12, 0.11, 0.10))}
    for name, high in highs.items():
        assert LIMITS[name].high == high and LIMITS[name].passes(high) and not LIMITS[name].passes(high + 1e-9)
    assert LIMITS["alphabetic_words"].low == 0.8 and LIMITS["stop_words"].low == 2 and LIMITS["sentences"].low == 3
    fineweb = {rule.measure: rule for rule in FINEWEB}
    for name, limit in (("terminal_lines", 0.12), ("duplicate_line_characters", 0.1), ("short_lines", 0.67)):
        assert not fineweb[name].passes(limit), "FineWeb drops the limit itself"
    assert fineweb["terminal_lines"].passes(0.1201) and fineweb["short_lines"].passes(0.6699)


def test_prose_passes_and_what_is_not_prose_fails():
    paragraphs = [p.replace("\n", " ") for p in assets.load_novels()["Emma"].split("\n\n") if len(p.split()) > 80]
    assert len(paragraphs) > 300
    assert np.mean([not failures(p, GOPHER + GOPHER_REPETITION) for p in paragraphs]) > 0.95
    assert "stop_words" in failures("buy cheap watches online now " * 20, GOPHER)
    assert "duplicate_10grams" in failures("buy cheap watches online now " * 20, GOPHER_REPETITION)
    menu = "\n".join(f"Home {i}\nAbout us\nContact" for i in range(9))
    assert {"terminal_lines", "short_lines"} <= set(failures(menu, FINEWEB))
    assert failures("function() { return 1; }", C4) == ["sentences", "curly_brackets"]


def test_limits_for_english_drop_every_chinese_review():
    try:
        texts = assets.load_reviews().texts[:400]
    except assets.AssetMissing as error:
        pytest.skip(str(error))
    assert all(failures(text, GOPHER) for text in texts)
    assert np.mean([not failures(text, SHORT_CHINESE, "characters") for text in texts]) > 0.9


def test_lines_that_end_like_sentences_stay():
    page = "Home | About\nThis is a whole sentence, really.\nRead more.\nIs this one of five words?\nno end here at all"
    assert keep_terminal_lines(page) == "This is a whole sentence, really.\nIs this one of five words?"
    assert keep_terminal_lines("a b c.", words=3) == "a b c." and keep_terminal_lines("") == ""


def test_likeness_is_the_log_odds_a_character():
    model = fit_reference(["abab", "baba"], ["cdcd", "abcd"], high=2)
    assert isinstance(model, NgramBayes) and (likeness(model, ["abab", "cd", ""])[[0, 1]] > 0).tolist() == [True, False]
    once, twice = likeness(model, ["ab" * 50, "ab" * 100])
    assert once == pytest.approx(twice, rel=0.01) and likeness(model, [""]).tolist() == [0]
    p = model.probabilities(["abc"])[0]
    assert likeness(model, ["abc"])[0] == pytest.approx(np.log(p[1] / p[0]) / 3)


def test_bad_input_is_a_sentence():
    with pytest.raises(ValueError, match="measure 'beauty': expected one of words"):
        failures("a", [Rule("beauty")])
    with pytest.raises(ValueError, match="unit='tokens': expected words or characters"):
        measures("a", "tokens")
