//! The committed C headers match the sources. `make header` writes them.

use std::path::Path;

#[test]
fn the_committed_headers_match_the_sources() {
    for (name, generated) in [("push.h", env!("PUSH_GENERATED_HEADER")), ("push.cdef.h", env!("PUSH_GENERATED_CDEF"))] {
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("include").join(name);
        let generated = std::fs::read_to_string(generated).expect("build.rs generates it");
        if std::env::var_os("PUSH_WRITE_HEADER").is_some() {
            std::fs::write(&committed, &generated).expect("include/ can be written");
        }
        let committed = std::fs::read_to_string(&committed).unwrap_or_default();
        assert!(committed == generated, "include/{name} differs from src/ffi: run `make header`");
    }
}
