//! The program itself, as a user starts it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The repository.
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// The built program: it lies beside the test programs' folder.
pub fn path() -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    let folder = here.ancestors().find(|a| a.file_name().is_some_and(|n| n == "deps")).and_then(Path::parent);
    let program = folder.unwrap_or(Path::new("target/release")).join("egress-tui");
    assert!(program.exists(), "{} is missing: cargo build --release -p egress-tui", program.display());
    program
}

/// `cargo xtask ARGS`, in the repository, as from a shell: what cargo told the test of its package would be news to build scripts, and
/// much be built anew.
pub fn xtask(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository()).arg("xtask").args(arguments);
    let of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_package)) {
        command.env_remove(name);
    }
    command
}

/// The program with these arguments, in the repository, without the caller's colours.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(path());
    command.current_dir(repository()).args(arguments).env("NO_COLOR", "1");
    command
}

/// Runs it to its end.
pub fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap_or_else(|e| panic!("cannot start {}: {e}", path().display()))
}

/// Its standard error as text.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
