//! `cargo xtask test`: everything that can be checked, and a table of what was.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::tools::cargo;
use crate::{apiserver, bpf, image, install, lint, workspace};

/// Live tests are those of the files that end so.
const LIVE: &str = "_live";
/// Where live tests are asked to fail rather than to skip.
const REQUIRE_LIVE: &str = "EGRESS_REQUIRE_LIVE";

/// What live tests run besides the program.
#[derive(Default)]
struct Live {
    server: Option<PathBuf>,
    image: Option<PathBuf>,
}

/// A line of the table.
struct Row {
    what: String,
    passed: usize,
    failed: usize,
    skipped: usize,
    seconds: f32,
    note: String,
}

/// Runs all of it, also after a failure. The exit code is 0 or 1.
pub(crate) fn run() -> Result<u8> {
    let root = rustix::process::geteuid().is_root();
    let mut table = Table::default();
    // Minutes the first time, and of its own: beside everything else that is built.
    let server = root.then(|| std::thread::spawn(apiserver::build));
    table.check("source rules", || {
        let broken = lint::broken(&workspace())?;
        if broken.is_empty() { Ok(String::new()) } else { bail!("{}", broken.join("\n")) }
    });
    match install::components() {
        Ok(()) => {
            table.check("format", || succeed(cargo().args(["fmt", "--all", "--check"])));
            table.check("clippy", || {
                let mut clippy = cargo();
                clippy.args(["clippy", "--quiet", "--release", "--workspace", "--all-targets", "--"]);
                succeed(clippy.args(["-D", "warnings"]))
            });
        }
        Err(e) => {
            table.skip("format", &format!("{e:#}"));
            table.skip("clippy", &format!("{e:#}"));
        }
    }
    if root {
        table.check("what the lab needs", || install::for_lab().map(|_| String::new()));
    }
    // As the lab builds it: the tests start the program as users do, and the lab then finds it built.
    table.check("program", || {
        let mut build = cargo();
        succeed(build.args(["build", "--release", "--quiet", "--package", "egress-tui"]))
    });
    let mut live = Live::default();
    if let Some(server) = server {
        table.check("static binary", || {
            live.image = Some(image::build()?);
            Ok(String::new())
        });
        table.check("API server", || {
            let built = server.join().map_err(|_| anyhow!("its build panicked"))?;
            live.server = Some(built?);
            Ok(String::new())
        });
    }
    table.tests(root, &live)?;
    if let Err(e) = install::for_probe() {
        eprintln!("no toolchain to rebuild the BPF object with: {e:#}");
    }
    table.check("BPF object", || bpf::verify(&workspace()));
    Ok(table.print())
}

#[derive(Default)]
struct Table(Vec<Row>);

impl Table {
    /// One check that is no test of cargo's.
    fn check(&mut self, what: &str, check: impl FnOnce() -> Result<String>) {
        eprintln!("── {what}");
        let began = Instant::now();
        let done = check();
        if let Err(e) = &done {
            eprintln!("{e:#}");
        }
        let failed = usize::from(done.is_err());
        let seconds = began.elapsed().as_secs_f32();
        self.0.push(Row {
            what: what.to_owned(),
            passed: 1 - failed,
            failed,
            skipped: 0,
            seconds,
            note: done.unwrap_or_default(),
        });
    }

    fn skip(&mut self, what: &str, why: &str) {
        let row = Row { what: what.to_owned(), passed: 0, failed: 0, skipped: 1, seconds: 0.0, note: why.to_owned() };
        self.0.push(row);
    }

