"""The metrics for Prometheus and Grafana: `promtool` checks them, and the dashboard names only metrics that exist."""

import json
import re
import subprocess

import pytest
from host import ROOT, free_port
from subscribers import SECONDS, over_sse, over_stream, take, websocket
from test_control import KEY, Control

DASHBOARD = ROOT / "packaging/grafana-dashboard.json"
# Labels that Prometheus itself adds to each sample.
ADDED = {"job", "instance"}


@pytest.fixture
def shared_log_metrics(start):
    """A scrape of a hub that shares a log with others. Nobody is at this address: the names are there from the start."""
    port = free_port()
    start(f"control=127.0.0.1:{port}", f"control_key={KEY}", "engine=redis://127.0.0.1:1").may_say = "engine: "
    with Control(port) as control:
        return control.get("/metrics").text


@pytest.fixture
def metrics(start):
    """A scrape after some traffic."""
    port = free_port()
    host = start(f"control=127.0.0.1:{port}", f"control_key={KEY}", "threads=2")
    with Control(port) as control, over_sse(host, channel="a") as messages, over_stream(host, channel="b"):
        with websocket(host, channel="a"):
            host.wait_for(sse=1, streams=1, websockets=1)
            for number in range(200):
                control.publish("a", str(number))
            take(messages, 200)
        # The library refuses this request.
        assert control.get("/v1/nothing").status_code == 404
        # The WebSocket has gone.
        host.wait_until(connections=2)
        yield control.get("/metrics").text


def samples(text):
    """Names of samples, each with the labels it has."""
    found = {}
    for name, labels in re.findall(r"^(\w+)(?:\{([^}]*)\})? ", text, re.M):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def promtool(*arguments, text=None):
    ran = subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, timeout=SECONDS)
    return ran.returncode, ran.stdout + ran.stderr


def expressions():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def test_promtool_has_nothing_to_say(metrics, shared_log_metrics):
    for text in (metrics, shared_log_metrics):
        assert promtool("check", "metrics", text=text) == (0, "")
    # promtool does complain about a mistake.
    assert promtool("check", "metrics", text="# TYPE x counter\nx 1\n")[0] != 0


def test_every_family_is_described(metrics):
    for kind in ["HELP", "TYPE"]:
        described = re.findall(rf"^# {kind} (\w+) \S", metrics, re.M)
        assert len(described) == len(set(described))
        families = {re.sub(r"(_seconds)_(bucket|sum|count)$", r"\1", name) for name in samples(metrics)}
        assert set(described) == families


def test_the_histograms_are_filled(metrics):
    for name in ["push_publish_latency_seconds", "push_turn_seconds"]:
        buckets = [int(count) for count in re.findall(rf'^{name}_bucket{{le="[^"]+"}} (\d+)$', metrics, re.M)]
        assert buckets == sorted(buckets) and buckets[-1] > 0, "cumulated"
        assert re.search(rf"^{name}_count {buckets[-1]}$", metrics, re.M)
        assert float(re.search(rf"^{name}_sum (\S+)$", metrics, re.M)[1]) > 0


def test_ends_and_transports_are_counted(metrics):
    assert re.search(r'^push_connections\{transport="sse"\} 1$', metrics, re.M)
    assert re.search(r'^push_connections\{transport="stream"\} 1$', metrics, re.M)
    assert re.search(r'^push_closed_total\{code="1000"\} 1$', metrics, re.M)


def test_the_dashboard_has_all_that_tells_of_a_log(shared_log_metrics):
    of_logs = {name for name in samples(shared_log_metrics) if name.startswith("push_engine_")}
    named = {name for expression in expressions() for name in re.findall(r"\bpush_\w+", expression)}
    assert len(of_logs) == 8 and of_logs <= named, of_logs - named


def test_the_dashboard_names_only_what_there_is(shared_log_metrics):
    known = samples(shared_log_metrics)
    assert len(expressions()) > 20
    for expression in expressions():
        names = re.findall(r"\bpush_\w+", expression)
        assert names, expression
        for name in names:
            assert name in known, f"{expression}: there is no {name}"
        labels = {label for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(", ")}
        labels |= set(re.findall(r"(\w+)=~?\"", expression))
        assert labels <= ADDED.union(*(known[name] for name in names)), expression


def test_the_dashboards_expressions_are_promql(tmp_path):
    rules = []
    for number, expression in enumerate(expressions()):
        expression = expression.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$instance", ".*")
        rules.append({"record": f"rule:{number}", "expr": expression})
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    code, said = promtool("check", "rules", str(path))
    assert code == 0, said
    assert f"{len(rules)} rules found" in said
