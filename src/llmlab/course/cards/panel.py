"""Cards in JupyterLab: a panel that is worked with the mouse or with Tab, Enter and the arrow keys."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from llmlab.course.cards.deck import KINDS, Card, choose
from llmlab.course.cards.schedule import RATINGS, memories, record, undo
from llmlab.course.cards.terminal import wait
from llmlab.course.lessons import lesson, parts
from llmlab.course.widgets import _display, _prose

__all__ = ["review_cards"]


def review_cards(*, new: int = 10) -> None:
    """Show the cards that are due, one by one. Each rating is saved at once and can be taken back.

    Args:
        new: at most so many cards that were never seen.
    """
    panel = Panel(new)
    card = panel.queue[0] if panel.queue else None
    front = html.escape(card.front()) if card else "Nothing is due."
    static = f"<p><strong>Cards.</strong> {len(panel.queue)} wait.</p><p>{front}</p>"
    if card:
        static += f"<details><summary>Answer</summary>{html.escape(card.back())}</details>"
    text = f"Cards: {len(panel.queue)} wait, the first is {card.id}" if card else "Cards: nothing is due"
    _display(panel.box, {"text/html": static, "text/plain": text})


@dataclass
class Panel:
    """The panel's state and widgets. ``done``: the cards rated in this session, each with the row of its rating."""

    new: int
    queue: list[Card] = field(default_factory=list)
    done: list[tuple[Card, int | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        import ipywidgets as w

        style: dict[str, Any] = {
            "style": {"description_width": "9ch"},
            "layout": w.Layout(width="17em", max_width="98%"),
        }
        every = [("all", None)]
        self.part = w.Dropdown(
            options=every + [(f"{p.number} {p.title}", p.number) for p in parts()], description="Part", **style
        )
        levels = [("1 basic", 1), ("2 working knowledge", 2), ("3 expert", 3)]
        self.difficulty = w.Dropdown(options=every + levels, description="Difficulty", **style)
        self.kind = w.Dropdown(options=[*KINDS], description="Cards", **style)
        self.language = w.Dropdown(options=[("English", False), ("中文", True)], description="Language", **style)
        self.weak = w.Checkbox(value=False, description="only what I forgot before", indent=False)
        self.face = w.HTML()
        self.show = w.Button(description="Show answer", button_style="primary", layout=w.Layout(width="10em"))
        self.rate = [w.Button(description=f"{k} {name}", tooltip=name) for k, name in RATINGS.items()]
        self.back = w.Button(description="Undo", tooltip="take the last rating back")
        self.said = w.HTML()
        for control in (self.part, self.difficulty, self.kind, self.weak):
            control.observe(lambda _: self.fill(), names="value")
        self.language.observe(lambda _: self.draw(), names="value")
        self.show.on_click(lambda _: self.turn())
        for rating, button in zip(RATINGS, self.rate):
            button.on_click(lambda _, rating=rating: self.rated(rating))
        self.back.on_click(lambda _: self.undo())
        self.answers = w.HBox([self.show, *self.rate, self.back], layout=w.Layout(flex_flow="row wrap"))
        choices = w.HBox(
            [self.part, self.difficulty, self.kind, self.language, self.weak], layout=w.Layout(flex_flow="row wrap")
        )
        self.box = w.VBox(
            [choices, self.face, self.answers, self.said], layout=w.Layout(padding="4px 12px", border="1px solid #8884")
        )
        self.box.add_class("llmlab-cards")
        self.fill()

    def fill(self) -> None:
        """Draw the session's cards again, by the menus."""
        self.queue = choose(
            memories(), new=self.new, kinds=(self.kind.value,), part=self.part.value,
            difficulty=self.difficulty.value, weak=self.weak.value,
        )  # fmt: skip
        self.draw()

    def draw(self, turned: bool = False) -> None:
        """Show the first card of the queue: its front, or both sides."""
        zh = self.language.value
        self.back.disabled = not self.done
        for button in self.rate:
            button.layout.display = "" if turned else "none"
        self.show.layout.display = "none" if turned or not self.queue else ""
        if not self.queue:
            self.face.value = _prose(
                "<p><strong>Nothing more is due.</strong> Choose another part, or come back later.</p>"
            )
            return
        card = self.queue[0]
        entry = lesson(card.notebook)
        place = f"{card.id} · {len(self.queue)} left · notebook {entry.number} {entry.title}"
        text = html.escape(card.front(zh)).replace("\n", "<br>")
        side = f"<p>{html.escape(place)}</p><p style='font-size:115%'><strong>{text}</strong></p>"
        if turned:
            side += f"<hr><p>{html.escape(card.back(zh))}</p>"
            if entry.exists():
                label = f"Notebook {entry.number}: the experiment behind it"
                side += f"<p><a href='{entry.name}.ipynb' target='_blank'>{label}</a></p>"
        self.face.value = _prose(f"<div style='max-width:46em' lang='{'zh' if zh else 'en'}'>{side}</div>")

    def turn(self) -> None:
        """Show the answer; the next key press rates."""
        self.draw(turned=True)
        self.rate[2].focus()

    def rated(self, rating: int) -> None:
        """Save the rating, then show the next card. What was not known comes again at the end."""
        card = self.queue.pop(0)
        row = record(card.id, rating)
        if rating == 1:
            self.queue.append(card)
        self.done.append((card, row))
        if row is None:
            self.say(f"{card.id}: {RATINGS[rating]}, but the rating could not be saved.")
        else:
            self.say(f"{card.id}: {RATINGS[rating]}. Again in {wait(memories()[card.id].due - datetime.now(UTC))}.")
        self.draw()
        self.show.focus()

    def undo(self) -> None:
        """Take the last rating back; its card is shown again."""
        card, row = self.done.pop()
        taken = row is None or undo(row)
        self.say(
            f"{card.id}: the rating is taken back." if taken else f"{card.id}: the rating was taken back elsewhere."
        )
        self.queue = [card, *(other for other in self.queue if other != card)]
        self.draw()
        self.show.focus()

    def say(self, sentence: str) -> None:
        """One line under the buttons, which a screen reader speaks."""
        self.said.value = f"<p role='status'>{html.escape(sentence)}</p>"
