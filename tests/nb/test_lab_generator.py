"""Labs are cut out of solutions, leak nothing, and never overwrite anybody's work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import code, notebook, save, stream, v4

from llmlab.course.nb.choose import ToolError
from llmlab.course.nb.commands import main
from llmlab.course.nb.labs import check_labs, cut, generate, run_lab, source_hash, write_lab
from llmlab.course.nb.normal import serialise
from llmlab.course.nb.regen import read

BUILD = """def scale(scores, d):
    \"\"\"Scores over the root of d.\"\"\"
    ### BEGIN SOLUTION
    secret = d**0.5
    return scores / secret
    ### END SOLUTION
"""
DEBUG = """def mask(scores):
    ### BEGIN SOLUTION
    return scores.tril()
    ### INSTEAD
    # # find the fault
    # if True:
    #     return scores.triu()
    #
    ### END SOLUTION
"""
REASON = "### BEGIN SOLUTION\nanswer = 42_000\n### INSTEAD\n# answer = ...\n### END SOLUTION\nprint(answer)"


def solution(*cells: object) -> object:
    return notebook(*(cells or (BUILD, DEBUG, REASON)))


def test_what_a_lab_shows() -> None:
    assert cut(BUILD) == (
        "def scale(scores, d):\n"
        '    """Scores over the root of d."""\n'
        '    raise NotImplementedError("write your answer here")\n'
    )
    assert cut(DEBUG) == "def mask(scores):\n    # find the fault\n    if True:\n        return scores.triu()\n\n"
    assert cut(REASON) == "answer = ...\nprint(answer)"
    assert cut("x = 1\n# a comment\n#### a heading") == "x = 1\n# a comment\n#### a heading"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("### BEGIN SOLUTION\nx = 1", "is never ended"),
        ("x = 1\n### END SOLUTION", "line 2: `### END SOLUTION` without"),
        ("x = 1\n### INSTEAD", "line 2: `### INSTEAD` without"),
        (
            "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION",
            "line 2: `### BEGIN SOLUTION` inside another solution",
        ),
        ("### BEGIN SOLUTION\n### INSTEAD\n### INSTEAD\n### END SOLUTION", "line 3: `### INSTEAD` twice"),
        (
            "### BEGIN SOLUTION\nx = 1\n### INSTEAD\nx = 2\n### END SOLUTION",
            "every line is a comment, but this is `x = 2`",
        ),
        ("### BEGIN SOLUTION\nx = 1\n### END SOLUTION", "needs an `### INSTEAD` part"),
        ("# BEGIN SOLUTION\nx = 1\n# END SOLUTION", "looks like a marker"),
        ("###BEGIN SOLUTION\nx = 1\n### END SOLUTION", "looks like a marker"),
        ("def f():\n    ### Begin Solution\n    x = 1\n    ### END SOLUTION", "looks like a marker"),
        ("### BEGIN SOLUTION:\nx = 1\n### END SOLUTION", "looks like a marker"),
        ("### BEGIN SOLUTION\nx = 1\n## INSTEAD\n# x = 2\n### END SOLUTION", "looks like a marker"),
    ],
)
def test_a_malformed_marker_is_named_with_its_cell(source: str, says: str) -> None:
    with pytest.raises(ToolError) as caught:
        generate(notebook("fine = 1", source), "solutions/01_a.ipynb")
    assert says in str(caught.value)
    assert str(caught.value).startswith("solutions/01_a.ipynb, cell 2: ")


def test_what_is_left_must_be_python_and_text_cells_have_no_markers() -> None:
    broken = "### BEGIN SOLUTION\nx = 1\n### INSTEAD\n# x = = 2\n### END SOLUTION"
    with pytest.raises(ToolError, match=r"cell 1: without its solution the cell is no Python: .* line 1 \(x = = 2\)"):
        generate(notebook(broken), "solutions/01_a.ipynb")
    for marked in ("### BEGIN SOLUTION", "because\n  ### END SOLUTION"):
        with pytest.raises(ToolError, match="s, cell 1: `###.*` in a text cell: tag the cell `solution`"):
            generate(v4.new_notebook(cells=[v4.new_markdown_cell(marked)]), "s")
    text = "### Begin with a solution in mind\n\nInstead of guessing, count."
    assert generate(v4.new_notebook(cells=[v4.new_markdown_cell(text)]), "s").cells[0].source == text
    magics = "%matplotlib inline\n" + REASON
    assert generate(notebook(magics), "s").cells[0].source.startswith("%matplotlib inline\nanswer = ...")


def test_a_lab_has_no_outputs_no_tagged_cells_and_a_hash() -> None:
    nb = notebook(
        code("print(1)", stream("1\n"), llmlab={"rtol": 0.1}),
        code("explain()", tags=("solution",)),
        REASON,
        llmlab={"rtol": 0.2},
    )
    lab = generate(nb, "solutions/01_a.ipynb")
    assert [cell.source for cell in lab.cells] == ["print(1)", "answer = ...\nprint(answer)"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in lab.cells)
    assert all("llmlab" not in cell.metadata for cell in lab.cells), "a tolerance is for outputs, and there are none"
    assert lab.metadata.llmlab == {"from": "solutions/01_a.ipynb", "generated": source_hash(lab)}
    assert [cell.id for cell in lab.cells] == [nb.cells[0].id, nb.cells[2].id]
    assert nb.cells[0].outputs, "the solution is left as it was"


secrets = st.lists(st.integers(0, 10**6).map(lambda n: f"secret_{n} = {n}"), min_size=1, max_size=5)
blocks = st.tuples(secrets, st.booleans(), st.integers(0, 2))


@given(st.lists(st.lists(blocks, max_size=3), max_size=4))
def test_no_solution_line_ever_leaks_and_generating_again_changes_nothing(
    cells: list[list[tuple[list[str], bool, int]]],
) -> None:
    sources = []
    for cell in cells:
        lines = ["shown = 1"]
        for hidden, with_instead, depth in cell:
            indent = "    " * depth
            lines += [f"{'    ' * level}if shown:" for level in range(depth)]
            instead = ["### INSTEAD", "# answer = ..."] if with_instead or not depth else []
            lines += [indent + line for line in ["### BEGIN SOLUTION", *hidden, *instead, "### END SOLUTION"]]
        sources.append("\n".join(lines))
    nb = notebook(*(code(s, stream("secret_0\n")) for s in sources))
    lab = generate(nb, "solutions/01_a.ipynb")
    text = serialise(lab)
    assert "secret_" not in text
    assert "SOLUTION" not in text
    assert serialise(generate(nb, "solutions/01_a.ipynb")) == text
    assert [c.source for c in generate(lab, "solutions/01_a.ipynb").cells] == [c.source for c in lab.cells]


def edit(path: Path, index: int, source: str | None) -> str:
    """Change (or with None remove, or behind the last cell add) a cell as a learner would; returns the file's text."""
    nb = json.loads(path.read_text())
    if source is None:
        del nb["cells"][index]
    elif index == len(nb["cells"]):
        nb["cells"].append({**nb["cells"][0], "id": "mine", "source": source})
    else:
        nb["cells"][index]["source"] = source
    path.write_text(json.dumps(nb))
    return path.read_text()


