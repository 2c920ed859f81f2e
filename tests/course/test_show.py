"""What a notebook shows has a text form that says the same."""

import base64
import html
import re
import struct

import matplotlib
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from llmlab.course import explore, figure, lessons, link, measured, predict, show, source_of, table, widgets
from llmlab.course.show import png


@pytest.fixture
def shown(monkeypatch):
    """The mime bundles that would have been displayed."""
    bundles = []

    def display(bundle, raw=False):
        assert raw, "a bundle that is not raw would be shown as the text of a dict"
        bundles.append(bundle)

    monkeypatch.setattr("IPython.display.display", display)
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


def test_figure_refuses_an_alternative_of_fewer_than_20_characters(shown):
    for short in ("a line", "x" * 19, " " * 30):
        with pytest.raises(ValueError, match="key numbers"):
            figure(a_figure(), alt=short)
    assert not shown
    figure(a_figure(), alt="x" * 20)
    plt.close("all")


def test_a_caption_stands_under_the_figure(shown):
    figure(a_figure(), alt="A line that rises from 1 to 3")
    assert len(shown) == 1
    figure(a_figure(), alt="A line that rises from 1 to 3", caption="Two <b>steps</b>")
    assert shown[2:] == [{"text/html": "<p><em>Two <b>steps</b></em></p>", "text/plain": "Two <b>steps</b>"}]


def test_two_renderings_are_the_same_bytes():
    assert png(a_figure()) == png(a_figure())


def test_a_png_has_110_dots_an_inch_no_stamp_and_nothing_cut_off():
    def size(data):
        return struct.unpack(">II", data[16:24])

    plain = png(a_figure())
    dots_per_metre = struct.unpack(">I", plain[plain.index(b"pHYs") + 4 :][:4])[0]
    assert round(dots_per_metre * 0.0254) == 110
    assert b"Software" not in plain and b"Matplotlib" not in plain
    fig = a_figure()
    fig.axes[0].text(1.5, 0.5, "far to the right of the axes", transform=fig.axes[0].transAxes)
    assert size(png(fig))[0] > 110 * matplotlib.rcParams["figure.figsize"][0]


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


def test_a_table_has_no_caption_unless_told_and_aligns_by_whole_columns(shown):
    table([["a", "", "1"], ["b", 2, "x"]], ["name", "n", "mixed"], digits=2)
    html, text = shown[0]["text/html"], shown[0]["text/plain"]
    assert "caption" not in html and text.splitlines()[0].startswith("name")
    assert re.findall(r'<th style="text-align:(\w+)">', html) == ["left", "right", "left"], "an empty cell is no word"
    assert re.findall(r'<td style="text-align:(\w+)">', html) == ["left", "right", "left"] * 2
    table([], ["name", "n"])
    assert re.findall(r'<th style="text-align:(\w+)">', shown[1]["text/html"]) == ["left", "left"]
    assert shown[1]["text/plain"] == "name  n\n----  -"


def test_cells_of_every_kind(shown):
    cells = [
        True,
        False,
        None,
        12345,
        1234.5678,
        np.float32(0.5),
        torch.tensor(7),
        torch.tensor(0.25),
        "1.50",
        1e9,
        1e-4,
        (2, 3),
    ]
    table([cells], [str(i) for i in range(len(cells))], digits=3)
    assert re.findall(r"<td[^>]*>([^<]*)</td>", shown[0]["text/html"]) == [
        "yes", "no", "", "12,345", "1,235", "0.500", "7", "0.250", "1.50", "1.00e+09", "0.000100", "(2, 3)",
    ]  # fmt: skip


