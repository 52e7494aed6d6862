"""What plotly draws of the views. A colour is a name of the style sheet; the script looks it up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lut_server.pages.comparison import ComparisonView
from lut_server.pages.history import HistoryView
from lut_server.pages.lists import SearchView
from lut_server.pages.tables import NetworksView, TableView
from shared.search_result import FoundNetwork
from shared.tables.table import NetworkCheck, OpPrice

Plot = dict[str, Any]

ACCENT, SECOND, GOOD, BAD = "--accent", "--second", "--good", "--bad"
MUTED, TEXT = "--muted", "--text"
_ROW_PX = 24
_SCALE = [[index / 4, f"--heat-{index}"] for index in range(5)]
_NAMES_DOWN = {"type": "category", "autorange": "reversed", "dtick": 1}


def heat_map(view: TableView) -> Plot:
    """Price by op (primitive and channels) and resolution, on a logarithmic scale."""
    grid = view.heat_map
    logs = [
        [None if price is None or price.price_ms <= 0 else math.log10(price.price_ms) for price in row]
        for row in grid.cells
    ]
    known = [value for row in logs for value in row if value is not None]
    ticks = _log_ticks(min(known), max(known)) if known else []
    trace = {
        "type": "heatmap",
        "x": list(grid.columns),
        "y": list(grid.rows),
        "z": logs,
        "text": [["" if price is None else f"{price.price_ms:.3g}" for price in row] for row in grid.cells],
        "texttemplate": "%{text}",
        "customdata": [["" if price is None else _price_text(price) for price in row] for row in grid.cells],
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
    columns, rows = _axis("resolution", type="category", showgrid=False), {**_NAMES_DOWN, "showgrid": False}
    return _plot("heat-map", [trace], 90 + _ROW_PX * len(grid.rows), columns, rows)


def kinds_of_cost(view: TableView) -> Plot | None:
    """Isolated cost, marginal cost and price of the dearest ops; None if no op was timed alone."""
    shown = [price for price in view.dearest if price.isolated_ms is not None]
    if not shown:
        return None
    names = [price.op_key for price in shown]
    series = (
        ("alone", [price.isolated_ms for price in shown], MUTED, "diamond-open"),
        ("marginal", [price.marginal_ms for price in shown], SECOND, "circle-open"),
        ("price", [price.price_ms for price in shown], ACCENT, "circle"),
    )
    traces = [
        _scatter(name, values, names, "%{y}<br>" + name + " %{x:.4g} ms", colour, size=9, symbol=symbol)
        for name, values, colour, symbol in series
    ]
    return _plot("kinds-of-cost", traces, 110 + 20 * len(shown), _axis("ms", type="log"), _NAMES_DOWN)


def predicted_against_measured(view: NetworksView) -> Plot:
    """Networks with their bound above the prediction, beside the diagonal."""
    plotted = view.plotted
    traces = [
        _bounded([check for check in plotted if check.role != "held_out"], "calibration (in the fit)", MUTED, 6),
        _bounded([check for check in plotted if check.role == "held_out"], "held out (never in a fit)", ACCENT, 8),
    ]
    if plotted:
        seen = [ms for check in plotted for ms in (check.measured_ms, check.predicted_ms)]
        ends = [0.95 * min(seen), 1.05 * max(seen)]
        line = {"color": TEXT, "dash": "dot", "width": 1}
        traces.append(_scatter("predicted = measured", ends, ends, "", TEXT, mode="lines", line=line))
    return _plot("networks", traces, 480, _axis("measured on the device, ms"), _axis("predicted, 95 % bound above, ms"))


def largest_changes(view: ComparisonView) -> Plot:
    """After over before with its interval, the largest effects, beside the line of no change."""
    traces = []
    for verdict, colour in (("slower", BAD), ("faster", GOOD), ("same", MUTED)):
        shown = [change for change in view.largest if change.verdict == verdict]
        if not shown:
            continue
        ratios = [change.ratio or 1.0 for change in shown]
        highs = [max((change.high or 1.0) - ratio, 0.0) for change, ratio in zip(shown, ratios, strict=True)]
        lows = [max(ratio - (change.low or 1.0), 0.0) for change, ratio in zip(shown, ratios, strict=True)]
        bars = {"type": "data", "symmetric": False, "array": highs, "arrayminus": lows, "color": colour}
        subjects = [change.subject for change in shown]
        hover = "%{y}<br>× %{x:.3f}"
        traces.append(
            _scatter(verdict, ratios, subjects, hover, colour, error_x={**bars, "thickness": 1.5, "width": 4})
        )
    line = {"type": "line", "x0": 1, "x1": 1, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": TEXT, "dash": "dot"}}
    order = [change.subject for change in view.largest]
    ratio = _axis("after / before", type="log", tickformat=".4~g")
    names = {**_NAMES_DOWN, "categoryorder": "array", "categoryarray": order}
    return _plot("changes", traces, 130 + 20 * len(order), ratio, names, shapes=[line])


def accuracy_against_latency(view: SearchView) -> Plot:
    """Family, baseline and ladder; the ladder by what the device measured."""
    result = view.found.result
    traces = [
        _front("random baseline", result.random, MUTED, "markers"),
        _front("family", sorted(result.members, key=lambda member: member.predicted_ms), ACCENT, "lines+markers"),
    ]
    rungs = [rung for rung in result.ladder if rung.accuracy is not None]
    if rungs:
        times_ms, accuracies = [rung.measured_ms for rung in rungs], [rung.accuracy for rung in rungs]
        texts = [f"budget {rung.target_ms:.4g} ms, {'met' if rung.met else 'missed'}" for rung in rungs]
        hover = "measured %{x:.4g} ms<br>%{y:.2f} %<br>%{text}"
        look: Plot = {"size": 10, "symbol": "diamond"}
        traces.append(_scatter("ladder, measured", times_ms, accuracies, hover, SECOND, text=texts, **look))
    return _plot("front", traces, 440, _axis("latency, ms"), _axis("accuracy, %"))


def price_history(view: HistoryView) -> Plot:
    """An op's price over the versions of the runtime, a line for each setting."""
    traces: list[Plot] = []
    colours = (ACCENT, SECOND, GOOD, MUTED)
    for place, setting in enumerate(dict.fromkeys(entry.setting for entry in view.entries)):
        entries = [entry for entry in view.entries if entry.setting == setting]
        colour = colours[place % len(colours)]
        versions, prices = [entry.version for entry in entries], [entry.price_ms for entry in entries]
        bars = {"type": "data", "array": [2 * entry.sd_ms for entry in entries], "color": colour, "width": 4}
        texts = [f"{entry.created_at[:10]}, table {entry.table[:10]}" for entry in entries]
        hover = "%{x}: %{y:.4g} ms<br>%{text}"
        look: Plot = {"mode": "lines+markers", "error_y": bars, "text": texts}
        traces.append(_scatter(setting, versions, prices, hover, colour, **look))
    ordered = sorted(view.entries, key=lambda entry: entry.version_order)
    versions = list(dict.fromkeys(entry.version for entry in ordered))
    of_versions = {"type": "category", "categoryorder": "array", "categoryarray": versions}
    return _plot("history", traces, 400, of_versions, _axis("price ± 2 sd, ms", rangemode="tozero"))


