//! What a machine has that a lab could leave behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Where a lab makes things, and what their names hold.
const FOLDERS: [&str; 3] = ["/var/lib/egress-tui-lab", "/etc/netns", "/run/netns"];
const NAME: &str = "egress-lab-";
const PATHS: [&str; 3] = ["/var/lib/egress-tui-lab", "/var/cache/egress-tui-lab/", NAME];

/// Names of the probe's programs.
const PROGRAMS: [&str; 8] =
    ["connect4", "connect6", "sendmsg4", "sendmsg6", "sock_ops", "sock_release", "skb_egress", "skb_ingress"];

/// Everything that belongs to a lab or to the program, each as a line that says what it is.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(crate) struct Leftovers(BTreeSet<String>);

impl Leftovers {
    /// What is there now.
    pub(crate) fn now() -> Self {
        let mut found = BTreeSet::new();
        for folder in FOLDERS {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            found.extend(entries.map(|e| format!("file {}", e.path().display())));
        }
        for root in cgroup_roots() {
            let entries = fs::read_dir(root).into_iter().flatten().flatten();
            let labs = entries.filter(|e| e.file_name().to_string_lossy().starts_with(NAME));
            found.extend(labs.map(|e| format!("cgroup {}", e.path().display())));
        }
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        found.extend(mounts.lines().filter(|l| PATHS.iter().any(|p| l.contains(p))).map(|l| format!("mount {l}")));
        for process in processes() {
            let line = fs::read(process.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if PATHS.iter().any(|p| line.contains(p)) {
                found.insert(format!("process {line}"));
            }
            if let Ok(namespace) = fs::read_link(process.join("ns/net")) {
                found.insert(format!("namespace {}", namespace.display()));
            }
        }
        for program in aya::programs::loaded_programs().flatten() {
            if let Some(name) = program.name_as_str().filter(|n| PROGRAMS.contains(n)) {
                found.insert(format!("program {name} {}", program.id()));
            }
        }
        Self(found)
    }

    /// Until nothing is there that was not there before; the kernel frees programs and namespaces a moment after their
    /// last process. Panics with what stays.
    pub(crate) fn assert_nothing_new(&self) {
        let gives_up = Instant::now() + Duration::from_secs(10);
        loop {
            let new: Vec<String> = Self::now().0.difference(&self.0).cloned().collect();
            if new.is_empty() {
                return;
            }
            assert!(Instant::now() < gives_up, "left behind:\n{}", new.join("\n"));
            glance();
        }
    }

    /// Something of a lab is there.
    pub(crate) fn any_of_a_lab(&self) -> bool {
        self.0.iter().any(|line| line.contains(NAME))
    }
}

/// Between two looks at something that another process does, which cannot be waited for.
pub(crate) fn glance() {
    thread::park_timeout(Duration::from_millis(10));
}

fn cgroup_roots() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let fields = mounts.lines().map(|l| l.split(' ').collect::<Vec<_>>());
    fields.filter(|f| f[2] == "cgroup2").map(|f| PathBuf::from(f[1])).collect()
}

fn processes() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.map(|e| e.path()).filter(|p| is_number(p)).collect()
}

fn is_number(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.to_string_lossy().bytes().all(|b| b.is_ascii_digit()))
}