def test_table_refuses_ragged_rows(shown):
    with pytest.raises(ValueError, match="row 1 has 1 cells, but there are 2 headers"):
        table([[1, 2], [3]], ["a", "b"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12.345, "⟨12.3 ms⟩"), (0, "⟨0 ms⟩"), (123456, "⟨123,456 ms⟩"), (1e-7, "⟨1.00e-07 ms⟩"), (-0.5, "⟨-0.500 ms⟩"),
        (float("inf"), "⟨inf ms⟩"), (float("nan"), "⟨nan ms⟩"), (1e-4, "⟨0.000100 ms⟩"), (1e9, "⟨1.00e+09 ms⟩"),
    ],
)  # fmt: skip
def test_measured_values_are_marked(value, text):
    assert measured(value, "ms") == text
    assert measured(value) == text.replace(" ms", "")


def test_measured_values_have_the_digits_asked_for():
    assert measured(12.345, digits=2) == "⟨12⟩" and measured(1e-7, digits=1) == "⟨1e-07⟩"


def test_source_is_shown_without_its_docstring(shown):
    source_of(show.measured)
    assert "def measured" in shown[0]["text/plain"] and "depends on this machine" not in shown[0]["text/plain"]
    source_of(show.measured, doc=True)
    assert "depends on this machine" in shown[1]["text/plain"]
    source_of(show._one_line)
    source_of(lessons.TableError)
    assert shown[2]["text/plain"] == (
        'llmlab.course.show._one_line\n\ndef _one_line(text: str) -> str:\n    return " ".join(text.split())'
    )
    assert shown[3]["text/markdown"] == (
        "`llmlab.course.lessons.TableError`\n\n```python\nclass TableError(ValueError):\n```"
    )
    source_of(lessons.Lesson.exists)
    assert shown[4]["text/plain"].endswith(
        'Lesson.exists\n\ndef exists(self, folder: str = "notebooks") -> bool:\n    return self.path(folder).is_file()'
    )


def test_a_link_says_where_a_thing_stands_and_what_it_does(shown):
    link(measured)
    link(lessons)
    link(lessons.Lesson.path)
    sentence = "A value that depends on this machine, marked ``⟨12.3 ms⟩``: yours will differ, and no test compares it."
    assert shown[0] == {
        "text/markdown": f"[`measured`](../src/llmlab/course/show.py) · {sentence}",
        "text/plain": f"measured (src/llmlab/course/show.py): {sentence}",
    }
    assert shown[1]["text/plain"].startswith(
        "llmlab.course.lessons (src/llmlab/course/lessons.py): The course table: fifty"
    )
    assert shown[2]["text/plain"].startswith("Lesson.path (src/llmlab/course/lessons.py): The file of this lesson")
    assert "Raises" not in shown[2]["text/plain"]


CHOICES = {"yes": "because <3", "no": "since", "never": "so"}


@pytest.fixture
def boxes(monkeypatch):
    """The live widgets that would have been displayed."""
    found = []
    monkeypatch.setattr(widgets, "_display", lambda box, static: found.append(box))
    return found


def test_predict_hides_the_answer_in_the_text_and_folds_it_in_the_page(shown):
    predict("01.sink", "Is it <so>?", CHOICES, answer="yes")
    assert shown[0]["text/plain"] == "Predict: Is it <so>?\n  ( ) yes\n  ( ) no\n  ( ) never"
    page = shown[0]["text/html"]
    assert "&lt;so&gt;" in page and "<ul><li>yes</li><li>no</li><li>never</li></ul>" in page
    before, answer = page.split("<details><summary>Answer</summary>")
    assert "because" not in before and "✓ Right: yes.</strong> because &lt;3" in answer
    assert "<li><em>no</em>: since</li><li><em>never</em>: so</li>" in answer
    (live,) = set(shown[0]) - {"text/html", "text/plain"}
    assert live == "application/vnd.jupyter.widget-view+json" and shown[0][live]["model_id"]


