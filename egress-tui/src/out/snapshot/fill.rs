//! Documents from worlds.

use std::collections::BTreeMap;

use egress_core::filter::Filter;
use egress_core::mesh;
use egress_core::verdict::{Class, Judgement, Step};
use egress_core::world::{self, World};

use super::{
    Because, Capture, Changed, ChangedObject, Coverage, Destination, Document, Expected, Flow, Hook, Hop, Incomplete,
    Items, Lost, Mesh, Name, Next, Nodes, Process, SCHEMA, Source, Stale, Tool, Totals, Workload,
};

impl Document {
    /// The world as a document. A filter chooses items; totals are always of everything.
    pub fn new(world: &World, items: Items, filter: Option<&Filter>) -> Self {
        let mut totals = Totals { connections: 0, by_class: BTreeMap::new(), by_verdict: BTreeMap::new() };
        for class in Class::ALL {
            totals.by_class.insert(class.as_str(), 0);
        }
        for flow in &world.flows {
            totals.connections += flow.connections;
            *totals.by_class.entry(flow.class().as_str()).or_default() += flow.connections;
            *totals.by_verdict.entry(flow.verdict().as_str()).or_default() += flow.connections;
        }
        let flows = match items {
            Items::Flows => &world.flows,
            Items::Each => &world.each,
        };
        Self {
            schema: SCHEMA,
            tool: Tool::here(),
            node: world.node.to_string(),
            cluster: world.cluster.as_ref().map(ToString::to_string),
            started: world.started.rfc3339(),
            ended: world.now.rfc3339(),
            coverage: Coverage::from(world),
            incomplete: world.incomplete.iter().map(Incomplete::from).collect(),
            totals,
            filter: filter.map(|f| f.text().to_owned()),
            flows: flows
                .iter()
                .filter(|flow| filter.is_none_or(|f| f.accepts(flow, world.now)))
                .map(|f| Flow::from(&**f))
                .collect(),
            findings: Vec::new(),
        }
    }
}

impl From<&World> for Coverage {
    fn from(world: &World) -> Self {
        let coverage = &world.coverage;
        let age = (world.now.0 - coverage.mesh_at.0).max(0);
        let source = match (coverage.mesh.kind.as_str(), coverage.mesh.place.as_str()) {
            ("" | "none", _) => "none".to_owned(),
            (kind, "") => kind.to_owned(),
            (kind, place) => format!("{kind} {place}"),
        };
        Self {
            nodes: Nodes { observed: coverage.nodes_observed, total: coverage.nodes_total },
            capture: Capture {
                tier: coverage.capture.tier.to_string(),
                cgroup_root: coverage.capture.cgroup_root.to_string(),
                hooks: coverage
                    .capture
                    .hooks
                    .iter()
                    .map(|h| Hook {
                        name: h.name.to_string(),
                        attached: h.why.is_none(),
                        why: h.why.as_ref().map(ToString::to_string),
                    })
                    .collect(),
            },
            lost: Lost {
                total: coverage.lost_total(),
                by_stage: coverage.lost.iter().map(|(stage, n)| (stage.to_string(), *n)).collect(),
            },
            mesh: Mesh {
                source,
                generation: coverage.mesh_generation,
                age_seconds: age as f64 / 1e9,
                objects: coverage.mesh.objects,
                skipped: coverage.mesh.skipped.iter().map(ToString::to_string).collect(),
                stale: coverage
                    .cluster
                    .as_ref()
                    .and_then(|c| c.stale.as_ref())
                    .map(|(since, why)| Stale { since: since.rfc3339(), why: why.to_string() }),
            },
        }
    }
}

impl From<&world::Incomplete> for Incomplete {
    fn from(missing: &world::Incomplete) -> Self {
        Self { what: missing.what.clone(), affects: missing.affects.clone(), fix: missing.fix.clone() }
    }
}

