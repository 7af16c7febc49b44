//! What a panic says: it goes to the log with the rest, not to the host's standard error.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on panics print nothing, and no environment is read for them. It is about this shared object's own copy of
/// std, so no panic of anybody else is touched.
pub(crate) fn keep_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            // A thread that ends has none any more.
            let _ = SAID.try_with(|said| said.replace(Some(panic.to_string().replace('\n', " "))));
        }));
    });
}

/// What the last panic of this thread said and where it was, once.
pub(crate) fn said() -> String {
    let said = SAID.try_with(RefCell::take).ok().flatten();
    said.unwrap_or_else(|| "a panic".to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_panic_said_is_kept() {
        let before = std::panic::take_hook();
        super::keep_quiet();
        let caught = std::panic::catch_unwind(|| panic!("the {}", "reason"));
        std::panic::set_hook(before);
        assert!(caught.is_err());
        let said = super::said();
        assert!(said.contains("the reason") && said.contains("panics.rs") && !said.contains('\n'), "{said}");
        assert_eq!(super::said(), "a panic");
    }
}
