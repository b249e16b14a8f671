//! Objects that look as if they did something for a connection, and do not: steps of the chain that never decide.

use std::sync::Arc;

use arcstr::ArcStr;
use rustc_hash::FxHashMap;
use serde_json::Value;

use crate::id::ObjectRef;
use crate::manifest;
use crate::mesh::Mesh;
use crate::mesh::cluster::{Dial, Known, Wrap};
use crate::mesh::decide::{Walk, Wire, Wrapped};
use crate::mesh::host;
use crate::mesh::object::policy::PeerMode;
use crate::mesh::object::virtual_service::MESH;
use crate::mesh::object::{Gateway, HttpAction, Semantics, VirtualService};
use crate::name::printable;
use crate::verdict::says::says;
use crate::verdict::{Mark, Step};

/// TLS that begins here, and the server name that it begins with: without `tls.sni` that of the request (`auto_sni`), which is
/// also what the certificate is checked against (`auto_san_validation`; Istio: `applyUpstreamTLSSettings`).
pub(crate) fn originates(known: &Known<'_>, wire: &Wire<'_>, authority: Option<&str>) -> Option<Step> {
    let (object, field) = known.rule.clone()?;
    let Wrap::Tls(sni) = &known.wrap else { return None };
    let host = &known.upstream.host;
    let (mark, says) = if !sni.is_empty() {
        (Mark::Ok, says!["TLS originates with the server name ", sni])
    } else if !wire.http {
        (Mark::Ok, "TLS originates without a server name".into())
    } else {
        let asked = authority.map_or_else(|| wire.authority().into_owned(), str::to_owned);
        if host::subset(&asked.to_ascii_lowercase(), host) {
            (Mark::Ok, format!("TLS originates with the server name {}", printable(&asked)).into())
        } else {
            let asked = printable(&asked);
            let says = format!(
                "TLS originates with the request's server name {asked}: {host} is asked for a name that is not its own, and its \
                 certificate is checked against it (rewrite the authority, or set tls.sni)"
            );
            (Mark::Miss, says.into())
        }
    };
    Some(Step::new("tls", mark, says).by(object, field))
}

impl Walk<'_> {
    /// STRICT mTLS is for the inbound listeners of sidecars. What a gateway's server accepts, its own `tls` says.
    pub(crate) fn unprotected(&self, known: &Known<'_>, wire: &Wire<'_>) -> Option<Step> {
        let Dial::Endpoints(endpoints) = known.dial else { return None };
        if wire.tls != Wrapped::Plain || !matches!(known.wrap, Wrap::Nothing | Wrap::Automatic) {
            return None;
        }
        let (mode, by) = self.mesh.index.peer_policy(&known.upstream.namespace);
        let by = by.filter(|_| mode == PeerMode::Strict)?;
        if endpoints.iter().any(|(.., mtls)| mtls) {
            return None;
        }
        let says = format!(
            "{} demands mTLS, and the way to the gateway is in clear text: it does not hold for the servers of a gateway",
            by.meta.object
        );
        Some(Step::new("tls", Mark::Miss, says).by(by.meta.object.clone(), ".spec.mtls.mode"))
    }
}

/// Servers of Istio Gateways by host; the oldest one.
pub(crate) type GatewayHosts = FxHashMap<ArcStr, (u32, u32)>;

/// See [`GatewayHosts`].
pub(crate) fn gateway_hosts(gateways: &[Arc<Gateway>]) -> GatewayHosts {
    let mut out = GatewayHosts::default();
    for (g, gateway) in (0..).zip(gateways).filter(|(_, g)| g.services.is_none()) {
        for (s, server) in (0..).zip(&gateway.servers) {
            for host in &server.hosts {
                let host = host.split_once('/').map_or(host.as_str(), |(_, host)| host);
                if !host::is_wildcard(host) {
                    out.entry(host.to_ascii_lowercase().into()).or_insert((g, s));
                }
            }
        }
    }
    out
}

/// Rules that are for gateways only, by the hosts that they lead to.
pub(crate) type GatewayRules = FxHashMap<ArcStr, (ObjectRef, ArcStr)>;

/// See [`GatewayRules`].
pub(crate) fn gateway_rules(all: &[Arc<VirtualService>]) -> GatewayRules {
    let mut out = GatewayRules::default();
    for vs in all.iter().filter(|vs| vs.semantics == Semantics::Istio) {
        let bound = |own: &[ArcStr]| !(if own.is_empty() { &vs.gateways } else { own }).iter().any(|g| g == MESH);
        let http = vs.http.iter().filter_map(|r| match &r.action {
            HttpAction::Route(routes) => {
                let only = if r.matches.is_empty() { bound(&[]) } else { r.matches.iter().all(|m| bound(&m.gateways)) };
                only.then_some((&r.at, routes))
            }
            HttpAction::Redirect(_) | HttpAction::Answer(_) => None,
        });
        let l4 = vs.tls.iter().chain(&vs.tcp).filter_map(|r| {
            let only = if r.matches.is_empty() { bound(&[]) } else { r.matches.iter().all(|m| bound(&m.gateways)) };
            only.then_some((&r.at, &r.routes))
        });
        for (at, routes) in http.chain(l4) {
            for route in routes {
                out.entry(route.host.clone()).or_insert_with(|| (vs.object_of(at), at.path.clone()));
            }
        }
    }
    out
}

