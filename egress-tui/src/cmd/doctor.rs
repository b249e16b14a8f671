//! `doctor`: what this machine lets the program see, one finding a line, each with what still works and what to do.

use std::fs;
use std::io::{self, Write};

use egress_core::mesh::ProxyKind;
use egress_core::name::printable;
use rustix::thread::CapabilitySet;
use serde::Serialize;
use tokio::sync::mpsc;

use super::{finish, objects, observe};
use crate::cli::{Common, Doctor, DoctorForm};
use crate::exit::Exit;
use crate::source::{bpf, cgroup};

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Missing,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    state: State,
    found: String,
    /// What works all the same.
    #[serde(rename = "stillWorks")]
    still_works: Option<String>,
    fix: Option<String>,
}

impl Check {
    fn new(what: &'static str, state: State, found: impl Into<String>) -> Self {
        Self { what, state, found: found.into(), still_works: None, fix: None }
    }

    fn but(mut self, still_works: impl Into<String>, fix: impl Into<String>) -> Self {
        self.still_works = Some(still_works.into());
        self.fix = Some(fix.into());
        self
    }
}

/// Runs the verb.
pub async fn run(common: &Common, options: &Doctor) -> anyhow::Result<Exit> {
    let mut checks = vec![kernel(), rights(), cgroups(common)];
    let mut exit = Exit::Done;
    exit = exit.or(hooks(common, &mut checks).await);
    exit = exit.or(mesh(common, &mut checks).await?);
    if exit == Exit::Done && checks.iter().any(|c| c.state != State::Ok) {
        exit = Exit::Incomplete;
    }
    let mut out = io::stdout().lock();
    let written = match options.output {
        DoctorForm::Text => text(&checks, &mut out),
        DoctorForm::Json => {
            serde_json::to_writer_pretty(&mut out, &checks).map_err(io::Error::from).and_then(|()| writeln!(out))
        }
    };
    finish(written, exit)
}

fn text(checks: &[Check], out: &mut impl Write) -> io::Result<()> {
    for check in checks {
        let mark = match check.state {
            State::Ok => "ok",
            State::Warn => "!!",
            State::Missing => "no",
        };
        writeln!(out, "{mark}  {:<11} {}", check.what, printable(&check.found))?;
        for (label, line) in [("still works", &check.still_works), ("to do", &check.fix)] {
            if let Some(line) = line {
                writeln!(out, "    {:<11} {label}: {}", "", printable(line))?;
            }
        }
    }
    Ok(())
}

/// The oldest kernel line whose verifier takes the programs.
const OLDEST: (u32, u32) = (5, 10);

fn kernel() -> Check {
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy().into_owned();
    let mut parts = release.split(['.', '-']).map_while(|p| p.parse::<u32>().ok());
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let found = format!("{release} on {}", system.machine().to_string_lossy());
    if version < OLDEST {
        return Check::new("kernel", State::Warn, found).but(
            "recordings, explain and everything else without live traffic",
            format!("capture needs {}.{} or newer", OLDEST.0, OLDEST.1),
        );
    }
    Check::new("kernel", State::Ok, found)
}

