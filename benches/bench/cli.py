"""The command line: `run.py`, which `make bench` and `make bench-quick` call."""

import argparse
import sys
from pathlib import Path

from . import machine, paths, peers, report, runner, servers
from .figures import FAULTY, FIGURES
from .scenarios import BY_NAME, SCENARIOS

ROUNDS, QUICK_ROUNDS = 5, 3


def parse(words):
    parser = argparse.ArgumentParser(prog="run.py", description="Measures libpush beside the floor and its peers.")
    parser.add_argument("--set-up", action="store_true", help="fetch and build the peers, and measure nothing")
    parser.add_argument("--list", action="store_true", help="list the scenarios and the servers")
    parser.add_argument("--quick", action="store_true", help="floor and libpush only, short loads, under two minutes")
    parser.add_argument("--only", type=_names(BY_NAME), metavar="SCENARIO,...",
                        help="these scenarios; `engine` stands for all that begin with `engine-`, and so on")
    parser.add_argument("--servers", type=_names(servers.BY_NAME), metavar="SERVER,...", help="these servers")
    parser.add_argument("--rounds", type=int, help=f"rounds ({ROUNDS}; with --quick {QUICK_ROUNDS})")
    parser.add_argument("--out", type=Path, default=paths.OUT, help="where the report goes (target/bench)")
    options = parser.parse_args(words)
    if options.rounds is not None and not 1 <= options.rounds <= 100:
        parser.error("--rounds must be 1 to 100")
    return options


def _names(known):
    def names(text):
        groups = {word: [name for name in known if name.startswith(f"{word}-")] for word in text.split(",")}
        wanted = [name for word, group in groups.items() for name in ([word] if word in known else group or [word])]
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: allowed are {', '.join(known)}")
        return wanted

    return names


def show():
    for scenario in SCENARIOS:
        print(f"{scenario.name:16} {scenario.title}  [{', '.join(scenario.servers)}]")
    print()
    for server in servers.SERVERS:
        reason = server.absent()
        print(f"{server.name:16} {server.label}{f'  absent: {reason}' if reason else ''}")


def chosen(options):
    if options.only:
        return [BY_NAME[name] for name in options.only]
    return [scenario for scenario in SCENARIOS if scenario.quick or not options.quick]


def wanted_servers(options, scenarios):
    """The servers that were asked for and that the scenarios measure, in the order of the table of servers."""
    used = {name for s in scenarios for name in (s.quick_servers if options.quick else s.servers)}
    return [name for name in servers.BY_NAME if name in used and name in (options.servers or used)]


def main(words=None):
    options = parse(words)
    if options.list:
        show()
        return 0
    if options.set_up:
        peers.set_up()
        return 0
    if not (paths.BIN / "pushload").exists():
        print("run.py: the load generator is not built; `make bench-programs` builds it", file=sys.stderr)
        return 2

    scenarios, rounds = chosen(options), options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    names = wanted_servers(options, scenarios)
    reasons = {name: servers.BY_NAME[name].absent() for name in names}
    absent = {name: reason for name, reason in reasons.items() if reason}
    for name, reason in absent.items():
        print(f"{name} is absent: {reason}", file=sys.stderr)
    results = runner.run(scenarios, names, rounds, options.quick)
    report.write(options.out, results, machine.describe(), absent, rounds, options.quick)
    print(f"report: {options.out / 'report.md'}")
    # A figure that is not reached is a result; a lost message is a failure.
    return 1 if any(figure.verdict(results) == FAULTY for figure in FIGURES) else 0
