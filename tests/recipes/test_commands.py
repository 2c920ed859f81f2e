"""Each recipe is started as its module wants to be: with its name where the module has several, with nothing else."""

from __future__ import annotations

import importlib
import inspect

import pytest

from llmlab import recipes


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_the_command_starts_the_recipe(name, monkeypatch):
    module = importlib.import_module(f"llmlab.recipes.{recipes.RECIPES[name][0]}")
    wants, got = inspect.signature(module.main), []

    def stand_in(*args):
        wants.bind(*args)
        got.append(args)

    monkeypatch.setattr(module, "main", stand_in)
    assert recipes.main([name]) == 0
    several = sum(other == recipes.RECIPES[name][0] for other, _ in recipes.RECIPES.values()) > 1
    assert got == [(name,) if several else ()]


def test_without_a_name_they_are_listed(capsys):
    assert recipes.main([]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in recipes.RECIPES)
