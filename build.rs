//! Names the shared object and generates the C headers for the drift check.
//!
//! The headers that hosts use are the committed `include/push.h` and `include/push.cdef.h`. They are generated again
//! here, into the build directory, and a test compares them; nothing is written into the source tree.

use std::{env, fs, path::PathBuf};

fn main() {
    // cargo-c's rule: while the version is 0.x the soname carries "0".
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libpush.so.0");
    // Threads of ours may still be leaving when a host calls dlclose: never unmap the code.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=src/ffi");
    println!("cargo:rerun-if-changed=cbindgen.toml");

    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let generate = |name: &str, config: cbindgen::Config, finish: fn(String) -> String| {
        let mut builder = cbindgen::Builder::new().with_config(config);
        let parts = [
            "types",
            "event_types",
            "info",
            "last_error",
            "config",
            "server",
            "publish",
            "connections",
            "answers",
            "refusal",
            "events",
            "log",
            "users",
        ];
        for part in parts {
            builder = builder.with_src(root.join(format!("src/ffi/{part}.rs")));
        }
        let mut text = Vec::new();
        match builder.generate() {
            Ok(bindings) => bindings.write(&mut text),
            // A syntax error: rustc reports it better than we could.
            Err(error) => println!("cargo:warning={name} was not generated: {error}"),
        }
        let path = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join(name);
        fs::write(&path, finish(String::from_utf8(text).expect("the sources are UTF-8"))).expect("OUT_DIR is writable");
        path
    };
    let header = generate("push.h", config.clone(), compact);
    println!("cargo:rustc-env=PUSH_GENERATED_HEADER={}", header.display());
    let bare = cbindgen::Config {
        header: Some(CDEF.into()),
        trailer: None,
        after_includes: None,
        sys_includes: Vec::new(),
        documentation: false,
        ..config
    };
    let cdef = generate("push.cdef.h", bare, without_preprocessor);
    println!("cargo:rustc-env=PUSH_GENERATED_CDEF={}", cdef.display());
}

/// Comments begin and end on their own lines no more: cbindgen writes three for each sentence.
fn compact(text: String) -> String {
    let (mut out, mut lines) = (String::new(), text.lines().peekable());
    while let Some(line) = lines.next() {
        // The first of all is as it stands in cbindgen.toml.
        if line.trim() != "/*" || lines.peek().is_some_and(|next| next.starts_with(" *")) {
            out += &format!("{line}\n");
            continue;
        }
        let indent = line.len() - 2;
        let body: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "*/").collect();
        let body = body.iter().map(|line| line.get(indent + 1..).unwrap_or(""));
        let body = body.collect::<Vec<_>>().join(&format!("\n{:indent$}   ", ""));
        out += &format!("{:indent$}/* {body} */\n", "");
    }
    // Blank lines of a comment are blank.
    out.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// What the second header begins with.
const CDEF: &str = "/* push.h for parsers without a preprocessor: PHP's FFI::cdef, LuaJIT's ffi.cdef, cffi's FFI.cdef.
   Generated; push.h says what everything is for.  SPDX-License-Identifier: MIT OR Apache-2.0

   The PUSH_..._INIT macros are not here: let all of the struct be zero, as these three do, and set
   its `size` to sizeof of it.  PUSH_GRANT_ALL is push_grant_all(). */
";

/// Numbers become an enum, since such parsers know no macros.
fn without_preprocessor(text: String) -> String {
    let (numbers, rest): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("#define "));
    let numbers = numbers.iter().filter_map(|line| line.strip_prefix("#define ")?.split_once(' '));
    let numbers: Vec<String> = numbers.map(|(name, value)| format!("    {name} = {value}")).collect();
    let mut rest = rest.join("\n").replacen(CDEF, &format!("{CDEF}\nenum {{\n{}\n}};\n", numbers.join(",\n")), 1);
    // Where the macros were.
    while rest.contains("\n\n\n") {
        rest = rest.replace("\n\n\n", "\n\n");
    }
    rest.trim_end().to_owned() + "\n"
}
