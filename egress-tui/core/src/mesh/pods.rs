//! From a pod's spec to what attribution, interception and gateways need (semantics §7.1).

use std::net::IpAddr;

use arcstr::ArcStr;

use crate::id::{NamespacedName, ObjectRef};
use crate::mesh::gateway::{GatewayPod, TargetPort};
use crate::mesh::index::Index;
use crate::mesh::object::PodSpec;
use crate::mesh::object::kube::ContainerSpec;
use crate::mesh::object::read::{Labels, label, selects};
use crate::mesh::pod::{Container, ContainerRole, Pod, ProxyKind};
use crate::mesh::reach::target_port;
use crate::name::brief;

/// What only this module's neighbours need of a pod.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts of a pod that do not depend on each other")]
pub(crate) struct PodRecord {
    /// Uses addresses that istiod allocates to entries.
    pub(crate) uses_allocated: bool,
    /// Has only IPv6 addresses.
    pub(crate) ipv6: bool,
    /// The release of its proxy, where the image tells all three numbers.
    pub(crate) version: Option<ArcStr>,
    /// Neither Succeeded nor Failed.
    pub(crate) running: bool,
    pub(crate) gateway: GatewayPod,
    /// Path of each container in the pod, in the order of [`Pod::containers`], with its group.
    pub(crate) containers: Vec<(ArcStr, Option<u32>)>,
    /// The proxy's own uid, where its container sets one.
    pub(crate) proxy_user: Option<u32>,
    /// interceptionMode.
    pub(crate) interception: ArcStr,
    /// DNS queries of the pod are answered by its proxy.
    pub(crate) dns_capture: bool,
    /// Arguments of the container that sets interception up, with the path of the list.
    pub(crate) set_up: Option<(ArcStr, Vec<ArcStr>)>,
}

/// Reads a pod.
pub(crate) fn read(index: &Index, spec: &PodSpec) -> (Pod, PodRecord) {
    let metadata = metadata(index, spec);
    let is_true = |key: &str| label(&metadata, key).is_some_and(|v| v == "true");
    let proxy = kind(spec);
    let dns_capture = match spec.annotation("ambient.istio.io/dns-capture").map(ArcStr::as_str) {
        _ if proxy != ProxyKind::Ambient => is_true("ISTIO_META_DNS_CAPTURE"),
        Some("true") => true,
        Some("false") => false,
        _ => index.rules.ambient_dns_capture,
    };
    let auto = index.rules.ip_autoallocate || is_true("ISTIO_META_DNS_AUTO_ALLOCATE");
    let pod = Pod {
        name: NamespacedName::new(spec.meta.namespace().clone(), spec.meta.name().clone()),
        uid: spec.uid.clone(),
        ips: spec.ips.clone(),
        node: spec.node.clone(),
        labels: shown(&spec.meta.labels),
        annotations: spec.annotations.clone(),
        service_account: if spec.service_account.is_empty() { "default".into() } else { spec.service_account.clone() },
        workload: workload(spec),
        host_network: spec.host_network,
        proxy,
        enrolled: enrolled(index, spec),
        containers: spec.containers.iter().map(|c| container(spec, c)).collect(),
        object: spec.meta.object.clone(),
    };
    let record = PodRecord {
        uses_allocated: auto && (dns_capture || proxy == ProxyKind::Waypoint),
        ipv6: !spec.ips.is_empty() && spec.ips.iter().all(IpAddr::is_ipv6),
        version: spec.proxy_container().and_then(|c| release(&c.image)),
        running: !matches!(spec.phase.as_str(), "Succeeded" | "Failed"),
        gateway: GatewayPod {
            labels: spec.meta.labels.clone(),
            targets: targets(index, spec),
            unprivileged: is_true("ISTIO_META_UNPRIVILEGED_POD"),
        },
        containers: spec.containers.iter().map(|c| (c.path.clone(), c.run_as_group.or(spec.run_as_group))).collect(),
        proxy_user: spec.proxy_container().and_then(|c| c.run_as_user.or(spec.run_as_user)),
        dns_capture,
        set_up: spec
            .containers
            .iter()
            .find(|c| is_set_up(&c.name))
            .map(|c| (format!("{}.args", c.path).into(), c.args.clone())),
        interception: spec
            .annotation("sidecar.istio.io/interceptionMode")
            .cloned()
            .unwrap_or_else(|| index.config.interception.clone()),
    };
    (pod, record)
}

