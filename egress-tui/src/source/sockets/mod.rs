//! What was open before the probe was there: pods' TCP connections, read once from the kernel's tables.
//!
//! A connection that is older than the probe has shown it neither its connect() nor its first packet. What left the pod
//! is put together again from both ends of a redirected connection, which lie in one network namespace; where that is
//! ambiguous, nothing is said. Such a socket does not tell when it is closed either, so the tables are read again now and
//! then until all of them are gone.

mod diag;
mod procnet;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use egress_core::attribution::place_of;
use egress_core::id::{CgroupId, NetnsCookie, SocketCookie};
use egress_core::input::{Counters, Opener, SocketEvent, Transport, Wire};
use rustix::thread::LinkNameSpaceType;

use crate::source::cgroup::CgroupTree;
use crate::source::clock;
use crate::source::process::pod_path;

/// How often the tables are read again while old connections live.
const AGAIN: Duration = Duration::from_secs(10);

/// A TCP state, by the kernel's number (`include/net/tcp_states.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State(u8);

impl State {
    const ESTABLISHED: u8 = 1;
    const CLOSE_WAIT: u8 = 8;
    const LISTEN: u8 = 10;
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

/// A process of a pod.
#[derive(Debug, Clone)]
struct Owner {
    tgid: u32,
    gid: u32,
    comm: [u8; 16],
    cgroup: CgroupId,
}

/// How the tables can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// By sock_diag, inside each network namespace.
    Diag,
    /// From `/proc/PID/net`: without cookies and counters, so a connection that is older than the probe stays open to the end.
    Proc,
}

/// Reads in the background. Dropping it ends that.
#[derive(Debug)]
pub struct Scan {
    events: Receiver<Vec<SocketEvent>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Scan {
    /// `under`: only pods whose processes are below this folder of the tree.
    pub fn start(proc: PathBuf, tree: CgroupTree) -> std::io::Result<(Self, Access)> {
        let access = if may_enter() { Access::Diag } else { Access::Proc };
        let (out, events) = channel();
        let (stop, stopped) = channel();
        let scanner = Scanner { proc, tree, access, open: HashMap::new() };
        let thread = std::thread::Builder::new()
            .name("egress-sockets".into())
            .spawn(move || scanner.run(&out, &stopped))?;
        Ok((Self { events, stop: Some(stop), thread: Some(thread) }, access))
    }

    /// What was found since the last time. Never waits.
    pub fn take(&self) -> Vec<SocketEvent> {
        self.events.try_iter().flatten().collect()
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// CAP_SYS_ADMIN: setns(2) asks for it.
fn may_enter() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN))
}

/// Inode of a network namespace, and a process in it.
type Namespaces = HashMap<u64, u32>;

struct Scanner {
    proc: PathBuf,
    tree: CgroupTree,
    access: Access,
    /// Old connections that are still open: their namespace, and what they had counted.
    open: HashMap<SocketCookie, (u64, Counters)>,
}

impl Scanner {
    fn run(mut self, out: &Sender<Vec<SocketEvent>>, stopped: &Receiver<()>) {
        let (namespaces, owners) = self.pods();
        for (&inode, &tgid) in &namespaces {
            let found = self.read(inode, tgid);
            let events = older(&found, &owners, inode);
            self.open.extend(events.iter().filter(|e| matches!(e, SocketEvent::Open { .. })).map(|e| {
                let counters = found.iter().find(|f| f.cookie == e.cookie()).map(|f| f.counters);
                (e.cookie(), (inode, counters.unwrap_or_default()))
            }));
            if out.send(events).is_err() {
                return;
            }
        }
        while self.access == Access::Diag && !self.open.is_empty() {
            if stopped.recv_timeout(AGAIN) != Err(RecvTimeoutError::Timeout) || out.send(self.again()).is_err() {
                return;
            }
        }
    }

    /// Counters that moved, connections that are gone.
    fn again(&mut self) -> Vec<SocketEvent> {
        let (namespaces, _) = self.pods();
        let mut alive = HashMap::new();
        for (&inode, &tgid) in &namespaces {
            if self.open.values().any(|(of, _)| *of == inode) {
                alive.extend(self.read(inode, tgid).into_iter().map(|found| (found.cookie, found.counters)));
            }
        }
        let (at, _) = clock::now();
        let mut events = Vec::new();
        self.open.retain(|&cookie, (_, before)| match alive.get(&cookie) {
            Some(counters) => {
                if counters != before {
                    *before = *counters;
                    events.push(SocketEvent::Sample { cookie, at, counters: *counters });
                }
                true
            }
            None => {
                events.push(SocketEvent::Close { cookie, at, counters: *before });
                false
            }
        });
        events
    }

