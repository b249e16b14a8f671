//! What was open before the probe was there: pods' TCP connections, read from the kernel's tables.
//!
//! A connection that is older than the probe has shown it neither its connect() nor its first packet. What left the pod
//! is put together again from both ends of a redirected connection, which lie in one network namespace; where that is
//! ambiguous, the connection is counted as lost and nothing is said. Such a socket does not tell when it is closed either,
//! so the tables are read again now and then until all of them are gone.
//!
//! No connection is told twice. sock_diag names the cookie that the probe uses too, and what is found is sent only after
//! the probe's reader had time to tell what it saw itself: the engine keeps the first. `/proc/PID/net` names no cookies,
//! so it is read before the hooks are attached.

mod diag;
mod older;
mod pods;
mod procnet;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use arcstr::ArcStr;
use egress_core::id::SocketCookie;
use egress_core::input::{Counters, Input, SocketEvent};
use rustix::thread::{CapabilitySet, LinkNameSpaceType};
use tokio::sync::{mpsc, oneshot};

use crate::source::cgroup::CgroupTree;
use crate::source::clock;
use pods::Namespace;

/// How often the tables are read again while old connections live.
const AGAIN: Duration = Duration::from_secs(10);

/// The probe's reader looks at least every 20 ms; what it saw is told by then.
const PROBE_FIRST: Duration = Duration::from_millis(60);

/// A TCP state, by the kernel's number (`include/net/tcp_states.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State(u8);

impl State {
    const ESTABLISHED: Self = Self(1);
    const CLOSE_WAIT: Self = Self(8);
    const LISTEN: Self = Self(10);
}

/// A socket as the kernel's tables show it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    state: State,
    local: SocketAddr,
    remote: SocketAddr,
    uid: u32,
    inode: u64,
    cookie: SocketCookie,
    counters: Counters,
}

/// How the tables can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// By sock_diag, inside each network namespace.
    Diag,
    /// From `/proc/PID/net`: without cookies and counters, so a connection that is older than the probe stays open to the end.
    Proc,
}

impl Access {
    /// What this process may do: setns(2) asks for CAP_SYS_ADMIN.
    pub fn allowed() -> Self {
        let sets = rustix::thread::capabilities(None);
        if sets.is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN)) { Self::Diag } else { Self::Proc }
    }

    /// The spelling in coverage.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Diag => "sock_diag",
            Self::Proc => "proc-net",
        }
    }
}

/// Connections that are open now, as `/proc/PID/net` shows them. To be called before the hooks are attached.
pub fn from_proc(proc: PathBuf, tree: CgroupTree) -> Vec<Input> {
    Scanner::new(proc, tree, Access::Proc).first()
}

/// Reads sock_diag in the background.
#[derive(Debug)]
pub struct Running {
    stop: Sender<()>,
    first: Option<oneshot::Receiver<()>>,
    thread: JoinHandle<()>,
}

/// Begins to read. To be called after the hooks are attached.
pub fn start(proc: PathBuf, tree: CgroupTree, out: mpsc::Sender<Vec<Input>>) -> std::io::Result<Running> {
    let (stop, stopped) = channel();
    let (told, first) = oneshot::channel();
    let scanner = Scanner::new(proc, tree, Access::Diag);
    let thread =
        std::thread::Builder::new().name("egress-sockets".into()).spawn(move || scanner.run(&out, told, &stopped))?;
    Ok(Running { stop, first: Some(first), thread })
}

impl Running {
    /// Waits until all that was open at the start is told.
    pub async fn first(&mut self) {
        if let Some(first) = self.first.take() {
            // An error means that the engine is gone.
            let _ = first.await;
        }
    }

