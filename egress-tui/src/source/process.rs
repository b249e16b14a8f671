//! What `/proc` says of a process: its name and the cgroup path that names its pod.

use std::collections::HashMap;
use std::path::PathBuf;

use arcstr::ArcStr;
use egress_core::attribution::place_of;
use egress_core::id::{CgroupId, Nanos};
use egress_core::input::Input;
use rustix::time::{ClockId, clock_gettime};

/// How long a process is believed to be the same: a pid is not used again within this time in the same cgroup.
const BELIEVED: u64 = 30 * Nanos::SECOND;
/// Processes remembered; beyond it all are forgotten and read again.
const REMEMBERED: usize = 65_536;
/// A process that began this much after the event cannot have caused it: the pid was used again. Start times are counted
/// in hundredths of a second.
const START_GRAIN: u64 = 20 * Nanos::MILLI;
/// Hundredths of a second, the unit of `/proc/PID/stat` on every architecture (USER_HZ).
const TICK: u64 = 10 * Nanos::MILLI;

/// Reads processes once each.
#[derive(Debug)]
pub struct Processes {
    proc: PathBuf,
    known: HashMap<u32, (CgroupId, Nanos)>,
    /// CLOCK_BOOTTIME − CLOCK_MONOTONIC: time spent suspended.
    suspended: u64,
}

impl Processes {
    /// `proc` is the procfs of the initial pid namespace.
    pub fn new(proc: PathBuf) -> Self {
        let nanos = |clock| {
            let time = clock_gettime(clock);
            time.tv_sec.unsigned_abs() * Nanos::SECOND + time.tv_nsec.unsigned_abs()
        };
        let suspended = nanos(ClockId::Boottime).saturating_sub(nanos(ClockId::Monotonic));
        Self { proc, known: HashMap::new(), suspended }
    }

    /// The process behind an event that began at `started`, if it has not been told yet and still lives.
    pub fn look(&mut self, tgid: u32, cgroup: CgroupId, started: Nanos) -> Option<Input> {
        if let Some((before, read)) = self.known.get(&tgid)
            && *before == cgroup
            && started.since(*read) < BELIEVED
        {
            return None;
        }
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(tgid, (cgroup, started));
        let folder = self.proc.join(tgid.to_string());
        let stat = std::fs::read(folder.join("stat")).ok()?;
        let began = start_time(&stat)?.saturating_mul(TICK).saturating_sub(self.suspended);
        if began > started.0.saturating_add(START_GRAIN) {
            return None;
        }
        let comm = std::fs::read(folder.join("comm")).ok().map(|bytes| {
            let text = String::from_utf8_lossy(&bytes);
            ArcStr::from(text.trim_end_matches('\n'))
        });
        let cgroup =
            std::fs::read(folder.join("cgroup")).ok().and_then(|bytes| pod_path(&String::from_utf8_lossy(&bytes)));
        Some(Input::Process { tgid, comm, cgroup })
    }
}

/// Field 22 of `/proc/PID/stat` (proc(5)). The name in field 2 is hostile: the last `)` ends it.
fn start_time(stat: &[u8]) -> Option<u64> {
    let after = stat.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(&stat[after + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The line of `/proc/PID/cgroup` whose path names a pod, in whichever hierarchy; else v2's.
pub(super) fn pod_path(text: &str) -> Option<ArcStr> {
    let paths = || text.lines().filter_map(|line| line.splitn(3, ':').nth(2).map(|path| (line, path)));
    let named = paths().find(|(_, path)| place_of(path).is_some());
    named.or_else(|| paths().find(|(line, _)| line.starts_with("0::"))).map(|(_, path)| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = b"42 (a) R 1 (x) y) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21\n";
        assert_eq!(start_time(stat), Some(4711));
        assert_eq!(start_time(b"42 (cut"), None);
        assert_eq!(start_time(b"42 (cut) S 1"), None);
    }

    #[test]
    fn the_hierarchy_that_names_a_pod_wins() {
        let pod = "/kubepods/besteffort/pod0a1b2c3d-1111-4222-8333-444455556666/abc";
        assert_eq!(pod_path(&format!("4:memory:{pod}\n1:name=systemd:/x\n0::/\n")).as_deref(), Some(pod));
        assert_eq!(pod_path("4:memory:/a\n0::/system.slice/x:y\n").as_deref(), Some("/system.slice/x:y"));
        assert_eq!(pod_path("nothing"), None);
    }

    #[test]
    fn a_process_is_told_once_and_a_later_owner_of_its_pid_is_not_taken_for_it() {
        let mut processes = Processes::new("/proc".into());
        let me = std::process::id();
        let now = clock_gettime(ClockId::Monotonic);
        let now = Nanos(now.tv_sec.unsigned_abs() * Nanos::SECOND + now.tv_nsec.unsigned_abs());
        assert!(matches!(processes.look(me, CgroupId(1), now), Some(Input::Process { comm: Some(_), .. })));
        assert!(processes.look(me, CgroupId(1), now).is_none());
        assert!(processes.look(me, CgroupId(2), now).is_some(), "another cgroup: look again");
        assert!(processes.look(me, CgroupId(3), Nanos(1)).is_none(), "it began long after that event");
    }
}
