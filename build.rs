//! Names the shared object and generates the C header for the drift check.
//!
//! The header that hosts use is the committed `include/push.h`. It is generated again here, into
//! the build directory, and a test compares the two; nothing is written into the source tree.

use std::{env, path::PathBuf};

fn main() {
    // cargo-c's rule: while the version is 0.x the soname carries "0".
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libpush.so.0");
    // Threads of ours may still be leaving when a host calls dlclose: never unmap the code.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=src/ffi");
    println!("cargo:rerun-if-changed=cbindgen.toml");

    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let header = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("push.h");
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let mut builder = cbindgen::Builder::new().with_config(config);
    for part in ["types", "info", "config", "server", "publish", "connections", "events", "users"] {
        builder = builder.with_src(root.join(format!("src/ffi/{part}.rs")));
    }
    match builder.generate() {
        Ok(bindings) => {
            bindings.write_to_file(&header);
        }
        // A syntax error: rustc reports it better than we could.
        Err(error) => println!("cargo:warning=push.h was not generated: {error}"),
    }
    println!("cargo:rustc-env=PUSH_GENERATED_HEADER={}", header.display());
}
