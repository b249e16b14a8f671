//! The program under observation: built, and started on the node.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::lab::node::{Node, Ready};
use crate::lab::play;
use crate::lab::stop::Stop;
use crate::tools::{cargo, tool};

/// Builds it; where it is.
pub(crate) fn build() -> Result<PathBuf> {
    eprintln!("building egress-tui");
    let status =
        cargo().args(["build", "--release", "--quiet", "--package", "egress-tui"]).status().context("cargo")?;
    if !status.success() {
        bail!("egress-tui does not build");
    }
    built()
}

/// Where it is: this program was built by the same command line into the same folder.
pub(crate) fn built() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    Ok(here.with_file_name("egress-tui"))
}

/// The recording that is part of the program.
pub(crate) fn demo(binary: &Path) -> Result<u8> {
    let status = Command::new(binary).arg("demo").status().context("egress-tui demo")?;
    Ok(code(status))
}

/// The program and the node that it is started on.
pub(crate) struct Program {
    binary: PathBuf,
    options: Vec<String>,
    ready: PathBuf,
}

/// Between two looks for the ready file.
const GLANCE: Duration = Duration::from_millis(10);
/// Between two plays while the dashboard is open.
const PAUSE: Duration = Duration::from_millis(400);
/// Rounds of all variants, about an hour: a dashboard that was forgotten falls silent.
const ROUNDS: u32 = 700;

impl Program {
    /// For this node.
    pub(crate) fn new(binary: &Path, node: &Node, record: Option<&Path>, cluster: Option<&Path>) -> Self {
        let text = |path: &Path| path.display().to_string();
        let (from, place) = match cluster {
            Some(kubeconfig) => ("--kubeconfig", text(kubeconfig)),
            None => ("--mesh", text(&node.mesh)),
        };
        let options = [from, &place, "--cgroup-root", &text(&node.run.observed), "--node", &node.name];
        let record = record.map(|file| ["--record".to_owned(), text(file)]);
        Self {
            binary: binary.to_owned(),
            options: options.map(str::to_owned).into_iter().chain(record.into_iter().flatten()).collect(),
            ready: node.run.folder.join("ready.json"),
        }
    }

    /// `egress-tui VERB` in the machine's own namespaces. It is asked to end when the lab is killed.
    fn command(&self, verb: &str) -> Command {
        let mut command = tool("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(&self.binary).arg(verb).args(&self.options);
        command.arg("--ready-file").arg(&self.ready);
        command
    }

    /// Observes for `time` while all plays are played once, and writes the snapshot.
    pub(crate) fn snapshot(&self, file: &Path, time: Duration, each: bool, plays: &[Ready], stop: &Stop) -> Result<u8> {
        let mut command = self.command("snapshot");
        command.args(["-o", "json", "--duration", &format!("{}s", time.as_secs())]);
        if each {
            command.arg("--each");
        }
        let out = File::create(file).with_context(|| format!("{}", file.display()))?;
        let mut child = Running::start(command.stdin(Stdio::null()).stdout(out), stop)?;
        while !self.ready.exists() {
            if let Some(status) = child.ended()? {
                eprintln!("egress-tui ended before it observed anything");
                return Ok(code(status));
            }
            stop.check()?;
            thread::sleep(GLANCE);
        }
        play::all(plays)?;
        if child.ended()?.is_some() {
            bail!("the traffic took longer than the {} s of observation; try a larger --seconds", time.as_secs());
        }
        child.wait()
    }

    /// The dashboard, with gently repeating traffic while it is open.
    pub(crate) fn dashboard(&self, plays: &[Ready], stop: &Stop) -> Result<u8> {
        let mut child = Running::start(&mut self.command("top"), stop)?;
        while !self.ready.exists() && child.ended()?.is_none() {
            thread::sleep(GLANCE);
        }
        let mut failed = None;
        let mut plays = std::iter::repeat_n(plays, ROUNDS as usize).flatten();
        while child.ended()?.is_none() && stop.signal().is_none() {
            let Some(ready) = plays.next() else { break };
            failed = play::play(ready).err().or(failed);
            thread::sleep(PAUSE);
        }
        let code = child.wait()?;
        if let Some(e) = failed.filter(|_| stop.signal().is_none()) {
            eprintln!("not all of the traffic got through: {e:#}");
        }
        Ok(code)
    }
}

/// The program's process. Ends with this value.
struct Running<'a> {
    child: Child,
    stop: &'a Stop,
    status: Option<ExitStatus>,
}

impl<'a> Running<'a> {
    fn start(command: &mut Command, stop: &'a Stop) -> Result<Self> {
        stop.check()?;
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        stop.program(child.id());
        Ok(Self { child, stop, status: None })
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    fn wait(&mut self) -> Result<u8> {
        let status = match self.status {
            Some(status) => status,
            None => self.child.wait()?,
        };
        self.status = Some(status);
        self.stop.program(0);
        Ok(code(status))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.stop.program(0);
        if self.status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s));
    code.and_then(|c| u8::try_from(c).ok()).unwrap_or(u8::MAX)
}
