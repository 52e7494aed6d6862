"""The report's charts, as HTML fragments for a page that has plotly.js already."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from search.alphas.condition import space_primitives
from search.deploy.ladder import Rung
from search.family.candidates import Member
from search.family.family import Family
from shared.spaces import Space
from shared.tables.table import LatencyTable

FAMILY, RANDOM, LADDER, HELD_OUT, FIT = "#c2410c", "#64748b", "#15803d", "#2a7ab9", "#a5b4c3"
COLOURS = {
    "skip_connect": FIT, "avg_pool_3x3": LADDER, "max_pool_3x3": "#65a30d",
    "nor_conv_1x1": HELD_OUT, "nor_conv_3x3": FAMILY,
    "dil_conv_3x3": "#93c5fd", "dil_conv_5x5": HELD_OUT, "sep_conv_3x3": "#fb923c", "sep_conv_5x5": FAMILY,
    "skip": FIT, "k3_e1_g2": "#bbf7d0", "k3_e1": "#4ade80", "k5_e1_g2": "#86efac", "k5_e1": LADDER,
    "k3_e3": "#93c5fd", "k5_e3": HELD_OUT, "k3_e6": "#fb923c", "k5_e6": FAMILY,
}  # fmt: skip
"""The same hue for what costs about the same."""
CONFIG = {"displaylogo": False, "responsive": True, "displayModeBar": False}


def predicted_against_measured(table: LatencyTable, rungs: Sequence[Rung]) -> str:
    """Every network of the table and every rung, with its bound above the prediction, beside the diagonal."""
    figure = go.Figure()
    for role, name, colour in (
        ("calibration", "calibration (in the fit)", FIT),
        ("held_out", "held out (never in a fit)", HELD_OUT),
    ):
        points = [one for one in table.networks if one.role == role]
        figure.add_trace(
            _bounded(
                [one.measured_ms for one in points],
                [one.predicted_ms for one in points],
                [one.upper_ms for one in points],
                [one.genotype for one in points],
                name,
                colour,
            )
        )
    figure.add_trace(
        _bounded(
            [rung.measured_ms for rung in rungs],
            [rung.predicted_ms for rung in rungs],
            [rung.upper_ms for rung in rungs],
            [table.parsed_space.format(rung.genotype) for rung in rungs],
            "ladder",
            LADDER,
            size=10,
        )
    )
    seen = [one.measured_ms for one in table.networks] + [rung.measured_ms for rung in rungs]
    if seen:
        ends = [0.95 * min(seen), 1.05 * max(seen)]
        line = {"color": "#334155", "dash": "dot", "width": 1}
        figure.add_trace(go.Scatter(x=ends, y=ends, mode="lines", line=line, name="predicted = measured"))
    return chart_html(figure, "predicted", "measured on the device, ms", "predicted, bound above, ms")


def accuracy_against_latency(family: Family, space: Space) -> str:
    """Family and baseline, both with inherited accuracy; hollow: candidates that are no members."""
    figure = go.Figure()
    for members, candidates, name, colour in (
        (family.random, family.random_candidates, "random", RANDOM),
        (family.members, family.candidates, "family", FAMILY),
    ):
        for points, kind, mode, marker in (
            (candidates, "other candidates", "markers", {"size": 5, "opacity": 0.35, "symbol": "circle-open"}),
            (members, "members", "lines+markers", {"size": 9}),
        ):
            figure.add_trace(
                go.Scatter(
                    x=[point.predicted_ms for point in points],
                    y=[point.accuracy for point in points],
                    text=[_hover(point, space) for point in points],
                    mode=mode,
                    marker={"color": colour, **marker},
                    line={"color": colour, "width": 1.5},
                    name=f"{name}: {kind}",
                    hovertemplate="%{text}<extra></extra>",
                )
            )
    return chart_html(figure, "accuracy", "predicted latency, ms", "inherited accuracy on the ranking images, %")


def expected_against_derived(family: Family, space: Space) -> str:
    """Latency that the search's relaxation expected, and that of its most probable choices, over the trade-offs."""
    connected = [one for one in family.trade_offs if one.derived_ms is not None]
    figure = go.Figure(
        go.Scatter(
            x=[one.expected_ms for one in connected],
            y=[one.derived_ms for one in connected],
            text=[
                f"λ {one.u_lambda:g}, κ {one.u_kappa:g}<br>{escape(space.format(one.genotype))}" for one in connected
            ],
            mode="markers",
            marker={
                "color": [one.u_kappa for one in connected],
                "colorscale": "Viridis",
                "size": 9,
                "colorbar": {"title": "κ (0 to 1)"},
            },
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
    )
    ends = [min((one.expected_ms for one in family.trade_offs), default=0)]
    ends.append(max((one.expected_ms for one in family.trade_offs), default=1))
    line = {"color": "#334155", "dash": "dot", "width": 1}
    figure.add_trace(go.Scatter(x=ends, y=ends, mode="lines", line=line, showlegend=False))
    return chart_html(figure, "expected", "expected under alpha, ms", "of the most probable choices, ms")


def choices_by_budget(family: Family, space: Space) -> str:
    """What the members are made of: share of each primitive among the live slots, by bound."""
    names = [f"{member.upper_ms:.3g}" for member in family.members]
    figure = go.Figure()
    for primitive in space_primitives(space):
        if primitive != "none":
            shares = [100 * primitive_share(space, member, primitive) for member in family.members]
            figure.add_trace(go.Bar(x=names, y=shares, name=primitive, marker={"color": COLOURS.get(primitive)}))
    figure.update_layout(barmode="stack", xaxis={"type": "category"})
    return chart_html(figure, "choices", "member's bound, ms", "share of live slots, %")


def primitive_share(space: Space, member: Member, *primitives: str) -> float:
    """Share of one or more primitives among a member's live slots."""
    live = space.live_slots(member.genotype)
    return sum(member.genotype.choices[slot] in primitives for slot in live) / len(live)


def _bounded(
    measured: list[float],
    predicted: list[float],
    upper: list[float],
    names: list[str],
    name: str,
    colour: str,
    size: int = 6,
) -> Any:
    above = [max(bound - mean, 0.0) for bound, mean in zip(upper, predicted, strict=True)]
    return go.Scatter(
        x=measured,
        y=predicted,
        error_y={"type": "data", "symmetric": False, "array": above, "thickness": 1, "width": 0, "color": colour},
        text=[escape(one) for one in names],
        mode="markers",
        marker={"color": colour, "size": size},
        name=name,
        hovertemplate="%{text}<br>measured %{x:.4g} ms, predicted %{y:.4g} ms<extra></extra>",
    )


def _hover(member: Member, space: Space) -> str:
    return (
        f"{escape(space.format(member.genotype))}<br>{member.predicted_ms:.3g} ms (bound {member.upper_ms:.3g}),"
        f" {member.accuracy:.1f} %, {member.parameters:,} parameters, rank {member.rank:.1f}"
    )


def chart_html(figure: Any, name: str, x: str, y: str) -> str:
    """A chart in the style of all pages; `name` makes its id."""
    axis = {"gridcolor": "#e5e9ef", "zeroline": False, "linecolor": "#94a3b8"}
    figure.update_layout(
        template="none",
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#1f2937"},
        paper_bgcolor="rgba(0,0,0,0)",
        margin={"l": 60, "r": 15, "t": 10, "b": 50},
        height=420,
        legend={"orientation": "h", "y": 1.12, "x": 0},
        xaxis_title=x,
        yaxis_title=y,
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    # A fixed id, so that the same run gives the same page.
    return str(figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"chart-{name}", config=CONFIG))