impl Mesh {
    /// A gateway is set up for the host of an entry, and nothing leads there.
    pub(crate) fn idle_gateway(&self, host: &ArcStr) -> Option<Step> {
        let Some((g, s)) = self.index.gateway_hosts.get(host) else {
            let (object, field) = self.index.gateway_rules.get(host)?.clone();
            let says =
                says![&object, " leads a gateway to ", host, ", but no rule leads this workload to that gateway"];
            return Some(Step::new("gateway", Mark::Miss, says).by(object, field));
        };
        let gateway = &self.index.gateways[*g as usize];
        let says = says![&gateway.shown, " has ", host, ", but no VirtualService leads there: it takes no part"];
        let field = format!("{}.hosts", gateway.servers[*s as usize].path);
        Some(Step::new("gateway", Mark::Miss, says).by(gateway.shown.clone(), field))
    }

    /// What somebody set in place of outboundTrafficPolicy.
    pub(crate) fn misspelt_policy(&self) -> Option<Step> {
        let m = self.index.misspelt.as_ref()?;
        Some(Step::new("policy", Mark::Miss, m.says.clone()).by(m.object.clone(), m.field.clone()))
    }
}

/// A setting of outboundTrafficPolicy that nothing reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misspelt {
    /// The object.
    pub(crate) object: ObjectRef,
    field: ArcStr,
    says: String,
}

const POLICY: &str = "outboundTrafficPolicy";
/// What stands below it.
const PARTS: [&str; 2] = ["mode", "egressProxy"];
/// Deeper than any settings of Istio.
const DEPTH: u32 = 8;

/// Looks for one in the settings that an object holds: mesh settings, Helm values, an operator's resource.
pub(crate) fn misspelt(object: &ObjectRef, value: &Value) -> Option<Misspelt> {
    let found = match object.kind.as_str() {
        "ConfigMap" if object.name.name.starts_with("istio") => ["mesh", "values"].into_iter().find_map(|key| {
            let text = value.pointer(&format!("/data/{key}"))?.as_str()?;
            let text = manifest::parse("", text).objects.into_iter().next()?;
            look(&text.value, &format!(".data.{key}"), "", DEPTH)
        }),
        "IstioOperator" | "Istio" | "ServiceMeshControlPlane" => look(value.get("spec")?, ".spec", "", DEPTH),
        _ => None,
    }?;
    let (field, key, set) = found;
    let says = format!(
        "{key} is {set} here, and nothing reads that key; nearest that is read: meshConfig.{POLICY}.mode (in charts before Istio 1.6: \
         global.{POLICY}.mode)"
    );
    Some(Misspelt { object: object.clone(), field: field.into(), says })
}

/// Path, key and value of the first key that is nearly right.
fn look(value: &Value, path: &str, parent: &str, depth: u32) -> Option<(String, String, String)> {
    let map = value.as_object()?;
    for (key, inner) in map {
        let own = parent == POLICY && !PARTS.contains(&key.as_str()) && PARTS.iter().any(|p| near(key, p, 1));
        let nearly = key != POLICY && (plain(key).starts_with(&plain(POLICY)) || near(key, POLICY, 2));
        if own || nearly {
            let set = match inner {
                Value::String(text) => printable(text),
                other => printable(other.get("mode").and_then(Value::as_str).unwrap_or("set")),
            };
            return Some((format!("{path}.{}", printable(key)), printable(key), set));
        }
    }
    let below = |(key, inner): (&String, &Value)| look(inner, &format!("{path}.{}", printable(key)), key, depth - 1);
    if depth > 0 { map.iter().find_map(below) } else { None }
}

fn plain(key: &str) -> String {
    key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// At most `most` letters apart (Levenshtein), whatever the case.
fn near(a: &str, b: &str, most: usize) -> bool {
    let (a, b) = (plain(a), plain(b));
    if a.len().abs_diff(b.len()) > most {
        return false;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let changed = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row.last().is_some_and(|distance| *distance <= most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(kind: &str, name: &str, value: &Value) -> Option<(String, String)> {
        let object = ObjectRef::new(kind, "istio-system", name);
        misspelt(&object, value).map(|m| (m.field.to_string(), m.says))
    }

    #[test]
    fn helm_values_with_a_key_that_no_chart_reads_are_found() {
        let values = r#"{"global": {"outboundTrafficPolicymode": "REGISTRY_ONLY", "proxy": {}}}"#;
        let (field, says) =
            of("ConfigMap", "istio-sidecar-injector", &json!({"data": {"values": values}})).expect("found");
        assert_eq!(field, ".data.values.global.outboundTrafficPolicymode");
        assert!(says.starts_with("outboundTrafficPolicymode is REGISTRY_ONLY here"), "{says}");
    }

    #[test]
    fn mesh_settings_and_operators_are_looked_through_too() {
        let mesh = json!({"data": {"mesh": "outboundTraficPolicy:\n  mode: REGISTRY_ONLY\n"}});
        assert_eq!(of("ConfigMap", "istio", &mesh).expect("found").0, ".data.mesh.outboundTraficPolicy");
        let operator = json!({"spec": {"meshConfig": {"outboundTrafficPolicy": {"Mode": "REGISTRY_ONLY"}}}});
        let found = of("IstioOperator", "installed", &operator).expect("found");
        assert_eq!(found.0, ".spec.meshConfig.outboundTrafficPolicy.Mode");
    }

    #[test]
    fn what_is_spelled_right_or_is_something_else_is_left_alone() {
        let mesh = json!({"data": {"mesh": "outboundTrafficPolicy:\n  mode: ALLOW_ANY\ninboundTrafficPolicy: {}\n"}});
        assert_eq!(of("ConfigMap", "istio", &mesh), None);
        assert_eq!(of("ConfigMap", "settings", &json!({"data": {"mesh": "outboundTraficPolicy: {}"}})), None);
    }
}
