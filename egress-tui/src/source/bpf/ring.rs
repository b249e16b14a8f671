//! The reader: rings in, batches of [`Input`] out.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray, RingBuf};
use egress_core::id::{CgroupId, Nanos};
use egress_core::input::{Input, SocketEvent};
use egress_ebpf::Loss;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::decode::{Record, decode};
use super::load::Loaded;
use crate::source::cgroup::CgroupTree;
use crate::source::clock;
use crate::source::process::Processes;

/// The reader looks at the rings at least this often, and lets time pass this often.
const TICK: u64 = 20 * Nanos::MILLI;
/// How soon to try again when the receiver is full.
const FULL: u64 = Nanos::MILLI;
/// Inputs in one batch at most: decode, send, go on.
const BATCH: usize = 1024;
/// Batches held back while the receiver is full; beyond it the rings are left alone, and count.
const HELD: usize = 64;
/// cgroups whose path was told; beyond it they are told again.
const TOLD: usize = 65_536;

/// How long the end waits for a receiver that takes nothing.
const PATIENCE: u64 = 10 * Nanos::SECOND;

/// What epoll says of the stop signal; of the rings it says 0.
const STOP: u64 = 1;

/// Reads until it is told to stop.
pub(super) struct Reader {
    programs: Option<Ebpf>,
    flows: RingBuf<MapData>,
    payloads: RingBuf<MapData>,
    losses: PerCpuArray<MapData, u64>,
    cgroups: CgroupTree,
    processes: Processes,
    told: HashSet<CgroupId>,
    lost: [u64; Loss::ALL.len()],
    undecodable: u64,
    undecodable_told: u64,
    batch: Vec<Input>,
    held: VecDeque<Vec<Input>>,
    out: Sender<Vec<Input>>,
    poll: OwnedFd,
    stop: Arc<OwnedFd>,
    abandoned: Arc<AtomicBool>,
    last_tick: Nanos,
    last_losses: Nanos,
}

/// Tells the reader to stop.
pub(super) fn signal(stop: &OwnedFd) {
    let _ = rustix::io::write(stop, &1_u64.to_ne_bytes());
}

impl Reader {
    pub(super) fn new(loaded: Loaded, cgroups: CgroupTree, proc: PathBuf, out: Sender<Vec<Input>>) -> io::Result<Self> {
        let Loaded { programs, flows, payloads, losses, capture: _ } = loaded;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // The wake-ups of the two rings share one rate limit in the kernel: either means "look at both".
        epoll::add(&poll, flows.as_fd(), epoll::EventData::new_u64(0), epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        epoll::add(
            &poll,
            payloads.as_fd(),
            epoll::EventData::new_u64(0),
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        epoll::add(&poll, stop.as_fd(), epoll::EventData::new_u64(STOP), epoll::EventFlags::IN)?;
        Ok(Self {
            programs: Some(programs),
            flows,
            payloads,
            losses,
            cgroups,
            processes: Processes::new(proc),
            told: HashSet::new(),
            lost: [0; Loss::ALL.len()],
            undecodable: 0,
            undecodable_told: 0,
            batch: Vec::with_capacity(BATCH),
            held: VecDeque::new(),
            out,
            poll,
            stop,
            abandoned: Arc::default(),
            last_tick: Nanos(0),
            last_losses: Nanos(0),
        })
    }

    pub(super) fn stop_signal(&self) -> Arc<OwnedFd> {
        self.stop.clone()
    }

    /// Set before the stop signal where nobody waits for the end.
    pub(super) fn abandon_signal(&self) -> Arc<AtomicBool> {
        self.abandoned.clone()
    }

    /// Until stopped, or nobody receives any more.
    pub(super) fn run(mut self) {
        let mut all_read = true;
        loop {
            if !self.held.is_empty() {
                self.flush();
            }
            if self.out.is_closed() || self.wait(all_read) {
                break;
            }
            if self.held.len() >= HELD {
                continue;
            }
            let (now, wall) = clock::now();
            all_read = self.drain(now);
            if now.since(self.last_losses) >= Nanos::SECOND {
                self.last_losses = now;
                self.tell_losses();
            }
            if now.since(self.last_tick) >= TICK {
                self.last_tick = now;
                // Everything that was stamped before `now` has been read: what waits for a tick may be decided.
                self.batch.push(Input::Tick { now, wall });
            }
            self.send();
        }
        if !self.abandoned.load(Ordering::Relaxed) {
            self.finish();
        }
    }

    /// True: stop.
    fn wait(&mut self, all_read: bool) -> bool {
        let nanos = match (all_read, self.held.is_empty()) {
            (true, true) => TICK,
            (_, false) => FULL,
            (false, true) => 0,
        };
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(nanos).unwrap_or(0) };
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 4];
        // An interrupted wait is a short one.
        let count = epoll::wait(&self.poll, &mut events[..], Some(&timeout)).unwrap_or(0);
        events[..count].iter().any(|event| event.data.u64() == STOP)
    }

