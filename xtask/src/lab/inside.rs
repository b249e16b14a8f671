//! What runs inside of the lab: this program again, under its hidden verb `inside`, in a namespace and a cgroup.

use std::fs;
use std::fs::File;
use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use rustix::mount::mount_bind;
use rustix::process::{Gid, Pid, Signal, Uid, getppid, set_parent_process_death_signal, setsid};
use rustix::thread::{
    LinkNameSpaceType, move_into_link_name_space, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::lab::{ambient, client, outside};
use crate::tools::tool;

/// The hidden verb.
#[derive(Debug, Subcommand)]
pub(crate) enum Inside {
    /// Holds a pod's namespaces.
    Sandbox(Sandbox),
    /// Becomes another program in a pod's namespaces and in a cgroup.
    Exec(Exec),
    /// The cluster's name server.
    Dns(outside::Dns),
    /// The hosts outside.
    World(outside::World),
    /// ztunnel, in the namespaces of the pods that it serves.
    Ztunnel(ambient::Ztunnel),
    /// A waypoint.
    Waypoint(ambient::Waypoint),
    /// Traffic.
    Client(client::Client),
}

impl Inside {
    /// Does it.
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Self::Sandbox(sandbox) => sandbox.run(),
            Self::Exec(exec) => exec.run(),
            Self::Dns(dns) => dns.run(),
            Self::World(world) => world.run(),
            Self::Ztunnel(ztunnel) => ztunnel.run(),
            Self::Waypoint(waypoint) => waypoint.run(),
            Self::Client(client) => client.run(),
        }
    }
}

/// The process that a pod's namespaces live by (what the pause container is to a real pod).
///
/// Reads one word a line from standard input, and answers each with the same word when it is done:
/// `wire` gives the namespace its addresses and rules, `ready` waits for the proxy. Ends with its input.
#[derive(Debug, Args)]
pub(crate) struct Sandbox {
    /// Its files: `etc/`, `ip.batch`, `rules`, `sysctl`.
    #[arg(long)]
    folder: PathBuf,
    /// Its cgroup.
    #[arg(long)]
    cgroup: PathBuf,
    /// The lab's process, with which it ends.
    #[arg(long)]
    parent: i32,
}

impl Sandbox {
    fn run(self) -> Result<()> {
        enter(&self.cgroup)?;
        follow(self.parent)?;
        answer("up")?;
        let mut line = String::new();
        while std::io::stdin().lock().read_line(&mut line)? > 0 {
            match line.trim() {
                "wire" => self.wire()?,
                "ready" => await_proxy()?,
                other => bail!("a sandbox does not know {other:?}"),
            }
            answer(line.trim())?;
            line.clear();
        }
        Ok(())
    }

    fn wire(&self) -> Result<()> {
        for line in fs::read_to_string(self.folder.join("sysctl"))?.lines() {
            let (name, value) = line.split_once('=').context("sysctl")?;
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            fs::write(&path, value).with_context(|| format!("{path}={value}"))?;
        }
        run(tool("ip").arg("-batch").arg(self.folder.join("ip.batch")))?;
        let rules = self.folder.join("rules");
        if rules.is_file() {
            run(tool("iptables-restore").stdin(File::open(rules)?))?;
        }
        // last: the programs above are found through the machine's /etc (alternatives)
        mount_bind(self.folder.join("etc"), "/etc").context("the pod's /etc")
    }
}

/// Until Envoy's admin port says that it is ready: its listeners are open then.
fn await_proxy() -> Result<()> {
    let gives_up = Instant::now() + Duration::from_secs(30);
    while Instant::now() < gives_up {
        if proxy_is_ready().unwrap_or(false) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(10));
    }
    bail!("Envoy was not ready after 30 s")
}

fn proxy_is_ready() -> Result<bool> {
    let mut admin = TcpStream::connect((Ipv4Addr::LOCALHOST, 15000))?;
    admin.set_read_timeout(Some(Duration::from_secs(1)))?;
    admin.write_all(b"GET /ready HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
    let mut reply = String::new();
    admin.read_to_string(&mut reply)?;
    Ok(reply.starts_with("HTTP/1.1 200"))
}

fn run(command: &mut Command) -> Result<()> {
    let out = command.output().with_context(|| format!("{command:?}"))?;
    if !out.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

fn answer(word: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word}")?;
    out.flush()?;
    Ok(())
}

fn enter(cgroup: &Path) -> Result<()> {
    fs::write(cgroup.join("cgroup.procs"), "0").with_context(|| format!("entering {}", cgroup.display()))
}

/// Leaves the terminal's process group, so that Ctrl-C reaches the lab only, and ends with the lab's process.
fn follow(parent: i32) -> Result<()> {
    // fails only for the leader of a process group, which is on its own already
    let _ = setsid();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Pid::from_raw(parent) {
        bail!("the lab is gone");
    }
    Ok(())
}

/// Becomes another program in the namespaces of a sandbox.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// The process whose network namespace it gets.
    #[arg(long)]
    network: i32,
    /// The process whose mount namespace it gets.
    #[arg(long)]
    mount: i32,
    /// Its cgroup.
    #[arg(long)]
    cgroup: PathBuf,
    /// Its uid.
    #[arg(long, default_value_t = 0)]
    uid: u32,
    /// Its gid.
    #[arg(long, default_value_t = 0)]
    gid: u32,
    /// The lab's process, with which it ends.
    #[arg(long)]
    parent: i32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Exec {
    fn run(self) -> Result<()> {
        let network = File::open(format!("/proc/{}/ns/net", self.network))?;
        let mount = File::open(format!("/proc/{}/ns/mnt", self.mount))?;
        enter(&self.cgroup)?;
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        move_into_link_name_space(mount.as_fd(), Some(LinkNameSpaceType::Mount))?;
        std::env::set_current_dir("/")?;
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        // after the change of uid, which takes the signal back
        follow(self.parent)?;
        let mut command = self.command.iter();
        let program = command.next().context("no program")?;
        Err(Command::new(program).args(command).exec()).with_context(|| program.clone())
    }
}
