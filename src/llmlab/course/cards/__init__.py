"""Cards: the question bank as flash cards, reviewed when they are about to be forgotten.

``deck`` makes the cards of the bank, ``schedule`` says when each is due, ``terminal`` and ``panel`` review them in a
terminal and in JupyterLab, ``anki`` and ``sheet`` take them elsewhere.
"""

from llmlab.course.cards.chart import memory_chart
from llmlab.course.cards.deck import Card, cards, choose
from llmlab.course.cards.panel import review_cards
from llmlab.course.cards.schedule import Memory, Review, due, memories, record, reviews, undo
from llmlab.course.cards.terminal import main

__all__ = [
    "Card",
    "Memory",
    "Review",
    "cards",
    "choose",
    "due",
    "main",
    "memories",
    "memory_chart",
    "record",
    "review_cards",
    "reviews",
    "undo",
]
