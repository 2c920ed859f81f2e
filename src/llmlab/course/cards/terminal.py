"""``llmlab cards``: review in the terminal, show what is known, export, recover."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from llmlab.course import progress
from llmlab.course.cards.deck import KINDS, Card, cards, choose
from llmlab.course.cards.schedule import RATINGS, Memory, due, memories, record, reviews, undo
from llmlab.course.lessons import lesson, parts
from llmlab.course.questions import fold

__all__ = ["main", "wait"]

KEYS = "1 again   2 hard   3 good   4 easy   ·   u undo   s not now   q quit"


def main(argv: list[str] | None = None) -> int:
    """Returns 0, or 2 when the words make no sense together."""
    args = _parser().parse_args(argv)
    kinds = tuple(KINDS) if args.deck == "all" else (args.deck,)
    try:
        if args.recover:
            return _recover(args.recover)
        if args.export:
            return _export(args.export, kinds, zh=args.zh)
        if args.stats:
            print("\n".join(_stats(memories())))
            return 0
        chosen = choose(
            memories(), new=args.new, kinds=kinds, part=args.part, notebook=args.notebook,
            difficulty=args.difficulty, weak=args.weak,
        )  # fmt: skip
    except (ValueError, KeyError, OSError) as error:
        print(error.args[0] if isinstance(error, KeyError) else error, file=sys.stderr)
        return 2
    _session(chosen, zh=args.zh)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmlab cards", description="The interview questions as cards, shown when they are about to be forgotten."
    )
    parser.add_argument(
        "--deck", choices=[*KINDS, "all"], default="question", help="which cards (question if left out)"
    )
    parser.add_argument("--part", type=str.upper, help="a part of the course: I to VIII")
    parser.add_argument("--notebook", metavar="NN", help="a lesson")
    parser.add_argument("--difficulty", type=int, help="1 basic, 2 working knowledge, 3 expert")
    parser.add_argument("--new", type=int, default=10, metavar="N", help="at most N cards never seen (10)")
    parser.add_argument("--weak", action="store_true", help="what was forgotten most often, due or not")
    parser.add_argument("--zh", action="store_true", help="in Chinese, where the card is in both languages")
    parser.add_argument("--stats", action="store_true", help="what is known, what fades, what is due")
    parser.add_argument(
        "--export", metavar="FILE", type=Path, help="write all cards of the deck: FILE.apkg or FILE.csv"
    )
    parser.add_argument(
        "--recover", metavar="FILE", type=Path, help="bring back what a damaged progress file still holds"
    )
    return parser


def _session(chosen: Sequence[Card], *, zh: bool) -> None:
    """Show the cards one by one. Every rating is saved before the next card is shown."""
    if not chosen:
        print("Nothing is due, and nothing new fits. `llmlab cards --stats` says when the next cards come.")
        return
    queue = list(chosen)
    done: list[tuple[Card, int | None]] = []
    while queue:
        card = queue[0]
        print(f"\n{len(done) + 1} of {len(done) + len(queue)} · {card.id} · {_place(card)}\n")
        print("\n".join(line for text in card.front(zh).split("\n") for line in fold(text, indent="  ")))
        if _ask("\n[Enter] shows the answer, q quits: ") == "q":
            break
        print()
        print("\n".join(fold(card.back(zh), indent="  ")))
        word = _rated(f"\n{KEYS}\n> ")
        if word == "q":
            break
        if word == "s":
            queue.pop(0)
        elif word == "u":
            if done and (n := done[-1][1]) is not None and undo(n):
                last = done.pop()[0]
                print(f"{last.id}: the rating is taken back.")
                queue = [last, *(other for other in queue if other != last)]
            else:
                print("There is nothing to take back.")
        else:
            queue.pop(0)
            done.append((card, record(card.id, int(word))))
            if word == "1":  # what was not known comes again at the end
                queue.append(card)
            if done[-1][1] is None:
                print("The rating could not be saved.")
            else:
                print(f"{RATINGS[int(word)]}. Again in {wait(memories()[card.id].due - datetime.now(UTC))}.")
    print(f"\n{len(done)} reviewed.")


def _rated(prompt: str) -> str:
    while (word := _ask(prompt)) not in ("1", "2", "3", "4", "u", "s", "q"):
        print("1, 2, 3, 4, u, s or q.")
    return word


def _ask(prompt: str) -> str:
    """A line typed; the end of the input quits, and so does Ctrl-C, with everything saved."""
    try:
        return input(prompt).strip().lower()
    except (EOFError, KeyboardInterrupt):
        print()
        return "q"


def _place(card: Card) -> str:
    entry = lesson(card.notebook)
    return f"notebook {entry.number} {entry.title} · difficulty {card.question.difficulty}"


def wait(time: timedelta) -> str:
    """A time to wait in the largest unit of which it holds at least one."""
    seconds = max(time.total_seconds(), 0)
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = round(seconds / size)
            return f"{count} {unit}{'s' * (count != 1)}"
    return "less than a minute"


def _stats(known: dict[str, Memory]) -> list[str]:
    """A line a part of the course: how many question cards are known, fading, never seen; and what comes when."""
    deck = [card for card in cards() if card.kind == "question"]
    lines = [f"{'part':28} {'known':>6} {'fading':>7} {'new':>5}"]
    for p in parts():
        mine = [card.id for card in deck if card.part == p.number]
        seen = [known[id] for id in mine if id in known]
        sure = sum(m.known for m in seen)
        name = f"{p.number} {p.title}"
        lines.append(f"{name:28} {sure:6} {len(seen) - sure:7} {len(mine) - len(seen):5}")
    now = datetime.now(UTC)
    days = Counter(max((m.due - now).days, 0) for m in known.values() if m.due > now)
    lines.append(f"\nDue now: {len(due(known.values(), now=now))}. Reviews so far: {len(reviews())}.")
    if days:
        coming = ", ".join(
            f"{count} in {day} d" if day else f"{count} today" for day, count in sorted(days.items())[:7]
        )
        lines.append(f"Coming: {coming}.")
    return lines


def _export(file: Path, kinds: tuple[str, ...], *, zh: bool) -> int:
    chosen = [card for card in cards() if card.kind in kinds]
    if file.suffix == ".apkg":
        from llmlab.course.cards.anki import write_apkg

        pictures = write_apkg(file, chosen, zh=zh)
        print(f"{file}: {len(chosen)} cards, {pictures} pictures. In Anki: File, Import.")
    elif file.suffix == ".csv":
        from llmlab.course.cards.sheet import write_csv

        write_csv(file, chosen)
        print(f"{file}: {len(chosen)} cards")
    else:
        raise ValueError(f"--export {file}: expected a name that ends in .apkg (Anki) or .csv")
    return 0


def _recover(file: Path) -> int:
    found = progress.recover(file)
    if not found:
        return 1  # the store has said why it cannot be written
    print(f"Brought back from {file.name}: " + ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in found.items()))
    return 0
