//! Gateways and mesh settings that an object declares, for a mesh whose Pods, Services or ConfigMap are not known.
//!
//! A repository of manifests holds what is to be installed, not what runs: an `IstioOperator`, an `IstioMeshGateway`, an injected
//! Deployment, a Gateway of the Gateway API. Each of them says which Service and which pods there will be. They are
//! put in the place of real ones where there are none, and every chain that goes through them names the object that declares
//! them. What runs wins: a Pod with a gateway's labels, a Service of its name, a slice of its endpoints, the ConfigMap.
//!
//! Nobody knows the addresses of what is only declared. Each gets one of `0.0.0.0/8` (RFC 1122: "this network"), which no
//! connection can have and no answer shows.

mod cisco;
mod kube_gateway;
mod openshift;
mod operator;
mod overlay;
mod plan;
mod workload;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use arcstr::ArcStr;
use rustc_hash::FxHashMap;
use serde_json::Value;

use crate::id::{NamespacedName, ObjectRef};
use crate::mesh::Expected;
use crate::mesh::index::Objects;
use crate::mesh::object::kube::SliceEndpoint;
use crate::mesh::object::read::{At, Reading, selects};
use crate::mesh::object::{EndpointSlice, MeshConfig, Meta, PodSpec, Service, ServiceType};
use crate::mesh::options::{IstioVersion, Rules};
use crate::mesh::reach::target_port;
use crate::name::printable;
use crate::verdict::{Mark, Step};

pub(crate) use plan::Plan;

/// Mesh settings that an object declares.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The object.
    pub(crate) by: ObjectRef,
    /// Its MeshConfig, as the ConfigMap would have it.
    pub(crate) mesh: Value,
    /// Where the keys of the MeshConfig stand in the object, for those that do not stand below `below`.
    pub(crate) places: Vec<(ArcStr, ArcStr)>,
    /// The field that holds the others.
    pub(crate) below: ArcStr,
    /// The namespace of istiod.
    pub(crate) root: ArcStr,
    /// The release.
    pub(crate) version: Option<IstioVersion>,
    /// istiod's environment.
    pub(crate) env: Vec<(ArcStr, ArcStr)>,
    /// It installs istiod, and does not only add gateways to it.
    pub(crate) installs: bool,
}

impl Settings {
    /// Sets istiod's switches.
    pub(crate) fn switch(&self, rules: &mut Rules) {
        for (name, value) in &self.env {
            match value.to_ascii_lowercase().as_str() {
                "true" | "1" | "t" => rules.set(name, true),
                "false" | "0" | "f" => rules.set(name, false),
                _ => continue,
            };
        }
    }
}

/// A gateway that an object declares.
#[derive(Debug, Clone)]
pub(crate) struct Declaration {
    /// The object.
    pub(crate) by: ObjectRef,
    /// Its field that says which ports the Service has.
    pub(crate) ports: ArcStr,
    /// Its field that says which labels the pods have.
    pub(crate) labels: ArcStr,
    /// The Service that it leads to, as a manifest; `None` where it leads to none.
    pub(crate) service: Option<Value>,
    /// One of its pods, as a manifest.
    pub(crate) pod: Value,
    /// It has pods.
    pub(crate) runs: bool,
    /// Nobody asked for it by name: a profile has it.
    pub(crate) implied: bool,
}

/// What objects declare, as they are read.
#[derive(Debug, Default, Clone)]
pub(crate) struct Declared {
    pub(crate) settings: Vec<Settings>,
    pub(crate) gateways: Vec<Declaration>,
}

/// The object behind a Service or Pod that nobody saw.
#[derive(Debug, Clone)]
struct Behind {
    by: ObjectRef,
    ports: ArcStr,
    labels: ArcStr,
}

/// What stands in the place of Services and Pods that are not known.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    /// Services and Pods that are only declared.
    objects: FxHashMap<ObjectRef, Behind>,
    /// Services, real or not, whose pods are only declared.
    fronts: FxHashMap<NamespacedName, Behind>,
}