/// `istio-init` programs the rules; `istio-validation` checks, with the same arguments, what the CNI plugin programmed.
pub(crate) fn is_set_up(container: &str) -> bool {
    matches!(container, "istio-init" | "istio-validation")
}

/// proxyMetadata of the mesh, of the pod's annotation, and the environment of its proxy; later ones win.
fn metadata(index: &Index, spec: &PodSpec) -> Labels {
    let mut out = index.config.proxy_metadata.clone();
    let mut set = |key: &ArcStr, value: &ArcStr| match out.binary_search_by(|(k, _)| k.cmp(key)) {
        Ok(place) => out[place].1 = value.clone(),
        Err(place) => out.insert(place, (key.clone(), value.clone())),
    };
    if let Some(text) = spec.annotation("proxy.istio.io/config") {
        let parsed = crate::manifest::parse("", text);
        let config = parsed.objects.first().and_then(|o| o.value.get("proxyMetadata")).and_then(|m| m.as_object());
        for (key, value) in config.into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            set(&key.as_str().into(), &value.into());
        }
    }
    for (key, value) in spec.proxy_container().into_iter().flat_map(|c| &c.env) {
        set(key, value);
    }
    out
}

/// `1.31.2` of `…/proxyv2:1.31.2-distroless`.
fn release(image: &str) -> Option<ArcStr> {
    let tag = image.split('@').next()?.rsplit_once(':')?.1;
    let number = tag.split('-').next()?;
    let parts: Vec<&str> = number.split('.').collect();
    (parts.len() == 3 && parts.iter().all(|p| p.parse::<u16>().is_ok())).then(|| number.into())
}

fn kind(spec: &PodSpec) -> ProxyKind {
    if spec.host_network {
        // a gateway on the node's network is still a gateway
        let gateway = spec.proxy_container().is_some_and(|c| c.args.iter().any(|a| a == "router"));
        return if gateway { ProxyKind::Gateway } else { ProxyKind::Host };
    }
    let labels = &spec.meta.labels;
    if let Some(proxy) = spec.proxy_container() {
        for arg in &proxy.args {
            match arg.as_str() {
                "router" => return ProxyKind::Gateway,
                "waypoint" => return ProxyKind::Waypoint,
                "sidecar" => return ProxyKind::Sidecar,
                "ztunnel" => return ProxyKind::Ztunnel,
                _ => {}
            }
        }
    }
    match label(labels, "gateway.istio.io/managed") {
        Some(managed) if managed == "istio.io-mesh-controller" => return ProxyKind::Waypoint,
        Some(managed) if !managed.is_empty() => return ProxyKind::Gateway,
        _ => {}
    }
    let template = spec.annotation("inject.istio.io/templates").map_or("", ArcStr::as_str);
    if label(labels, "istio").is_some_and(|v| v == "egressgateway") || template.contains("gateway") {
        return ProxyKind::Gateway;
    }
    if template.contains("grpc-agent") {
        return ProxyKind::Proxyless;
    }
    if spec.proxy_container().is_some() {
        return ProxyKind::Sidecar;
    }
    let is = |key: &str, value: &str| label(labels, key).is_some_and(|v| v == value);
    if is("app", "ztunnel") || is("k8s-app", "istio-cni-node") {
        return ProxyKind::Ztunnel;
    }
    if spec.annotation("ambient.istio.io/redirection").is_some_and(|v| v == "enabled") {
        return ProxyKind::Ambient;
    }
    ProxyKind::None
}

