"""The report of a run: headline, ladder, charts, members, table, diagnostics, provenance."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from search.alphas.trade_offs import SKIPS
from search.compare.diagnosis import agreement_rows, find_diagnosis
from search.data.image_set import title_of
from search.deploy.hand_made import HandMade, best_within, find_hand_made
from search.deploy.ladder import LADDER_FILE, Rung, find_ladder, in_ms
from search.family.family import Family, Member, load_family
from search.report.cells import cell_svg
from search.report.charts import (
    accuracy_against_latency,
    beside_hand_made,
    choices_by_budget,
    expected_against_derived,
    predicted_against_measured,
    primitive_share,
)
from search.report.style import page_html, section_html
from search.runs.environment import load_environments
from search.runs.run_directory import DeviceRun
from shared.spaces import IndependentSlots, Space
from shared.tables.table import LatencyTable
from shared.wire import to_wire


def build_report(run: DeviceRun, ladder: Path | None = None) -> str:
    """The report of a finished run as an HTML page; every value is escaped.

    Args:
        run: with its family.
        ladder: path of the ladder; the default is the run's own, if there is any.

    Raises:
        WrongUse, CorruptFile: the run is not finished, or damaged.
    """
    ladder = ladder or run.folder / LADDER_FILE
    family, rungs = load_family(run), find_ladder(ladder, run.space) or []
    title = f"lutnas: {title_of(run.config.dataset)} on {run.table.device}"
    sections = (
        _headline(title, run, family, rungs),
        _ladder(rungs, find_hand_made(ladder.parent), run.space),
        section_html("Accuracy against latency", accuracy_against_latency(family, run.space), _accuracy_note(family)),
        section_html(
            "Predicted against measured",
            predicted_against_measured(run.table, rungs),
            "Each point is a whole network; the line above it ends at its upper bound. A network met its bound if that"
            " end lies above the diagonal. Bounds of the table's own networks are one-sided 95 %, those of the ladder"
            f" {100 * family.confidence:g} %.",
        ),
        _members(run, family),
        _table_error(run.table),
        _diagnostics(run, family),
        _provenance(run, family),
    )
    return page_html(title, "\n".join(sections))


def _headline(title: str, run: DeviceRun, family: Family, rungs: Sequence[Rung]) -> str:
    members = family.members
    facts = [
        ("members", str(len(members))),
        ("latency", f"{members[0].predicted_ms:.3g} to {members[-1].predicted_ms:.3g} ms"),
        ("parameters", f"{members[0].parameters:,} to {members[-1].parameters:,}"),
    ]
    if rungs:
        facts.insert(0, ("budgets met on the device", f"{sum(rung.met for rung in rungs)} of {len(rungs)}"))
    if run.table.held_out is not None:
        facts.append(("held-out error", f"{run.table.held_out.mape_percent:.1f} %"))
    cards = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in facts)
    return f'<h1>{escape(title)}</h1>\n<div class="facts">{cards}</div>'


def _ladder(rungs: Sequence[Rung], hand_made: Sequence[HandMade], space: Space) -> str:
    if not rungs:
        return section_html("The ladder", "", "The device has measured nothing yet: search ladder does that.")
    kinds = {rung.accuracy_kind for rung in rungs}
    header = ["target ms", "predicted", "bound", "measured", "met", "accuracy"]
    header += ["best by hand"] * bool(hand_made) + ["parameters", "file"] + ["weights"] * (len(kinds) > 1)
    rows = []
    for rung in rungs:
        cells = [in_ms(value) for value in (rung.target_ms, rung.predicted_ms, rung.upper_ms, rung.measured_ms)]
        verdict = '<td class="met">yes</td>' if rung.met else '<td class="missed">no</td>'
        best = best_within(hand_made, rung.target_ms)
        after = ["" if rung.accuracy is None else f"{rung.accuracy:.2f} %"]
        after += [f"{best.accuracy:.2f} %, {best.name}" if best else "none"] * bool(hand_made)
        after += [f"{rung.parameters:,}", rung.onnx or ""] + [rung.accuracy_kind] * (len(kinds) > 1)
        rows.append(f"<tr>{_cells(cells)}{verdict}{_cells(after)}</tr>")
    attempts = [
        (
            in_ms(rung.target_ms),
            attempt.step,
            space.format(attempt.genotype),
            f"{in_ms(attempt.measured_ms)} ({in_ms(attempt.low_ms)} to {in_ms(attempt.high_ms)})",
            in_ms(attempt.raw_ms),
            f"{attempt.canary_drift:.3f}",
            "" if attempt.state is None else f"{attempt.state:.3f}",
            "yes" if attempt.met else "no",
            "; ".join(attempt.reasons) or "stable",
        )
        for rung in rungs
        for attempt in rung.attempts
    ]
    titles = "target ms", "measured", "network", "ms (95 %)", "raw ms", "drift", "state", "met", "verdict"
    every = f"<details><summary>every measurement ({len(attempts)})</summary>{_rows(titles, attempts)}</details>"
    note = (
        "Measured by the agent on the device, in milliseconds of the table; raw ms is what its clock showed, drift the"
        " canary's speed of the moment, state that of the table's own networks beside the canary."
        " Accuracy is that of the exported file on all test images, or on those named beside it."
    )
    if len(kinds) == 1:
        note += f" Weights of all: {rungs[0].accuracy_kind}."
    body = f'<div class="wide"><table><tr>{_heads(header)}</tr>{"".join(rows)}</table></div>{every}'
    if hand_made:
        body += beside_hand_made(rungs, hand_made, space)
        note += " Networks made by hand were trained with the same images, for as many updates as the members had."
    return section_html("The ladder", body, note)


def _accuracy_note(family: Family) -> str:
    return (
        f"The kind of accuracy is the same for both ({family.accuracy_kind}). Results are those of the ladder. The"
        f" family has {len(family.members)} members from {len(family.candidates)} scored candidates. Random has"
        f" {len(family.random)} from {len(family.random_candidates)} random networks under the same budgets, ranked in"
        " the same way."
    )


def _members(run: DeviceRun, family: Family) -> str:
    space = run.space
    cards = []
    for member in family.members:
        facts = [
            f"{member.predicted_ms:.3g} ms, bound {member.upper_ms:.3g} ms",
            f"{member.parameters:,} parameters, {member.multiply_adds / 1e6:.1f} M multiply-adds",
            f"rank {member.rank:.1f}, NLL {member.nll:.3f}",
        ]
        if not isinstance(space, IndependentSlots):
            facts[2] += f", expressivity {member.expressivity:.2f}"
        if run.config.model is not None:
            facts[1] = f"{member.parameters:,} parameters"
        lines = "".join(f"<p>{escape(fact)}</p>" for fact in facts)
        picture = cell_svg(space, member.genotype, run.config.choices)
        cards.append(f"<figure>{picture}<figcaption>{lines}</figcaption></figure>")
    note = "The cell of each member, without edges that do not reach the output. A node adds up its inputs."
    if space.name != "nas-bench-201":
        note = "The choice of each slot, without slots that do not reach the output."
    return section_html("The members", f'<div class="members">{"".join(cards)}</div>', note)


def _table_error(table: LatencyTable) -> str:
    error = table.held_out
    if error is None:
        return section_html("The latency table", "", "This table carries no held-out error.")
    rows = [
        ("networks never used in a fit", str(error.networks)),
        ("mean error", f"{error.mape_percent:.2f} %"),
        ("within 5 %", f"{error.within_5_percent:.1f} %"),
        ("within 10 %", f"{error.within_10_percent:.1f} %"),
        ("Kendall tau", f"{error.kendall_tau:.3f}"),
        ("below the one-sided 95 % bound", f"{error.bound_coverage:.1f} %"),
        ("bound above the prediction by", f"{error.bound_half_width_percent:.1f} %"),
        ("prices", f"{len(table.prices)}, of which {sum(not price.stable for price in table.prices)} unstable"),
    ]
    return section_html("The latency table's own error", _pairs(rows))


def _diagnostics(run: DeviceRun, family: Family) -> str:
    space = run.space
    members: Sequence[Member] = family.members
    disconnected = sum(off.derived_ms is None for off in family.trade_offs)
    parameters = [member.parameters for member in members]
    shares = [trade_off.skip_share for trade_off in family.trade_offs]
    range_ms = members[-1].predicted_ms - members[0].predicted_ms
    widest_ms = max((b.predicted_ms - a.predicted_ms for a, b in pairwise(members)), default=0.0)
    rising = all(a.predicted_ms < b.predicted_ms for a, b in pairwise(members))
    rows = [
        ("distinct members", str(len({member.genotype for member in members}))),
        ("latency rises through the family", "yes" if rising else "no"),
        ("widest gap in latency between neighbours", f"{widest_ms / range_ms if range_ms else 0:.0%} of the range"),
        ("largest over smallest parameters", f"{max(parameters) / min(parameters):.1f} times"),
        ("trade-offs whose most probable choices are disconnected", f"{disconnected} of {len(family.trade_offs)}"),
        ("distinct networks of the most probable choices", str(len({off.genotype for off in family.trade_offs}))),
    ]
    if run.config.model is None:  # which candidate of a user's own model is a skip, nobody here knows
        rows += [
            ("skip among the live slots, slowest member", f"{primitive_share(space, members[-1], *SKIPS):.0%}"),
            ("skip under alpha, mean", f"{fmean(shares) if shares else 0:.0%}"),
        ]
    body = (
        _pairs(rows)
        + "<h3>What the members are made of</h3>"
        + choices_by_budget(family, space)
        + "<h3>Expected against derived latency</h3>"
        + expected_against_derived(family, space)
        + _agreement(run)
    )
    note = (
        "Known failures of such a search: collapse to skips, few distinct networks, an expected latency that differs"
        " from the derived network's."
    )
    return section_html("Diagnostics", body, note)


def _agreement(run: DeviceRun) -> str:
    diagnosis = find_diagnosis(run.folder, run.space)
    if diagnosis is None:
        return "<p>search diagnose trains members to the end, and shows here how well the search ranked.</p>"
    header = ("predicted ms", "parameters", "rank", "test accuracy, mean", "by seed")
    rows = [
        (
            f"{member.member.predicted_ms:.3g}",
            f"{member.member.parameters:,}",
            f"{member.member.rank:.1f}",
            f"{fmean(member.test_accuracies):.2f} %",
            ", ".join(f"{accuracy:.2f}" for accuracy in member.test_accuracies),
        )
        for member in diagnosis.members
    ]
    kind = escape(f"Kendall's tau with the test accuracy of {len(rows)} members, {diagnosis.accuracy_kind}")
    taus = _pairs(agreement_rows(diagnosis))
    return f"<h3>Rank against retrained accuracy</h3><p>{kind}:</p>{taus}{_rows(header, rows)}"


def _provenance(run: DeviceRun, family: Family) -> str:
    config, table = run.config, run.table
    rows = [
        ("device", table.device),
        ("space", table.space),
        ("runtime of the table", str(table.runtime)),
        ("table", f"{table.hash} (runs {', '.join(table.runs)}; agent {table.agent_version})"),
        ("canary", f"{table.canary}, nominally {table.canary_nominal_ms:.4g} ms"),
        ("data", f"{config.dataset}, {config.data_fingerprint}"),
        ("seed", str(config.seed)),
        ("confidence of bounds", f"{family.confidence:g}"),
        *_environment(run),
        *((f"{phase}, seconds", f"{seconds:.0f}") for phase, seconds in _durations(run)),
        ("family and baseline, seconds", f"{family.seconds:.0f}"),
    ]
    settings = [(name, str(value)) for name, value in {**to_wire(config), **to_wire(family.settings)}.items()]
    every = f"<details><summary>every setting</summary>{_pairs(settings)}</details>"
    return section_html("Where this comes from", _pairs(rows) + every)


def _durations(run: DeviceRun) -> list[tuple[str, float]]:
    seconds: dict[str, float] = {}
    if run.metrics_path.exists():
        for line in run.metrics_path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                seconds[entry["phase"]] = seconds.get(entry["phase"], 0.0) + float(entry["elapsed_s"])
            except (ValueError, KeyError, TypeError):
                continue  # a crash may cut the last line
    return list(seconds.items())


def _environment(run: DeviceRun) -> list[tuple[str, str]]:
    """Versions and processor of every start of the search."""
    rows = []
    for environment in load_environments(run.path):
        libraries = ", ".join(f"{name} {version or '(none)'}" for name, version in environment.libraries.items())
        said = f"lutnas {environment.lutnas}, python {environment.python}, {libraries}; {environment.processor};"
        rows.append((f"from step {environment.step} on", f"{said} processes: {environment.processes}"))
    return rows


def _heads(names: Iterable[str]) -> str:
    return "".join(f"<th>{escape(name)}</th>" for name in names)


def _cells(values: Iterable[Any]) -> str:
    return "".join(f"<td>{escape(str(value))}</td>" for value in values)


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{_heads(header)}</tr>{body}</table></div>'


def _pairs(rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<table class="pairs">{body}</table>'
