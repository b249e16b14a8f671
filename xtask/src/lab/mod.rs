//! A gateway node in a box: `cargo xtask lab`.
//!
//! Real namespaces, real iptables rules, real Envoys running what istiod generated, real traffic, and the program on top
//! of it. The lab's truth is Istio's configuration and Envoy's access logs, never the program's own engine.

pub(crate) mod ambient;
pub(crate) mod certs;
mod cgroup;
pub(crate) mod client;
pub(crate) mod inside;
pub(crate) mod node;
pub(crate) mod objects;
pub(crate) mod outside;
pub(crate) mod play;
pub(crate) mod program;
pub(crate) mod rules;
pub(crate) mod run;
pub(crate) mod scenario;
pub(crate) mod stop;
pub(crate) mod supervise;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::install;
use crate::lab::node::{Node, Ready};
use crate::lab::program::Program;
use crate::lab::run::Run;
use crate::lab::scenario::{Burst, Scenario};
use crate::lab::stop::Stop;

/// A gateway node in network namespaces, with real Envoys and traffic, and the dashboard on it
#[derive(Debug, Args)]
pub(crate) struct Lab {
    /// One of --list, or a folder of the same shape
    #[arg(long, value_name = "NAME|DIR", default_value = "dwh-static-tcp")]
    scenario: String,
    /// Print scenarios, their variants and what must be seen
    #[arg(long)]
    list: bool,
    /// How --list prints
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Headless: play the traffic once, write the snapshot to FILE, exit with the program's code
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave the node running and say how to attach to it
    #[arg(long)]
    keep: bool,
    /// End a node that was kept (all of them without an id)
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "all")]
    down: Option<String>,
    /// With --json: instead of the variants, journeys in bursts, N in all and P at a time, one after the other; one flow
    /// for each connection
    #[arg(long, value_name = "NxP", value_delimiter = ',', requires = "json", value_parser = burst)]
    burst: Vec<(u32, u32)>,
    /// Copy the proxies' access logs into DIR
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
    /// Also keep all observations in FILE (egress-tui --record)
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// The program reads the objects from this cluster, which must have those of the scenario (cargo xtask apiserver)
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How long --json observes
    #[arg(long, value_name = "SECONDS", default_value_t = 8)]
    seconds: u64,
    /// Be the process that a kept node belongs to
    #[arg(long, hide = true)]
    supervise: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn burst(text: &str) -> Result<(u32, u32), String> {
    let parsed = text.split_once('x').and_then(|(n, p)| Some((n.parse().ok()?, p.parse().ok()?)));
    parsed.filter(|(n, p)| *n > 0 && *p > 0).ok_or_else(|| "as in 200x4: 200 journeys, 4 at a time".to_owned())
}

/// The program cannot capture (design §7): also what a lab that could not be made exits with.
const CANNOT_CAPTURE: u8 = 3;

impl Lab {
    /// Does it. The exit code is the program's.
    pub(crate) fn run(&self) -> Result<u8> {
        if self.list {
            println!("{}", scenario::list(self.output == Output::Json)?);
            return Ok(0);
        }
        if !rustix::process::geteuid().is_root() {
            println!("{}", Self::plan());
            if self.json.is_some() {
                return Ok(CANNOT_CAPTURE);
            }
            if std::io::stdout().is_terminal() {
                return program::demo(&program::build()?);
            }
            return Ok(0);
        }
        if let Some(id) = &self.down {
            return down(id);
        }
        let scenario = Scenario::load(&self.scenario)?;
        if self.json.is_none() && !self.keep && !std::io::stdout().is_terminal() {
            bail!("the dashboard needs a terminal; without one, use --json FILE or --keep");
        }
        let envoy = install::for_lab()?;
        let program = if self.supervise { program::built()? } else { program::build()? };
        for id in run::clear_dead()? {
            eprintln!("cleared what lab {id} left behind");
        }
        if self.keep && !self.supervise {
            return supervise::start();
        }
        let stop = Stop::watch()?;
        let done = self.with_node(&scenario, &envoy, &program, &stop);
        // whatever the signal broke on its way is not what ended the lab
        if let Some(signal) = stop.signal() {
            return Ok(128 + u8::try_from(signal).unwrap_or(0));
        }
        done.or_else(|e| {
            eprintln!("lab: {e:#}");
            Ok(CANNOT_CAPTURE)
        })
    }

