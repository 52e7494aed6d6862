"""A QR code as lines of text, two rows of it a line."""

from __future__ import annotations

import segno

_QUIET = 2
"""Modules of margin; the standard asks for four, readers take two."""
_BLACK_ON_WHITE, _PLAIN = "\033[38;5;16;48;5;231m", "\033[0m"


def qr_lines(text: str, colour: bool) -> list[str]:
    """The code of a text.

    Args:
        colour: draw black on white, whatever the terminal's own colours are. Without, what is light is drawn, which is
            right on a dark terminal.
    """
    rows = [list(row) for row in segno.make(text, error="m", micro=False).matrix_iter(border=_QUIET)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    # What is drawn: dark modules in colour, light ones without.
    blocks = {(1, 1): "█", (1, 0): "▀", (0, 1): "▄", (0, 0): " "}
    drawn = 1 if colour else 0
    lines = [
        "".join(blocks[int(upper == drawn), int(lower == drawn)] for upper, lower in zip(top, bottom, strict=True))
        for top, bottom in zip(rows[::2], rows[1::2], strict=True)
    ]
    return [f"{_BLACK_ON_WHITE}{line}{_PLAIN}" for line in lines] if colour else lines
