//! The completions of shells, made from the table of commands.

use super::arguments::{Flag, COMMANDS, COMMON};
use super::Failure;

pub(super) fn of_shell(shell: &str) -> Result<String, Failure> {
    match shell {
        "bash" => Ok(bash()),
        "zsh" => Ok(zsh()),
        "fish" => Ok(fish()),
        _ => Err(Failure::Usage(format!("completion {shell:?}: bash, zsh or fish is expected"))),
    }
}

fn words<'f>(flags: impl Iterator<Item = &'f Flag>) -> String {
    flags.map(|(name, ..)| format!("--{name}")).collect::<Vec<_>>().join(" ")
}

fn names() -> String {
    COMMANDS.iter().map(|command| command.name).collect::<Vec<_>>().join(" ")
}

/// The flags with a value, as a pattern of the shell. The word behind such a flag is its value, and no command.
fn with_values() -> String {
    let all = COMMANDS.iter().flat_map(|command| command.flags).chain(COMMON);
    let mut names: Vec<_> =
        all.filter(|(_, value, _)| !value.is_empty()).map(|(name, ..)| format!("--{name}")).collect();
    names.sort();
    names.dedup();
    format!("-a|-k|-n|{}", names.join("|"))
}

fn bash() -> String {
    let cases: Vec<String> = COMMANDS
        .iter()
        .map(|command| {
            format!("        {}) words=\"{}\" ;;\n", command.name, words(command.flags.iter().chain(COMMON)))
        })
        .collect();
    format!(
        "# pushctl completion bash > /etc/bash_completion.d/pushctl\n\
         _pushctl() {{\n    \
             local current=${{COMP_WORDS[COMP_CWORD]}} command= words word skip=\n    \
             for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n        \
                 # bash takes : and = for words of their own.\n        \
                 if [[ $word == : || $word == = ]]; then skip=1; continue; fi\n        \
                 if [[ -n $skip ]]; then skip=; continue; fi\n        \
                 case $word in\n            \
                     {with_values}) skip=1 ;;\n            \
                     -*) ;;\n            \
                     *) command=${{command:-$word}} ;;\n        \
                 esac\n    \
             done\n    \
             if [[ -n $skip ]]; then COMPREPLY=(); return; fi\n    \
             case $command in\n        \
             '') words=\"{names} {common}\" ;;\n\
         {cases}    \
             esac\n    \
             [[ $command == completion && $current != -* ]] && words=\"bash zsh fish\"\n    \
             COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n\
         }}\n\
         complete -o default -F _pushctl pushctl\n",
        with_values = with_values(),
        names = names(),
        common = words(COMMON.iter()),
        cases = cases.concat(),
    )
}

/// A text within single quotes.
fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''")
}

fn zsh() -> String {
    let shown = |(name, value, help): &Flag| {
        let help = quoted(help).replace('[', "(").replace(']', ")").replace(':', "\\:");
        let value = if value.is_empty() { String::new() } else { format!(":{}:_files", quoted(value)) };
        format!(" '*--{name}[{help}]{value}'")
    };
    let of = |flags: &[Flag]| flags.iter().chain(COMMON).map(shown).collect::<String>();
    let commands: String =
        COMMANDS.iter().map(|command| format!(" '{}:{}'", command.name, quoted(command.help))).collect();
    let cases: String = COMMANDS
        .iter()
        .map(|command| format!("        {}) _arguments{} '*:value:_files' ;;\n", command.name, of(command.flags)))
        .collect();
    format!(
        "#compdef pushctl\n# pushctl completion zsh > \"${{fpath[1]}}/_pushctl\"\n\
         _pushctl() {{\n    \
             local context state line\n    \
             local -a commands=({commands})\n    \
             _arguments -C{common} '1:command:->command' '*::value:->value'\n    \
             case $state in\n    \
             command) _describe command commands ;;\n    \
             value)\n        \
                 case $line[1] in\n\
         {cases}        \
                 esac ;;\n    \
             esac\n\
         }}\n\
         _pushctl \"$@\"\n",
        common = of(&[]),
    )
}

fn fish() -> String {
    let names = names();
    let mut text =
        "# pushctl completion fish > ~/.config/fish/completions/pushctl.fish\ncomplete -c pushctl -f\n".to_owned();
    let flag = |(name, value, help): &Flag, of: &str| {
        let takes = if value.is_empty() { "" } else { " -r -F" };
        format!("complete -c pushctl{of} -l {name}{takes} -d '{}'\n", quoted(help))
    };
    for command in COMMANDS {
        let (name, help) = (command.name, quoted(command.help));
        text += &format!("complete -c pushctl -n 'not __fish_seen_subcommand_from {names}' -a {name} -d '{help}'\n");
        let of = format!(" -n '__fish_seen_subcommand_from {name}'");
        command.flags.iter().for_each(|known| text += &flag(known, &of));
    }
    COMMON.iter().for_each(|known| text += &flag(known, ""));
    text + "complete -c pushctl -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_has_each_command_and_each_flag() {
        for shell in ["bash", "zsh", "fish"] {
            let text = of_shell(shell).unwrap();
            for command in COMMANDS {
                assert!(text.contains(command.name), "{shell}: {}", command.name);
                for (flag, ..) in command.flags.iter().chain(COMMON) {
                    assert!(
                        text.contains(&format!("--{flag}")) || text.contains(&format!("-l {flag}")),
                        "{shell}: {flag}"
                    );
                }
            }
        }
        assert!(matches!(of_shell("csh"), Err(Failure::Usage(_))));
    }
}