fn rights() -> Check {
    let wanted = [
        (CapabilitySet::BPF, "CAP_BPF"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::PERFMON, "CAP_PERFMON"),
        (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
    ];
    let effective = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let missing: Vec<&str> = wanted.iter().filter(|(c, _)| !effective.contains(*c)).map(|(_, n)| *n).collect();
    match missing.as_slice() {
        [] => Check::new("rights", State::Ok, "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_ADMIN"),
        // It replaces the two others on kernels that do not know them.
        ["CAP_SYS_ADMIN"] => Check::new("rights", State::Warn, "CAP_SYS_ADMIN is missing").but(
            "capture; connections older than the program come from /proc instead of sock_diag",
            "run as root to enter the pods' network namespaces",
        ),
        missing => Check::new("rights", State::Missing, format!("{} missing", missing.join(", "))).but(
            "recordings, explain and everything else without live traffic",
            "run as root, or with the capabilities BPF, NET_ADMIN and PERFMON",
        ),
    }
}

fn cgroups(common: &Common) -> Check {
    let mounts = fs::read_to_string(common.proc.join("self/mounts")).unwrap_or_default();
    let kinds: Vec<&str> = mounts.lines().filter_map(|l| l.split(' ').nth(2)).collect();
    let layout = match (kinds.contains(&"cgroup2"), kinds.contains(&"cgroup")) {
        (true, true) => "v2 beside v1 (hybrid)",
        (true, false) => "v2",
        (false, true) => "v1 only",
        (false, false) => "none",
    };
    match cgroup::CgroupTree::find(common.cgroup_root.as_deref()) {
        Ok(tree) => Check::new("cgroups", State::Ok, format!("{layout}, hooks go to {}", tree.shown())),
        Err(error) => Check::new("cgroups", State::Missing, format!("{layout}: {error}")).but(
            "recordings, explain and everything else without live traffic",
            "name the root with --cgroup-root DIR",
        ),
    }
}

/// Attaches for a moment.
async fn hooks(common: &Common, checks: &mut Vec<Check>) -> Exit {
    let options = bpf::Options {
        cgroup_root: common.cgroup_root.clone(),
        ring_bytes: common.ring_bytes,
        proc: common.proc.clone(),
    };
    let (send, _receive) = mpsc::channel(16);
    match bpf::start(&options, send) {
        Ok(running) => {
            for hook in running.capture.hooks.clone() {
                checks.push(match hook.why {
                    None => Check::new("hook", State::Ok, format!("{} can be attached", hook.name)),
                    Some(why) => Check::new("hook", State::Warn, format!("{}: {why}", hook.name)).but(
                        "what the other hooks see",
                        "ask the kernel's log why, and check that no other program forbids it",
                    ),
                });
            }
            running.stop().await;
            Exit::Done
        }
        Err(error) => {
            checks.push(Check::new("hooks", State::Missing, error.to_string()).but(error.still_works(), error.fix()));
            Exit::Capture
        }
    }
}

async fn mesh(common: &Common, checks: &mut Vec<Check>) -> anyhow::Result<Exit> {
    if common.mesh.is_empty() && !observe::cluster(common).is_known() {
        checks.push(
            Check::new("mesh", State::Warn, "no objects: no cluster is configured, and nothing was named with --mesh")
                .but(
                    "flows are shown, without verdicts",
                    "name manifests or dumps with --mesh PATH, or a --kubeconfig",
                ),
        );
        return Ok(Exit::Done);
    }
    let (objects, mut exit) = match objects::load(common).await? {
        Ok(objects) => (objects, Exit::Done),
        Err(why) => {
            let check = Check::new("mesh", State::Missing, why);
            let fix =
                if common.mesh.is_empty() { "see --kubeconfig and --context" } else { "mend the path or its rights" };
            checks.push(check.but("flows are shown, without verdicts", fix));
            return Ok(Exit::Cluster);
        }
    };
    let (mesh, source) = (&objects.mesh, &objects.source);
    let found =
        format!("{} objects from {}, semantics of Istio {}", source.objects, source.place, mesh.istio_version());
    checks.push(Check::new("mesh", State::Ok, found));
    if objects.cluster.is_some() {
        let figures = &objects.figures;
        let found = format!("{} watches, {} KiB to begin with", figures.watches, figures.bytes.div_ceil(1024));
        checks.push(Check::new("cluster", State::Ok, found));
    }
    for gap in objects.cluster.iter().flat_map(|c| &c.gaps) {
        let missing = &gap.missing;
        let check = Check::new("cluster", State::Missing, missing.what.clone());
        checks.push(check.but(format!("everything but {}", missing.affects), missing.fix.clone()));
        exit = exit.or(Exit::Incomplete);
    }
    for skipped in &source.skipped {
        let check = Check::new("mesh", State::Warn, skipped.to_string());
        checks.push(check.but("everything that does not depend on it", "mend the object"));
    }
    let node = observe::node_name(common);
    let here: Vec<_> = mesh.pods().map(|p| mesh.pod(p)).filter(|p| p.node == node).collect();
    if here.is_empty() {
        checks.push(Check::new("pods", State::Warn, format!("none of the objects is a Pod of node {node}")).but(
            "flows are shown by process, without pods",
            "name this machine's Node with --node, and add its Pods (kubectl get pods -A -o yaml)",
        ));
    } else {
        let meshed = here.iter().filter(|p| p.proxy == ProxyKind::Sidecar).count();
        let gateways = here.iter().filter(|p| p.proxy == ProxyKind::Gateway).count();
        let found = format!("{} on node {node}: {meshed} with a sidecar, {gateways} gateways", here.len());
        checks.push(Check::new("pods", State::Ok, found));
    }
    Ok(exit)
}
