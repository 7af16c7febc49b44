//! Messages of panics. They go to the log, not to the host's standard error.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes panics print nothing and read no environment variable. The hook belongs to this shared object's own copy of
/// std, so panics of other code in the process are not affected.
pub(crate) fn keep_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            // A thread that is ending may have dropped its thread-local already.
            let _ = SAID.try_with(|said| said.replace(Some(panic.to_string().replace('\n', " "))));
        }));
    });
}

/// Takes the message and the place of this thread's last panic.
pub(crate) fn said() -> String {
    let said = SAID.try_with(RefCell::take).ok().flatten();
    said.unwrap_or_else(|| "a panic".to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_message_of_a_panic_is_kept_until_it_is_taken() {
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
