"""check_token.py DEVICE ANSWER: what keeps a token from acting for the device, by the answer of GET
/v1/token.
"""

from __future__ import annotations

import json
import sys


def find_problem(device: str, answer: str) -> str:
    """What is wrong with the token, to follow the words "the token"; nothing where it fits."""
    may = json.loads(answer)
    if may["role"] not in ("agent", "admin"):
        return f"has the role {may['role']}"
    if may["device"] not in (None, device):
        return f"is bound to the device {may['device']}"
    return ""


if __name__ == "__main__":
    print(find_problem(*sys.argv[1:]))
