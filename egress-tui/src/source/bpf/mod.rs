//! The kernel as a source: the BPF programs are loaded, attached once at the cgroup v2 root, and what they report is
//! translated into [`Input`].
//!
//! A thread of its own reads the rings, so that nothing else in the program can make it late. When the receiver is
//! slow the rings fill, and the kernel counts what they could not take: every loss is counted in one place, exactly.

pub mod decode;
mod load;
mod ring;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use egress_core::input::Input;
use egress_core::world::Capture;
use rustix::thread::CapabilitySet;
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;

use crate::source::cgroup::{CgroupError, CgroupTree};

/// How to capture.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where hooks attach and below which pods are resolved; `None`: the cgroup v2 mount.
    pub cgroup_root: Option<PathBuf>,
    /// Bytes of each of the two rings: a power of two, at least a page. 4 MiB hold 160 ms at 160 000 connections a second.
    pub ring_bytes: u32,
    /// The procfs of the initial pid namespace.
    pub proc: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self { cgroup_root: None, ring_bytes: 4 << 20, proc: "/proc".into() }
    }
}

/// Why nothing can be captured. Each answers what is missing, what still works and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The process may not use BPF.
    #[error("not permitted to capture: {} missing", .missing.join(", "))]
    NotPermitted {
        /// The capabilities that are missing.
        missing: Vec<&'static str>,
    },
    /// There is no cgroup v2 to attach to.
    #[error("no cgroup v2 to attach to: {0}")]
    NoCgroup(#[from] CgroupError),
    /// The kernel refused.
    #[error("the kernel refused BPF while {what}: {why}")]
    Refused {
        /// In which step.
        what: String,
        /// What it said.
        why: String,
    },
    /// The operating system refused something ordinary.
    #[error("cannot read from the kernel: {0}")]
    Io(#[from] std::io::Error),
}

impl CaptureError {
    fn refused(what: &str, error: &dyn std::error::Error) -> Self {
        Self::Refused { what: what.into(), why: load::chain(error) }
    }

    /// What works without capture.
    pub fn still_works(&self) -> &'static str {
        "recordings (--replay), explain, and everything else that needs no live traffic"
    }

    /// What to do about it.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::NotPermitted { .. } => {
                "run as root, or with CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_DAC_READ_SEARCH (a container also needs hostPID and the host's cgroup mount)"
            }
            Self::NoCgroup(_) => {
                "name a cgroup v2 folder with --cgroup-root, or mount one: mount -t cgroup2 none /mnt/cgroup2"
            }
            Self::Refused { .. } => {
                "a kernel from 5.10 on with CONFIG_CGROUP_BPF is needed; check kernel lockdown, and kernel.unprivileged_bpf_disabled inside user namespaces"
            }
            Self::Io(_) => "check the limits on open files and memory",
        }
    }
}

/// Capture at work. Dropping it detaches too, and what nobody has received by then is gone.
#[derive(Debug)]
pub struct Running {
    /// What is attached.
    pub capture: Capture,
    stop: Arc<OwnedFd>,
    abandoned: Arc<AtomicBool>,
    ended: Option<oneshot::Receiver<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Detaches, drains the rings, and reads the loss counters a last time: everything that happened before the call is
    /// in the channel when this returns. Somebody must go on receiving meanwhile.
    pub async fn stop(mut self) {
        ring::signal(&self.stop);
        if let Some(ended) = self.ended.take() {
            // An error means that the reader panicked; the receiver sees the channel closed.
            let _ = ended.await;
        }
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.abandoned.store(true, Ordering::Relaxed);
            ring::signal(&self.stop);
            self.join();
        }
    }
}

/// Loads, attaches and starts reading. When this returns, every hook that can be attached is.
pub fn start(options: &Options, out: Sender<Vec<Input>>) -> Result<Running, CaptureError> {
    let missing = missing_capabilities();
    if !missing.is_empty() {
        return Err(CaptureError::NotPermitted { missing });
    }
    let cgroups = CgroupTree::find(options.cgroup_root.as_deref())?;
    let loaded = load::load(cgroups.fd(), cgroups.shown(), options.ring_bytes)?;
    let capture = loaded.capture.clone();
    let (end, ended) = oneshot::channel();
    let reader = ring::Reader::new(loaded, cgroups, options.proc.clone(), out)?;
    let (stop, abandoned) = (reader.stop_signal(), reader.abandon_signal());
    let thread = std::thread::Builder::new().name("egress-ring".into()).spawn(move || {
        reader.run();
        // Nobody may be waiting.
        let _ = end.send(());
    })?;
    Ok(Running { capture, stop, abandoned, ended: Some(ended), thread: Some(thread) })
}

/// What this process would need and does not have: CAP_SYS_ADMIN, or the three that replaced it.
fn missing_capabilities() -> Vec<&'static str> {
    let Ok(sets) = rustix::thread::capabilities(None) else { return Vec::new() };
    let has = |capability| sets.effective.contains(capability);
    let mut missing = Vec::new();
    if !has(CapabilitySet::BPF) && !has(CapabilitySet::SYS_ADMIN) {
        missing.push("CAP_BPF");
    }
    if !has(CapabilitySet::NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    if !has(CapabilitySet::PERFMON) && !has(CapabilitySet::SYS_ADMIN) {
        missing.push("CAP_PERFMON");
    }
    missing
}
