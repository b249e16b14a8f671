//! A small node: a pod's network namespace and cgroup, and the outside behind a veth pair. All of it is removed on drop.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use egress_tui::source::cgroup::CgroupTree;

/// The pod's `metadata.uid`.
pub(crate) const POD: &str = "0a1b2c3d-1111-4222-8333-444455556666";
/// The pod's address.
pub(crate) const APP: &str = "192.0.2.1";
/// The pod's IPv6 address.
pub(crate) const APP6: &str = "2001:db8:1::1";
/// A host outside.
pub(crate) const OUTSIDE: &str = "203.0.113.7";
/// The same, IPv6.
pub(crate) const OUTSIDE6: &str = "2001:db8:2::7";

static NODES: AtomicU32 = AtomicU32::new(0);

/// Namespaces and cgroups of one test.
pub(crate) struct Node {
    /// The pod's network namespace.
    pub(crate) app: String,
    /// The outside's.
    pub(crate) outside: String,
    /// The folder that stands for the node's cgroup root: hooks attach here, so tests do not see each other.
    pub(crate) root: PathBuf,
    /// The container's cgroup.
    pub(crate) container: PathBuf,
}

impl Node {
    /// A node, where live tests can run; elsewhere it says why the test is skipped.
    pub(crate) fn live() -> Option<Self> {
        let unwanted = std::env::var_os("EGRESS_SKIP_LIVE").is_some();
        if rustix::process::geteuid().is_root() && !unwanted {
            return Some(Self::new());
        }
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        let why = if unwanted { "EGRESS_SKIP_LIVE is set" } else { "needs root" };
        assert!(std::env::var_os("EGRESS_REQUIRE_LIVE").is_none(), "{test}: live tests are required, but {why}");
        skipped(test, why);
        None
    }

    fn new() -> Self {
        let id = format!("{}-{}", std::process::id(), NODES.fetch_add(1, Ordering::Relaxed));
        let mount = PathBuf::from(CgroupTree::find(None).expect("a cgroup v2 mount").shown().as_str());
        let root = mount.join(format!("egress-probe-{id}"));
        let container = root.join("kubepods/burstable").join(format!("pod{POD}")).join("ab".repeat(32));
        std::fs::create_dir_all(&container).expect("making cgroups");
        let node = Self { app: format!("ep{id}a"), outside: format!("ep{id}o"), root, container };
        let (app, outside) = (node.app.as_str(), node.outside.as_str());
        for line in [
            format!("netns add {app}"),
            format!("netns add {outside}"),
            format!("link add pod0 netns {app} type veth peer name out0 netns {outside}"),
            format!("-n {app} link set lo up"),
            format!("-n {outside} link set lo up"),
            format!("-n {app} addr add {APP}/24 dev pod0"),
            format!("-n {outside} addr add 192.0.2.2/24 dev out0"),
            format!("-n {outside} addr add {OUTSIDE}/32 dev lo"),
            format!("-n {app} addr add {APP6}/64 dev pod0 nodad"),
            format!("-n {outside} addr add 2001:db8:1::2/64 dev out0 nodad"),
            format!("-n {outside} addr add {OUTSIDE6}/128 dev lo nodad"),
            format!("-n {app} link set pod0 up"),
            format!("-n {outside} link set out0 up"),
            format!("-n {app} route add default via 192.0.2.2"),
            format!("-n {app} -6 route add default via 2001:db8:1::2"),
        ] {
            run(Command::new("ip").args(line.split(' ')));
        }
        node
    }

    /// A command in the pod's network namespace.
    pub(crate) fn in_app(&self, command: &str) {
        run(Command::new("ip").args(["netns", "exec", &self.app]).args(command.split(' ')));
    }

    /// Writes one of the pod's `net.` settings.
    pub(crate) fn sysctl(&self, name: &str, value: &str) {
        let shell = format!("echo {value} > /proc/sys/{}", name.replace('.', "/"));
        run(Command::new("ip").args(["netns", "exec", &self.app, "sh", "-c", &shell]));
    }

    /// A process of the container.
    pub(crate) fn app(&self) -> Actor {
        Actor::start(&["--cgroup", &self.container.to_string_lossy(), "--netns", &self.app])
    }

    /// A process outside.
    pub(crate) fn outside(&self) -> Actor {
        Actor::start(&["--cgroup", &self.root.to_string_lossy(), "--netns", &self.outside])
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::write(self.root.join("cgroup.kill"), "1");
        for namespace in [&self.app, &self.outside] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
        remove_cgroups(&self.root);
    }
}

/// Removes a cgroup and those below it. Folders of cgroups cannot be emptied, only removed.
fn remove_cgroups(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    // Busy until the last process is reaped by whoever started it: actors are, before their node is dropped.
    let _ = std::fs::remove_dir(folder);
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A process that opens sockets on command; see `src/bin/actor.rs`.
pub(crate) struct Actor {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Its process id.
    pub(crate) pid: u32,
}

impl Actor {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_actor")).args(arguments))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starting an actor");
        let commands = child.stdin.take().expect("its stdin");
        let answers = BufReader::new(child.stdout.take().expect("its stdout"));
        let mut actor = Self { child, commands, answers, pid: 0 };
        actor.pid = actor.answer().expect("an actor that starts").parse().expect("its process id");
        actor
    }

    /// Tells it to do something, and waits until it is done.
    pub(crate) fn tell(&mut self, command: &str) -> String {
        self.attempt(command).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// The same, where failing is one of the possible ends.
    pub(crate) fn attempt(&mut self, command: &str) -> Result<String, String> {
        writeln!(self.commands, "{command}").expect("an actor that lives");
        self.answer()
    }

    /// Opens a socket; answers its cookie.
    pub(crate) fn socket(&mut self, name: &str, kind: &str) -> u64 {
        self.tell(&format!("socket {name} {kind}")).parse().expect("a cookie")
    }

    /// Opens a listening socket.
    pub(crate) fn listen(&mut self, name: &str, kind: &str, address: &str) {
        self.socket(name, kind);
        self.tell(&format!("bind {name} {address}"));
        self.tell(&format!("listen {name}"));
    }

    fn answer(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        let line = line.trim_end();
        match line.split_once(' ') {
            Some(("ok", rest)) => Ok(rest.to_owned()),
            _ if line == "ok" => Ok(String::new()),
            _ => Err(line.trim_start_matches("error ").to_owned()),
        }
    }

    /// Ends it without warning.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killing");
        self.child.wait().expect("reaping");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::print_stdout, reason = "a test that is skipped says so where tests speak")]
fn skipped(test: &str, why: &str) {
    println!("SKIPPED live: {test}: {why}");
}

/// Bytes as actors take them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
