//! Placeholders in secrets, which a shell or a template should have replaced.

/// True if a text has a placeholder. `${NAME}` is as long as many a key, and everybody knows it.
pub(crate) fn has_placeholder(secret: &[u8]) -> bool {
    let begins = memchr::memmem::find_iter(secret, b"${");
    begins.map(|at| &secret[at + 2..]).any(|rest| {
        let name = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        name > 0 && matches!(rest.get(name), Some(b'}' | b':' | b'-'))
    })
}
