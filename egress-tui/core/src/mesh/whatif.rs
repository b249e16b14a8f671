//! What one change would do: the object that stands in the way is edited as its owner would, and the call is asked again.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use crate::id::{NamespacedName, ObjectRef};
use crate::manifest::RawObject;
use crate::mesh::{Bytes, Call, CallLeg, Change, Expected, Mesh, Outcome};
use crate::name::{HostName, NameSource, printable};
use crate::verdict::{Judgement, Mark, Reason};
use crate::world::{Flow, Leg};

/// A change and what it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhatIf {
    /// What would be different.
    pub what: String,
    /// What then happens.
    pub outcome: Outcome,
    /// Through which gateway.
    pub gateway: Option<NamespacedName>,
}

impl WhatIf {
    /// The outcome, with its gateway.
    pub fn then(&self) -> String {
        match &self.gateway {
            Some(gateway) => format!("{} {gateway}", self.outcome.as_str()),
            None => self.outcome.as_str().to_owned(),
        }
    }
}

/// Most changes that are tried: each costs an edit of the mesh.
const MOST: usize = 6;

/// Changes that lead to another outcome, the nearest first. Each is found by asking the edited mesh, never by guessing.
pub fn what_if(mesh: &Mesh, call: &Call<'_>, expected: &Expected, judgement: &Judgement) -> Vec<WhatIf> {
    let mut out = Vec::new();
    if let (Outcome::NotCaptured, Some(then)) = (expected.outcome, &expected.then) {
        out.push(captured(then));
    }
    let now = expected.then.as_deref().unwrap_or(expected);
    let call = Call { captured: true, ..*call };
    let decided = judgement.chain.iter().filter(|s| s.mark == Mark::Decides);
    let decided = decided.filter_map(|s| Some((judgement.reason(), s.object.as_ref()?, s.field.as_deref()?)));
    let missed = now.misses.iter().map(|m| (m.reason, &m.object, m.field.as_str()));
    let mut tried: Vec<(Reason, &ObjectRef)> = Vec::new();
    for (reason, object, field) in decided.chain(missed) {
        if tried.len() == MOST || tried.contains(&(reason, object)) {
            continue;
        }
        let Some((what, edited)) = edit(mesh, &call, reason, object, field) else { continue };
        tried.push((reason, object));
        let changed = mesh.edited([Change::Put(edited)]);
        let Some(pod) = changed.pod_by_name(&mesh.pod(call.pod).name.namespace, &mesh.pod(call.pod).name.name) else {
            continue;
        };
        let then = changed.expect(&Call { pod, ..call });
        if (then.outcome, &then.gateway, &then.cluster) != (now.outcome, &now.gateway, &now.cluster) {
            out.push(WhatIf { what, outcome: then.outcome, gateway: then.gateway });
        }
    }
    out
}

/// The same for a flow that was seen: the call is what its evidence says.
pub fn of_flow(mesh: &Mesh, flow: &Flow) -> Vec<WhatIf> {
    let (Some(namespace), Some(name), Some(expected)) = (&flow.source.namespace, &flow.source.pod, &flow.expected)
    else {
        return Vec::new();
    };
    let Some(pod) = mesh.pod_by_name(namespace, name) else { return Vec::new() };
    let known = flow.destination.name.host.as_ref().map(HostName::as_str);
    let by = |source: NameSource| known.filter(|_| flow.destination.name.source == source);
    let call = Call {
        pod,
        leg: CallLeg::Outbound,
        to: SocketAddr::new(flow.destination.ip, flow.destination.port),
        transport: flow.protocol,
        bytes: flow.l7.and_then(Bytes::parse).unwrap_or(Bytes::Unknown),
        sni: by(NameSource::Sni),
        host: by(NameSource::Http),
        path: None,
        dns: by(NameSource::Dns),
        container: flow.source.container.as_deref(),
        uid: flow.source.process.as_ref().map(|p| p.uid),
        gid: None,
        captured: flow.leg == Leg::AppCaptured,
    };
    let mut out = what_if(mesh, &call, expected, &flow.judgement);
    // What is expected of a flow is always what a captured one would get.
    if flow.leg == Leg::AppUncaptured && expected.then.is_none() {
        out.insert(0, captured(expected));
    }
    out
}

