"""Runs of this folder by itself, with ``TRITON_INTERPRET=1``: every test of an interpreted kernel is under the sanitizer."""

from __future__ import annotations

import os

import pytest

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(autouse=INTERPRETED)
def seen():
    """What the sanitizer saw of this test's launches."""
    from sanitizer import sanitized

    with sanitized() as seen:
        yield seen
