//! `cargo xtask oracle`: what Istio's own code answers, and where the engine answers otherwise.
//!
//! The oracle is a Go program that links Istio's configuration generator and simulator (`tests/oracle/tool`). Building it takes minutes,
//! so it is kept in the user's cache under the hash of its sources, and no test needs it: its answers are committed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Subcommand;

use crate::golang::Program;
use crate::tools::{cargo, find};
use crate::workspace;

/// Ask Istio's own code, and compare
#[derive(Debug, Subcommand)]
pub(crate) enum Oracle {
    /// Build the oracle into the cache (needs Go; minutes the first time) and print where it is
    Build,
    /// Write expected.jsonl into every case below the folders
    Eval {
        /// Also where there are answers already
        #[arg(long)]
        again: bool,
        /// Take objects that Istio's validation refuses out of the mesh, and ask again
        #[arg(long)]
        drop_refused: bool,
        /// Folders of cases
        #[arg(required = true)]
        folders: Vec<PathBuf>,
    },
    /// Write random meshes and calls
    Generate {
        /// The first mesh; the others count on from it
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = 100)]
        meshes: u64,
        /// Calls of each mesh
        #[arg(long, default_value_t = 28)]
        calls: usize,
        /// Where the cases go
        out: PathBuf,
    },
    /// Print where the engine answers otherwise than expected.jsonl; exit code 1 if anywhere
    Compare {
        /// Folders of cases
        #[arg(required = true)]
        folders: Vec<PathBuf>,
    },
}

const TOOL: &str = "tests/oracle/tool";

/// Cases of one process: starting one costs more than most meshes.
const BATCH: usize = 10;

/// How often objects are taken out of one mesh: what refers to a refused object is refused in the next round at most.
const ROUNDS: usize = 4;

impl Oracle {
    pub(crate) fn run(&self) -> Result<u8> {
        match self {
            Self::Build => println!("{}", build()?.display()),
            Self::Eval { again, drop_refused, folders } => eval(folders, *again, *drop_refused)?,
            Self::Generate { seed, meshes, calls, out } => {
                let numbers = [seed.to_string(), meshes.to_string(), calls.to_string()];
                let mut command = cargo();
                command.args(["run", "--quiet", "--release", "-p", "egress-tests", "--bin", "random_mesh", "--"]);
                ensure!(command.args(numbers).arg(out).status()?.success(), "random_mesh failed");
            }
            Self::Compare { folders } => return compare(folders),
        }
        Ok(0)
    }
}

/// The oracle's program, built if these sources never were.
fn build() -> Result<PathBuf> {
    Program {
        name: "oracle",
        sources: workspace().join(TOOL),
        needs: (1, 26),
        flags: &[],
        costs: "minutes, and 2 GB of memory for each process",
    }
    .build()
}

/// Folders with calls.jsonl, at or below the given ones.
fn cases(folders: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut left = folders.to_vec();
    let mut found = Vec::new();
    while let Some(folder) = left.pop() {
        if folder.join("calls.jsonl").is_file() {
            found.push(folder);
            continue;
        }
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn eval(folders: &[PathBuf], again: bool, drop_refused: bool) -> Result<()> {
    let program = build()?;
    let mut all = cases(folders)?;
    all.retain(|case| again || !case.join("expected.jsonl").is_file());
    let mut failed = Vec::new();
    let mut refused = 0;
    for batch in all.chunks(BATCH) {
        let mut asked = batch.to_vec();
        for _ in 0..ROUNDS {
            let said = ask(&program, &asked)?;
            asked.retain(|case| {
                let objects = refused_objects(&said, case);
                !objects.is_empty() && drop_refused && take_out(case, &objects).is_ok_and(|taken| taken > 0)
            });
            refused += asked.len();
            if asked.is_empty() {
                break;
            }
        }
        for case in batch.iter().filter(|case| !case.join("expected.jsonl").is_file()) {
            // One that ends the process takes the rest of its batch with it.
            let said = ask(&program, std::slice::from_ref(case))?;
            if !case.join("expected.jsonl").is_file() {
                failed.push(format!("{}: {}", case.display(), said.lines().last().unwrap_or_default()));
            }
        }
    }
    println!("{} cases asked, {refused} times without objects that validation refused", all.len());
    if !failed.is_empty() {
        bail!("no answers for {} cases:\n{}", failed.len(), failed.join("\n"));
    }
    Ok(())
}

/// What the oracle says on standard error. That a case failed shows in the missing answers.
fn ask(program: &Path, cases: &[PathBuf]) -> Result<String> {
    for case in cases {
        let _ = fs::remove_file(case.join("expected.jsonl"));
    }
    let output = Command::new(program).arg("eval").args(cases).output()?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Kind, namespace and name of the objects in lines like `CASE: Sidecar shop/a: invalid: why`.
fn refused_objects(said: &str, case: &Path) -> BTreeSet<(String, String, String)> {
    let prefix = format!("{}: ", case.display());
    let lines = said.lines().filter_map(|line| line.strip_prefix(&prefix));
    lines
        .filter_map(|line| {
            let (object, why) = line.split_once(": ")?;
            let (kind, name) = object.split_once(' ')?;
            let (namespace, name) = name.split_once('/')?;
            let refused = why.starts_with("invalid") || why.starts_with("not converted");
            refused.then(|| (kind.to_owned(), namespace.to_owned(), name.to_owned()))
        })
        .collect()
}

/// Removes documents that the generator wrote; answers how many.
fn take_out(case: &Path, objects: &BTreeSet<(String, String, String)>) -> Result<usize> {
    let file = case.join("mesh/mesh.yaml");
    let text = fs::read_to_string(&file)?;
    let is_refused = |document: &&str| {
        objects.iter().any(|(kind, namespace, name)| {
            document.contains(&format!("\nkind: {kind}\n"))
                && document.contains(&format!("\n  name: {name}\n  namespace: {namespace}\n"))
        })
    };
    let (out, kept): (Vec<&str>, Vec<&str>) = text.split("---\n").partition(is_refused);
    fs::write(&file, kept.join("---\n"))?;
    Ok(out.len())
}

fn compare(folders: &[PathBuf]) -> Result<u8> {
    ensure!(
        cargo().args(["build", "--quiet", "--release", "-p", "egress-tui"]).status()?.success(),
        "cargo build failed"
    );
    let program = workspace().join("target/release/egress-tui");
    let mut code = 0;
    for folder in folders {
        let mut command = Command::new(find("python3").context("python3 is not installed")?);
        command.arg(workspace().join("tests/oracle/compare.py")).arg(folder).arg("--").arg(&program);
        command.args(["explain", "--mesh", "DIR/mesh", "--calls", "DIR/calls.jsonl", "-o", "jsonl"]);
        code |= u8::from(!command.status()?.success());
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_objects_are_read_from_what_the_oracle_says() {
        let said = "a/b: Sidecar shop/x: invalid: empty\na/b: VirtualService bank/y: unknown kind\na/c: Gateway shop/z: invalid: q\n";
        let found = refused_objects(said, Path::new("a/b"));
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("Sidecar".into(), "shop".into(), "x".into())]);
    }
}