    /// Reads the counters a last time and ends. Somebody must go on receiving meanwhile.
    pub async fn stop(self) {
        drop(self.stop);
        // An error means that the thread panicked; the receiver sees its channel closed.
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

/// An old connection that is still open.
#[derive(Debug, Clone, Copy)]
struct Open {
    /// Its network namespace.
    namespace: u64,
    /// What it had counted when the observation began.
    at_first: Counters,
    /// What was told last.
    told: Counters,
}

struct Scanner {
    proc: PathBuf,
    tree: CgroupTree,
    access: Access,
    open: HashMap<SocketCookie, Open>,
}

impl Scanner {
    fn new(proc: PathBuf, tree: CgroupTree, access: Access) -> Self {
        Self { proc, tree, access, open: HashMap::new() }
    }

    fn run(mut self, out: &mpsc::Sender<Vec<Input>>, told: oneshot::Sender<()>, stopped: &Receiver<()>) {
        let inputs = self.first();
        let ended = stopped.recv_timeout(PROBE_FIRST) == Err(RecvTimeoutError::Disconnected);
        if !inputs.is_empty() && out.blocking_send(inputs).is_err() {
            return;
        }
        // Nobody may be waiting.
        let _ = told.send(());
        let mut ended = ended;
        while !ended && !self.open.is_empty() {
            ended = stopped.recv_timeout(AGAIN) == Err(RecvTimeoutError::Disconnected);
            let inputs = self.again();
            if !inputs.is_empty() && out.blocking_send(inputs).is_err() {
                return;
            }
        }
    }

    /// All that is open now.
    fn first(&mut self) -> Vec<Input> {
        let (mut inputs, mut lost) = (Vec::new(), 0);
        for (inode, namespace) in pods::namespaces(&self.proc, &self.tree, self.access) {
            let found = self.read(inode, &namespace);
            let older = older::connections(&found, &namespace, inode, clock::now().0);
            lost += older.lost;
            for input in &older.inputs {
                if let Input::Socket(SocketEvent::Open { cookie, .. }) = input {
                    let counters = found.iter().find(|f| f.cookie == *cookie).map(|f| f.counters).unwrap_or_default();
                    let told = Counters::default();
                    self.open.insert(*cookie, Open { namespace: inode, at_first: counters, told });
                }
            }
            inputs.extend(older.inputs);
        }
        if lost > 0 {
            inputs.push(Input::Lost { stage: ArcStr::from("sockets.older"), total: lost });
        }
        inputs
    }

    /// Counters that moved, connections that are gone.
    fn again(&mut self) -> Vec<Input> {
        let mut alive = HashMap::new();
        for (inode, namespace) in pods::namespaces(&self.proc, &self.tree, self.access) {
            if self.open.values().any(|open| open.namespace == inode) {
                alive.extend(self.read(inode, &namespace).into_iter().map(|found| (found.cookie, found.counters)));
            }
        }
        moved(&mut self.open, &alive)
    }

    /// Sockets of a namespace; none if it went away meanwhile.
    fn read(&self, inode: u64, namespace: &Namespace) -> Vec<Found> {
        let process = self.proc.join(namespace.tgid.to_string());
        match self.access {
            Access::Proc => procnet::read(&process),
            Access::Diag => {
                let Ok(file) = std::fs::File::open(process.join("ns/net")) else { return Vec::new() };
                // The process may be another one by now.
                let same = rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_ino == inode);
                // This thread does nothing else, so it need not go back.
                let kind = Some(LinkNameSpaceType::Network);
                if !same || rustix::thread::move_into_link_name_space(file.as_fd(), kind).is_err() {
                    return Vec::new();
                }
                diag::dump().unwrap_or_default()
            }
        }
    }
}

/// Compares with what is alive, and forgets what is not.
fn moved(open: &mut HashMap<SocketCookie, Open>, alive: &HashMap<SocketCookie, Counters>) -> Vec<Input> {
    let (at, _) = clock::now();
    let mut inputs = Vec::new();
    open.retain(|&cookie, open| {
        let Some(now) = alive.get(&cookie) else {
            inputs.push(Input::Socket(SocketEvent::Close { cookie, at, counters: open.told }));
            return false;
        };
        let counters = Counters {
            sent: now.sent.saturating_sub(open.at_first.sent),
            received: now.received.saturating_sub(open.at_first.received),
            rtt_micros: now.rtt_micros,
            retransmits: now.retransmits.saturating_sub(open.at_first.retransmits),
        };
        if counters != open.told {
            open.told = counters;
            inputs.push(Input::Socket(SocketEvent::Sample { cookie, at, counters }));
        }
        true
    });
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_moved_since_the_start_is_counted_and_what_is_gone_is_closed() {
        let counters = |sent| Counters { sent, ..Counters::default() };
        let entry = |sent| Open { namespace: 1, at_first: counters(sent), told: Counters::default() };
        let mut open = HashMap::from([(SocketCookie(1), entry(100)), (SocketCookie(2), entry(5))]);
        let alive = HashMap::from([(SocketCookie(1), counters(130)), (SocketCookie(2), counters(5))]);
        let said = moved(&mut open, &alive);
        let [Input::Socket(SocketEvent::Sample { cookie, counters: sample, .. })] = &said[..] else {
            panic!("{said:?}")
        };
        assert_eq!((cookie.0, sample.sent), (1, 30));
        let said = moved(&mut open, &HashMap::from([(SocketCookie(2), counters(5))]));
        let [Input::Socket(SocketEvent::Close { cookie, counters: last, .. })] = &said[..] else { panic!("{said:?}") };
        assert_eq!((cookie.0, last.sent), (1, 30));
        assert!(moved(&mut open, &HashMap::from([(SocketCookie(2), counters(5))])).is_empty());
        assert_eq!(open.len(), 1);
    }
}
