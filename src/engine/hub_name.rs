//! The name of a hub, for operators: which machine it is on, and which of the hubs there it is.
//!
//! The log and its entries know hubs by the random bits of their lives. A name only stands beside these. It goes into
//! answers, logs and terminals as it is, so it has no characters that would have to be written otherwise there.

/// The longest name, in bytes.
pub(crate) const MAX: usize = 64;

/// True if a hub may have this name.
pub(crate) fn fits(name: &str) -> bool {
    (1..=MAX).contains(&name.len()) && name.chars().all(is_part)
}

/// The name of a hub that was given none: its machine, and a mark that tells it from others there. Too long a name of a
/// machine is cut at its end.
pub(crate) fn of_machine(machine: Option<&str>, mark: &str) -> String {
    let machine = machine.filter(|name| !name.is_empty()).unwrap_or("localhost");
    let room = MAX.saturating_sub(mark.len());
    machine.chars().map(|c| if is_part(c) { c } else { '-' }).take(room).chain(mark.chars()).collect()
}

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.:@/".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_any_machine_makes_a_name_of_a_hub() {
        let long = "a".repeat(300);
        for (machine, mark, expected) in [
            (Some("web-1"), ":9099", "web-1:9099"),
            (Some("push-7d9f8c-x2x.eu.example"), "/4711", "push-7d9f8c-x2x.eu.example/4711"),
            (Some("Ada\u{2019}s box"), ":1", "Ada-s-box:1"),
            (Some(""), ":1", "localhost:1"),
            (None, "/1", "localhost/1"),
            (Some(&*long), "/4194304", &format!("{}/4194304", &long[..56])),
        ] {
            let name = of_machine(machine, mark);
            assert_eq!(name, expected);
            assert!(fits(&name), "{name}");
        }
        assert!(fits(&long[..MAX]) && !fits(&long[..=MAX]) && !fits(""));
    }
}