    /// `cargo test`, one row for each test program that holds tests.
    fn tests(&mut self, root: bool, beside: &Live) -> Result<()> {
        eprintln!("── tests");
        let mut command = cargo();
        command.args(["test", "--release", "--workspace", "--no-fail-fast"]);
        if root {
            command.env(REQUIRE_LIVE, "1");
        }
        command.envs(beside.server.iter().map(|path| ("EGRESS_APISERVER", path)));
        command.envs(beside.image.iter().map(|path| ("EGRESS_STATIC", path)));
        // one pipe: which program runs is said on one stream, its result on the other
        let (reader, writer) = std::io::pipe()?;
        let mut child = command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).spawn()?;
        drop(command);
        let began = self.0.len();
        let mut program = String::from("build of the tests");
        let mut since = Instant::now();
        for line in BufReader::new(reader).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            eprintln!("{line}");
            if let Some(name) = program_of(&line) {
                (program, since) = (name, Instant::now());
            }
            let Some((passed, failed, ignored)) = result_of(&line) else { continue };
            let is_live = program.ends_with(LIVE);
            let mut row = Row {
                what: program.clone(),
                passed,
                failed,
                skipped: ignored,
                seconds: since.elapsed().as_secs_f32(),
                note: if is_live { "live".to_owned() } else { String::new() },
            };
            if is_live && !root {
                // they returned at once
                row = Row { passed: 0, skipped: passed + ignored, note: "live: needs root".to_owned(), ..row };
            }
            if row.passed + row.failed + row.skipped > 0 {
                self.0.push(row);
            }
        }
        let status = child.wait()?;
        if !status.success() && self.0[began..].iter().all(|r| r.failed == 0) {
            // a test program that does not build, or that did not come to its result line
            let what = format!("cargo test ({program})");
            self.0.push(Row { what, passed: 0, failed: 1, skipped: 0, seconds: 0.0, note: status.to_string() });
        }
        Ok(())
    }

    /// Prints everything; 0 if nothing failed.
    fn print(&self) -> u8 {
        println!("\n{:<34} {:>7} {:>7} {:>7} {:>8}  note", "what", "passed", "failed", "skipped", "seconds");
        let (mut passed, mut failed, mut skipped, mut live) = (0, 0, 0, 0);
        for row in &self.0 {
            println!(
                "{:<34} {:>7} {:>7} {:>7} {:>8.1}  {}",
                row.what, row.passed, row.failed, row.skipped, row.seconds, row.note
            );
            passed += row.passed;
            failed += row.failed;
            skipped += row.skipped;
            if row.what.ends_with(LIVE) {
                live += row.passed + row.failed;
            }
        }
        println!("\nlive tests: {live} ran");
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        let _ = std::io::stdout().flush();
        u8::from(failed > 0)
    }
}

/// `     Running tests/deps.rs (target/…)` → `deps`; `     Running unittests src/lib.rs (target/release/deps/egress_core-1f…)`
/// → `egress_core unit`; `   Doc-tests egress_core` → `egress_core doc`.
fn program_of(line: &str) -> Option<String> {
    let line = line.trim();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{name} doc"));
    }
    let (source, binary) = line.strip_prefix("Running ")?.split_once(" (")?;
    let stem = |path: &str| path.rsplit('/').next().map(str::to_owned);
    if source.starts_with("unittests ") {
        let binary = stem(binary.trim_end_matches(')'))?;
        let name = binary.rsplit_once('-').map_or(binary.as_str(), |(name, _)| name);
        return Some(format!("{name} unit"));
    }
    // `tests/NAME.rs` or `tests/NAME/main.rs`
    stem(source.strip_suffix(".rs")?.trim_end_matches("/main"))
}

/// `test result: ok. 12 passed; 0 failed; 1 ignored; …`
fn result_of(line: &str) -> Option<(usize, usize, usize)> {
    let counts = line.trim().strip_prefix("test result: ")?;
    let count = |word: &str| -> Option<usize> {
        let before = counts.split(word).next()?.trim_end();
        before.rsplit([' ', ';']).next()?.parse().ok()
    };
    Some((count(" passed")?, count(" failed")?, count(" ignored")?))
}

fn succeed(command: &mut Command) -> Result<String> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_program_is_named_by_its_file_or_its_package() {
        let name = |line| program_of(line).unwrap_or_default();
        assert_eq!(name("     Running tests/lab_live.rs (target/release/deps/lab_live-0f3a)"), "lab_live");
        assert_eq!(
            name("     Running unittests src/lib.rs (target/release/deps/egress_core-77aa)"),
            "egress_core unit"
        );
        assert_eq!(name("   Doc-tests egress_core"), "egress_core doc");
        assert_eq!(program_of("   Compiling egress-core v0.1.0"), None);
    }

    #[test]
    fn counts_are_read_from_the_result_line() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.51s";
        assert_eq!(result_of(line), Some((12, 3, 1)));
        assert_eq!(result_of("test tests::counts ... ok"), None);
    }
}
