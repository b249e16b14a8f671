//! What leaves the dashboard: rows as JSON, lists and screens as files in the working directory.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;

use egress_core::id::WallTime;
use egress_core::world::{Flow, World};

use crate::out;
use crate::out::snapshot::{Document, Items, Tool};
use crate::tui;
use crate::tui::menu::Form;

/// Writes into the working directory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Desk;

impl tui::Desk for Desk {
    fn json(&self, flow: &Flow, world: &World) -> String {
        let one = World { flows: vec![Arc::new(flow.clone())], ..world.clone() };
        let document = Document::new(&one, Items::Flows, None);
        document.flows.first().map(serde_json::to_string_pretty).and_then(Result::ok).unwrap_or_default()
    }

    fn export(&self, world: &World, form: Form, filter: &str) -> io::Result<String> {
        let (name, file) = create("flows", world.now, form.as_str())?;
        let mut out = BufWriter::new(file);
        let document = Document::new(world, Items::Flows, None);
        match form {
            Form::Json => out::json(&document, &mut out)?,
            Form::Jsonl => out::jsonl(&document, &mut out)?,
            Form::Csv => {
                let filter = if filter.is_empty() { "all" } else { filter };
                writeln!(
                    out,
                    "# egress-tui {} node {} {} filter {}",
                    Tool::here().version,
                    world.node,
                    world.now.rfc3339(),
                    egress_core::name::printable(filter)
                )?;
                out::csv::write(&document, &mut out).map_err(io::Error::other)?;
            }
        }
        out.flush()?;
        Ok(name)
    }

    fn save(&self, screen: &str, at: WallTime) -> io::Result<String> {
        let (name, mut file) = create("screen", at, "txt")?;
        file.write_all(screen.as_bytes())?;
        Ok(name)
    }
}

/// A new file that only its owner reads, never through a link; its name tells the time.
fn create(what: &str, at: WallTime, suffix: &str) -> io::Result<(String, File)> {
    let time: String = at.rfc3339().chars().filter(|c| !matches!(c, '-' | ':')).take(15).collect();
    for nth in 0..100 {
        let again = if nth == 0 { String::new() } else { format!("-{nth}") };
        let name = format!("egress-tui-{what}-{time}{again}.{suffix}");
        match OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (name, file)),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "a hundred files of this second are there already"))
}
