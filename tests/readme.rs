//! The README has the same table of options as the code, and its C program compiles and runs. In all pages links lead
//! somewhere, and paths and commands that are named exist.

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
fn the_table_of_options_matches_the_code() {
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

/// All pages below a folder, except those of other projects.
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

/// The anchors of a page's headings, in GitHub's form.
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

#[test]
fn each_picture_of_the_console_is_shown() {
    let page = prose(&root().join("docs/operating.md"));
    let (mut hidden, mut count) = (Vec::new(), 0);
    for entry in std::fs::read_dir(root().join("docs/console")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        count += 1;
        if !page.contains(&format!("](console/{name})")) {
            hidden.push(name);
        }
    }
    assert!(hidden.is_empty() && count > 10, "{hidden:?} of {count}");
}

/// The walk-through of a slow client begins with an alert. Who sets up the alerts reads another list.
#[test]
fn the_alert_of_the_walk_through_is_among_the_alerts() {
    let page = prose(&root().join("docs/operating.md"));
    let part = |begin: &str, end: &str| {
        let (_, rest) = page.split_once(begin).unwrap_or_else(|| panic!("{begin} is not there"));
        rest.split(end).next().unwrap().to_owned()
    };
    let alerts = part("\nWhat to alert on:\n\n", "\n\n");
    let begins = part("\n## One client is slow\n\n", "\n\n");
    let named: Vec<&str> = begins.split('`').filter(|word| word.starts_with("push_")).collect();
    let missing: Vec<_> = named.iter().filter(|name| !alerts.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty() && !named.is_empty(), "{missing:?} of {named:?}");
}

/// The texts in backquotes on a page.
fn quoted(page: &Path) -> Vec<String> {
    prose(page).split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The path that some quoted text names, if it names one: a file by its ending, or a folder by its slash.
fn path_in(quoted: &str) -> Option<&str> {
    let word = quoted.split_whitespace().next()?;
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let endings = [".rs", ".md", ".c", ".h", ".go", ".py", ".mjs", ".js", ".mk", ".toml", ".json", ".txt"];
    let is_path = word.ends_with('/') || endings.iter().any(|ending| word.ends_with(ending));
    (plain && is_path && !word.starts_with('/')).then_some(word)
}

/// The pages that name files of the tree. Others name files of their readers, too.
const NAMING: [&str; 5] =
    ["CONTRIBUTING.md", "SECURITY.md", "docs/internals.md", "docs/testing.md", "tests/harness/README.md"];

#[test]
fn paths_that_are_named_exist() {
    let (mut lost, mut count) = (Vec::new(), 0);
    for page in NAMING {
        let page = root().join(page);
        // docs/internals.md names files below src/, and headers and modules go by their own names everywhere.
        let starts = ["", "src", "include", "examples-c/www", "tests/harness"].map(|start| root().join(start));
        for quoted in quoted(&page) {
            let Some(path) = path_in(&quoted) else { continue };
            count += 1;
            if !starts.iter().any(|start| start.join(path).exists()) {
                lost.push(format!("{}: {path}", page.display()));
            }
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(count > 100, "{count} paths were found");
}

/// The targets of make: in the Makefile and in what it includes.
fn make_targets() -> Vec<String> {
    let files = ["Makefile", "install.mk", "benches/bench.mk", "examples-go/go.mk", "tests/proof.mk"];
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    let text: String = files.into_iter().chain(["examples-c/nginx/nginx.mk"]).map(read).collect();
    let lists = text.lines().filter_map(|line| line.strip_prefix(".PHONY:"));
    lists.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// The targets of a command such as `make test-c test-go SECONDS=60`.
fn targets_in(command: &str) -> impl Iterator<Item = &str> {
    let words = command.strip_prefix("make ").unwrap_or_default().split_whitespace();
    words
        .take_while(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') && !word.starts_with('-'))
}

/// The files of tests that a command such as `cargo test --test limits --test reload` runs.
fn tests_in(command: &str) -> Vec<String> {
    let words: Vec<_> = command.split_whitespace().collect();
    let named = words.windows(2).filter(|pair| command.starts_with("cargo test") && pair[0] == "--test");
    named.map(|pair| pair[1].to_owned()).collect()
}

#[test]
fn commands_that_are_named_exist() {
    let (mut lost, mut count) = (Vec::new(), 0);
    let targets = make_targets();
    let tests = root().join("tests");
    for page in pages(root()) {
        for command in quoted(&page) {
            let unknown = targets_in(&command).filter(|target| !targets.iter().any(|known| known == target));
            lost.extend(unknown.map(|target| format!("{}: make {target}", page.display())));
            let is_test =
                |name: &String| tests.join(name).join("main.rs").exists() || tests.join(format!("{name}.rs")).exists();
            let named = tests_in(&command);
            count += named.len() + targets_in(&command).count();
            lost.extend(
                named
                    .into_iter()
                    .filter(|name| !is_test(name))
                    .map(|name| format!("{}: --test {name}", page.display())),
            );
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(count > 60, "{count} commands were found");
}

#[test]
fn lines_of_pages_are_at_most_120_characters_long() {
    let mut long = Vec::new();
    for page in pages(root()) {
        let text = std::fs::read_to_string(&page).unwrap();
        // A row of a table is one line, and so may be a command.
        let prose =
            text.split("```").step_by(2).flat_map(str::lines).filter(|line| !line.trim_start().starts_with('|'));
        long.extend(prose.filter(|line| line.chars().count() > 120).map(|line| format!("{}: {line}", page.display())));
    }
    assert!(long.is_empty(), "{long:#?}");
}
