//! `cargo xtask lab`, as a user calls it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The right to run labs: they share two processors with their own Envoys. `None`, said aloud, where labs cannot run.
pub(crate) fn allowed() -> Option<MutexGuard<'static, ()>> {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("EGRESS_REQUIRE_LIVE").is_none(), "live tests are required, and this is not root");
        eprintln!("SKIPPED: the lab needs root");
        return None;
    }
    Some(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner))
}

/// `cargo xtask lab ARGS`, not started yet.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = egress_tests::program::xtask(&["lab"]);
    command.args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("cargo xtask lab")
}

/// Starts it, and waits until its program observes.
pub(crate) fn start(arguments: &[&str]) -> Child {
    let mut child = command(arguments).spawn().expect("cargo xtask lab");
    while ready_file(child.id()).is_none() {
        if let Some(status) = child.try_wait().expect("a child") {
            panic!("the lab ended with {status} before its program observed");
        }
        crate::machine::glance();
    }
    child
}

/// The ready file of the lab with this pid: its program has it on its command line.
fn ready_file(lab: u32) -> Option<PathBuf> {
    program_of(lab).and_then(|(_, command)| {
        let mut arguments = command.split('\0');
        arguments.find(|a| *a == "--ready-file")?;
        arguments.next().map(PathBuf::from).filter(|p| p.exists())
    })
}

/// pid and command line of the program that this lab observes with.
pub(crate) fn program_of(lab: u32) -> Option<(i32, String)> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok()).find_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // PID (COMM) STATE PARENT …
        let parent: u32 = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let program = command.split('\0').next()?.ends_with("/egress-tui");
        (parent == lab && program).then_some((pid, command))
    })
}

/// The snapshot in a file.
pub(crate) fn snapshot(file: &Path) -> Value {
    let text = fs::read_to_string(file).expect("a snapshot");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:.200}"))
}

/// Names of all scenarios, sorted.
pub(crate) fn names() -> Vec<String> {
    let mut names: Vec<String> = list().iter().map(|s| s["name"].as_str().expect("a name").to_owned()).collect();
    names.sort();
    names
}

fn list() -> Vec<Value> {
    let out = run(&["--list", "-o", "json"]);
    assert!(out.status.success(), "{}", talk(&out));
    let all: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    all.as_array().expect("a list").clone()
}

/// The scenario's entry of `--list -o json`.
pub(crate) fn listed(scenario: &str) -> Value {
    let found = list().into_iter().find(|s| s["name"] == scenario);
    found.unwrap_or_else(|| panic!("{scenario} is not listed"))
}

/// What it said on standard error.
pub(crate) fn talk(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// The program.
pub(crate) fn egress_tui() -> PathBuf {
    workspace().join("target/release/egress-tui")
}

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace")
}