def test_predict_explains_the_choice_and_records_it(boxes, monkeypatch):
    kept = []
    monkeypatch.setattr("llmlab.course.progress.record_prediction", lambda *answer: kept.append(answer))
    predict("01.sink", "Is it <so>?", CHOICES, answer="yes")
    (box,) = boxes
    title, radio, feedback = box.children
    assert radio.options == ("yes", "no", "never") and radio.value is None and feedback.value == "", "nothing is chosen"
    assert "Is it &lt;so&gt;?" in title.value
    radio.value = "no"
    wrong = feedback.value
    radio.value = "yes"
    right = feedback.value
    radio.value = None
    assert kept == [("01.sink", "no", False), ("01.sink", "yes", True)]
    assert feedback.value == right, "what was said stays"
    assert "✗ Not this: no.</strong> since" in wrong and "✓ yes.</strong> because &lt;3" in wrong
    assert "<summary>The other choices</summary><ul><li><em>never</em>: so</li></ul>" in wrong
    assert "✓ Right: yes.</strong> because" in right and right.count("because") == 1
    assert "<li><em>no</em>: since</li><li><em>never</em>: so</li>" in right


def test_of_two_choices_no_others_are_left(boxes, monkeypatch):
    monkeypatch.setattr("llmlab.course.progress.record_prediction", lambda *answer: True)
    predict("01.sink", "Is it so?", {"yes": "because", "no": "since"}, answer="yes")
    boxes[0].children[1].value = "no"
    assert "The other choices" not in boxes[0].children[2].value


def test_widgets_look_like_parts_of_the_page(boxes):
    """A frame around both, room for long choices, the line height of text, a class that a test in a browser can find."""
    predict("01.sink", "Is it so?", CHOICES, answer="yes")
    explore(lambda n=2, heads=3: "x", n=(1, 5), heads=[3, 4])
    for box in boxes:
        assert (box.layout.padding, box.layout.border_top) == ("4px 12px", "1px solid #8884")
    assert boxes[0]._dom_classes == ("llmlab-predict-01-sink",) and boxes[1]._dom_classes == ("llmlab-explore",)
    assert boxes[0].children[1].layout.width == "auto"
    assert "line-height:1.5" in boxes[0].children[0].value and "line-height:1.5" in boxes[1].children[-1].value
    assert {c.style.description_width for c in boxes[1].children[1:3]} == {"5ch"}, "the names end in one line"


@pytest.mark.parametrize(
    ("key", "choices", "answer", "says"),
    [
        ("sink", CHOICES, "yes", "predict key"),
        ("1.sink", CHOICES, "yes", "predict key"),
        ("01.sink!", CHOICES, "yes", "predict key"),
        ("01.sink", {"yes": "because"}, "yes", "two or more"),
        ("01.sink", CHOICES, "perhaps", "none of the choices"),
        ("01.sink", {"yes": "because", "no": " "}, "yes", "no explanation"),
    ],
)
def test_predict_refuses(key, choices, answer, says, shown):
    with pytest.raises(ValueError, match=says):
        predict(key, "Is it so?", choices, answer=answer)


def test_explore_calls_again_when_a_control_moves_and_survives_an_error(boxes):
    import ipywidgets

    slider = ipywidgets.IntSlider(value=2, min=0, max=9)
    seen = []

    def square(n=2):
        seen.append(n)
        return f"<b>{100 // (n - 5)}</b>"

    explore(square, n=slider)
    view = boxes[0].children[-1]
    assert "<b>-34</b>" in view.value
    slider.value = 6
    assert "<b>100</b>" in view.value
    slider.value = 5  # divides by zero: the widget says so and lives on
    assert "⚠ ZeroDivisionError: integer" in view.value
    slider.value = 7
    assert seen == [2, 6, 5, 7] and "<b>50</b>" in view.value


def test_explore_shows_html_and_its_text(shown):
    explore(lambda n=2, word="a": f"<p>{n} &lt; 3</p>\n<p>{word}</p>", n=(1, 5), word="b")
    assert shown[0]["text/plain"] == "Explore (n = 2, word = a): 2 < 3 a"
    assert shown[0]["text/html"] == "<p>2 &lt; 3</p>\n<p>a</p>"


