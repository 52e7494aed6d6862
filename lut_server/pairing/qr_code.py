"""A QR code as lines of text for a terminal, two rows of modules a line."""

from __future__ import annotations

import io

import segno

_QUIET = 2
"""Modules of margin; the standard asks for four, readers take two."""
_WHITE_ON_BLACK, _PLAIN = "\033[38;5;231;48;5;16m", "\033[0m"


def qr_lines(text: str, colour: bool) -> list[str]:
    """The code of a text. Light modules are drawn, which without `colour` takes a dark terminal."""
    drawn = io.StringIO()
    segno.make(text, error="m", micro=False).terminal(drawn, border=_QUIET, compact=True)
    lines = drawn.getvalue().splitlines()
    return [f"{_WHITE_ON_BLACK}{line}{_PLAIN}" for line in lines] if colour else lines