    fn with_node(
        &self,
        scenario: &Scenario,
        envoy: &std::path::Path,
        program: &std::path::Path,
        stop: &Stop,
    ) -> Result<u8> {
        let began = Instant::now();
        let run = Run::begin()?;
        stop.guard(&run);
        let node = Node::up(scenario, envoy, run)?;
        stop.check()?;
        eprintln!(
            "lab {}: {} with {} pods and {} proxies, up in {:.1} s",
            node.run.id,
            node.name,
            node.pods(),
            node.proxies,
            began.elapsed().as_secs_f32()
        );
        let program = Program::new(program, &node, self.record.as_deref(), self.kubeconfig.as_deref());
        let code = match &self.json {
            Some(file) if self.burst.is_empty() => {
                let plays = variants(&node, scenario)?;
                program.snapshot(file, Duration::from_secs(self.seconds), false, &plays, stop)?
            }
            Some(file) => {
                let what = scenario.burst.as_ref().context("this scenario has no burst")?;
                let plays = bursts(&node, what, &self.burst)?;
                program.snapshot(file, Duration::from_secs(self.seconds), true, &plays, stop)?
            }
            None if std::io::stdout().is_terminal() && !self.keep => {
                program.dashboard(&variants(&node, scenario)?, stop)?
            }
            None => 0,
        };
        if let Some(folder) = &self.logs {
            node.save_access_logs(folder)?;
        }
        if self.supervise {
            node.run.keep()?;
            supervise::up(&how_to_attach(&node, scenario), code)?;
            supervise::go_on(&variants(&node, scenario)?, stop);
        }
        Ok(code)
    }

    fn plan() -> String {
        let needs = install::missing_for_lab();
        let install = if needs.is_empty() { "nothing: all of it is there".to_owned() } else { needs.join(", ") };
        format!(
            "cargo xtask lab needs root: it makes network namespaces, iptables rules in them and cgroups, and attaches BPF programs.\n\
             As root it would\n  \
             install  {install}\n  \
             build    egress-tui (cargo build --release)\n  \
             make     a node out of network namespaces, with a name server, hosts outside and an Envoy in every pod\n  \
             play     one connection of every variant (cargo xtask lab --list shows them)\n  \
             open     the dashboard on it, and remove all of it when that ends\n\
             Nothing was changed. Run it again as root, for example: sudo -E env PATH=\"$PATH\" cargo xtask lab"
        )
    }
}

fn variants(node: &Node, scenario: &Scenario) -> Result<Vec<Ready>> {
    scenario
        .variants
        .iter()
        .flat_map(|v| v.play.iter().map(move |p| (v, p)))
        .map(|(v, p)| node.ready(&v.pod, p))
        .collect()
}

fn bursts(node: &Node, what: &Burst, bursts: &[(u32, u32)]) -> Result<Vec<Ready>> {
    bursts
        .iter()
        .map(|&(count, parallel)| {
            let mut play = what.play.clone();
            (play.count, play.parallel) = (count, parallel);
            node.ready(&what.pod, &play)
        })
        .collect()
}

fn how_to_attach(node: &Node, scenario: &Scenario) -> String {
    let mut text = format!(
        "attach   egress-tui --mesh {} --cgroup-root {} --node {}\nlogs     {}/pods/*/access.log\nend      cargo xtask lab --down {}",
        node.mesh.display(),
        node.run.observed.display(),
        node.name,
        node.run.folder.display(),
        node.run.id,
    );
    if let Some((pod, pid)) = scenario.variants.first().and_then(|v| Some((&v.pod, node.pid_of(&v.pod)?))) {
        text = format!("{text}\nenter    nsenter --net --mount --target {pid}   # {pod}");
    }
    text
}

fn down(id: &str) -> Result<u8> {
    let ids = if id == "all" { run::kept() } else { vec![id.to_owned()] };
    for id in &ids {
        run::end(id)?;
        println!("lab {id} is gone");
    }
    if ids.is_empty() {
        println!("no lab was kept");
    }
    Ok(0)
}
