"""Clients that come late to a stream and get all of it at once, over as many that get one message of the same bytes."""

from . import load
from .load import Load

CLIENTS, QUICK_CLIENTS = 1_000, 300
TOKENS = 2_000
MARK = 26  # bytes; a token is the mark by which its delivery is checked, and no more


def late(transport):
    """Both are a run of their own, on a fresh server, one after the other in each round. The first says how many bytes
    came to a client."""

    def measure(server, quick):
        count = QUICK_CLIENTS if quick else CLIENTS

        def run(messages, size):
            return load.run(server, Load(transport, count, messages, size, rate=0, ramp=count, settle_ms=200, kept=1))

        tokens = run(TOKENS, MARK)
        if tokens["fault"]:
            return {"fault": f"as tokens: {tokens['fault']}"}
        whole = run(1, round(tokens["joined_bytes"]))
        if whole["fault"]:
            return {"fault": f"as one message: {whole['fault']}"}
        return {
            "tokens_cpu_us": tokens["joined_cpu_us"], "whole_cpu_us": whole["joined_cpu_us"],
            "tokens_over_whole": tokens["joined_cpu_us"] / whole["joined_cpu_us"],
            "tokens_bytes": tokens["joined_bytes"], "whole_bytes": whole["joined_bytes"], "fault": None,
        }

    return measure
