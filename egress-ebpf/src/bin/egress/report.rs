//! State turned into records.

use core::cell::UnsafeCell;

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated as helper;
use egress_ebpf::{Cgroup, Endpoint, Flow, HAS_WIRE, Kind, Loss, Totals};

use crate::globals::{CGROUPS, FLOWS, SAMPLE_INTERVAL};
use crate::kernel::{self, now};
use crate::ring::{self, Wake, header, reserve, submit};
use crate::state::{Socket, flag};

/// No address.
pub(crate) const NOWHERE: Endpoint = Endpoint { address: [0; 4], port: 0, reserved: 0 };

/// What a TCP socket knows of its connection.
pub(crate) struct Connection {
    pub(crate) remote: Endpoint,
    pub(crate) local: Endpoint,
    pub(crate) rtt_micros: u32,
    pub(crate) retransmits: u32,
    pub(crate) segments_in: u32,
    pub(crate) state: u8,
}

impl Connection {
    /// Nothing is known.
    #[inline(always)]
    pub(crate) const fn unknown(state: u8) -> Self {
        Self { remote: NOWHERE, local: NOWHERE, rtt_micros: 0, retransmits: 0, segments_in: 0, state }
    }
}

/// Reports an open or a failure.
#[inline(always)]
pub(crate) fn flow(kind: Kind, socket: &Socket, connection: &Connection) {
    let Some(record) = reserve::<Flow>(&FLOWS, Loss::Flow) else { return };
    let at = now();
    let flags = if socket.flags & flag::WIRE != 0 { HAS_WIRE } else { 0 };
    record.header = header::<Flow>(kind, flags, at, socket.cookie);
    record.started = socket.started;
    record.cgroup = socket.cgroup;
    record.netns = socket.netns;
    record.tgid = socket.tgid;
    record.tid = socket.tid;
    record.uid = socket.uid;
    record.gid = socket.gid;
    record.comm = socket.comm;
    record.rtt_micros = connection.rtt_micros;
    record.retransmits = connection.retransmits;
    record.segments_in = connection.segments_in;
    record.family = socket.family;
    record.protocol = socket.protocol as u8;
    record.state = connection.state;
    record.dialled = socket.dialled;
    record.remote = connection.remote;
    record.local = connection.local;
    record.wire_source = socket.wire_source;
    record.wire_destination = socket.wire_destination;
    record.reserved = 0;
    submit(record, at, Wake::Soon);
}

/// Running or final counters.
pub(crate) struct Count {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) rtt_micros: u32,
    pub(crate) retransmits: u32,
    pub(crate) state: u8,
}

/// Reports counters.
#[inline(always)]
pub(crate) fn totals(kind: Kind, loss: Loss, socket: &Socket, at: u64, count: &Count) {
    let Some(record) = reserve::<Totals>(&FLOWS, loss) else { return };
    record.header = header::<Totals>(kind, 0, at, socket.cookie);
    record.sent = count.sent;
    record.received = count.received;
    record.rtt_micros = count.rtt_micros;
    record.retransmits = count.retransmits;
    record.protocol = socket.protocol as u8;
    record.state = count.state;
    record.reserved = [0; 6];
    submit(record, at, Wake::Soon);
}

/// Counters of a UDP socket.
#[inline(always)]
pub(crate) fn datagrams(socket: &Socket) -> Count {
    Count { sent: socket.sent, received: socket.received, rtt_micros: 0, retransmits: 0, state: 0 }
}

/// Whether a socket that lives long is to be sampled now, at most once in the interval. Notes the time in `sampled` if so.
#[inline(always)]
pub(crate) fn sample_is_due(socket: &mut Socket) -> bool {
    let interval = SAMPLE_INTERVAL.get();
    if interval == 0 {
        return false;
    }
    let at = now();
    let due = at >= socket.sampled.wrapping_add(interval);
    if due {
        socket.sampled = at;
    }
    due
}

/// Reports the running counters of a TCP socket.
#[inline(always)]
pub(crate) fn sample(socket: &mut Socket, sk: *mut bpf_sock) {
    // SAFETY: sk is a full socket; the helper answers null or a pointer that the verifier lets us read.
    let count = unsafe {
        let Some(tcp) = helper::bpf_tcp_sock(sk).as_ref() else { return };
        Count {
            sent: (&raw const tcp.bytes_acked).read_volatile(),
            received: (&raw const tcp.bytes_received).read_volatile(),
            rtt_micros: (&raw const tcp.srtt_us).read_volatile() >> 3,
            retransmits: (&raw const tcp.total_retrans).read_volatile(),
            state: 0,
        }
    };
    totals(Kind::Sample, Loss::Sample, socket, socket.sampled, &count);
}

/// Reports a cgroup when its first socket appears, with its ancestors, and wakes the reader at once: a cgroup that lives
/// for a millisecond can still be resolved, and one that is gone through its nearest living ancestor.
#[inline(always)]
pub(crate) fn first_sight_of_cgroup(id: u64) {
    // SAFETY: see Recent.
    let recent = unsafe { &raw mut (*RECENT.0.get())[id as usize % RECENTLY] };
    // SAFETY: as above.
    if unsafe { recent.read_volatile() } == id {
        return;
    }
    let known = CGROUPS.get_ptr(&id).is_some() || CGROUPS.insert(&id, &1, 0).is_err();
    // SAFETY: as above.
    unsafe { recent.write_volatile(id) };
    if known {
        return;
    }
    let Some(record) = reserve::<Cgroup>(&FLOWS, Loss::Cgroup) else { return };
    let at = now();
    record.header = header::<Cgroup>(Kind::Cgroup, 0, at, 0);
    record.id = id;
    let mut level = 0;
    while level < record.ancestors.len() {
        // SAFETY: answers 0 where there is no such level.
        record.ancestors[level] = unsafe { helper::bpf_get_current_ancestor_cgroup_id(level as i32 + 1) };
        level += 1;
    }
    submit(record, at, Wake::Now);
}

/// Places of [`RECENT`].
const RECENTLY: usize = 64;

/// Cgroups that are in [`CGROUPS`], by the low bits of their id: looking into a hash map at each connect costs ten times as much.
#[repr(transparent)]
struct Recent(UnsafeCell<[u64; RECENTLY]>);

// SAFETY: elements are only read and written as a whole, volatile, and any outcome of a race is a value that was true.
unsafe impl Sync for Recent {}

static RECENT: Recent = Recent(UnsafeCell::new([0; RECENTLY]));

/// Adds to a UDP socket's counter.
#[inline(always)]
pub(crate) fn count(counter: &mut u64, bytes: u32) {
    kernel::add(core::ptr::from_mut(counter), bytes.into());
}

pub(crate) use ring::lost;
