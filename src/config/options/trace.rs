//! Options: spans of messages for a collector of OpenTelemetry.

use super::{label, MINUTE};
use crate::trace::Endpoint;

options! {
    /// The collector of OpenTelemetry that gets a span for a sample of the messages, from the publish to the last
    /// socket, over OTLP/HTTP. Without a path it is `/v1/traces`. `https`: with the authorities that the system trusts.
    /// A thread of its own exports the spans; nobody who publishes waits for it. See docs/operating.md
    trace = "none", fixed, Text(
        "none, otlp:http://HOST:PORT[/PATH], or otlp:https://HOST:PORT[/PATH]",
        |text| if text == "none" { Some(None) } else { Endpoint::parse(text).map(Some) }
    );

    /// Of how many messages that are published without a traceparent one has a span. 1: all have. 0: none has. With a
    /// traceparent, its sampled flag decides
    trace_sample = "1000", live, Count(0, 1_000_000_000);

    /// The attribute `service.name` of the spans
    trace_service = "libpush", fixed, Text("1 to 255 bytes without control characters", |text| label(text, 255));

    /// How long the collector may take to answer. Then the hub tries again
    trace_timeout = "10s", live, Time(100, 10 * MINUTE) in trace_timeout_ms;

    /// Spans that may wait for the collector, with 0.5 to 2 KB of memory each. Further ones are dropped and counted
    trace_queue = "2048", fixed, Count(16, 1_048_576);
}
