"""The report: ratios within a round, verdicts, and no figure from a round with a fault."""

import json
import sys
import tempfile
import unittest
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import report, servers, svg  # noqa: E402
from bench.figures import FAULTY, FIGURES, MISSED, REACHED, UNMEASURED, sound  # noqa: E402
from bench.scenarios import BY_NAME, SCENARIOS  # noqa: E402
from bench.stats import ratios, sample  # noqa: E402

MACHINE = {
    "time": "now", "commit": "none", "cpu": "a CPU", "cpus": 2, "siblings": False, "kernel": "Linux", "pinned": True,
}
WS_CPU = next(figure for figure in FIGURES if figure.scenario == "ws" and figure.server == "libpush")


def rounds(*values, fault=None):
    return [
        {
            "cpu_us_per_delivery": value, "p50_ms": 1.0, "p99_ms": 2.0, "fault": fault, "others_cpu": 0.0
        } for value in values
    ]


class Stats(unittest.TestCase):
    def test_ratio_is_within_a_round(self):
        """A figure is the median of the ratios, not the ratio of the medians."""
        values = ratios(rounds(1.1, 4.4, 3.0), rounds(1.0, 4.0, 1.0), "cpu_us_per_delivery")
        self.assertAlmostEqual(values.median, 1.1)
        self.assertAlmostEqual(values.high, 3.0)

    def test_a_fault_takes_its_round_out_of_both(self):
        ours = sound(rounds(1.0) + rounds(9.0, fault="lost"))
        self.assertEqual(sample(ours, "cpu_us_per_delivery").values, (1.0,))
        self.assertEqual(ratios(ours, rounds(1.0, 1.0), "cpu_us_per_delivery").values, (1.0,))


class Verdicts(unittest.TestCase):
    def verdict(self, ours):
        return WS_CPU.verdict({"ws": {"floor": rounds(1.0, 1.0), "libpush": ours}})

    def test_verdicts(self):
        self.assertEqual(self.verdict(rounds(1.05, 1.1)), REACHED)
        self.assertEqual(self.verdict(rounds(1.2, 1.2)), MISSED)
        self.assertEqual(self.verdict([]), UNMEASURED)

    def test_one_lost_message_is_no_figure(self):
        self.assertEqual(self.verdict(rounds(1.0) + rounds(1.0, fault="1 lost")), FAULTY)


class Names(unittest.TestCase):
    def test_scenarios_name_servers(self):
        for scenario in SCENARIOS:
            for name in {*scenario.servers, *scenario.quick_servers, scenario.base}:
                self.assertIn(name, servers.BY_NAME, scenario.name)

    def test_figures_name_what_is_measured(self):
        for figure in FIGURES:
            measured = BY_NAME[figure.scenario]
            self.assertIn(figure.server, measured.servers, figure.text)
            self.assertIn(figure.over or figure.server, measured.servers, figure.text)


class Report(unittest.TestCase):
    def test_all_of_it_is_written(self):
        results = {"ws": {
            "floor": rounds(1.0, 1.0), "libpush": rounds(1.05, 1.06), "uws": rounds(1.2, 1.3),
            "nchan": rounds(2.0) + rounds(0.1, fault="7 of 9 lost"),
        }}
        with tempfile.TemporaryDirectory() as folder:
            report.write(Path(folder), results, MACHINE, {"melody": "no registry"}, 2, False)
            text = (Path(folder) / "report.md").read_text()
            written = json.loads((Path(folder) / "report.json").read_text())
            chart = (Path(folder) / "chart-ws.svg").read_text()
        self.assertIn("uWebSockets 1.25 (1.20 to 1.30)", text)
        self.assertIn("7 of 9 lost", text)
        self.assertIn("absent: no registry", text)
        self.assertEqual(written["figures"][0]["verdict"], REACHED)
        ElementTree.fromstring(chart)

    def test_a_chart_survives_small_and_large_values(self):
        for scale in (1e-4, 1, 1e9):
            row = svg.Bar("a & b", "libpush", (scale, 2 * scale), scale, "<1>")
            ElementTree.fromstring(svg.bars("t", "x", [row, row], target=scale / 2))


if __name__ == "__main__":
    unittest.main()