impl Declared {
    /// Reads an object of a kind that declares something.
    pub(crate) fn read(&mut self, group: &str, object: &ObjectRef, value: &Value, at: &At<'_>) {
        match (group, object.kind.as_str()) {
            ("install.istio.io", "IstioOperator") => operator::read(self, object, value, at),
            ("servicemesh.cisco.com", "IstioMeshGateway") => self.gateways.push(cisco::gateway(object, value)),
            ("servicemesh.cisco.com", "IstioControlPlane") => self.settings.push(cisco::control_plane(object, value)),
            ("sailoperator.io" | "operator.istio.io", "Istio" | "IstioRevision") => {
                self.settings.push(openshift::istio(object, value));
            }
            ("maistra.io", "ServiceMeshControlPlane") => openshift::control_plane(self, object, value),
            ("apps", "Deployment" | "DaemonSet" | "StatefulSet") => {
                self.gateways.extend(workload::gateway(object, value));
            }
            _ => {}
        }
    }

    /// Forgets an object.
    pub(crate) fn remove(&mut self, object: &ObjectRef) {
        self.settings.retain(|s| s.by != *object);
        self.gateways.retain(|g| g.by != *object);
    }

    /// Sorts as a first reading does.
    pub(crate) fn sort(&mut self) {
        self.settings.sort_by(|a, b| a.by.cmp(&b.by));
        self.gateways.sort_by(|a, b| a.by.cmp(&b.by));
    }

    /// The settings that count where there is no ConfigMap: of an object that installs istiod, else of one that has any.
    pub(crate) fn settings(&self) -> Option<&Settings> {
        let installs = self.settings.iter().find(|s| s.installs);
        installs.or_else(|| self.settings.iter().find(|s| s.mesh.as_object().is_some_and(|m| !m.is_empty())))
    }
}

/// An address of what has none.
fn nowhere(number: usize) -> IpAddr {
    let [_, a, b, c] = (number as u32).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(0, a, b, c))
}

/// Puts what is declared in the place of what is not known.
pub(crate) fn complete(objects: &mut Objects) -> (Origins, Option<Settings>) {
    let mut declared = std::mem::take(&mut objects.declared);
    let settings = declared.settings().cloned();
    if objects.configs.is_empty()
        && let Some(settings) = &settings
    {
        objects.configs.push(Arc::new(MeshConfig::declared(settings)));
    }
    declared.gateways.extend(kube_gateway::gateways(&objects.gateway_api));
    let mut origins = Origins::default();
    let mut places = 0;
    let mut next = || {
        places += 1;
        nowhere(places)
    };
    // Services with addresses are those of a cluster: what a profile has stands among them, or was taken away
    if objects.services.iter().any(|s| !s.cluster_ips.is_empty()) {
        declared.gateways.retain(|g| !g.implied);
    }
    // a manifest has no cluster address: the API server gives one
    for service in &mut objects.services {
        if service.cluster_ips.is_empty() && !service.headless && service.kind == ServiceType::ClusterIp {
            Arc::make_mut(service).cluster_ips.push(next());
        }
    }
    for gateway in declared.gateways {
        let behind = Behind { by: gateway.by, ports: gateway.ports, labels: gateway.labels };
        if let Some(mut service) = gateway.service.and_then(|s| made("Service", &s, Service::read)) {
            let known = objects.services.iter().any(|s| s.meta.object == service.meta.object);
            if !known {
                service.cluster_ips.push(next());
                origins.objects.insert(service.meta.object.clone(), behind.clone());
                objects.services.push(Arc::new(service));
            }
        }
        let Some(pod) = made("Pod", &gateway.pod, PodSpec::read).filter(|_| gateway.runs) else { continue };
        origins.add_pod(objects, pod, behind, &mut next);
    }
    (origins, settings)
}

