//! An EventSource as WHATWG HTML describes it (sections 9.2.5 and 9.2.6): it reads a stream as a browser does. It
//! follows the text of the standard and shares no code with the writer, so that tests and fuzzers can compare the two.

/// An event that was dispatched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// The type: `message` if the stream names none.
    pub(crate) kind: String,
    pub(crate) data: String,
    /// The last event ID at that moment.
    pub(crate) id: String,
}

/// The result of reading a stream to its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct EventSource {
    pub(crate) events: Vec<Event>,
    pub(crate) last_event_id: String,
    pub(crate) retry_ms: Option<u64>,
}

/// Reads a stream (section 9.2.6).
pub(crate) fn read(stream: &[u8]) -> EventSource {
    let text = String::from_utf8_lossy(stream);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut source = EventSource::default();
    let (mut data, mut kind, mut id) = (String::new(), String::new(), String::new());
    // An incomplete event at the end of the stream is dropped: only whole lines count, and only a blank line
    // dispatches.
    let unified = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = unified.split('\n').collect();
    lines.pop();
    for line in lines {
        if line.is_empty() {
            source.last_event_id.clone_from(&id);
            if !data.is_empty() {
                let kind = if kind.is_empty() { "message".to_owned() } else { kind.clone() };
                let data = data.strip_suffix('\n').unwrap_or(&data).to_owned();
                source.events.push(Event { kind, data, id: id.clone() });
            }
            data.clear();
            kind.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut kind),
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                source.retry_ms = value.parse().ok();
            }
            // A comment, or an unknown field.
            _ => {}
        }
    }
    source
}

/// The event of a stream that has exactly one.
pub(crate) fn only_event(stream: &[u8]) -> Event {
    let mut source = read(stream);
    assert_eq!(source.events.len(), 1, "{:?}", String::from_utf8_lossy(stream));
    source.events.remove(0)
}
