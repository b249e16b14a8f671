//! cgroup v2: where it is mounted, the folders that a kubelet would make, and how processes below them end.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Signal, kill_process};

use crate::lab::objects::Pod;
use crate::lab::run::RUNS;

/// Every folder of a lab begins so, directly below the cgroup v2 root.
pub(crate) const PREFIX: &str = "egress-lab-";

/// Where cgroup v2 is mounted: at `/sys/fs/cgroup`, beside the old hierarchies, or nowhere (`None`). What another lab mounted
/// for itself does not count: it goes with that lab.
pub(crate) fn mounted() -> Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mut found = fields.filter(|f| f.get(2) == Some(&"cgroup2")).map(|f| PathBuf::from(f[1].replace("\\040", " ")));
    Ok(found.find(|place| !place.starts_with(RUNS)))
}

/// Mounts cgroup v2 at this folder.
pub(crate) fn mount_at(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    mount("none", folder, "cgroup2", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)
        .with_context(|| format!("mounting cgroup2 at {}", folder.display()))
}

/// The folder of one container, as kubelet with the systemd driver and containerd lay it out.
pub(crate) fn of_container(pod: &Pod, id: &str) -> PathBuf {
    let uid = pod.uid.replace('-', "_");
    let mut path = PathBuf::from("kubepods.slice");
    if pod.qos == "Guaranteed" {
        path.push(format!("kubepods-pod{uid}.slice"));
    } else {
        let class = pod.qos.to_lowercase();
        path.push(format!("kubepods-{class}.slice"));
        path.push(format!("kubepods-{class}-pod{uid}.slice"));
    }
    path.join(format!("cri-containerd-{id}.scope"))
}

/// Ends every process at or below the folder and removes it.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    kill(folder);
    let gives_up = Instant::now() + Duration::from_secs(10);
    loop {
        match remove_tree(folder) {
            Ok(()) => return Ok(()),
            Err(e) if Instant::now() > gives_up => {
                return Err(e).with_context(|| format!("removing {}", folder.display()));
            }
            Err(_) => {
                // dead processes leave their cgroup when their parent has reaped them
                kill(folder);
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Ends every process at or below the folder, and none that is not.
pub(crate) fn kill(folder: &Path) {
    // cgroup.kill is there since 5.14 and cannot miss a process that forks meanwhile
    if fs::write(folder.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for pid in processes(folder) {
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Processes at or below the folder.
pub(crate) fn processes(folder: &Path) -> Vec<i32> {
    let mut found: Vec<i32> = fs::read_to_string(folder.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|l| l.parse().ok())
        .collect();
    for below in folders(folder) {
        found.extend(processes(&below));
    }
    found
}

fn remove_tree(folder: &Path) -> Result<()> {
    for below in folders(folder) {
        remove_tree(&below)?;
    }
    match fs::remove_dir(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => bail!(e),
        _ => Ok(()),
    }
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}
