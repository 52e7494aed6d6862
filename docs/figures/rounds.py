"""docs/images/rounds.svg: what quantile, canary and the faster half of the rounds do to the times of a campaign.

Make it anew: make demo && python docs/figures/rounds.py       (reads the demo's spool, runs/demo/spool)
"""

import json
from pathlib import Path

import numpy as np
from figure import GREY, ORANGE, TEAL, VIOLET, make_axes, save

SPOOL = Path("runs/demo/spool/runs")


def main() -> None:
    """Left: the rounds of the network whose medians spread as those of half of the networks. Right: all networks."""
    newest = max(SPOOL.glob("*/measurements.jsonl"), key=lambda path: path.stat().st_mtime)
    measurements = [json.loads(line) for line in newest.read_text(encoding="utf-8").splitlines()]
    networks = [estimates(one["rounds"]) for one in measurements if one["role"] in ("calibration", "held_out")]
    networks.sort(key=lambda one: spread(one[0]))
    medians, _, ratios = networks[len(networks) // 2]
    drawing, (left, right) = make_axes(columns=2, size=(8.6, 3.2), width_ratios=(1.35, 1))
    rounds = np.arange(1, len(ratios) + 1)
    faster = ratios <= np.median(ratios)
    left.plot(rounds, 100 * (medians / np.median(medians) - 1), "o", color=ORANGE, label="median by the clock")
    relative = 100 * (ratios / ratios[faster].mean() - 1)
    left.plot(rounds[~faster], relative[~faster], "o", color=TEAL, fillstyle="none")
    left.plot(rounds[faster], relative[faster], "o", color=TEAL, label="5 % quantile over the canary's (filled: kept)")
    left.axhline(0, color=GREY, linewidth=0.8)
    left.set(xlabel="round", ylabel="from its level (%)")
    left.set_title("A network's rounds beside busy neighbours", loc="left")
    left.legend(fontsize=8)
    rows = {
        "median by the clock": (ORANGE, np.median([spread(one[0]) for one in networks])),
        "5 % quantile": (VIOLET, np.median([spread(one[1]) for one in networks])),
        "... over the canary's": (TEAL, np.median([spread(one[2]) for one in networks])),
        "mean of the faster half": (TEAL, np.median([repeats_within(one[2]) for one in networks])),
    }
    bars = right.barh(list(rows), [value for _, value in rows.values()], color=[colour for colour, _ in rows.values()])
    right.bar_label(bars, fmt="%.1f %%", padding=3)
    right.invert_yaxis()
    right.grid(visible=False)
    right.margins(x=0.2)
    right.set_xticks([])
    right.spines["bottom"].set_visible(False)
    right.set_title(f"spread over rounds, {len(networks)} networks", loc="left")
    save(drawing, "rounds")


def estimates(rounds: list[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each round: the graph's median and its 5 % quantile in ms, and that over the canary's."""
    medians = np.array([np.median(one["graph_ms"]) for one in rounds])
    quantiles = np.array([np.quantile(one["graph_ms"], 0.05, method="inverted_cdf") for one in rounds])
    canary = np.array([np.quantile(one["canary_ms"], 0.05, method="inverted_cdf") for one in rounds])
    return medians, quantiles, quantiles / canary


def spread(values: np.ndarray) -> float:
    """Standard deviation in percent of the mean."""
    return 100 * float(np.std(values, ddof=1) / np.mean(values))


def repeats_within(ratios: np.ndarray) -> float:
    """How far the estimates of odd and of even rounds lie apart, as the standard deviation of an estimate of all."""
    odd, even = (half[half <= np.median(half)].mean() for half in (ratios[::2], ratios[1::2]))
    return 100 * abs(float(np.log(odd / even))) / 2


if __name__ == "__main__":
    main()
