"""Rounds: every server once, then every server again. So a slow change of the machine affects all servers alike."""

import sys
import time

from . import servers
from .machine import Noise

# If other processes used more than this part of a CPU during a measurement, the report has a warning.
NOISY = 0.10


def run(scenarios, names, rounds, quick):
    """The results by scenario and server, as a list with a dict for each round. `names` has the servers to measure."""
    results = {}
    begin = time.monotonic()
    for scenario in scenarios:
        results[scenario.name] = measure(scenario, names, rounds, quick)
    print(f"measured in {time.monotonic() - begin:.0f} s", file=sys.stderr)
    return results


def measured_servers(scenario, names, quick):
    wanted = scenario.quick_servers if quick else scenario.servers
    return [servers.BY_NAME[name] for name in wanted if name in names and not servers.BY_NAME[name].absent()]


def measure(scenario, names, rounds, quick):
    todo = measured_servers(scenario, names, quick)
    results = {server.name: [] for server in todo}
    for number in range(rounds):
        # Each round begins with another server, so that no server always follows the same one.
        for server in todo[number % len(todo):] + todo[:number % len(todo)] if todo else []:
            noise = Noise()
            result = scenario.measure(server, quick)
            result["others_cpu"] = round(noise.of_one_cpu(), 3)
            results[server.name].append(result)
            say(scenario, server, number, rounds, result)
    return results


def say(scenario, server, number, rounds, result):
    shown = [
        f"{metric.title} {result[metric.name]:.{metric.digits}f} {metric.unit}".rstrip()
        for metric in scenario.metrics if isinstance(result.get(metric.name), (int, float))
    ]
    if result["others_cpu"] > NOISY:
        shown.append(f"others used {result['others_cpu']:.0%} of a CPU")
    if result["fault"]:
        shown.append(f"FAULT: {result['fault']}")
    print(f"{scenario.name} {number + 1}/{rounds} {server.name}: {', '.join(shown)}", file=sys.stderr, flush=True)
