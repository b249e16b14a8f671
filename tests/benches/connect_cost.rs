//! What the probe costs whoever connects: the same connects below the hooks and beside them, in turns, in one run.
//!
//! `cargo bench -p egress-tests --bench connect_cost --profile release` (root). CPU time of the connecting thread; the
//! median of the ratios of neighbouring rounds is what the budget of design §8 is about.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Result;
use egress_core::input::Input;
use egress_tui::source::bpf::{self, Options};
use egress_tui::source::cgroup::CgroupTree;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::time::{ClockId, clock_gettime};

/// Connects in one round.
const CONNECTS: u32 = 2_000;
/// Rounds on each side.
const ROUNDS: usize = 25;

fn main() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: needs root");
        return Ok(());
    }
    let mount = PathBuf::from(CgroupTree::find(None)?.shown().as_str());
    let observed = Folder::make(mount.join(format!("egress-bench-{}-observed", std::process::id())))?;
    let free = Folder::make(mount.join(format!("egress-bench-{}-free", std::process::id())))?;
    let (out, mut inputs) = tokio::sync::mpsc::channel(1024);
    let running = bpf::start(&Options { cgroup_root: Some(observed.0.clone()), ..Options::default() }, out)?;
    let reader = std::thread::spawn(move || {
        let (mut events, mut lost) = (0_u64, 0);
        while let Some(batch) = inputs.blocking_recv() {
            for input in batch {
                match input {
                    Input::Socket(_) => events += 1,
                    Input::Lost { total, .. } => lost = total,
                    _ => {}
                }
            }
        }
        (events, lost)
    });

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let open = listener.local_addr()?;
    let closed = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    println!("{:<10} {:>12} {:>12} {:>8} {:>8} {:>8}", "connects", "without ns", "with ns", "min", "median", "max");
    for (name, to) in [("refused", closed), ("accepted", open)] {
        let round = |folder: &Folder| -> Result<f64> {
            folder.enter()?;
            let before = cpu_nanos();
            for _ in 0..CONNECTS {
                let socket = socket()?;
                if rustix::net::connect(&socket, &to).is_ok() {
                    drop(listener.accept()?);
                }
            }
            Ok((cpu_nanos() - before) as f64 / f64::from(CONNECTS))
        };
        round(&free)?;
        round(&observed)?;
        let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (one, other) = (round(&free)?, round(&observed)?);
            without.push(one);
            with.push(other);
            ratios.push(other / one);
        }
        for figures in [&mut without, &mut with, &mut ratios] {
            figures.sort_by(f64::total_cmp);
        }
        println!(
            "{name:<10} {:>12.0} {:>12.0} {:>8.3} {:>8.3} {:>8.3}",
            without[0],
            with[0],
            with[0] / without[0],
            ratios[ROUNDS / 2],
            ratios[ROUNDS - 1]
        );
    }
    fs::write(mount.join("cgroup.procs"), "0")?;
    tokio::runtime::Builder::new_current_thread().build()?.block_on(running.stop());
    if let Ok((events, lost)) = reader.join() {
        println!("{events} events, {lost} lost");
    }
    Ok(())
}

fn socket() -> Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

fn cpu_nanos() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// A cgroup that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn make(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Moves this process there: a socket belongs to the cgroup in which it was made.
    fn enter(&self) -> Result<()> {
        Ok(fs::write(Path::new(&self.0).join("cgroup.procs"), "0")?)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
