"""The page of a comparison: networks by bound and score, and each figure by strategy and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go
from plotly.colors import qualitative

from search.compare.comparison import Comparison
from search.compare.comparison_figures import Result, Spread
from search.report.charts import chart_html
from search.report.style import page_html, section_html
from shared.spaces import Space

FIGURES = {
    "hypervolume": "hypervolume over (bound, score)",
    "under_budget": "mean best score under a budget",
    "distinct": "distinct networks",
    "budgets_met": "share of budgets met",
    "seconds": "seconds per search",
    "images_per_s": "training images per second",
}
NOTE = (
    "Score: 0 is the worst and 1 the best of the networks of all strategies, ranked by a supernet that no strategy"
    " trained. It orders networks; it is no accuracy."
)


def build_comparison_page(
    comparison: Comparison, results: Sequence[Result], summaries: Mapping[str, Mapping[str, Spread | None]]
) -> str:
    """The HTML page. `results` are those of the units; `summaries` are shown in their order."""
    title = f"lutnas: strategies on {comparison.table.device}, {comparison.images.title}"
    colours = dict(zip(summaries, qualitative.Dark24 * 4, strict=False))
    sections = [section_html("Networks", _networks(results, colours, comparison.table.parsed_space), NOTE)]
    sections += [
        section_html(heading[:1].upper() + heading[1:], _by_strategy(field, heading, results, colours))
        for field, heading in FIGURES.items()
    ]
    head = f'<h1>{escape(title)}</h1>\n<p class="note">{escape(_setting(comparison))}</p>'
    return page_html(title, "\n".join([head, *sections]))


def _setting(comparison: Comparison) -> str:
    config = comparison.config
    budgets = ", ".join(f"{budget_ms:.3g}" for budget_ms in comparison.budgets_ms)
    return (
        f"{config.space}; {config.total_steps} updates of {config.paths_per_step * config.batch_size} images,"
        f" at most {comparison.evaluations} networks scored per search; budgets {budgets} ms"
    )


def _networks(results: Sequence[Result], colours: Mapping[str, str], space: Space) -> str:
    figure = go.Figure()
    for name, colour in colours.items():
        networks = [network for result in results if result.strategy == name for network in result.networks]
        figure.add_trace(
            go.Scatter(
                x=[network.upper_ms for network in networks],
                y=[network.score for network in networks],
                text=[
                    f"{escape(space.format(network.genotype))}<br>{network.parameters:,} parameters"
                    for network in networks
                ],
                mode="markers",
                marker={"color": colour, "size": 7, "opacity": 0.7},
                name=escape(name),
                hovertemplate="%{text}<br>bound %{x:.4g} ms, score %{y:.3f}<extra></extra>",
            )
        )
    return chart_html(figure, "networks", "latency bound, ms", "score")


def _by_strategy(field: str, heading: str, results: Sequence[Result], colours: Mapping[str, str]) -> str:
    """Every seed as a point, the mean as a line through them."""
    figure = go.Figure()
    for name, colour in colours.items():
        own = [result for result in results if result.strategy == name]
        figure.add_trace(
            go.Box(
                y=[getattr(result, field) for result in own],
                text=[f"seed {result.seed}" for result in own],
                name=escape(name),
                boxpoints="all",
                boxmean="sd",
                pointpos=0,
                jitter=0.3,
                marker={"color": colour},
                line={"width": 1},
                showlegend=False,
            )
        )
    return chart_html(figure, field, "", heading)