@pytest.mark.parametrize(
    ("index", "source"), [(0, "my answer"), (3, "my note"), (1, None)], ids=["changed", "added", "removed"]
)
def test_a_learners_work_is_never_overwritten(tmp_path: Path, index: int, source: str | None) -> None:
    origin = save(tmp_path / "solutions" / "01_a.ipynb", solution())
    labs = tmp_path / "labs"
    assert str(write_lab(origin, labs)) == "labs/01_a.ipynb: written"
    assert str(write_lab(origin, labs)) == "labs/01_a.ipynb: unchanged"
    mine = edit(labs / "01_a.ipynb", index, source)

    said = write_lab(origin, labs)
    assert (
        "labs/01_a.ipynb holds somebody's work and was left alone; the new lab now lies beside it: 01_a.new.ipynb"
        in str(said)
    )
    assert (labs / "01_a.ipynb").read_text() == mine
    assert not write_lab(origin, labs).written, "it lies there already"

    save(origin, solution(BUILD))
    assert write_lab(origin, labs).path.name == "01_a.new.ipynb", "a new lab that nobody has touched is renewed"
    mine_too = edit(labs / "01_a.new.ipynb", 0, "my second try")
    save(origin, solution(DEBUG))
    assert write_lab(origin, labs).path.name == "01_a.new2.ipynb"
    assert (labs / "01_a.ipynb").read_text() == mine
    assert (labs / "01_a.new.ipynb").read_text() == mine_too
    assert read(labs / "01_a.new2.ipynb").cells[0].source == cut(DEBUG)


def test_a_lab_that_was_only_run_is_no_work_and_an_unreadable_one_is(tmp_path: Path) -> None:
    origin = save(tmp_path / "solutions" / "01_a.ipynb", solution())
    path = write_lab(origin, tmp_path / "labs").path
    run = read(path)
    run.cells[2].outputs = [stream("Ellipsis\n")]
    run.metadata["language_info"] = {"name": "python", "version": "3.13.1"}
    path.write_text(serialise(run))
    save(origin, solution(BUILD))
    assert str(write_lab(origin, tmp_path / "labs")) == "labs/01_a.ipynb: written"
    path.write_text("{ half a file")
    assert "left alone" in str(write_lab(origin, tmp_path / "labs"))
    assert path.read_text() == "{ half a file"


def test_check_names_every_lab_that_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("01_a", "02_b", "03_c"):
        save(tmp_path / "solutions" / f"{name}.ipynb", solution())
    assert main(["--root", str(tmp_path), "labs"]) == 0
    assert main(["--root", str(tmp_path), "labs", "--check"]) == 0
    assert "every lab is what its solution generates" in capsys.readouterr().out
    save(tmp_path / "solutions" / "01_a.ipynb", solution(BUILD))
    (tmp_path / "labs" / "02_b.ipynb").unlink()
    save(tmp_path / "solutions" / "04_d.ipynb", notebook("### BEGIN SOLUTION"))
    save(tmp_path / "labs" / "09_z.ipynb", solution())
    save(tmp_path / "labs" / "03_c.new.ipynb", solution())
    assert main(["--root", str(tmp_path), "labs", "--check"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in said] == [
        "labs/01_a.ipynb",
        "labs/02_b.ipynb",
        "solutions/04_d.ipynb,",
        "labs/09_z.ipynb",
    ]
    assert len(check_labs(tmp_path)) == 4


def test_an_unsolved_lab_is_run_from_top_to_bottom(tmp_path: Path) -> None:
    origin = save(tmp_path / "solutions" / "01_a.ipynb", solution())
    lab = write_lab(origin, tmp_path / "labs").path
    assert run_lab(lab) == "Ellipsis"
    edit(lab, 2, "print('here')\nscale(1, 1)")
    with pytest.raises(
        ToolError, match="01_a.ipynb does not run from top to bottom: code cell 3 .* raised NotImplementedError"
    ):
        run_lab(lab)