def _plot(name: str, traces: Sequence[Plot], height: int, xaxis: Plot, yaxis: Plot, **layout: Any) -> Plot:
    return {"id": name, "traces": traces, "layout": {"height": height, "xaxis": xaxis, "yaxis": yaxis, **layout}}


def _axis(title: str, **more: Any) -> Plot:
    return {"title": {"text": title}, **more}


def _front(name: str, networks: Sequence[FoundNetwork], colour: str, mode: str) -> Plot:
    times_ms, accuracies = [network.predicted_ms for network in networks], [network.accuracy for network in networks]
    texts = [network.genotype for network in networks]
    hover = "predicted %{x:.4g} ms<br>%{y:.2f} %<br>%{text}"
    return _scatter(name, times_ms, accuracies, hover, colour, mode=mode, size=7, text=texts)


def _bounded(checks: Sequence[NetworkCheck], name: str, colour: str, size: int) -> Plot:
    measured, predicted = [check.measured_ms for check in checks], [check.predicted_ms for check in checks]
    above = [max(check.upper_ms - check.predicted_ms, 0.0) for check in checks]
    bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": [0.0] * len(checks), "color": colour}
    hover = "measured %{x:.4g} ms<br>predicted %{y:.4g} ms<br>%{text}"
    look: Plot = {"text": [check.genotype for check in checks], "error_y": {**bars, "thickness": 1, "width": 3}}
    return _scatter(name, measured, predicted, hover, colour, size=size, **look)


def _scatter(
    name: str,
    x: Sequence[Any],
    y: Sequence[Any],
    hover: str,
    colour: str,
    *,
    mode: str = "markers",
    size: int = 8,
    symbol: str = "circle",
    **more: Any,
) -> Plot:
    """A trace of points, joined by a line where the mode says so."""
    look = {"line": {"color": colour, "width": 1}, "marker": {"color": colour, "size": size, "symbol": symbol}}
    template = f"{hover}<extra></extra>" if hover else None
    return {"type": "scatter", "mode": mode, "name": name, "x": x, "y": y, **look, "hovertemplate": template, **more}


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
    inside = [step for step in steps if low <= step <= high]
    return inside if len(inside) < 9 else inside[::3]
