//! The object into the kernel, each hook onto the cgroup.

use std::os::fd::BorrowedFd;

use arcstr::ArcStr;
use aya::maps::{MapData, PerCpuArray, RingBuf};
use aya::programs::{CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError};
use aya::{Ebpf, EbpfLoader};
use egress_core::world::{Capture, Hook};
use egress_ebpf::{global, map};

use super::CaptureError;

/// The committed object.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../egress-ebpf/egress.bpf.o"));

/// The programs, in the order in which they are attached. connect comes last: a flow born between connect and egress would
/// lack its first packet.
const HOOKS: [&str; 8] =
    ["sock_ops", "sock_release", "skb_egress", "skb_ingress", "sendmsg4", "sendmsg6", "connect4", "connect6"];
/// Without these nothing can be said.
const NEEDED: [&str; 2] = ["sock_ops", "connect4"];

/// The programs at work, and the ends of their maps that we read.
pub(super) struct Loaded {
    /// Dropping it detaches and unloads.
    pub(super) programs: Ebpf,
    pub(super) flows: RingBuf<MapData>,
    pub(super) payloads: RingBuf<MapData>,
    pub(super) losses: PerCpuArray<MapData, u64>,
    pub(super) capture: Capture,
}

/// Loads the object and attaches what can be attached. `ring_bytes` is rounded up to what the kernel takes.
pub(super) fn load(cgroup: BorrowedFd<'_>, shown: ArcStr, ring_bytes: u32) -> Result<Loaded, CaptureError> {
    raise_memlock();
    let ring_bytes = ring_bytes.max(4096).checked_next_power_of_two().unwrap_or(1 << 30);
    let (first, last) = ephemeral_ports();
    let mut programs = EbpfLoader::new()
        .map_max_entries(map::FLOWS, ring_bytes)
        .map_max_entries(map::PAYLOADS, ring_bytes)
        .override_global(global::EPHEMERAL_FIRST, &first, true)
        .override_global(global::EPHEMERAL_LAST, &last, true)
        .load(OBJECT)
        .map_err(|error| CaptureError::refused("loading the programs", &error))?;

    let mut hooks = Vec::new();
    for name in HOOKS {
        let outcome = programs.program_mut(name).map_or_else(
            || Err("not in the object".to_owned()),
            |program| attach(name, program, cgroup).map_err(|error| refusal(&error)),
        );
        hooks.push(Hook { name: name.into(), why: outcome.err().map(ArcStr::from) });
    }
    for needed in NEEDED {
        if let Some(why) = hooks.iter().find(|h| h.name == needed).and_then(|h| h.why.as_ref()) {
            return Err(CaptureError::Refused { what: format!("attaching {needed}"), why: why.to_string() });
        }
    }
    let tier = if hooks.iter().all(|h| h.why.is_none()) { "full" } else { "reduced" };
    let flows = ring(&mut programs, map::FLOWS)?;
    let payloads = ring(&mut programs, map::PAYLOADS)?;
    let losses = programs.take_map(map::LOSSES).ok_or_else(|| missing(map::LOSSES))?;
    let losses = PerCpuArray::try_from(losses).map_err(|error| CaptureError::refused("reading counters", &error))?;
    Ok(Loaded { programs, flows, payloads, losses, capture: Capture { tier: tier.into(), hooks, cgroup_root: shown } })
}

fn attach(name: &str, program: &mut Program, cgroup: BorrowedFd<'_>) -> Result<(), ProgramError> {
    // Links always share the cgroup with other programs, whatever the mode says; any flag at all is refused by kernels
    // that have links.
    let mode = CgroupAttachMode::Single;
    match program {
        Program::CgroupSockAddr(program) => {
            program.load()?;
            program.attach(cgroup, mode)?;
        }
        Program::SockOps(program) => {
            program.load()?;
            program.attach(cgroup, mode)?;
        }
        Program::CgroupSock(program) => {
            program.load()?;
            program.attach(cgroup, mode)?;
        }
        Program::CgroupSkb(program) => {
            program.load()?;
            let direction =
                if name == "skb_egress" { CgroupSkbAttachType::Egress } else { CgroupSkbAttachType::Ingress };
            program.attach(cgroup, direction, mode)?;
        }
        _ => return Err(ProgramError::UnexpectedProgramType),
    }
    Ok(())
}

fn ring(programs: &mut Ebpf, name: &str) -> Result<RingBuf<MapData>, CaptureError> {
    let map = programs.take_map(name).ok_or_else(|| missing(name))?;
    RingBuf::try_from(map).map_err(|error| CaptureError::refused("mapping a ring", &error))
}

fn missing(name: &str) -> CaptureError {
    CaptureError::Refused { what: "reading the object".into(), why: format!("map {name} is not in it") }
}

/// Kernels before 5.11 charge maps to this limit. Not being allowed to raise it is no failure where it does not matter.
fn raise_memlock() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
}

/// `net.ipv4.ip_local_port_range` of this network namespace; the kernel's default where it cannot be read.
fn ephemeral_ports() -> (u32, u32) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_ascii_whitespace().filter_map(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) if first < last => (first, last),
        _ => (32768, 60999),
    }
}

/// Why a program is not attached. Of a verifier's log, which may be megabytes, only the verdict.
fn refusal(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return chain(error) };
    let log = verifier_log.to_string();
    let verdict = log.lines().rev().map(str::trim).find(|line| {
        let counts = ["processed ", "verification time", "stack depth"];
        !line.is_empty() && !counts.iter().any(|count| line.starts_with(count))
    });
    verdict.map_or_else(|| io_error.to_string(), |verdict| format!("the verifier refused it ({io_error}): {verdict}"))
}

/// An error and what caused it, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
