//! The committed C header is what the sources say. `make header` writes it.

use std::path::Path;

#[test]
fn the_committed_header_is_the_generated_one() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/push.h");
    let generated = std::fs::read_to_string(env!("PUSH_GENERATED_HEADER")).expect("build.rs generates it");
    if std::env::var_os("PUSH_WRITE_HEADER").is_some() {
        std::fs::write(&committed, &generated).expect("include/ can be written");
    }
    let committed = std::fs::read_to_string(&committed).expect("include/push.h is committed");
    assert!(committed == generated, "include/push.h differs from src/ffi: run `make header`");
}
