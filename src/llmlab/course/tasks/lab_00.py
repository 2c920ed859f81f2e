"""The one task of the start page: it shows what a check is like."""

from __future__ import annotations

from typing import Any

from llmlab.course.checking import Bank, Case, Task, expect_number


def check_equal_scores(answer: Any) -> str:
    expect_number(
        answer,
        0.25,
        what="the weight of one of four equal scores",
        near_misses={
            1.0: "a weight of 1 for each would sum to 4, and softmax weights sum to 1",
            4.0: "that is how many scores there are; their weights share one whole",
            0.5: "that would be right for two equal scores; here are four",
        },
    )
    return "equal scores share the weight equally, whatever the temperature"


TASKS = [
    Task(
        id="00.equal_scores",
        kind="reason",
        title="Four equal scores",
        difficulty=1,
        minutes=1,
        hints=("What do the four weights add up to?", "Four equal numbers that sum to 1."),
        check=check_equal_scores,
        bank=Bank(
            wrong=[
                Case("each gets all", 1, "sum to 1"),
                Case("the count", 4, "share one whole"),
                Case("two of them", 0.5, "two equal scores"),
                Case("nothing", 0.0, "weight"),
            ],
            right=[Case("as a fraction", 1 / 4)],
        ),
    ),
]
