//! Whether a socket is subject to the mesh at all (semantics §7.2, §7.3; Istio: `tools/istio-iptables/pkg/capture`).

use std::net::IpAddr;

use arcstr::ArcStr;
use ipnet::IpNet;

use crate::input::Transport;
use crate::mesh::pods::{PodRecord, is_set_up};
use crate::mesh::{Call, ContainerRole, Mesh, Pod, ProxyKind, Uncaptured};
use crate::verdict::Reason;

/// The uid and gid that interception leaves alone.
const PROXY_ID: u32 = 1337;

/// Where Envoy's own traffic to applications comes from; it never leaves the pod.
const INBOUND_SOURCE: [u8; 4] = [127, 0, 0, 6];

impl Mesh {
    /// Why the proxy does not get this connection; `None` if it does.
    pub(crate) fn uncaptured(&self, call: &Call<'_>) -> Option<Uncaptured> {
        let pod = self.pod(call.pod);
        let object = || Some(pod.object.clone());
        let because = |reason: Reason, field: Option<ArcStr>, says: String| Uncaptured {
            reason,
            object: object(),
            field,
            says: says.into(),
        };
        match pod.proxy {
            ProxyKind::Host => {
                let says = "the pod uses the node's network: no interception is set up there".to_owned();
                return Some(because(Reason::HostNetwork, Some(".spec.hostNetwork".into()), says));
            }
            ProxyKind::None | ProxyKind::Proxyless | ProxyKind::Ztunnel => return Some(no_proxy(pod)),
            ProxyKind::Gateway | ProxyKind::Waypoint => {
                let says = "nothing intercepts what a gateway's pod opens itself".to_owned();
                return Some(because(Reason::ProxyContainer, Some(".spec.containers".into()), says));
            }
            ProxyKind::Sidecar | ProxyKind::Ambient => {}
        }
        if call.transport == Transport::Udp {
            return Some(because(Reason::Udp, None, "UDP is never intercepted".to_owned()));
        }
        if pod.proxy == ProxyKind::Ambient {
            return None;
        }
        self.sidecar_rules(call, pod)
    }

    /// A DNS query that the proxy of the pod answers itself (DNS capture).
    pub(crate) fn answers_dns(&self, call: &Call<'_>) -> bool {
        let pod = self.pod(call.pod);
        let record = &self.roster.records[call.pod.0 as usize];
        let asks = record.dns_capture && call.to.port() == 53;
        if pod.proxy == ProxyKind::Ambient {
            return asks;
        }
        pod.proxy == ProxyKind::Sidecar
            && asks
            && owner(call, pod, record.proxy_user, &record.containers).is_none()
            && setting(pod, record, "excludeOutboundPorts", "-o").0.is_none_or(|p| !has_port(&p, 53))
    }

    /// The rules in the order in which they are programmed.
    fn sidecar_rules(&self, call: &Call<'_>, pod: &Pod) -> Option<Uncaptured> {
        let record = &self.roster.records[call.pod.0 as usize];
        let because = |reason: Reason, field: ArcStr, says: String| {
            Some(Uncaptured { reason, object: Some(pod.object.clone()), field: Some(field), says: says.into() })
        };
        let setting = |key: &str, flag: &str| setting(pod, record, key, flag);
        let (ip, port) = (call.to.ip(), call.to.port());
        if record.interception == "NONE" {
            let field = ".metadata.annotations[\"sidecar.istio.io/interceptionMode\"]".into();
            return because(Reason::NotIncluded, field, "interceptionMode NONE: nothing is intercepted".to_owned());
        }
        let (ports, field) = setting("excludeOutboundPorts", "-o");
        if ports.is_some_and(|p| has_port(&p, port)) {
            return because(Reason::ExcludedPort, field, format!("port {port} is excluded from interception"));
        }
        if ip == IpAddr::from(INBOUND_SOURCE) {
            return None;
        }
        if let Some(found) = owner(call, pod, record.proxy_user, &record.containers) {
            return Some(found);
        }
        if let Some(found) = self.init_container(call, pod) {
            return Some(found);
        }
        let (ranges, field) = setting("excludeOutboundIPRanges", "-x");
        if ranges.is_some_and(|r| has_ip(&r, ip)) {
            return because(Reason::ExcludedCidr, field, format!("{ip} is excluded from interception"));
        }
        if ip.is_ipv6() && !pod.ips.is_empty() && pod.ips.iter().all(IpAddr::is_ipv4) {
            return because(
                Reason::IpFamily,
                ".status.podIPs".into(),
                "the pod has no IPv6 address: only IPv4 is intercepted".to_owned(),
            );
        }
        let (included_ports, _) = setting("includeOutboundPorts", "-q");
        if included_ports.is_some_and(|p| has_port(&p, port)) {
            return None;
        }
        match setting("includeOutboundIPRanges", "-i") {
            (Some(ranges), field) if ranges.trim() != "*" && !has_ip(&ranges, ip) => {
                because(Reason::NotIncluded, field, format!("interception is limited to ranges that do not hold {ip}"))
            }
            _ => None,
        }
    }

