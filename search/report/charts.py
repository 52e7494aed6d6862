"""The report's charts, as HTML fragments for a page with plotly.js."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from search.alphas.condition import space_primitives
from search.deploy.hand_made import HandMade
from search.deploy.ladder import Rung
from search.family.family import Family, Member
from shared.spaces import Space
from shared.tables.table import LatencyTable, NetworkCheck

FAMILY, RANDOM, LADDER, HELD_OUT, FIT = "#c2410c", "#64748b", "#15803d", "#2a7ab9", "#a5b4c3"
COLOURS = {
    "skip_connect": FIT, "avg_pool_3x3": LADDER, "max_pool_3x3": "#65a30d",
    "nor_conv_1x1": HELD_OUT, "nor_conv_3x3": FAMILY,
    "dil_conv_3x3": "#93c5fd", "dil_conv_5x5": HELD_OUT, "sep_conv_3x3": "#fb923c", "sep_conv_5x5": FAMILY,
    "skip": FIT, "identity": FIT, "k3_e1_g2": "#bbf7d0", "k3_e1": "#4ade80", "k5_e1_g2": "#86efac", "k5_e1": LADDER,
    "k3_e3": "#93c5fd", "k5_e3": HELD_OUT, "k3_e6": "#fb923c", "k5_e6": FAMILY,
    "conv_3x3_relu": LADDER, "residual_half": "#c4b5fd", "residual_full": "#7c3aed",
}  # fmt: skip
"""Primitives of about the same cost have the same hue."""
CONFIG = {"displaylogo": False, "responsive": True, "displayModeBar": False}


def predicted_against_measured(table: LatencyTable, rungs: Sequence[Rung]) -> str:
    """Every network of the table and every rung, with its bound, beside the diagonal."""
    figure = go.Figure()
    for role, name, colour in (
        ("calibration", "calibration (in the fit)", FIT),
        ("held_out", "held out (never in a fit)", HELD_OUT),
    ):
        points = [network for network in table.networks if network.role == role]
        figure.add_trace(_bounded(points, [point.genotype for point in points], name, colour))
    written = [table.parsed_space.format(rung.genotype) for rung in rungs]
    figure.add_trace(_bounded(rungs, written, "ladder", LADDER, size=10))
    seen = [network.measured_ms for network in table.networks] + [rung.measured_ms for rung in rungs]
    if seen:
        _add_diagonal(figure, 0.95 * min(seen), 1.05 * max(seen), name="predicted = measured")
    return chart_html(figure, "predicted", "measured on the device, ms", "predicted, bound above, ms")


def accuracy_against_latency(family: Family, space: Space) -> str:
    """Family and baseline with inherited accuracy; candidates that are no members are hollow."""
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


def beside_hand_made(rungs: Sequence[Rung], hand_made: Sequence[HandMade], space: Space) -> str:
    """Accuracy against measured latency: the ladder's members, and networks made by hand in grey."""
    trained = [network for network in hand_made if network.accuracy is not None]
    figure = go.Figure()
    for points, names, name, colour in (
        (trained, [network.name for network in trained], "made by hand", RANDOM),
        (rungs, [space.format(rung.genotype) for rung in rungs], "ladder", LADDER),
    ):
        figure.add_trace(
            go.Scatter(
                x=[point.measured_ms for point in points],
                y=[point.accuracy for point in points],
                text=[escape(each) for each in names],
                mode="lines+markers",
                marker={"color": colour, "size": 9},
                line={"color": colour, "width": 1.5},
                name=name,
                hovertemplate="%{text}<br>%{x:.4g} ms, %{y:.2f} %<extra></extra>",
            )
        )
    return chart_html(figure, "by-hand", "measured on the device, ms", "accuracy on the test images, %")


def expected_against_derived(family: Family, space: Space) -> str:
    """Expected latency under alpha, and that of the most probable choices, by trade-off."""
    connected = [trade_off for trade_off in family.trade_offs if trade_off.derived_ms is not None]
    figure = go.Figure(
        go.Scatter(
            x=[trade_off.expected_ms for trade_off in connected],
            y=[trade_off.derived_ms for trade_off in connected],
            text=[
                f"λ {trade_off.u_lambda:g}, κ {trade_off.u_kappa:g}<br>{escape(space.format(trade_off.genotype))}"
                for trade_off in connected
            ],
            mode="markers",
            marker={
                "color": [trade_off.u_kappa for trade_off in connected],
                "colorscale": "Viridis",
                "size": 9,
                "colorbar": {"title": "κ (0 to 1)"},
            },
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
    )
    expected_ms = [trade_off.expected_ms for trade_off in family.trade_offs]
    _add_diagonal(figure, min(expected_ms, default=0), max(expected_ms, default=1), showlegend=False)
    return chart_html(figure, "expected", "expected under alpha, ms", "of the most probable choices, ms")


def choices_by_budget(family: Family, space: Space) -> str:
    """Share of each primitive among the live slots of each member, by bound."""
    # By place: members of rounded bounds that look the same would share a bar.
    places, names = list(range(len(family.members))), [f"{member.upper_ms:.3g}" for member in family.members]
    figure = go.Figure()
    for primitive in space_primitives(space):
        if primitive != "none":
            shares = [100 * primitive_share(space, member, primitive) for member in family.members]
            figure.add_trace(go.Bar(x=places, y=shares, name=primitive, marker={"color": COLOURS.get(primitive)}))
    figure.update_layout(barmode="stack", xaxis={"tickvals": places, "ticktext": names})
    return chart_html(figure, "choices", "member's bound, ms", "share of live slots, %")


def primitive_share(space: Space, member: Member, *primitives: str) -> float:
    """Share of the primitives together among a member's live slots."""
    live = space.live_slots(member.genotype)
    return sum(member.genotype.choices[slot] in primitives for slot in live) / len(live)


def _add_diagonal(figure: Any, low: float, high: float, **shown: Any) -> None:
    line = {"color": "#334155", "dash": "dot", "width": 1}
    figure.add_trace(go.Scatter(x=[low, high], y=[low, high], mode="lines", line=line, **shown))


def _bounded(
    points: Sequence[NetworkCheck | Rung], genotypes: Sequence[str], name: str, colour: str, size: int = 6
) -> Any:
    """Points with a line up to their bound."""
    above = [max(point.upper_ms - point.predicted_ms, 0.0) for point in points]
    return go.Scatter(
        x=[point.measured_ms for point in points],
        y=[point.predicted_ms for point in points],
        error_y={"type": "data", "symmetric": False, "array": above, "thickness": 1, "width": 0, "color": colour},
        text=[escape(genotype) for genotype in genotypes],
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
