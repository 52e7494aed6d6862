"""What plotly draws, from views. A colour is the name of one in the style sheet: the script looks it up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lut_server.pages.comparison import ComparisonView
from lut_server.pages.history import HistoryView
from lut_server.pages.searches import SearchView
from lut_server.pages.tables import NetworksView, TableView
from shared.search_result import FoundNetwork
from shared.tables.table import NetworkCheck, OpPrice

Plot = dict[str, Any]

ACCENT, SECOND, GOOD, BAD = "--accent", "--second", "--good", "--bad"
MUTED, TEXT = "--muted", "--text"
_ROW_PX = 24
_SCALE = [[index / 4, f"--heat-{index}"] for index in range(5)]


def heat_map(view: TableView) -> Plot:
    """Price by op (primitive and channels) and resolution, on a logarithmic scale."""
    grid = view.heat_map
    prices = [[None if one is None else one.price_ms for one in row] for row in grid.cells]
    logs = [[None if value is None or value <= 0 else math.log10(value) for value in row] for row in prices]
    known = [value for row in logs for value in row if value is not None]
    ticks = _log_ticks(min(known), max(known)) if known else []
    trace = {
        "type": "heatmap",
        "x": list(grid.columns),
        "y": list(grid.rows),
        "z": logs,
        "text": [["" if one is None else f"{one.price_ms:.3g}" for one in row] for row in grid.cells],
        "texttemplate": "%{text}",
        "customdata": [["" if one is None else _price_text(one) for one in row] for row in grid.cells],
        "hovertemplate": "%{y}<br>at %{x}<br>%{customdata}<extra></extra>",
        "hoverongaps": False,
        "colorscale": _SCALE,
        "xgap": 2,
        "ygap": 2,
        "colorbar": {
            "title": {"text": "ms"},
            "tickvals": ticks,
            "ticktext": [f"{10**tick:.2g}" for tick in ticks],
            "thickness": 10,
            "outlinewidth": 0,
        },
    }
    height = 90 + _ROW_PX * len(grid.rows)
    layout = {
        "height": height,
        "xaxis": {"title": {"text": "resolution"}, "type": "category", "showgrid": False},
        "yaxis": {"type": "category", "autorange": "reversed", "automargin": True, "showgrid": False, "dtick": 1},
    }
    return {"id": "heat-map", "traces": [trace], "layout": layout}


def kinds_of_cost(view: TableView) -> Plot | None:
    """Isolated beside marginal cost and price, the dearest ops; None where nothing was timed alone."""
    shown = [one for one in view.dearest if one.isolated_ms is not None]
    if not shown:
        return None
    names = [one.op_key for one in shown]
    series = (
        ("alone", [one.isolated_ms for one in shown], MUTED, "diamond-open"),
        ("marginal", [one.marginal_ms for one in shown], SECOND, "circle-open"),
        ("price", [one.price_ms for one in shown], ACCENT, "circle"),
    )
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": values,
            "y": names,
            "marker": {"color": colour, "symbol": symbol, "size": 9},
            "hovertemplate": "%{y}<br>" + name + " %{x:.4g} ms<extra></extra>",
        }
        for name, values, colour, symbol in series
    ]
    layout = {
        "height": 110 + 20 * len(shown),
        "xaxis": {"title": {"text": "ms"}, "type": "log"},
        "yaxis": {"type": "category", "autorange": "reversed", "automargin": True, "dtick": 1},
    }
    return {"id": "kinds-of-cost", "traces": traces, "layout": layout}


def predicted_against_measured(view: NetworksView) -> Plot:
    """Networks with their bound above the prediction, beside the diagonal."""
    traces = [
        _bounded([one for one in view.plotted if one.role != "held_out"], "calibration (in the fit)", MUTED, 6),
        _bounded([one for one in view.plotted if one.role == "held_out"], "held out (never in a fit)", ACCENT, 8),
    ]
    seen = [one.measured_ms for one in view.plotted] + [one.predicted_ms for one in view.plotted]
    if seen:
        ends = [0.95 * min(seen), 1.05 * max(seen)]
        line = {"color": TEXT, "dash": "dot", "width": 1}
        traces.append(
            {"type": "scatter", "x": ends, "y": ends, "mode": "lines", "line": line, "name": "predicted = measured"}
        )
    layout = {
        "height": 480,
        "xaxis": {"title": {"text": "measured on the device, ms"}},
        "yaxis": {"title": {"text": "predicted, 95 % bound above, ms"}},
    }
    return {"id": "networks", "traces": traces, "layout": layout}


def largest_changes(view: ComparisonView) -> Plot:
    """After over before with its interval, the largest effects, beside the line of no change."""
    traces = []
    for verdict, colour in (("slower", BAD), ("faster", GOOD), ("same", MUTED)):
        shown = [one for one in view.largest if one.verdict == verdict]
        if not shown:
            continue
        ratios = [one.ratio or 1.0 for one in shown]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": verdict,
                "x": ratios,
                "y": [one.subject for one in shown],
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [max((one.high or 1.0) - ratio, 0.0) for one, ratio in zip(shown, ratios, strict=True)],
                    "arrayminus": [
                        max(ratio - (one.low or 1.0), 0.0) for one, ratio in zip(shown, ratios, strict=True)
                    ],
                    "color": colour,
                    "thickness": 1.5,
                    "width": 4,
                },
                "marker": {"color": colour, "size": 8},
                "hovertemplate": "%{y}<br>× %{x:.3f}<extra></extra>",
            }
        )
    line = {"type": "line", "x0": 1, "x1": 1, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": TEXT, "dash": "dot"}}
    order = [one.subject for one in view.largest]
    layout = {
        "height": 130 + 20 * len(order),
        "shapes": [line],
        "xaxis": {"title": {"text": "after / before"}, "type": "log", "tickformat": ".4~g"},
        "yaxis": {
            "type": "category",
            "categoryorder": "array",
            "categoryarray": order,
            "autorange": "reversed",
            "dtick": 1,
        },
    }
    return {"id": "changes", "traces": traces, "layout": layout}


def accuracy_against_latency(view: SearchView) -> Plot:
    """Family, baseline and ladder; the ladder by what the device measured."""
    result = view.found.result
    traces = [
        _front("random baseline", result.random, MUTED, "markers"),
        _front("family", sorted(result.members, key=lambda one: one.predicted_ms), ACCENT, "lines+markers"),
    ]
    rungs = [one for one in result.ladder if one.accuracy is not None]
    if rungs:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "ladder, measured",
                "x": [one.measured_ms for one in rungs],
                "y": [one.accuracy for one in rungs],
                "text": [f"budget {one.target_ms:.4g} ms, {'met' if one.met else 'missed'}" for one in rungs],
                "marker": {"color": SECOND, "size": 10, "symbol": "diamond"},
                "hovertemplate": "measured %{x:.4g} ms<br>%{y:.2f} %<br>%{text}<extra></extra>",
            }
        )
    layout = {
        "height": 440,
        "xaxis": {"title": {"text": "latency, ms"}},
        "yaxis": {"title": {"text": "accuracy, %"}},
    }
    return {"id": "front", "traces": traces, "layout": layout}


def _front(name: str, networks: Sequence[FoundNetwork], colour: str, mode: str) -> Plot:
    return {
        "type": "scatter",
        "mode": mode,
        "name": name,
        "x": [one.predicted_ms for one in networks],
        "y": [one.accuracy for one in networks],
        "text": [one.genotype for one in networks],
        "line": {"color": colour, "width": 1},
        "marker": {"color": colour, "size": 7},
        "hovertemplate": "predicted %{x:.4g} ms<br>%{y:.2f} %<br>%{text}<extra></extra>",
    }


def price_history(view: HistoryView) -> Plot:
    """An op's price over the versions of the runtime, one line for each way of running it."""
    traces: list[Plot] = []
    colours = (ACCENT, SECOND, GOOD, MUTED)
    for place, setting in enumerate(dict.fromkeys(one.setting for one in view.entries)):
        entries = [one for one in view.entries if one.setting == setting]
        colour = colours[place % len(colours)]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": setting,
                "x": [one.version for one in entries],
                "y": [one.price_ms for one in entries],
                "error_y": {"type": "data", "array": [2 * one.sd_ms for one in entries], "color": colour, "width": 4},
                "line": {"color": colour, "width": 1},
                "marker": {"color": colour, "size": 8},
                "text": [f"{one.created_at[:10]}, table {one.table[:10]}" for one in entries],
                "hovertemplate": "%{x}: %{y:.4g} ms<br>%{text}<extra></extra>",
            }
        )
    versions = list(dict.fromkeys(one.version for one in sorted(view.entries, key=lambda one: one.version_order)))
    layout = {
        "height": 400,
        "xaxis": {"type": "category", "categoryorder": "array", "categoryarray": versions},
        "yaxis": {"title": {"text": "price ± 2 sd, ms"}, "rangemode": "tozero"},
    }
    return {"id": "history", "traces": traces, "layout": layout}