/// What namespace and pod ask for; the pod's word wins, its label before its annotation.
fn enrolled(index: &Index, spec: &PodSpec) -> bool {
    let labels = &spec.meta.labels;
    let none = Labels::new();
    let namespace = index.namespaces.get(spec.meta.namespace()).unwrap_or(&none);
    match label(labels, "istio.io/dataplane-mode").map(ArcStr::as_str) {
        Some("ambient") => return true,
        Some("none") => {}
        _ if label(namespace, "istio.io/dataplane-mode").is_some_and(|v| v == "ambient") => return true,
        _ => {}
    }
    let inject = label(labels, "sidecar.istio.io/inject").or_else(|| spec.annotation("sidecar.istio.io/inject"));
    match inject.map(ArcStr::as_str) {
        Some("true") => return true,
        Some("false") => return false,
        _ => {}
    }
    match label(namespace, "istio-injection").map(ArcStr::as_str) {
        Some("enabled") => return true,
        Some("disabled") => return false,
        _ => {}
    }
    label(labels, "istio.io/rev").or_else(|| label(namespace, "istio.io/rev")).is_some()
        || spec.annotation("sidecar.istio.io/status").is_some()
}

/// Characters of a label's key or value: more than the API server admits (a prefix of 253, a name or value of 63).
const LONGEST_LABEL: usize = 317;

/// Labels as flows show them.
fn shown(labels: &Labels) -> Labels {
    let cut = |text: &ArcStr| if text.len() > LONGEST_LABEL { brief(text, LONGEST_LABEL).into() } else { text.clone() };
    labels.iter().map(|(key, value)| (cut(key), cut(value))).collect()
}

fn container(spec: &PodSpec, c: &ContainerSpec) -> Container {
    let id = spec.ids.iter().find(|(name, _)| *name == c.name).map(|(_, id)| id.rsplit("//").next().unwrap_or(id));
    Container {
        name: c.name.clone(),
        id: id.filter(|i| !i.is_empty()).map(ArcStr::from),
        role: match (c.name.as_str(), c.init && !c.always_restarts) {
            ("istio-proxy", _) => ContainerRole::Proxy,
            (_, true) => ContainerRole::Init,
            (_, false) => ContainerRole::App,
        },
        run_as_user: c.run_as_user.or(spec.run_as_user),
    }
}

/// The controller that made a pod; a ReplicaSet's name without the template's hash is its Deployment's.
fn workload(spec: &PodSpec) -> ObjectRef {
    let namespace = spec.meta.namespace().clone();
    match &spec.owner {
        Some((kind, name)) if kind == "ReplicaSet" => {
            let hash = label(&spec.meta.labels, "pod-template-hash");
            match hash.and_then(|h| name.strip_suffix(h.as_str())).and_then(|n| n.strip_suffix('-')) {
                Some(deployment) => ObjectRef::new("Deployment", namespace, deployment),
                None => ObjectRef::new("ReplicaSet", namespace, name.clone()),
            }
        }
        Some((kind, name)) => ObjectRef::new(kind.clone(), namespace, name.clone()),
        None => spec.meta.object.clone(),
    }
}

/// Ports of the Services that select the pod, in order of their names (`GetProxyServiceTargetsByPod`).
fn targets(index: &Index, spec: &PodSpec) -> Vec<TargetPort> {
    let mut out = Vec::new();
    for n in index.services_of.get(spec.meta.namespace()).into_iter().flatten() {
        let service = &index.services[*n as usize];
        if service.selector.is_empty() || !selects(&service.selector, &spec.meta.labels) {
            continue;
        }
        let mut seen = Vec::new();
        for port in &service.ports {
            let Some(target) = target_port(spec, port) else { continue };
            if !seen.contains(&(target, port.protocol)) {
                seen.push((target, port.protocol));
                out.push(TargetPort { service: *n, port: port.number, target });
            }
        }
    }
    out
}
