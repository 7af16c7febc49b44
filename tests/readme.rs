//! The README: its table of options is the code's, its C program compiles and runs.

use push::config::options::OPTIONS;
use std::path::{Path, PathBuf};
use std::process::Command;

const BEGIN: &str = "<!-- options: written by `make docs` from src/config/options.rs -->\n";
const END: &str = "<!-- end of options -->";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn table() -> String {
    let mut table = String::from("| option | default | live | allowed | what it is |\n|---|---|---|---|---|\n");
    for option in OPTIONS {
        let default = if option.default.is_empty() { "".into() } else { format!("`{}`", option.default) };
        let live = if option.is_live() { "yes" } else { "" };
        table += &format!("| `{}` | {default} | {live} | {} | {} |\n", option.name, option.allowed(), option.help);
    }
    table
}

#[test]
fn the_table_of_options_is_the_codes() {
    let path = root().join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the mark before the table");
    let (written, after) = rest.split_once(END).expect("the mark after the table");
    if std::env::var_os("PUSH_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
        return;
    }
    assert!(written == table(), "the README's options differ from src/config/options.rs: run `make docs`");
}

#[test]
fn the_c_program_compiles_and_runs() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("runs this program. -->\n```c\n").expect("the program");
    let (program, _) = rest.split_once("```").unwrap();
    assert!(program.lines().count() <= 10, "ten lines of C");
    // Its port is the default one, which something else on this machine may have.
    let program = program.replace("push_start(NULL,", "push_start(config(),");
    let config = "static push_config *config(void) { push_config *c = push_config_new(); \
                  push_config_set(c, \"listen\", \"127.0.0.1:0\", NULL, 0); return c; }\n";
    let program = program.replace("int main", &format!("{config}int main"));
    let built = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (source, binary) = (built.join("readme.c"), built.join("readme"));
    std::fs::write(&source, program).unwrap();
    // cargo builds the shared object beside the test's own executable.
    let libraries = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let compiled = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-o"])
        .args([&binary, &source])
        .arg(format!("-I{}", root().join("include").display()))
        .arg(format!("-L{}", libraries.display()))
        .arg("-lpush")
        .status()
        .expect("a C compiler");
    assert!(compiled.success());
    std::os::unix::fs::symlink("libpush.so", libraries.join("libpush.so.0")).ok();
    let typed = built.join("readme.typed");
    std::fs::write(&typed, "hello\n").unwrap();
    let typed = std::fs::File::open(&typed).unwrap();
    let ran = Command::new(&binary).stdin(typed).env("LD_LIBRARY_PATH", &libraries).status().unwrap();
    assert!(ran.success());
}