def _bounded(points: Sequence[NetworkCheck], name: str, colour: str, size: int) -> Plot:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [one.measured_ms for one in points],
        "y": [one.predicted_ms for one in points],
        "text": [one.genotype for one in points],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [max(one.upper_ms - one.predicted_ms, 0.0) for one in points],
            "arrayminus": [0.0] * len(points),
            "color": colour,
            "thickness": 1,
            "width": 3,
        },
        "marker": {"color": colour, "size": size},
        "hovertemplate": "measured %{x:.4g} ms<br>predicted %{y:.4g} ms<br>%{text}<extra></extra>",
    }


def _price_text(price: OpPrice) -> str:
    lines = [
        f"price {price.price_ms:.4g} ± {price.sd_ms:.2g} ms",
        f"marginal {price.marginal_ms:.4g} ms ({price.marginal_low_ms:.4g} to {price.marginal_high_ms:.4g})",
    ]
    if price.isolated_ms is not None:
        lines.append(f"alone {price.isolated_ms:.4g} ms")
    return "<br>".join(lines if price.stable else [*lines, "not stable"])


def _log_ticks(low: float, high: float) -> list[float]:
    steps = [math.log10(digit) + power for power in range(-6, 5) for digit in (1, 2, 5)]
    inside = [one for one in steps if low <= one <= high]
    return inside if len(inside) < 9 else inside[::3]
