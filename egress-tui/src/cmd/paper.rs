//! What the program prints about itself: completions, manual pages, the configuration in force.

use std::io::{self, Write as _};

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use egress_core::filter::Field;
use egress_core::verdict::{Reason, Verdict};

use super::{complain, finish};
use crate::cli::{self, Cli};
use crate::config;
use crate::exit::Exit;
use crate::plugin::Called;
use crate::tui::key::BINDINGS;

/// Completions for a shell.
pub fn completions(options: &cli::Completions) -> anyhow::Result<Exit> {
    let mut out = Vec::new();
    let called = Called::now();
    clap_complete::generate(options.shell, &mut called.command(), called.program(), &mut out);
    finish(io::stdout().lock().write_all(&out), Exit::Done)
}

/// The manual page of the program or of a verb.
pub fn man(options: &cli::Man) -> anyhow::Result<Exit> {
    let mut command = Cli::command();
    command.build();
    let Some(verb) = &options.verb else {
        let mut out = Vec::new();
        Man::new(command).render(&mut out)?;
        tables().to_writer(&mut out)?;
        return finish(io::stdout().lock().write_all(&out), Exit::Done);
    };
    let found: Option<Command> = command.get_subcommands().find(|c| c.get_name() == verb).cloned();
    let Some(found) = found else {
        let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        complain(&format!("there is no verb {}; there are {}", egress_core::name::printable(verb), names.join(", ")));
        return Ok(Exit::Usage);
    };
    let mut out = Vec::new();
    Man::new(found).render(&mut out)?;
    finish(io::stdout().lock().write_all(&out), Exit::Done)
}

/// Keys, filter fields, verdicts and reasons, from the tables that the program itself uses.
fn tables() -> Roff {
    let mut roff = Roff::new();
    let mut section = |title: &str, rows: Vec<(String, String)>| {
        roff.control("SH", [title]);
        for (left, right) in rows {
            roff.control("TP", []);
            roff.text([roman(left)]);
            roff.text([roman(right)]);
        }
    };
    section("KEYS", BINDINGS.iter().map(|b| (b.names(true), b.help.to_owned())).collect());
    section("FILTER FIELDS", Field::ALL.iter().map(|f| (format!("{}:", f.name()), f.help().to_owned())).collect());
    section("VERDICTS", Verdict::ALL.iter().map(|v| (v.as_str().to_owned(), v.definition().to_owned())).collect());
    section("REASONS", Reason::ALL.iter().map(|r| (r.code().to_owned(), r.meaning().to_owned())).collect());
    roff
}

/// Each value that a file gave, and which; or a file to start from.
pub fn config(options: &cli::Config, cli: &Cli) -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    if options.template {
        return finish(out.write_all(config::template().as_bytes()), Exit::Done);
    }
    let arguments = std::env::args_os().collect();
    let found = config::apply(&Cli::command(), arguments, cli.common.config.as_deref())?;
    let mut written = Ok(());
    for (key, value, file) in &found.origins {
        let line = format!("{key} = {value}  ({})", file.display());
        written = written.and_then(|()| writeln!(out, "{}", egress_core::name::printable(&line)));
    }
    if found.origins.is_empty() {
        complain("no configuration file says anything; `egress-tui config --template` prints one to start from");
    }
    finish(written, Exit::Done)
}
