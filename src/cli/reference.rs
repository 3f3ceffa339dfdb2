//! The command line in other forms: shell completions, man pages, and the
//! document made from the help texts.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

use super::DONE;

/// Columns of the document's help texts, whatever the terminal has.
const WIDTH: usize = 90;

/// Prints a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ringpush completions bash > /etc/bash_completion.d/ringpush\n  \
                        ringpush completions zsh > \"${fpath[1]}/_ringpush\"\n  \
                        ringpush completions fish > ~/.config/fish/completions/ringpush.fish"
)]
pub struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Prints the man page, or writes one of each command.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ringpush man | man -l -\n  ringpush man --dir /usr/local/share/man/man1"
)]
pub struct ManArgs {
    /// Writes ringpush.1, ringpush-run.1 and so on into this folder.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// `ringpush completions`.
///
/// # Errors
/// Standard output is closed.
pub fn completions(args: &CompletionsArgs, mut cli: Command) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli, "ringpush", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(DONE)
}

/// `ringpush man`.
///
/// # Errors
/// Standard output is closed, or the folder cannot be written to.
pub fn man(args: &ManArgs, cli: Command) -> anyhow::Result<u8> {
    if let Some(dir) = &args.dir {
        std::fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(cli, dir))
            .with_context(|| format!("cannot write to {}", dir.display()))?;
        return Ok(DONE);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(cli).render(&mut page)?;
    std::io::stdout().lock().write_all(&page)?;
    Ok(DONE)
}

/// `docs/cli.md`.
pub(super) fn document(cli: Command) -> String {
    let mut cli = cli.term_width(WIDTH);
    cli.build();
    let mut text = String::from(
        "# Commands\n\nMade from the help texts (`ringpush help COMMAND`); \
         `UPDATE_DOCS=1 cargo test --test cli reference` writes it anew.\n\n\
         Exit status of every command: 0 done, 1 failed, 2 wrong usage or configuration. `send` \
         also ends with\n3 (token dead or suspect), 4 (credential fault), 5 (payload refused) and \
         6 (not delivered in time).\n\nColour is used on a terminal only, and never with \
         `NO_COLOR` set. `--json` output is for programs: its\nkeys stay, new ones may come.\n\n\
         | command | does |\n|---|---|\n",
    );
    for command in commands(&cli) {
        let about = command.get_about().map(ToString::to_string);
        let about = about.unwrap_or_default().replace('\n', " ");
        let name = command.get_name();
        // Writing to a string does not fail.
        let _ = writeln!(text, "| [`{name}`](#ringpush-{name}) | {about} |");
    }
    for command in commands(&cli) {
        describe(&mut text, command, command.get_name());
    }
    text
}

/// Help texts of a command and of those below it.
fn describe(text: &mut String, command: &Command, name: &str) {
    let help = command.clone().term_width(WIDTH).render_long_help();
    let help = help.to_string();
    let help: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    let _ = write!(
        text,
        "\n## ringpush {name}\n\n```text\n{}\n```\n",
        help.join("\n")
    );
    for below in commands(command) {
        describe(text, below, &format!("{name} {}", below.get_name()));
    }
}

fn commands(cli: &Command) -> impl Iterator<Item = &Command> {
    cli.get_subcommands()
        .filter(|command| command.get_name() != "help" && !command.is_hide_set())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_an_example() {
        Cli::command().debug_assert();
        for command in commands(&Cli::command()) {
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let example = format!("ringpush {}", command.get_name());
            assert!(
                help.starts_with("Example") && help.contains(&example),
                "{example} has no example: {help:?}"
            );
        }
    }
}
