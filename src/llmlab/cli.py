"""The command line: ``llmlab lab | test | nb | assets | questions | doctor | recipes | bench | estimate``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable

__all__ = ["main"]

#: word -> (module with ``main(argv) -> int``, what it does). Imported only when called, so that help is instant.
COMMANDS = {
    "lab": ("llmlab.course.desk", "open JupyterLab on the start page"),
    "test": ("llmlab.course.testing", "run every test, notebook and lab"),
    "nb": ("llmlab.course.nb", "notebook tools: regen, check, labs, start"),
    "assets": ("llmlab.assets", "the real models and data: list, fetch, verify, path"),
    "questions": ("llmlab.course.questions", "the interview questions and their answers"),
    "find": ("llmlab.course.find", "where something is taught"),
    "cards": ("llmlab.course.cards", "review the questions as cards; export them to Anki"),
    "drills": ("llmlab.course.drills", "the sums that interviewers ask for, with fresh numbers"),
    "faults": ("llmlab.course.faults", "short programs that run and are wrong: mend them"),
    "interview": ("llmlab.course.mock", "a mock interview, drawn by a seed, against the clock"),
    "recipes": ("llmlab.recipes", "train the small checkpoints that ship with the course"),
    "bench": ("llmlab.bench", "measure this machine: attention"),
    "estimate": ("llmlab.estimate.commands", "what a published model costs: parameters, bytes, operations"),
    "lock": ("llmlab.course.lock", "pin the requirements again (contributors)"),
    "doctor": ("llmlab.doctor", "what this machine has, and what is missing"),
}


def main(argv: list[str] | None = None) -> int:
    """Hand the words after the first to the command that the first names. Returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="llmlab",
        description="Fifty questions, fifty experiments.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {word:10} {what}" for word, (_, what) in COMMANDS.items()),
    )
    parser.add_argument("command", choices=COMMANDS, metavar="command")
    args = parser.parse_args(words[:1])
    command: Callable[[list[str]], int] = importlib.import_module(COMMANDS[args.command][0]).main
    try:
        return command(words[1:])
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `llmlab … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