    /// Sockets of a namespace; none if it went away meanwhile.
    fn read(&self, inode: u64, tgid: u32) -> Vec<Found> {
        let process = self.proc.join(tgid.to_string());
        match self.access {
            Access::Proc => procnet::read(&process),
            Access::Diag => {
                let Ok(namespace) = std::fs::File::open(process.join("ns/net")) else { return Vec::new() };
                let same = rustix::fs::fstat(&namespace).is_ok_and(|stat| stat.st_ino == inode);
                // This thread does nothing else, so it need not go back.
                let kind = Some(LinkNameSpaceType::Network);
                if !same || rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).is_err() {
                    return Vec::new();
                }
                diag::dump().unwrap_or_default()
            }
        }
    }

    /// Network namespaces of pods, and who owns which socket (by its inode).
    fn pods(&self) -> (Namespaces, HashMap<u64, Owner>) {
        let (mut namespaces, mut owners) = (HashMap::new(), HashMap::new());
        for entry in std::fs::read_dir(&self.proc).into_iter().flatten().flatten() {
            let Some(tgid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let process = entry.path();
            let Some(owner) = self.owner(tgid, &process) else { continue };
            let Ok(stat) = rustix::fs::stat(process.join("ns/net")) else { continue };
            namespaces.entry(stat.st_ino).or_insert(tgid);
            for fd in std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
                let Ok(target) = std::fs::read_link(fd.path()) else { continue };
                let inode = target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
                if let Some(inode) = inode {
                    owners.insert(inode, owner.clone());
                }
            }
        }
        (namespaces, owners)
    }

    /// A process whose cgroup is a pod's and in our tree.
    fn owner(&self, tgid: u32, process: &Path) -> Option<Owner> {
        let text = std::fs::read_to_string(process.join("cgroup")).ok()?;
        place_of(&pod_path(&text)?)?;
        let unified = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        let cgroup = self.tree.id_below_root(Path::new(unified))?;
        let status = std::fs::read_to_string(process.join("status")).ok()?;
        let gid = status.lines().find_map(|l| l.strip_prefix("Gid:")?.split_ascii_whitespace().nth(1)?.parse().ok())?;
        let name = std::fs::read(process.join("comm")).unwrap_or_default();
        let mut comm = [0; 16];
        for (to, from) in comm.iter_mut().zip(name.strip_suffix(b"\n").unwrap_or(&name)) {
            *to = *from;
        }
        Some(Owner { tgid, gid, comm, cgroup })
    }
}

/// Connections of one namespace as events: what proxies accepted first, then what was opened, with the numbers that its
/// first packet must have had.
fn older(found: &[Found], owners: &HashMap<u64, Owner>, namespace: u64) -> Vec<SocketEvent> {
    let (at, _) = clock::now();
    let listening: HashSet<u16> = found.iter().filter(|f| f.state.0 == State::LISTEN).map(|f| f.local.port()).collect();
    let connected = || found.iter().filter(|f| f.state.0 != State::LISTEN);
    let (accepted, opened): (Vec<_>, Vec<_>) = connected().partition(|f| listening.contains(&f.local.port()));
    let ends: HashMap<SocketAddr, &Found> = opened.iter().map(|f| (f.local, *f)).collect();
    let by_remote: HashMap<SocketAddr, &Found> = accepted.iter().map(|f| (f.remote, *f)).collect();
    // Accepted from this pod's own address, but from a port that no socket here has: NAT changed it, and whose it was
    // cannot be told.
    let local_addresses: HashSet<_> = connected().map(|f| f.local.ip()).collect();
    let lost: Vec<&&Found> = accepted
        .iter()
        .filter(|a| local_addresses.contains(&a.remote.ip()) && !ends.contains_key(&a.remote))
        .collect();
    let mut events = Vec::new();
    for accept in &accepted {
        events.push(SocketEvent::Accept { cookie: accept.cookie, at, local: accept.local, remote: accept.remote });
    }
    for socket in opened {
        let Some(owner) = owners.get(&socket.inode) else { continue };
        let wire = match by_remote.get(&socket.local) {
            Some(accept) => Wire { source: accept.remote, destination: accept.local },
            None if lost.iter().any(|a| a.remote.ip() == socket.local.ip() && a.uid != socket.uid) => continue,
            None => Wire { source: socket.local, destination: socket.remote },
        };
        events.push(SocketEvent::Open {
            cookie: socket.cookie,
            at,
            started: at,
            opener: Opener {
                tgid: owner.tgid,
                tid: owner.tgid,
                uid: socket.uid,
                gid: owner.gid,
                comm: owner.comm,
                cgroup: owner.cgroup,
                netns: NetnsCookie(namespace | OLDER),
            },
            transport: Transport::Tcp,
            dialled: socket.remote,
            remote: socket.remote,
            local: socket.local,
            wire: Some(wire),
            rtt_micros: socket.counters.rtt_micros,
        });
    }
    events
}

/// Kernels before 5.14 do not tell a namespace's cookie: its inode stands for it, marked so that the two never meet.
const OLDER: u64 = 1 << 63;

#[cfg(test)]
mod tests;
