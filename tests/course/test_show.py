"""What a notebook shows has a text form that says the same."""

import base64

import matplotlib
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from llmlab.course import explore, figure, measured, predict, show, source_of, table
from llmlab.course.show import png


@pytest.fixture
def shown(monkeypatch):
    """The mime bundles that would have been displayed."""
    bundles = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def a_figure():
    fig, ax = plt.subplots()
    ax.plot([1, 2, 3])
    return fig


def test_figure_shows_a_png_with_its_alternative_and_closes_it(shown):
    figure(a_figure(), alt="A line that rises from 1\n to 3 in two steps")
    assert shown[0]["text/plain"] == "Figure: A line that rises from 1 to 3 in two steps"
    assert base64.b64decode(shown[0]["image/png"]).startswith(b"\x89PNG")
    assert not plt.get_fignums()


def test_figure_refuses_an_empty_alternative(shown):
    with pytest.raises(ValueError, match="key numbers"):
        figure(a_figure(), alt="a line")
    plt.close("all")


def test_two_renderings_are_the_same_bytes():
    assert png(a_figure()) == png(a_figure())


def test_table_shows_the_same_cells_twice(shown):
    table([["naïve <b>", 1234, 0.123456, True], ["x", 5, 1e-9, None]], ["what", "n", "p", "ok"], caption="Two rows")
    html, text = shown[0]["text/html"], shown[0]["text/plain"]
    assert "naïve &lt;b&gt;" in html and "<caption>Two rows</caption>" in html
    assert text.splitlines() == [
        "Two rows",
        "what       n      p          ok",
        "---------  -----  ---------  ---",
        "naïve <b>  1,234  0.1235     yes",
        "x          5      1.000e-09",
    ]


def test_table_aligns_numbers_to_the_right_and_titles_that_begin_with_a_number_to_the_left(shown):
    table([["01 Self-attention", "1,234", "⟨12.3 ms⟩"], ["12 Sentiment", "−0.5", "⟨9 ms⟩"]], ["notebook", "n", "time"])
    html = shown[0]["text/html"]
    sides = [html.split(f'">{name}</th>')[0].rsplit(":", 1)[1] for name in ("notebook", "n", "time")]
    assert sides == ["left", "right", "right"]


def test_table_refuses_ragged_rows(shown):
    with pytest.raises(ValueError, match="row 1 has 1 cells, but there are 2 headers"):
        table([[1, 2], [3]], ["a", "b"])


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.345, "⟨12.3 ms⟩"), (0, "⟨0 ms⟩"), (123456, "⟨123,456 ms⟩"), (1e-7, "⟨1.00e-07 ms⟩"), (-0.5, "⟨-0.500 ms⟩")],
)
def test_measured_values_are_marked(value, text):
    assert measured(value, "ms") == text


def test_source_is_shown_without_its_docstring(shown):
    source_of(show.measured)
    assert "def measured" in shown[0]["text/plain"] and "depends on this machine" not in shown[0]["text/plain"]


CHOICES = {"yes": "because", "no": "since"}


def test_predict_hides_the_answer_in_the_text_and_folds_it_in_the_page(shown):
    predict("01.sink", "Is it <so>?", CHOICES, answer="yes")
    assert shown[0]["text/plain"] == "Predict: Is it <so>?\n  ( ) yes\n  ( ) no"
    assert "<details><summary>Answer</summary>" in shown[0]["text/html"] and "&lt;so&gt;" in shown[0]["text/html"]


def test_predict_explains_the_choice_and_records_it(shown, monkeypatch):
    import ipywidgets

    made = []
    radio = ipywidgets.RadioButtons
    monkeypatch.setattr(ipywidgets, "RadioButtons", lambda **k: made.append(radio(**k)) or made[0])
    kept = []
    monkeypatch.setattr("llmlab.course.widgets._record", lambda *answer: kept.append(answer))
    predict("01.sink", "Is it so?", CHOICES, answer="yes")
    made[0].value = "no"
    made[0].value = None
    assert kept == [("01.sink", "no", False)]


@pytest.mark.parametrize(
    ("key", "choices", "answer", "says"),
    [
        ("sink", CHOICES, "yes", "predict key"),
        ("01.sink", {"yes": "because"}, "yes", "two or more"),
        ("01.sink", CHOICES, "perhaps", "none of the choices"),
        ("01.sink", {"yes": "because", "no": " "}, "yes", "no explanation"),
    ],
)
def test_predict_refuses(key, choices, answer, says, shown):
    with pytest.raises(ValueError, match=says):
        predict(key, "Is it so?", choices, answer=answer)


def test_explore_calls_again_when_a_control_moves_and_survives_an_error(shown):
    import ipywidgets

    slider = ipywidgets.IntSlider(value=2, min=0, max=9)
    seen = []

    def square(n=2):
        seen.append(n)
        return f"<b>{100 // (n - 5)}</b>"

    explore(square, n=slider)
    assert shown[0]["text/plain"] == "Explore (n = 2): -34" and shown[0]["text/html"] == "<b>-34</b>"
    slider.value = 6
    slider.value = 5  # divides by zero: the widget says so and lives on
    slider.value = 7
    assert seen == [2, 6, 5, 7]


def test_explore_shows_a_figure_with_its_alternative(shown):
    explore(lambda n=2: (a_figure(), f"A line that rises {n} times, from 1 to 3"), n=(1, 5))
    assert set(shown[0]) >= {"image/png", "text/plain"}
    assert shown[0]["text/plain"] == "Explore (n = 2): A line that rises 2 times, from 1 to 3"


def test_explore_refuses_what_it_cannot_show(shown):
    with pytest.raises(ValueError, match="has no argument 'm'"):
        explore(lambda n=2: "x", m=(1, 5))
    with pytest.raises(TypeError, match="control n="):
        explore(lambda n=2: "x", n=3)
    with pytest.raises(ValueError, match="no text alternative"):
        explore(lambda n=2: a_figure(), n=(1, 5))
    plt.close("all")
    with pytest.raises(TypeError, match="returned int"):
        explore(lambda n=2: 3, n=(1, 5))
