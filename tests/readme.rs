//! The README: its table of options is the code's, its C program compiles and runs. And all pages: their links lead
//! somewhere.

use push::config::options;
use std::path::{Path, PathBuf};
use std::process::Command;

const BEGIN: &str = "<!-- options: written by `make docs` from src/config/options/ -->\n";
const END: &str = "<!-- end of options -->";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn table() -> String {
    let mut table = String::from("| option | default | live | allowed | what it is |\n|---|---|---|---|---|\n");
    for option in options::all() {
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
    assert!(written == table(), "the README's options differ from src/config/options/: run `make docs`");
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

/// All pages below a folder, but those of others.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            let name = name.to_string_lossy();
            if !name.starts_with('.') && !["target", "node_modules"].contains(&&*name) {
                found.extend(pages(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found
}

/// A page without its blocks of code.
fn prose(page: &Path) -> String {
    let text = std::fs::read_to_string(page).unwrap();
    text.split("```").step_by(2).collect()
}

/// What headings are linked by: GitHub's form of them.
fn anchors(page: &Path) -> Vec<String> {
    let anchor = |heading: &str| {
        let kept = heading.trim().to_lowercase();
        kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
    };
    prose(page)
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once(' '))
        .map(|(_, text)| anchor(text))
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let (mut lost, mut count) = (Vec::new(), 0);
    for page in pages(root()) {
        for link in prose(&page).split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())) {
            if link.starts_with("https://") {
                continue;
            }
            count += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let to = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            let there = to.exists() && (anchor.is_empty() || anchors(&to).iter().any(|known| known == anchor));
            if !there {
                lost.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(count > 20, "{count} links were found");
}
