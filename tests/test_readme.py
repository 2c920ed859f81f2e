"""The README's links lead somewhere, and its commands exist."""

import re
from pathlib import Path

import pytest

from llmlab import cli

HOME = Path(__file__).parents[1]
TEXT = (HOME / "README.md").read_text(encoding="utf8")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", TEXT))))
def test_links_lead_somewhere(target):
    assert target.startswith("https://") or (HOME / target).exists()


def test_commands_exist():
    named = set(re.findall(r"(?:course\.py|-m llmlab|`llmlab) ([a-z]+)", TEXT))
    assert {"lab", "test", "doctor", "assets", "questions", "nb"} <= named <= set(cli.COMMANDS)


def test_every_notebook_is_on_the_map():
    for file in (HOME / "notebooks").glob("[0-9][0-9]_*.ipynb"):
        assert file.name.startswith("00_") or f"notebooks/{file.name}" in TEXT
