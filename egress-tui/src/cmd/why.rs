//! `explain` of one connection: of one that was seen, or of one that is thought of.

use std::io::{self, BufWriter, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use egress_core::mesh::Mesh;
use egress_core::mesh::whatif::{WhatIf, of_flow, what_if};
use egress_core::name::printable;
use egress_core::verdict::judge::as_configured;
use serde_json::{Value, json};

use super::explain::{self, Line};
use super::observe::{self, Wanted};
use super::{complain, finish};
use crate::cli::{Common, Explain, Lines, Tapes};
use crate::exit::Exit;
use crate::out::explanation::{self, Explanation};
use crate::out::snapshot::{Document, Items};

/// Stands for the address of a host that is known by name only: no entry owns an address that is set aside for texts.
const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A connection that is thought of.
pub(super) fn call(mesh: &Mesh, common: &Common, options: &Explain) -> anyhow::Result<Exit> {
    let line = match line(mesh, common, options) {
        Ok(line) => line,
        Err(error) => {
            complain(&error);
            return Ok(Exit::Usage);
        }
    };
    let call = match explain::call(mesh, &line) {
        Ok(call) => call,
        Err(error) => {
            complain(&error);
            return Ok(Exit::Usage);
        }
    };
    let expected = mesh.expect(&call);
    let judgement = as_configured(mesh, &call, &expected);
    let changes = what_if(mesh, &call, &expected, &judgement);
    let mut out = BufWriter::new(io::stdout().lock());
    let form = options.output.unwrap_or(Lines::Text);
    let written = if form == Lines::Text {
        let to = options.to.as_deref().unwrap_or_default();
        let explained = Explanation {
            title: format!("{} -> {}", printable(&line.from), printable(to)),
            judgement: &judgement,
            expected: Some(&expected),
            history: &[],
            changes: &changes,
            mesh,
        };
        explanation::text(&explained, &mut out)
    } else {
        let mut answer = serde_json::to_value(explain::of(&Value::Null, &expected, &judgement))?;
        answer["whatIf"] = changes.iter().map(change).collect();
        print(&answer, form, &mut out)
    };
    finish(written.and_then(|()| out.flush()), Exit::Done)
}

fn change(change: &WhatIf) -> Value {
    json!({
        "what": change.what,
        "outcome": change.outcome.as_str(),
        "gateway": change.gateway.as_ref().map(ToString::to_string),
    })
}

fn print(value: &Value, form: Lines, out: &mut impl io::Write) -> io::Result<()> {
    match form {
        Lines::Jsonl => serde_json::to_writer(&mut *out, value)?,
        _ => serde_json::to_writer_pretty(&mut *out, value)?,
    }
    out.write_all(b"\n")
}

/// What was left out is filled in as most clients would do it.
fn line(mesh: &Mesh, common: &Common, options: &Explain) -> Result<Line, String> {
    let from = options.from.clone().unwrap_or_default();
    let namespace = common.namespace.as_deref().unwrap_or("default");
    let to = options.to.clone().unwrap_or_default();
    let (address, host) = if let Ok(address) = to.parse::<SocketAddr>() {
        (address, None)
    } else {
        let (host, port) = to.rsplit_once(':').ok_or_else(|| format!("--to: {to:?} is not HOST:PORT"))?;
        let port = port.parse().map_err(|_| format!("--to: {port:?} is no port"))?;
        let known = mesh.addresses_of(host).next();
        (SocketAddr::new(known.unwrap_or(SOMEWHERE), port), Some(host.to_ascii_lowercase()))
    };
    let payload = options.payload.clone().unwrap_or_else(|| match address.port() {
        443 => "tls".to_owned(),
        80 => "http".to_owned(),
        _ => "opaque".to_owned(),
    });
    Ok(Line {
        from: if from.contains('/') { from } else { format!("{namespace}/{from}") },
        to: address.to_string(),
        protocol: Some(options.protocol.clone()),
        sni: options.sni.clone().or_else(|| host.clone().filter(|_| payload == "tls")),
        host: options.host.clone().or_else(|| host.filter(|_| payload.starts_with("http"))),
        payload: Some(payload),
        path: options.path.clone(),
        container: options.container.clone(),
        uid: options.uid,
        ..Line::default()
    })
}

/// What changed in the objects that decide: `was via-gateway; removed 12 s ago: VirtualService n/a`.
fn history(flow: &egress_core::world::Flow, world: &egress_core::world::World) -> Vec<String> {
    let was = flow.rejudged.as_ref().map(|r| format!("was {} [{}]", r.was.as_str(), r.was_reason.code()));
    was.into_iter().chain(flow.changes(world).iter().map(|c| c.told(world.now))).collect()
}

/// A connection that was seen: in a recording, or from now on.
pub(super) async fn flow(common: &Common, tapes: &Tapes, options: &Explain, id: &str) -> anyhow::Result<Exit> {
    let id = id.trim_start_matches("0x").to_ascii_lowercase();
    let wanted = Wanted { duration: options.duration, ..Wanted::default() };
    let mut observation = observe::start(common, tapes, wanted).await?;
    let is = |flow: &egress_core::world::Flow| flow.id.to_string().starts_with(&id);
    let live = tapes.replay.is_empty();
    let stopped = observation
        .wait_until(Some(options.duration.unwrap_or(super::snapshot::DURATION)), |world| {
            live && world.flows.iter().any(|flow| is(flow))
        })
        .await?;
    let ended = observation.stop().await?;
    let world = ended.world;
    let found: Vec<_> = world.flows.iter().filter(|flow| is(flow)).cloned().collect();
    let [flow] = found.as_slice() else {
        let what = if found.is_empty() { "no flow" } else { "more than one flow" };
        let known: Vec<String> = if found.is_empty() { &world.flows } else { &found }
            .iter()
            .take(20)
            .map(|f| format!("{} {} {} -> {}", f.id, f.verdict().word(), f.source.label(), f.destination.label()))
            .collect();
        complain(&format!("{what} has an id that begins with {}; there are\n  {}", printable(&id), known.join("\n  ")));
        return Ok(Exit::Usage);
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let form = options.output.unwrap_or(Lines::Text);
    let written = if form == Lines::Text {
        let explained = Explanation {
            title: format!("{} -> {}:{}", flow.source.label(), flow.destination.label(), flow.destination.port),
            judgement: &flow.judgement,
            expected: flow.expected.as_deref(),
            history: &history(flow, &world),
            changes: &of_flow(&world.mesh, flow),
            mesh: &world.mesh,
        };
        explanation::text(&explained, &mut out)
    } else {
        let one = egress_core::world::World { flows: vec![flow.clone()], ..egress_core::world::World::clone(&world) };
        let document = Document::new(&one, Items::Flows, None);
        let value = document.flows.first().map(serde_json::to_value).transpose()?.unwrap_or_default();
        print(&value, form, &mut out)
    };
    finish(written.and_then(|()| out.flush()), stopped.or(ended.sources))
}