def test_explore_shows_a_figure_with_its_alternative(shown):
    explore(lambda n=2: (a_figure(), f"A line that rises {n} times, from 1 to 3"), n=(1, 5))
    assert set(shown[0]) >= {"image/png", "text/plain"}
    assert shown[0]["text/plain"] == "Explore (n = 2): A line that rises 2 times, from 1 to 3"
    explore(lambda n=2: a_figure(), alt="A line that rises\n twice, from 1 to 3", n=(1, 5))
    assert shown[1]["text/plain"] == "Explore (n = 2): A line that rises twice, from 1 to 3"


def test_a_figure_in_a_widget_is_an_image_with_its_alternative(boxes):
    explore(lambda n=2: (a_figure(), f'A "line" that rises {n} times'), n=(1, 5))
    heading, slider, view = boxes[0].children
    for n in (2, 3):
        slider.value = n
        data = re.search(
            r"<img alt=\"([^\"]*)\" src=\"data:image/png;base64,([^\"]+)\" style=\"max-width:100%\">", view.value
        )
        assert html.unescape(data[1]) == f'A "line" that rises {n} times'
        assert base64.b64decode(data[2]).startswith(b"\x89PNG")


def test_every_kind_of_control(boxes):
    import ipywidgets

    own = ipywidgets.BoundedIntText(value=4, min=0, max=9)
    explore(
        lambda whole=2, share=0.5, step=0.2, menu="b", box=True, text_here="hi", own=0: "x",
        whole=(1, 5), share=(0.0, 1.0), step=(0.0, 1.0, 0.2), menu=["a", "b"], box=False, text_here="there", own=own,
    )  # fmt: skip
    whole, share, step, menu, box, text, last = boxes[0].children[1:-1]
    assert last is own
    kinds = [
        ipywidgets.IntSlider,
        ipywidgets.FloatSlider,
        ipywidgets.FloatSlider,
        ipywidgets.Dropdown,
        ipywidgets.Checkbox,
    ]
    assert [type(c) for c in (whole, share, step, menu, box)] == kinds and type(text) is ipywidgets.Text
    assert [c.value for c in (whole, share, step, menu, box, text)] == [2, 0.5, 0.2, "b", True, "hi"], "fn's defaults"
    assert (whole.min, whole.max, share.min, share.max, step.step) == (1, 5, 0.0, 1.0, 0.2)
    assert share.step != 0.2 and menu.options == ("a", "b")
    assert text.description == "text here" and text.style.description_width == "9ch"
    for control in (whole, share, text):
        assert control.continuous_update is False, "a figure is drawn when the hand rests, not on the way"
    assert whole.layout.width == "60%" and text.layout.width == "95%"


def test_without_defaults_the_controls_have_their_own(boxes):
    explore(lambda n, on, text: "x", n=(1, 5), on=True, text="there")
    slider, on, text = boxes[0].children[1:-1]
    assert (on.value, text.value) == (True, "there") and 1 <= slider.value <= 5


def test_without_controls_the_static_form_stands_alone(shown):
    explore(lambda: "<b>once</b>")
    assert shown[0]["text/plain"] == "Explore (): once"


def test_explore_refuses_what_it_cannot_show(shown):
    import ipywidgets

    with pytest.raises(ValueError, match="has no argument 'm'"):
        explore(lambda n=2: "x", m=(1, 5))
    for odd in (3, (1,), (1, 2, 3, 4), None, ipywidgets.VBox()):
        with pytest.raises(TypeError, match="control n="):
            explore(lambda n=2: "x", n=odd)
    with pytest.raises(ValueError, match="no text alternative"):
        explore(lambda n=2: a_figure(), n=(1, 5))
    with pytest.raises(ValueError, match="too short"):
        explore(lambda n=2: a_figure(), alt="a line", n=(1, 5))
    plt.close("all")
    with pytest.raises(TypeError, match="returned int"):
        explore(lambda n=2: 3, n=(1, 5))
    assert not shown
