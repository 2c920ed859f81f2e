"""The command line finds its commands, and imports only the one that is called."""

import importlib
import subprocess
import sys

import pytest

from llmlab import cli


@pytest.mark.parametrize("word", cli.COMMANDS)
def test_every_command_exists(word):
    assert callable(importlib.import_module(cli.COMMANDS[word][0]).main)


def test_an_unknown_word_is_answered_with_the_known_ones(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["latte"])
    assert "doctor" in capsys.readouterr().err


def test_help_is_instant_because_torch_is_not_imported():
    program = "import sys, llmlab.cli\ntry: llmlab.cli.main(['--help'])\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False" and "doctor" in done.stdout


def test_an_interrupt_is_a_word_not_a_stack_trace(monkeypatch, capsys):
    monkeypatch.setattr("llmlab.doctor.main", lambda argv: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cli.main(["doctor"]) == 130
    assert "stopped" in capsys.readouterr().err
