"""report.md, report.json and the charts, from the results of all rounds."""

import json

from . import servers, svg
from .figures import FIGURES, REACHED, UNMEASURED, sound
from .scenarios import BY_NAME
from .runner import NOISY
from .stats import ratios, sample

RATIO = "×"


def write(folder, results, machine, absent, rounds, quick):
    folder.mkdir(parents=True, exist_ok=True)
    charts = {name: _chart(name, by_server) for name, by_server in results.items()}
    for old in folder.glob("chart-*.svg"):
        old.unlink()
    for name, chart in charts.items():
        if chart:
            (folder / f"chart-{name}.svg").write_text(chart)
    parts = [_head(machine, rounds, quick), _noise(results), _targets(results)]
    parts += [_scenario(name, by_server, bool(charts[name])) for name, by_server in results.items()]
    parts += [_faults(results), _peers(absent)]
    (folder / "report.md").write_text("\n".join(part for part in parts if part))
    figures = [
        {"figure": f.text, "target": f.target, "verdict": f.verdict(results), "values": list(f.samples(results).values)}
        for f in FIGURES if f.scenario in results
    ]
    everything = {
        "machine": machine, "rounds": rounds, "quick": quick, "absent": absent, "figures": figures, "results": results,
    }
    (folder / "report.json").write_text(json.dumps(everything, indent=1) + "\n")


def _head(machine, rounds, quick):
    pinned = "**not pinned: there is one CPU only**"
    if machine["pinned"]:
        pinned = "the server on one CPU, the load on another"
    siblings = " The two CPUs are threads of one core, so the load slows the server, every server alike."
    siblings = siblings if machine["siblings"] else ""
    short = "**A quick run: few rounds, short loads. Good for seeing a change, not for quoting.**\n\n"
    return (
        f"# libpush beside the floor and its peers\n\n{short if quick else ''}"
        f"{machine['time']}, commit {machine['commit']}, {machine['cpu']}, {machine['cpus']} CPUs, "
        f"{machine['kernel']}. "
        f"Each server is started afresh for each measurement, {pinned}.{siblings} Figures are medians of {rounds} "
        f"interleaved rounds with the lowest and highest in brackets; a ratio is made within a round and its median "
        f"taken. Every delivery was checked for loss, doubles and order.\n"
    )


def _noise(results):
    """A warning if other processes used the CPUs. This affects latencies most, and ratios least."""
    shares = [r["others_cpu"] for by_server in results.values() for rounds in by_server.values() for r in rounds]
    noisy = sum(share > NOISY for share in shares)
    if not noisy:
        return ""
    return (
        f"**Disturbed:** in {noisy} of {len(shares)} measurements other processes used more than {NOISY:.0%} of a CPU, "
        f"at most {max(shares):.0%}.\n"
    )


def _value(values, digits, unit=""):
    if not values:
        return "–"
    spread = f" ({values.low:,.{digits}f} to {values.high:,.{digits}f})" if len(values.values) > 1 else ""
    return f"{values.median:,.{digits}f}{' ' + unit if unit else ''}{spread}"


def _targets(results):
    figures = [f for f in FIGURES if f.scenario in results]
    if not figures:
        return ""
    lines = ["## Figures to reach\n", "| figure | reach | libpush | verdict | best peer |", "|---|---|---|---|---|"]
    for figure in figures:
        verdict, unit = figure.verdict(results), f" {figure.unit}" if figure.unit else ""
        bound = f"{'≥' if figure.at_least else '≤'} {figure.target:,.{figure.digits}f}{unit}"
        peer = figure.best_peer(results)
        beside = f"{peer[0]} {_value(peer[1], figure.digits)}" if peer else ""
        shown = verdict if verdict in (REACHED, UNMEASURED) else f"**{verdict}**"
        ours = _value(figure.samples(results), figure.digits, figure.unit)
        lines.append(f"| {figure.text} | {bound} | {ours} | {shown} | {beside} |")
    return "\n".join(lines) + "\n"


def _scenario(name, by_server, has_chart):
    scenario = BY_NAME[name]
    if not by_server:
        return ""
    base = sound(by_server.get(scenario.base, []))
    compared = [metric for metric in scenario.metrics if metric.compared and base]
    over = f"{RATIO} {servers.BY_NAME[scenario.base].label}"
    head = ["server"] + [metric.title for metric in scenario.metrics] + [f"{m.title} {over}" for m in compared]
    lines = [f"## {scenario.title}\n"]
    if has_chart:
        lines.append(f"![{scenario.title}](chart-{name}.svg)\n")
    lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for server_name, all_rounds in by_server.items():
        rounds = sound(all_rounds)
        cells = [servers.BY_NAME[server_name].label]
        cells += [_value(sample(rounds, metric.name), metric.digits, metric.unit) for metric in scenario.metrics]
        cells += ["1" if server_name == scenario.base else _value(ratios(rounds, base, m.name), 2) for m in compared]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _bar(name, server_name, by_server, metric):
    server, rounds = servers.BY_NAME[server_name], sound(by_server[server_name])
    values, base = sample(rounds, metric.name), BY_NAME[name].base
    if not values:
        return None
    note = f"{values.median:,.{metric.digits}f} {metric.unit}".strip()
    over = None
    if metric.compared and server_name != base:
        over = ratios(rounds, sound(by_server.get(base, [])), metric.name)
    if over:
        note += f"  {RATIO}{over.median:.2f}"
    return svg.Bar(server.label, server.kind, values.values, values.median, note)


def _chart(name, by_server):
    """A chart with a bar for each server. There is none for a single server."""
    scenario = BY_NAME[name]
    metric = scenario.metrics[scenario.charted]
    rows = [row for row in (_bar(name, server, by_server, metric) for server in by_server) if row]
    if len(rows) < 2:
        return None
    axis = f"{metric.title}{', ' + metric.unit if metric.unit else ''}; bar: median, dots: rounds; lower is better"
    if metric.compared and scenario.base in by_server:
        axis += f"; {RATIO}: over {servers.BY_NAME[scenario.base].label}"
    return svg.bars(scenario.title, axis, rows, _target(name, metric, by_server))


def _target(name, metric, by_server):
    """The figure to reach, as a value on this chart's axis."""
    figure = next((f for f in FIGURES if f.scenario == name and f.metric == metric.name), None)
    if not figure:
        return None
    if not figure.over:
        return figure.target
    base = sample(sound(by_server.get(figure.over, [])), metric.name)
    return figure.target * base.median if base else None


def _faults(results):
    lines = [
        f"- {name}, round {number + 1}, {servers.BY_NAME[server].label}: {r['fault']}"
        for name, by_server in results.items() for server, rounds in by_server.items()
        for number, r in enumerate(rounds) if r["fault"]
    ]
    head = "## Measurements with a fault\n\nThey are left out of all figures above.\n\n"
    return head + "\n".join(lines) + "\n" if lines else ""


def _peers(absent):
    lines = [f"- {servers.BY_NAME[name].label}: absent: {reason}" for name, reason in absent.items()]
    return "## Not measured\n\n" + "\n".join(lines) + "\n" if lines else ""