fn captured(then: &Expected) -> WhatIf {
    let what = "if the proxy got the connection".to_owned();
    WhatIf { what, outcome: then.outcome, gateway: then.gateway.clone() }
}

/// The object as its owner would change it, and a sentence for that.
fn edit(mesh: &Mesh, call: &Call<'_>, reason: Reason, object: &ObjectRef, field: &str) -> Option<(String, RawObject)> {
    let mut raw = mesh.raw(object)?;
    let pointer = pointer(field);
    match reason {
        Reason::SourceLabels => {
            let wanted = raw.value.pointer(&pointer)?.as_object()?.clone();
            let pod = mesh.pod(call.pod);
            let owner = ObjectRef::new("Pod", pod.name.namespace.clone(), pod.name.name.clone());
            let mut raw = mesh.raw(&owner)?;
            let labels = entry(raw.value.get_mut("metadata")?, "labels", json!({}))?.as_object_mut()?;
            let mut added = Vec::new();
            for (key, value) in &wanted {
                if labels.get(key) != Some(value) {
                    added.push(format!("{}={}", printable(key), printable(value.as_str().unwrap_or_default())));
                    labels.insert(key.clone(), value.clone());
                }
            }
            Some((format!("with the label {} on {owner}", added.join(", ")), raw))
        }
        Reason::NotExported | Reason::VsNotExported => {
            entry(raw.value.get_mut("spec")?, "exportTo", json!([]))?.clone_from(&json!(["*"]));
            Some((format!("with {object} exported to every namespace"), raw))
        }
        Reason::VsGateways => {
            push(entry(raw.value.get_mut("spec")?, "gateways", json!([]))?, "mesh")?;
            Some((format!("with mesh among the gateways of {object}"), raw))
        }
        Reason::SniNotMatched => {
            let sni = call.sni?;
            push(raw.value.pointer_mut(&pointer)?, sni)?;
            Some((format!("with {} in {field} of {object}", printable(sni)), raw))
        }
        Reason::PortNotRouted => {
            *raw.value.pointer_mut(&pointer)? = json!(call.to.port());
            Some((format!("with port {} in {field} of {object}", call.to.port()), raw))
        }
        Reason::SidecarScope | Reason::VsNotImported => {
            let egress = raw.value.pointer_mut("/spec/egress")?.as_array_mut()?;
            for listener in egress.iter_mut() {
                push(entry(listener, "hosts", json!([]))?, "*/*")?;
            }
            Some((format!("with */* among the egress hosts of {object}"), raw))
        }
        Reason::PortNotRegistered => {
            let ports = raw.value.pointer_mut("/spec/ports")?.as_array_mut()?;
            let port = call.to.port();
            let protocol = match call.bytes {
                Bytes::Tls => "TLS",
                Bytes::Http => "HTTP",
                Bytes::Http2 => "HTTP2",
                _ => "TCP",
            };
            ports.push(
                json!({"number": port, "name": format!("{}-{port}", protocol.to_lowercase()), "protocol": protocol}),
            );
            Some((format!("with port {port}/{protocol} in {object}"), raw))
        }
        _ => None,
    }
}

/// `.spec.tcp[0].match[0]` as a JSON pointer.
fn pointer(field: &str) -> String {
    let mut out = String::new();
    for segment in crate::manifest::segments(field) {
        out.push('/');
        out.push_str(&segment.replace('~', "~0").replace('/', "~1"));
    }
    out
}

fn entry<'v>(value: &'v mut Value, key: &str, empty: Value) -> Option<&'v mut Value> {
    let map: &mut Map<String, Value> = value.as_object_mut()?;
    Some(map.entry(key).or_insert(empty))
}

fn push(list: &mut Value, text: &str) -> Option<()> {
    list.as_array_mut()?.push(json!(text));
    Some(())
}