    /// Reads what was there at `now`: names first (first bytes, DNS answers), then sockets. False: there is more.
    fn drain(&mut self, now: Nanos) -> bool {
        let payloads = self.drain_ring(Ring::Payloads, now);
        let flows = self.drain_ring(Ring::Flows, now);
        payloads && flows
    }

    fn drain_ring(&mut self, which: Ring, now: Nanos) -> bool {
        loop {
            let next = match which {
                Ring::Flows => self.flows.next(),
                Ring::Payloads => self.payloads.next(),
            };
            let Some(decoded) = next.map(|item| decode(&item)) else { return true };
            match decoded {
                Ok(decoded) => {
                    self.take(decoded.record);
                    if decoded.at > now {
                        return false;
                    }
                }
                Err(_) => self.undecodable += 1,
            }
            if self.batch.len() >= BATCH {
                self.send();
                if self.held.len() >= HELD {
                    return false;
                }
            }
        }
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Cgroup { id, ancestors } => self.tell_cgroup(id, &ancestors),
            Record::Input(input) => {
                if let Input::Socket(
                    SocketEvent::Open { opener, started, .. } | SocketEvent::Fail { opener, started, .. },
                ) = &input
                {
                    let (tgid, cgroup, started) = (opener.tgid, opener.cgroup, *started);
                    self.tell_cgroup(cgroup, &[]);
                    self.batch.extend(self.processes.look(tgid, cgroup, started));
                }
                self.batch.push(input);
            }
        }
    }

    /// The path of a cgroup that was not told yet. One that is gone is told by its nearest living ancestor, which
    /// still names the pod.
    fn tell_cgroup(&mut self, id: CgroupId, ancestors: &[CgroupId]) {
        if self.told.contains(&id) {
            return;
        }
        if self.told.len() >= TOLD {
            self.told.clear();
        }
        self.told.insert(id);
        let path = std::iter::once(&id).chain(ancestors).find_map(|id| self.cgroups.path_of(*id));
        self.batch.push(Input::Cgroup { id, path });
    }

    /// Counters that moved.
    fn tell_losses(&mut self) {
        for loss in Loss::ALL {
            let Ok(per_cpu) = self.losses.get(&(loss as u32), 0) else { continue };
            let total = per_cpu.iter().sum();
            if total != self.lost[loss as usize] {
                self.lost[loss as usize] = total;
                self.batch.push(Input::Lost { stage: loss.stage().into(), total });
            }
        }
        if self.undecodable != self.undecodable_told {
            self.undecodable_told = self.undecodable;
            self.batch.push(Input::Lost { stage: "decode".into(), total: self.undecodable });
        }
    }

    fn send(&mut self) {
        if !self.batch.is_empty() {
            let full = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
            self.held.push_back(full);
        }
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(batch) = self.held.pop_front() {
            if let Err(TrySendError::Full(batch)) = self.out.try_send(batch) {
                self.held.push_front(batch);
                return;
            }
        }
    }

    /// Detaches, then reads and sends all that is left: nothing can come after it.
    fn finish(mut self) {
        drop(self.programs.take());
        let (now, wall) = clock::now();
        while !self.drain(Nanos(u64::MAX)) && self.wait_for_room() {}
        self.tell_losses();
        self.batch.push(Input::Tick { now, wall });
        self.send();
        while !self.held.is_empty() && self.wait_for_room() {}
        // What is left now has no receiver: it went away, or it has stood still for PATIENCE.
    }

    /// Sends until something is taken. False: nobody takes anything any more.
    fn wait_for_room(&mut self) -> bool {
        let held = self.held.len();
        let (started, _) = clock::now();
        loop {
            self.flush();
            if self.out.is_closed() {
                return false;
            }
            if self.held.len() < held || held == 0 {
                return true;
            }
            if clock::now().0.since(started) > PATIENCE {
                return false;
            }
            std::thread::park_timeout(std::time::Duration::from_nanos(FULL));
        }
    }
}

#[derive(Clone, Copy)]
enum Ring {
    Flows,
    Payloads,
}