    /// Init containers that run before interception is set up. A CNI plugin sets it up before all of them (it leaves
    /// `istio-validation` behind, or the proxy is the first init container); `istio-init` only before those after it.
    fn init_container(&self, call: &Call<'_>, pod: &Pod) -> Option<Uncaptured> {
        let name = call.container?;
        let place = pod.containers.iter().position(|c| c.name == name)?;
        if pod.containers[place].role != ContainerRole::Init {
            return None;
        }
        let captured = match pod.containers.iter().position(|c| is_set_up(&c.name)) {
            Some(set_up) => pod.containers[set_up].name == "istio-validation" || set_up < place,
            None => pod.containers.iter().take(place).any(|c| c.role == ContainerRole::Proxy),
        };
        if captured {
            return None;
        }
        let field = self.roster.records[call.pod.0 as usize].containers.get(place).map(|(path, _)| path.clone());
        let says = format!("the init container {} runs before interception is set up", crate::name::printable(name));
        Some(Uncaptured { reason: Reason::InitContainer, object: Some(pod.object.clone()), field, says: says.into() })
    }
}

/// A setting of interception and where it stands: what the rules were made with (arguments of the container that made them),
/// and the annotation, which counts at injection only.
fn setting(pod: &Pod, record: &PodRecord, key: &str, flag: &str) -> (Option<ArcStr>, ArcStr) {
    let annotation = pod.annotation(&format!("traffic.sidecar.istio.io/{key}"));
    let field: ArcStr = format!(".metadata.annotations[\"traffic.sidecar.istio.io/{key}\"]").into();
    if let Some((path, args)) = &record.set_up
        && let Some(place) = args.iter().position(|a| a == flag)
    {
        let value = args.get(place + 1).cloned().unwrap_or_default();
        let annotated = annotation.is_some_and(|a| a.trim() == value.trim());
        return (Some(value), if annotated { field } else { format!("{path}[{}]", place + 1).into() });
    }
    (annotation.cloned(), field)
}

/// uid and gid of the proxy, and its container.
fn owner(
    call: &Call<'_>,
    pod: &Pod,
    proxy_user: Option<u32>,
    containers: &[(ArcStr, Option<u32>)],
) -> Option<Uncaptured> {
    let place = call.container.and_then(|name| pod.containers.iter().position(|c| c.name == name));
    let container = place.map(|p| &pod.containers[p]);
    let field =
        |leaf: &str| place.and_then(|p| containers.get(p)).map(|(path, _)| ArcStr::from(format!("{path}{leaf}")));
    if container.is_some_and(|c| c.role == ContainerRole::Proxy) {
        let says = "the proxy's own container runs under the uid that interception leaves alone".to_owned();
        return Some(Uncaptured {
            reason: Reason::ProxyContainer,
            object: Some(pod.object.clone()),
            field: field(""),
            says: says.into(),
        });
    }
    let proxy = proxy_user.unwrap_or(PROXY_ID);
    let uid = call.uid.or_else(|| container.and_then(|c| c.run_as_user));
    if uid.is_some_and(|u| u == proxy || u == PROXY_ID) {
        let says = format!("the process runs as uid {}, which interception leaves alone", uid.unwrap_or(proxy));
        let field = field(".securityContext.runAsUser");
        return Some(Uncaptured {
            reason: Reason::ProxyUid,
            object: Some(pod.object.clone()),
            field,
            says: says.into(),
        });
    }
    let gid = call.gid.or_else(|| place.and_then(|p| containers.get(p)).and_then(|(_, g)| *g));
    if gid == Some(PROXY_ID) {
        let says = format!("the process runs as gid {PROXY_ID}, which interception leaves alone");
        let field = field(".securityContext.runAsGroup");
        return Some(Uncaptured {
            reason: Reason::ProxyUid,
            object: Some(pod.object.clone()),
            field,
            says: says.into(),
        });
    }
    None
}

/// `443,8080`, or `*`.
fn has_port(list: &str, port: u16) -> bool {
    list.split(',').map(str::trim).any(|p| p == "*" || p.parse() == Ok(port))
}

/// `10.0.0.0/8,192.0.2.1`, or `*`.
fn has_ip(list: &str, ip: IpAddr) -> bool {
    list.split(',')
        .map(str::trim)
        .any(|r| r == "*" || r.parse::<IpNet>().is_ok_and(|n| n.contains(&ip)) || r.parse::<IpAddr>() == Ok(ip))
}

fn no_proxy(pod: &Pod) -> Uncaptured {
    let namespace = crate::id::ObjectRef::new("Namespace", "", pod.name.namespace.clone());
    let (reason, says) = if pod.enrolled {
        (Reason::NoProxy, "the pod has no proxy although its namespace or labels ask for one".to_owned())
    } else {
        (Reason::OutsideMesh, "neither the namespace nor the pod asks for a proxy".to_owned())
    };
    let inject = pod.label("sidecar.istio.io/inject").is_some();
    let (object, field): (_, ArcStr) = if inject {
        (pod.object.clone(), ".metadata.labels[\"sidecar.istio.io/inject\"]".into())
    } else if pod.enrolled {
        (pod.object.clone(), ".spec.containers".into())
    } else {
        (namespace, ".metadata.labels".into())
    };
    Uncaptured { reason, object: Some(object), field: Some(field), says: says.into() }
}
