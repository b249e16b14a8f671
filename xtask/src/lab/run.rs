//! One run of the lab: its id, its folder, its lock, its cgroups. What a crash left is found by these and cleared.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::lab::cgroup;

/// Folders of the runs. Not below /run, which may be mounted `noexec`, nor below a home, which uid 1337 cannot enter.
pub(crate) const RUNS: &str = "/var/lib/egress-tui-lab";
/// What is installed once and stays: Envoy, and the lock that puts starts and ends of labs in order.
pub(crate) const CACHE: &str = "/var/cache/egress-tui-lab";

/// In a run's folder: the pid of the process that keeps it.
const KEPT: &str = "kept";

/// One run.
pub(crate) struct Run {
    /// Eight hexadecimal digits; every name that the run gives to something of the machine holds it.
    pub(crate) id: String,
    /// Its folder: `/var/lib/egress-tui-lab/ID`.
    pub(crate) folder: PathBuf,
    /// The cgroup below which the node's containers are (`--cgroup-root`).
    pub(crate) observed: PathBuf,
    /// The cgroup of everything that is not on the node: name server, outside hosts.
    pub(crate) unobserved: PathBuf,
    #[expect(dead_code, reason = "held while the run lives")]
    lock: File,
}

impl Run {
    /// Makes folder, lock and cgroups.
    pub(crate) fn begin() -> Result<Self> {
        let _order = Order::take()?;
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
        let id = format!("{:08x}", (nanos ^ u64::from(std::process::id()).rotate_left(20)) as u32);
        let folder = Path::new(RUNS).join(&id);
        fs::create_dir_all(&folder)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).context("a lab with this id runs")?;
        let root = if let Some(root) = cgroup::mounted()? {
            root
        } else {
            let own = folder.join("cgroup");
            cgroup::mount_at(&own)?;
            own
        };
        let run = Self {
            observed: root.join(format!("{}{id}", cgroup::PREFIX)),
            unobserved: root.join(format!("{}{id}.outside", cgroup::PREFIX)),
            id,
            folder,
            lock,
        };
        for cgroup in [&run.observed, &run.unobserved] {
            fs::create_dir(cgroup).with_context(|| format!("making {}", cgroup.display()))?;
        }
        fs::write(run.folder.join("cgroup-root"), root.as_os_str().as_encoded_bytes())?;
        Ok(run)
    }

    /// Marks it as one that goes on without a terminal, until `--down` or a signal.
    pub(crate) fn keep(&self) -> Result<()> {
        Ok(fs::write(self.folder.join(KEPT), std::process::id().to_string())?)
    }

    /// Ends every process of the run. Harmless at any time, also from another thread.
    pub(crate) fn kill(&self) {
        cgroup::kill(&self.observed);
        cgroup::kill(&self.unobserved);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let cleared = Order::take().and_then(|_order| clear(&self.id));
        if let Err(e) = cleared {
            eprintln!("lab {}: {e:#}; the next start tries again", self.id);
        }
    }
}

/// Only one lab starts, ends or clears at a time.
struct Order(#[expect(dead_code, reason = "closing the file gives the lock back")] File);

impl Order {
    fn take() -> Result<Self> {
        fs::create_dir_all(CACHE)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(Path::new(CACHE).join("lock"))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Self(file))
    }
}

/// Clears what runs that are not alive any more left behind; says which.
pub(crate) fn clear_dead() -> Result<Vec<String>> {
    let _order = Order::take()?;
    let mut dead = Vec::new();
    for id in ids() {
        if !alive(&id) {
            clear(&id)?;
            dead.push(id);
        }
    }
    // cgroups whose folder somebody removed by hand
    if let Some(root) = cgroup::mounted()? {
        for entry in fs::read_dir(&root)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(id) = name.strip_prefix(cgroup::PREFIX) else { continue };
            if !Path::new(RUNS).join(id.trim_end_matches(".outside")).exists() {
                cgroup::remove(&entry.path())?;
                dead.push(id.to_owned());
            }
        }
    }
    Ok(dead)
}

/// Ends a run that was kept: asks its process to, and waits until it has.
pub(crate) fn end(id: &str) -> Result<()> {
    let keeper = fs::read_to_string(Path::new(RUNS).join(id).join(KEPT));
    let Some(pid) = keeper.ok().and_then(|pid| Pid::from_raw(pid.parse().ok()?)) else {
        bail!("no lab {id:?} was kept; there are: {}", kept().join(", "));
    };
    let gives_up = Instant::now() + Duration::from_secs(20);
    while alive(id) && Instant::now() < gives_up {
        let _ = kill_process(pid, Signal::TERM);
        thread::sleep(Duration::from_millis(20));
    }
    let _order = Order::take()?;
    clear(id)
}

/// Runs that were kept.
pub(crate) fn kept() -> Vec<String> {
    ids().into_iter().filter(|id| Path::new(RUNS).join(id).join(KEPT).is_file()).collect()
}

/// Runs that have a folder.
fn ids() -> Vec<String> {
    let entries = fs::read_dir(RUNS).into_iter().flatten().flatten();
    let mut ids: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    ids.sort();
    ids
}

fn alive(id: &str) -> bool {
    let Ok(lock) = File::open(Path::new(RUNS).join(id).join("lock")) else { return false };
    flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err()
}

/// Ends what runs and removes what is there. Namespaces and the mounts in them go with their last process.
fn clear(id: &str) -> Result<()> {
    let folder = Path::new(RUNS).join(id);
    let root = fs::read_to_string(folder.join("cgroup-root")).map(PathBuf::from).ok();
    let roots = root.into_iter().chain(cgroup::mounted()?).chain([folder.join("cgroup")]);
    for root in roots {
        cgroup::remove(&root.join(format!("{}{id}", cgroup::PREFIX)))?;
        cgroup::remove(&root.join(format!("{}{id}.outside", cgroup::PREFIX)))?;
    }
    let own = folder.join("cgroup");
    if own.is_dir() && own.metadata()?.dev() != folder.metadata()?.dev() {
        unmount(&own, UnmountFlags::DETACH).context("unmounting the lab's cgroup2")?;
    }
    if folder.is_dir() {
        fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    // fails while there are other runs
    let _ = fs::remove_dir(RUNS);
    Ok(())
}