impl From<&world::Flow> for Flow {
    fn from(flow: &world::Flow) -> Self {
        let judgement: &Judgement = &flow.judgement;
        Self {
            id: flow.id.to_string(),
            source: Source::from(&flow.source),
            destination: Destination::from(&flow.destination),
            protocol: flow.protocol.as_str(),
            l7: flow.l7,
            leg: flow.leg.as_str(),
            path: flow.path.iter().map(Hop::from).collect(),
            verdict: judgement.verdict.as_str(),
            class: judgement.verdict.class().as_str(),
            severity: judgement.severity.as_str(),
            reason: judgement.reason().code(),
            reasons: judgement.reasons.iter().map(|r| r.code()).collect(),
            why: judgement.why.clone(),
            chain: judgement.chain.iter().map(Because::from).collect(),
            expected: flow.expected.as_deref().map(Expected::from),
            changed: flow.rejudged.as_deref().and_then(changed),
            stale: flow.stale,
            connections: flow.connections,
            open: flow.open,
            failures: flow.failures,
            bytes_sent: flow.bytes_sent,
            bytes_received: flow.bytes_received,
            rtt_micros: flow.rtt_micros,
            retransmits: flow.retransmits,
            first_seen: flow.first_seen.rfc3339(),
            last_seen: flow.last_seen.rfc3339(),
            community_id: flow.community_id.as_ref().map(ToString::to_string),
        }
    }
}

fn changed(rejudged: &world::Rejudged) -> Option<Changed> {
    let field = |c: &world::ObjectChange| (!c.what.field.is_empty()).then(|| c.what.field.to_string());
    let object = |c: &world::ObjectChange| ChangedObject {
        object: c.what.object.to_string(),
        field: field(c),
        how: c.what.how.as_str(),
    };
    Some(Changed {
        at: rejudged.by.first()?.at.rfc3339(),
        was: rejudged.was.as_str(),
        reason: rejudged.was_reason.code(),
        objects: rejudged.by.iter().map(|c| object(c)).collect(),
    })
}

impl From<&world::Source> for Source {
    fn from(source: &world::Source) -> Self {
        Self {
            namespace: source.namespace.as_ref().map(ToString::to_string),
            pod: source.pod.as_ref().map(ToString::to_string),
            pod_uid: source.pod_uid.as_ref().map(ToString::to_string),
            workload: source
                .workload
                .as_ref()
                .map(|w| Workload { kind: w.kind.to_string(), name: w.name.name.to_string() }),
            container: source.container.as_ref().map(ToString::to_string),
            service_account: source.service_account.as_ref().map(ToString::to_string),
            process: source.process.as_ref().map(|p| Process { pid: p.pid, comm: p.comm.to_string(), uid: p.uid }),
            ip: source.ip.map(|ip| ip.to_string()),
            node: source.node.to_string(),
            labels: source.labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            evidence: source.evidence.as_str(),
        }
    }
}

impl From<&world::Destination> for Destination {
    fn from(destination: &world::Destination) -> Self {
        let name = &destination.name;
        let host = name.host.as_ref().map(ToString::to_string);
        Self {
            ip: destination.ip.to_string(),
            port: destination.port,
            host: host.clone(),
            name: Name {
                value: host,
                source: name.source.as_str(),
                confidence: name.confidence(),
                age_seconds: name.age_nanos.map(|n| n as f64 / 1e9),
                candidates: name.candidates.iter().map(ToString::to_string).collect(),
            },
        }
    }
}

impl From<&world::Hop> for Hop {
    fn from(hop: &world::Hop) -> Self {
        Self {
            role: hop.role,
            pod: hop.pod.as_ref().map(ToString::to_string),
            from: hop.from.map(|a| a.to_string()),
            to: hop.to.to_string(),
            evidence: hop.evidence.as_str(),
        }
    }
}

impl From<&Step> for Because {
    fn from(step: &Step) -> Self {
        Self {
            claim: step.claim,
            outcome: step.mark.as_str(),
            object: step.object.as_ref().map(ToString::to_string),
            field: step.field.as_ref().map(ToString::to_string),
            says: step.says.to_string(),
        }
    }
}

impl From<&mesh::Expected> for Expected {
    fn from(expected: &mesh::Expected) -> Self {
        Self {
            outcome: expected.outcome.as_str(),
            cluster: expected.cluster.as_ref().map(ToString::to_string),
            response: expected.response,
            gateway: expected.gateway.as_ref().map(ToString::to_string),
            next: expected.next.as_ref().map(|next| Next {
                kind: next.kind.as_str(),
                host: next.host.as_ref().map(ToString::to_string),
                port: next.port,
            }),
            leg2: expected.leg2.as_deref().map(|leg2| Box::new(Self::from(leg2))),
            registration: expected.registration.as_str(),
            certainty: expected.certainty.as_str(),
            alternatives: expected.alternatives.iter().map(ToString::to_string).collect(),
        }
    }
}
