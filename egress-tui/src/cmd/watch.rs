//! `watch`: one plain line for every new or changed problem; for logs, pipes and screen readers.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use arcstr::ArcStr;
use egress_core::filter::Filter;
use egress_core::id::FlowId;
use egress_core::name::printable;
use egress_core::query::is_problem;
use egress_core::verdict::{Severity, Verdict};
use egress_core::world::{Flow, World};
use serde_json::json;

use super::observe::{self, Wanted};
use super::{complain, finish};
use crate::cli::{Common, Tapes, Watch, WatchForm};
use crate::exit::Exit;
use crate::out::snapshot::{Document, Items};

/// Runs the verb.
pub async fn run(common: &Common, tapes: &Tapes, options: &Watch, filter: Option<&Filter>) -> anyhow::Result<Exit> {
    let wanted = Wanted { duration: options.duration, ..Wanted::default() };
    let mut observation = observe::start(common, tapes, wanted).await?;
    let mut printer = Printer::new(options, filter, BufWriter::new(io::stdout()));
    let mut worlds = observation.worlds.clone();
    let mut failed = None;
    let stopped = {
        let over = observation.wait_until(options.duration, |_| false);
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                stopped = &mut over => break stopped?,
                changed = worlds.changed() => {
                    if changed.is_err() {
                        break Exit::Done;
                    }
                    let world = Arc::clone(&worlds.borrow_and_update());
                    failed = printer.world(&world).err();
                    if failed.is_some() || printer.is_full() || options.gate.is_enough(&world) {
                        break Exit::Done;
                    }
                }
            }
        }
    };
    let ended = observation.stop().await?;
    let written = match failed {
        Some(error) => Err(error),
        None => printer.world(&ended.world).and_then(|()| printer.out.flush()),
    };
    let coverage = &ended.world.coverage;
    complain(&format!(
        "{} problems in {} flows; nodes {} of {}, {} of {} hooks, {} events lost",
        ended.world.flows.iter().filter(|f| is_problem(f)).count(),
        ended.world.flows.len(),
        coverage.nodes_observed,
        coverage.nodes_total,
        coverage.capture.attached(),
        coverage.capture.hooks.len(),
        coverage.lost_total()
    ));
    finish(written, stopped.or(ended.sources).or(options.gate.exit(&ended.world)))
}

/// Flows that are remembered beside the ones that are there.
const FORGET_FROM: usize = 4_096;

/// Who speaks to whom: what stays the same while the verdict changes.
type Pair = (String, Option<ArcStr>, String, u16);

struct Printer<'a, W: Write> {
    options: &'a Watch,
    filter: Option<&'a Filter>,
    out: W,
    told: HashSet<FlowId>,
    verdicts: HashMap<Pair, Verdict>,
    lines: u64,
}

impl<'a, W: Write> Printer<'a, W> {
    fn new(options: &'a Watch, filter: Option<&'a Filter>, out: W) -> Self {
        Self { options, filter, out, told: HashSet::new(), verdicts: HashMap::new(), lines: 0 }
    }

    fn is_full(&self) -> bool {
        self.options.limit.is_some_and(|limit| self.lines >= limit)
    }

    /// Prints what is new in this world.
    fn world(&mut self, world: &World) -> io::Result<()> {
        for flow in &world.flows {
            let shown = match self.filter {
                Some(filter) => filter.accepts(flow, world.now),
                None => is_problem(flow),
            };
            // A flow is one verdict: another verdict is another flow.
            if self.is_full() || !shown || !self.told.insert(flow.id) {
                continue;
            }
            let pair =
                (flow.source.label(), flow.source.container.clone(), flow.destination.label(), flow.destination.port);
            let before = self.verdicts.insert(pair, flow.verdict()).filter(|v| *v != flow.verdict());
            self.lines += 1;
            match self.options.output {
                WatchForm::Text => writeln!(self.out, "{}", sentence(flow, before))?,
                WatchForm::Jsonl => self.json(flow, before, world)?,
            }
        }
        // What the ledger has forgotten is forgotten here as well.
        if self.told.len() > FORGET_FROM + 2 * world.flows.len() {
            self.told = world.flows.iter().map(|f| f.id).collect();
            self.verdicts.clear();
        }
        // Whoever reads this reads it now.
        self.out.flush()
    }

    fn json(&mut self, flow: &Arc<Flow>, before: Option<Verdict>, world: &World) -> io::Result<()> {
        let one = World { flows: vec![Arc::clone(flow)], ..world.clone() };
        let document = Document::new(&one, Items::Flows, None);
        let line = json!({
            "event": if before.is_some() { "changed" } else { "new" },
            "before": before.map(Verdict::as_str),
            "at": flow.first_seen.rfc3339(),
            "flow": document.flows.first(),
        });
        serde_json::to_writer(&mut self.out, &line)?;
        self.out.write_all(b"\n")
    }
}

/// Words that can be read aloud: no columns, no marks, no abbreviation.
fn sentence(flow: &Flow, before: Option<Verdict>) -> String {
    let time = flow.first_seen.rfc3339();
    let severity = match flow.judgement.severity {
        Severity::Crit => "critical",
        Severity::High => "high",
        Severity::Med => "medium",
        Severity::Low => "low",
        Severity::Ok => "ok",
        Severity::Info => "info",
    };
    let was = before.map_or_else(String::new, |v| format!(", was {}", v.as_str()));
    let via = match flow.via().as_str() {
        "direct" => "directly".to_owned(),
        "-" => "and was stopped".to_owned(),
        gateway => format!("through {gateway}"),
    };
    let guessed = if flow.destination.name.confidence() == "low" { " (a guess)" } else { "" };
    format!(
        "{} {}{was}, {severity}: {} to {}{guessed} port {} {via}: {} [{}]",
        time.get(..19).unwrap_or(&time),
        flow.verdict().as_str(),
        printable(&flow.source.label()),
        flow.destination.label(),
        flow.destination.port,
        flow.judgement.why,
        flow.judgement.reason().code(),
    )
}
