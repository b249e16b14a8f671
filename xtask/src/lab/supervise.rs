//! `--keep`: the node belongs to a process of its own, in the background. It is the parent of everything in the lab, so that
//! nothing outlives it and nothing is left unreaped.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::lab::node::Ready;
use crate::lab::play;
use crate::lab::run::CACHE;
use crate::lab::stop::Stop;

/// Between two rounds of all variants.
const PAUSE: Duration = Duration::from_secs(10);
/// Between two looks for a signal.
const GLANCE: Duration = Duration::from_millis(50);
/// Rounds, about an hour: a lab that was forgotten falls silent.
const ROUNDS: u32 = 360;
/// Before the exit code, in the last line that a supervisor says.
const CODE: &str = "code ";

/// Starts this same command line in the background, waits until its node is up, and says what it says.
pub(crate) fn start() -> Result<u8> {
    let talk = Path::new(CACHE).join(format!("supervise-{}", std::process::id()));
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).arg("--supervise");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&talk)?).spawn()?;
    let mut code = None;
    for line in BufReader::new(child.stdout.take().context("no pipe")?).lines() {
        let line = line?;
        code = line.strip_prefix(CODE).and_then(|c| c.parse().ok());
        if code.is_some() {
            break;
        }
        println!("{line}");
    }
    eprint!("{}", fs::read_to_string(&talk)?);
    fs::remove_file(&talk)?;
    if let Some(code) = code {
        return Ok(code);
    }
    let status = child.wait()?;
    Ok(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(super::CANNOT_CAPTURE))
}

/// Tells the command that started this one that the node is up. Nothing may be said afterwards.
pub(crate) fn up(text: &str, code: u8) -> Result<()> {
    let _ = rustix::process::setsid();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}\n{CODE}{code}")?;
    out.flush()?;
    Ok(())
}

/// Plays on for a while, and stays until a signal comes.
pub(crate) fn go_on(plays: &[Ready], stop: &Stop) {
    let mut rounds = 0;
    while stop.signal().is_none() {
        if rounds < ROUNDS {
            rounds += 1;
            for ready in plays {
                // who attaches sees what does not get through
                let _ = play::play(ready);
            }
        }
        let next = Instant::now() + PAUSE;
        while Instant::now() < next && stop.signal().is_none() {
            thread::sleep(GLANCE);
        }
    }
}
