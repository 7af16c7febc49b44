//! Options: spans of messages for a collector of OpenTelemetry.

use super::{Spec, Value, MINUTE};
use crate::trace::Endpoint;

pub(super) static OPTIONS: &[Spec] = &[
    Spec {
        name: "trace",
        default: "none",
        live: fixed!(trace),
        help: "The collector of OpenTelemetry that gets a span for a sample of the messages, from the publish to the \
               last socket, over OTLP/HTTP. Without a path it is `/v1/traces`. `https`: with the authorities that the \
               system trusts. A thread of its own exports the spans; nobody who publishes waits for it. See \
               docs/operating.md",
        value: Value::Text {
            allowed: "none, otlp:http://HOST:PORT[/PATH], or otlp:https://HOST:PORT[/PATH]",
            set: |c, text| {
                c.trace = if text == "none" { None } else { Some(Endpoint::parse(text)?) };
                Some(())
            },
        },
    },
    Spec {
        name: "trace_sample",
        default: "1000",
        live: live!(trace_sample),
        help:
            "Of how many messages that are published without a traceparent one has a span. 1: all have. 0: none has. \
               With a traceparent, its sampled flag decides",
        value: Value::Count { min: 0, max: 1_000_000_000, set: |c, n| c.trace_sample = n },
    },
    Spec {
        name: "trace_service",
        default: "libpush",
        live: fixed!(trace_service),
        help: "The attribute `service.name` of the spans",
        value: Value::Text {
            allowed: "1 to 255 bytes without control characters",
            set: |c, text| {
                let fits = (1..=255).contains(&text.len()) && !text.chars().any(char::is_control);
                fits.then(|| c.trace_service = text.into())
            },
        },
    },
    Spec {
        name: "trace_timeout",
        default: "10s",
        live: live!(trace_timeout_ms),
        help: "How long the collector may take to answer. Then the hub tries again",
        value: Value::Time { min: 100, max: 10 * MINUTE, set: |c, n| c.trace_timeout_ms = n },
    },
    Spec {
        name: "trace_queue",
        default: "2048",
        live: fixed!(trace_queue),
        help: "Spans that may wait for the collector, with 0.5 to 2 KB of memory each. Further ones are dropped and \
               counted",
        value: Value::Count { min: 16, max: 1_048_576, set: |c, n| c.trace_queue = n as usize },
    },
];
