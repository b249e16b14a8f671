//! The program as a plugin of kubectl: under the name `kubectl-egress` on the `PATH` it is `kubectl egress`, and a link to it of the
//! name `kubectl_complete-egress` completes what follows that (kubectl's and cobra's protocol: candidates, then a directive).

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;

use clap::{Command, CommandFactory as _};

use crate::cli::Cli;

/// Under which name the program was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Called {
    /// Its own.
    Itself,
    /// `kubectl egress`.
    Plugin,
    /// To complete what follows `kubectl egress`.
    Completer,
}

impl Called {
    /// By the first argument.
    pub fn by(program: Option<&OsString>) -> Self {
        let name = program.and_then(|p| Path::new(p).file_name()).and_then(|n| n.to_str()).unwrap_or_default();
        match name {
            // kubectl takes either; Krew installs the first.
            "kubectl-egress" | "kubectl_egress" => Self::Plugin,
            "kubectl_complete-egress" => Self::Completer,
            _ => Self::Itself,
        }
    }

    /// This start's.
    pub fn now() -> Self {
        Self::by(std::env::args_os().next().as_ref())
    }

    /// The command line, which calls itself what the user typed.
    pub fn command(self) -> Command {
        match self {
            Self::Itself => Cli::command(),
            Self::Plugin | Self::Completer => Cli::command().bin_name("kubectl egress"),
        }
    }

    /// What a shell starts.
    pub fn program(self) -> &'static str {
        match self {
            Self::Itself => "egress-tui",
            Self::Plugin | Self::Completer => "kubectl-egress",
        }
    }
}

/// No file names, and a space behind the word.
const DIRECTIVE: &str = ":4";

/// Writes what the last of these words may become.
pub fn complete(words: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for candidate in candidates(words) {
        writeln!(out, "{candidate}")?;
    }
    writeln!(out, "{DIRECTIVE}")
}

/// Verbs, options and values that begin as the last word does.
fn candidates(words: &[String]) -> Vec<String> {
    let mut command = Called::Completer.command();
    command.build();
    let (last, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let mut here = &command;
    for word in before {
        here = here.find_subcommand(word).unwrap_or(here);
    }
    let option = |name: &str| here.get_arguments().find(|a| a.get_long() == Some(name));
    let values = |argument: &clap::Arg| -> Vec<String> {
        argument.get_possible_values().iter().map(|v| v.get_name().to_owned()).collect()
    };
    let awaited = before.last().and_then(|w| w.strip_prefix("--")).and_then(option);
    let all: Vec<String> = if let Some(argument) = awaited.filter(|a| a.get_action().takes_values()) {
        values(argument)
    } else if last.starts_with('-') {
        here.get_arguments()
            .filter(|a| !a.is_hide_set())
            .filter_map(|a| a.get_long())
            .map(|l| format!("--{l}"))
            .collect()
    } else {
        let verbs = here.get_subcommands().filter(|c| !c.is_hide_set()).map(|c| c.get_name().to_owned());
        verbs.chain(here.get_positionals().flat_map(values)).collect()
    };
    all.into_iter().filter(|candidate| candidate.starts_with(last)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Vec<String> {
        candidates(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_name_tells_what_is_wanted() {
        let by = |name: &str| Called::by(Some(&OsString::from(name)));
        assert_eq!(by("/usr/local/bin/kubectl-egress"), Called::Plugin);
        assert_eq!(by("kubectl_complete-egress"), Called::Completer);
        assert_eq!(by("./egress-tui"), Called::Itself);
        assert_eq!(Called::by(None), Called::Itself);
    }

    #[test]
    fn usage_is_what_the_user_typed() {
        let mut command = Called::Plugin.command();
        command.build();
        assert!(command.render_usage().to_string().starts_with("Usage: kubectl egress"));
    }

    #[test]
    fn verbs_options_and_values_are_completed() {
        assert_eq!(of(&["sna"]), ["snapshot"]);
        assert!(of(&[""]).contains(&"explain".to_owned()));
        assert_eq!(of(&["snapshot", "--dura"]), ["--duration"]);
        assert!(of(&["--kubec"]).contains(&"--kubeconfig".to_owned()));
        assert_eq!(of(&["snapshot", "--output", "c"]), ["csv"]);
        assert!(of(&["completions", "b"]).contains(&"bash".to_owned()));
    }
}