fn made<T>(kind: &str, manifest: &Value, read: impl Fn(Meta, &At<'_>) -> T) -> Option<T> {
    let reading = Reading::default();
    let at = At::root(manifest, &reading);
    let text = |key: &str| manifest["metadata"][key].as_str().map(|t| reading.word(t));
    let object = ObjectRef::new(kind, text("namespace")?, text("name")?);
    Some(read(Meta::read(object, &at), &at))
}

impl Origins {
    /// Adds a declared pod, unless something that runs tells of its gateway.
    fn add_pod(&mut self, objects: &mut Objects, mut pod: PodSpec, behind: Behind, next: &mut impl FnMut() -> IpAddr) {
        let namespace = pod.meta.namespace().clone();
        let fronts: Vec<&Arc<Service>> = objects
            .services
            .iter()
            .filter(|s| *s.meta.namespace() == namespace && !s.selector.is_empty())
            .filter(|s| selects(&s.selector, &pod.meta.labels))
            .collect();
        let has_slice = |s: &&Arc<Service>| {
            let of = |e: &Arc<EndpointSlice>| e.namespace == namespace && e.service == *s.meta.name();
            objects.slices.iter().any(of)
        };
        let runs = |p: &Arc<PodSpec>| {
            *p.meta.namespace() == namespace
                && (p.meta.object == pod.meta.object
                    || fronts.iter().any(|s| selects(&s.selector, &p.meta.labels))
                    || selects(&pod.meta.labels, &p.meta.labels))
        };
        if fronts.iter().any(has_slice) || objects.pods.iter().any(runs) {
            return;
        }
        let ip = next();
        pod.ips = vec![ip];
        let mut slices = Vec::new();
        for service in fronts {
            slices.push(Arc::new(EndpointSlice {
                object: ObjectRef::new("EndpointSlice", namespace.clone(), service.meta.name().clone()),
                mirrored: false,
                namespace: namespace.clone(),
                service: service.meta.name().clone(),
                ports: service.ports.iter().filter_map(|p| Some((p.name.clone(), target_port(&pod, p)?))).collect(),
                endpoints: vec![SliceEndpoint { address: ip, ready: true, pod: Some(pod.meta.name().clone()) }],
            }));
            let front = NamespacedName::new(namespace.clone(), service.meta.name().clone());
            self.fronts.insert(front, behind.clone());
        }
        self.objects.insert(pod.meta.object.clone(), behind);
        objects.slices.extend(slices);
        objects.pods.push(Arc::new(pod));
    }

    /// Names the objects behind what is only declared.
    pub(crate) fn tell(&self, out: &mut Expected) {
        if self.objects.is_empty() {
            return;
        }
        let gateway = out.gateway.as_ref().and_then(|g| self.fronts.get(g).map(|b| (g, b)));
        for step in &mut out.because {
            let Some(behind) = step.object.as_ref().and_then(|o| self.objects.get(o)) else { continue };
            let ports = step.field.as_ref().is_some_and(|f| f.starts_with(".spec.ports"));
            step.field = Some(if ports { behind.ports.clone() } else { behind.labels.clone() });
            step.object = Some(behind.by.clone());
        }
        if let Some((gateway, behind)) = gateway {
            let says = format!("no Pod of {gateway} is known: its pods are what {} declares", behind.by);
            let place = out.because.len().saturating_sub(1);
            let step = Step::new("gateway", Mark::Ok, says).by(behind.by.clone(), behind.labels.clone());
            out.because.insert(place, step);
        }
        for miss in &mut out.misses {
            if let Some(behind) = self.objects.get(&miss.object) {
                miss.field = behind.ports.clone();
                miss.object = behind.by.clone();
            }
        }
        if let Some(leg2) = &mut out.leg2 {
            self.tell(leg2);
        }
    }
}

/// Text at a path of keys.
pub(crate) fn text(value: &Value, pointer: &str) -> Option<ArcStr> {
    match value.pointer(pointer)? {
        Value::String(text) if !text.is_empty() => Some(printable(text).into()),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

/// Texts of an object, sorted by key.
pub(crate) fn texts(value: Option<&Value>) -> Vec<(ArcStr, ArcStr)> {
    let of = |v: &Value| match v {
        Value::String(text) => Some(printable(text).into()),
        Value::Bool(b) => Some(b.to_string().into()),
        Value::Number(n) => Some(n.to_string().into()),
        _ => None,
    };
    let mut out: Vec<(ArcStr, ArcStr)> = value
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(k, v)| Some((printable(k).into(), of(v)?)))
        .collect();
    out.sort();
    out
}
