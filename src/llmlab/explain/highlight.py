"""A text with its explanation: colour for the eye, a signed number for everyone."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from llmlab.explain.lime import Units

__all__ = ["highlight"]


def highlight(
    units: Units,
    weights: Sequence[float] | Float[np.ndarray, " units"],
    *,
    title: str = "",
    kept: Sequence[bool] | None = None,
    scale: float | None = None,
) -> str:
    """HTML: every unit with its weight under it; blue speaks for the label, orange against.

    Args:
        weights: one signed number a unit.
        title: a line above.
        kept: units that are False are struck out and carry no number.
        scale: the weight that gets the full colour (default: the largest absolute weight).

    Raises:
        ValueError: not one weight a unit.
    """
    if len(weights) != len(units):
        raise ValueError(f"highlight got {len(weights)} weights for {len(units)} units")
    full = scale or float(np.max(np.abs(weights))) or 1.0
    owner = {place: u for u, places in enumerate(units.places) for place in places}
    spans = []
    for i, piece in enumerate(units.pieces):
        text = html.escape(piece).replace(" ", "&nbsp;")
        if i not in owner:
            spans.append(f'<span style="padding:0 1px;vertical-align:top">{text}</span>')
        elif kept is not None and not kept[owner[i]]:
            spans.append(f'<span style="{_BOX}opacity:.4"><s>{text}</s><br>{_SMALL}off</small></span>')
        else:
            w = float(weights[owner[i]])
            shade = f"rgba({'0,114,178' if w > 0 else '213,94,0'},{min(1.0, abs(w) / full) * 0.55:.2f})"
            spans.append(
                f'<span style="{_BOX}background:{shade}">{text}<br>{_SMALL}{round(w, 2) + 0:+.2f}</small></span>'
            )
    head = f'<div style="margin-bottom:4px">{html.escape(title)}</div>' if title else ""
    return f'<div style="line-height:1.3;margin:6px 0">{head}{" ".join(spans)}</div>'


_BOX = "display:inline-block;text-align:center;padding:1px 3px;margin:1px;border-radius:3px;"
_SMALL = '<small style="font-size:70%">'
