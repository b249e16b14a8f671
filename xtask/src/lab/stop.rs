//! Signals: the lab's processes end at once, every wait with them, and what was made is removed on the way out.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::lab::cgroup;
use crate::lab::run::Run;

/// Whether somebody asked the lab to end.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<Shared>);

#[derive(Default)]
struct Shared {
    signal: AtomicI32,
    program: AtomicI32,
    cgroups: Mutex<Vec<PathBuf>>,
}

impl Stop {
    /// From now on signals set it instead of ending this process.
    pub(crate) fn watch() -> Result<Self> {
        let stop = Self::default();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let seen = stop.clone();
        thread::spawn(move || {
            for signal in &mut signals {
                seen.0.signal.store(signal, Ordering::SeqCst);
                seen.end();
            }
        });
        Ok(stop)
    }

    /// These cgroups end with it.
    pub(crate) fn guard(&self, run: &Run) {
        *self.cgroups() = vec![run.observed.clone(), run.unobserved.clone()];
    }

    /// This process is asked to end with it; 0: none.
    pub(crate) fn program(&self, pid: u32) {
        self.0.program.store(pid.cast_signed(), Ordering::SeqCst);
        if self.signal().is_some() {
            self.end();
        }
    }

    /// The signal, if one came.
    pub(crate) fn signal(&self) -> Option<i32> {
        Some(self.0.signal.load(Ordering::SeqCst)).filter(|s| *s != 0)
    }

    /// An error, if one came.
    pub(crate) fn check(&self) -> Result<()> {
        match self.signal() {
            Some(signal) => bail!("ended by signal {signal}"),
            None => Ok(()),
        }
    }

    fn end(&self) {
        if let Some(pid) = Pid::from_raw(self.0.program.load(Ordering::SeqCst)) {
            let _ = kill_process(pid, Signal::TERM);
        }
        for folder in self.cgroups().iter() {
            cgroup::kill(folder);
        }
    }

    fn cgroups(&self) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
        self.0.cgroups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
