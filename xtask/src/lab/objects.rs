//! The Kubernetes objects of a scenario, as far as they say what the node must look like: pods with their addresses,
//! cgroups and annotations, the Node, Services with their endpoints. One source for the node and for the program.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Map, Number, Value};

/// uid and gid of the proxy in every pod.
pub(crate) const PROXY_ID: u32 = 1337;

/// Every object below `mesh/`, in the order of the files.
pub(crate) struct Objects(Vec<Value>);

/// A pod that runs on the node.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    /// `metadata.namespace`.
    pub(crate) namespace: String,
    /// `metadata.name`.
    pub(crate) name: String,
    /// `metadata.uid`.
    pub(crate) uid: String,
    /// `status.podIP`.
    pub(crate) ip: Ipv4Addr,
    /// `status.qosClass`, which decides the slice.
    pub(crate) qos: String,
    /// `spec.serviceAccountName`.
    pub(crate) service_account: String,
    /// `spec.hostNetwork`: no network namespace of its own, nothing intercepted.
    pub(crate) host_network: bool,
    /// Annotations.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Container ids without the runtime's prefix, by the container's name; init containers too.
    pub(crate) containers: BTreeMap<String, String>,
    /// What the container `istio-proxy` runs.
    pub(crate) proxy: Option<Proxy>,
}

/// The sort of proxy in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// Takes the pod's outbound connections.
    Sidecar,
    /// A gateway: nothing is redirected.
    Router,
    /// Takes tunnels of ambient pods; nothing is redirected.
    Waypoint,
    /// Serves the node's ambient pods.
    Ztunnel,
}

impl Proxy {
    /// An Envoy with what istiod generated for it.
    pub(crate) fn is_envoy(self) -> bool {
        matches!(self, Self::Sidecar | Self::Router)
    }
}

impl Pod {
    /// The CNI agent redirected it to ztunnel.
    pub(crate) fn is_ambient(&self) -> bool {
        self.annotations.get("ambient.istio.io/redirection").is_some_and(|v| v == "enabled")
    }

    /// `namespace/name`.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// The machine.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// `metadata.name`.
    pub(crate) name: String,
    /// Its InternalIP.
    pub(crate) address: Ipv4Addr,
    /// `spec.podCIDR`; its first address is the node's end of every pod's link.
    pub(crate) pod_cidr: String,
    /// The first address of [`Node::pod_cidr`].
    pub(crate) pod_gateway: Ipv4Addr,
}

/// A Service with a cluster address.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// `metadata.namespace`.
    pub(crate) namespace: String,
    /// `metadata.name`.
    pub(crate) name: String,
    /// `spec.clusterIP`.
    pub(crate) address: Ipv4Addr,
    /// Its ports.
    pub(crate) ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Debug, Clone)]
pub(crate) struct ServicePort {
    /// `tcp` or `udp`.
    pub(crate) protocol: String,
    /// The port of the cluster address.
    pub(crate) port: u16,
    /// What kube-proxy would choose from.
    pub(crate) endpoints: Vec<(Ipv4Addr, u16)>,
}

impl Objects {
    /// Reads every `*.yaml` and `*.json` file of the folder.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .with_context(|| format!("{}", folder.display()))?
            .map(|entry| entry.map(|e| e.path()))
            .collect::<Result<_, _>>()?;
        files.retain(|f| f.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json"));
        files.sort();
        let mut all = Vec::new();
        for file in files {
            let text = fs::read_to_string(&file)?;
            let documents = Yaml::load_from_str(&text).map_err(|e| anyhow!("{}: {e}", file.display()))?;
            for document in documents {
                match json(&document) {
                    Value::Object(mut list) if list.get("kind").is_some_and(|k| k == "List") => {
                        if let Some(Value::Array(items)) = list.remove("items") {
                            all.extend(items);
                        }
                    }
                    Value::Object(object) => all.push(Value::Object(object)),
                    _ => {}
                }
            }
        }
        Ok(Self(all))
    }

    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |o| o["kind"] == *kind)
    }

    /// The one Node.
    pub(crate) fn node(&self) -> Result<Node> {
        let node = self.of("Node").next().context("the mesh has no Node object")?;
        let address = list(&node["status"]["addresses"])
            .iter()
            .find(|a| a["type"] == "InternalIP")
            .and_then(|a| text(&a["address"]))
            .context("the Node has no InternalIP")?;
        let pod_cidr = text(&node["spec"]["podCIDR"]).context("the Node has no spec.podCIDR")?;
        let base: Ipv4Addr = pod_cidr.split('/').next().unwrap_or_default().parse().context("spec.podCIDR")?;
        Ok(Node {
            name: text(&node["metadata"]["name"]).context("the Node has no name")?,
            address: address.parse()?,
            pod_gateway: Ipv4Addr::from(u32::from(base) + 1),
            pod_cidr,
        })
    }

    /// Every pod that runs on `node`.
    pub(crate) fn pods(&self, node: &str) -> Result<Vec<Pod>> {
        self.of("Pod").filter(|p| p["spec"]["nodeName"] == *node).map(pod).collect()
    }

    /// Every Service with a cluster address.
    pub(crate) fn services(&self) -> Vec<Service> {
        self.of("Service").filter_map(|s| self.service(s)).collect()
    }

    fn service(&self, service: &Value) -> Option<Service> {
        let namespace = text(&service["metadata"]["namespace"])?;
        let name = text(&service["metadata"]["name"])?;
        let slices: Vec<&Value> = self
            .of("EndpointSlice")
            .filter(|s| {
                s["metadata"]["namespace"] == *namespace
                    && s["metadata"]["labels"]["kubernetes.io/service-name"] == *name
            })
            .collect();
        let mut ports = Vec::new();
        for port in list(&service["spec"]["ports"]) {
            let endpoints = slices.iter().flat_map(|s| endpoints(s, &port["name"])).collect();
            let protocol = text(&port["protocol"]).unwrap_or_else(|| "TCP".to_owned()).to_lowercase();
            ports.push(ServicePort { protocol, port: number(&port["port"])?, endpoints });
        }
        Some(Service { address: text(&service["spec"]["clusterIP"])?.parse().ok()?, namespace, name, ports })
    }
}

fn endpoints(slice: &Value, port: &Value) -> Vec<(Ipv4Addr, u16)> {
    let Some(number) = list(&slice["ports"]).iter().find(|p| p["name"] == *port).and_then(|p| number(&p["port"]))
    else {
        return Vec::new();
    };
    list(&slice["endpoints"])
        .iter()
        .flat_map(|e| list(&e["addresses"]))
        .filter_map(|a| text(a)?.parse().ok())
        .map(|address| (address, number))
        .collect()
}

fn pod(pod: &Value) -> Result<Pod> {
    let name = text(&pod["metadata"]["name"]).context("a Pod without a name")?;
    let field = |value: &Value, what: &str| text(value).with_context(|| format!("Pod {name} has no {what}"));
    let mut containers = BTreeMap::new();
    for statuses in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        for status in list(&pod["status"][statuses]) {
            let id = field(&status["containerID"], "containerID")?;
            let id = id.split_once("://").map_or(id.as_str(), |(_, id)| id).to_owned();
            containers.insert(field(&status["name"], "name of a container")?, id);
        }
    }
    let proxy = list(&pod["spec"]["containers"])
        .iter()
        .chain(list(&pod["spec"]["initContainers"]))
        .find(|c| c["name"] == "istio-proxy")
        .map(|c| match list(&c["args"]).get(1).and_then(Value::as_str) {
            Some("sidecar") => Ok(Proxy::Sidecar),
            Some("router") => Ok(Proxy::Router),
            Some("waypoint") => Ok(Proxy::Waypoint),
            Some("ztunnel") => Ok(Proxy::Ztunnel),
            other => bail!("Pod {name}: istio-proxy runs {other:?}"),
        })
        .transpose()?;
    Ok(Pod {
        namespace: field(&pod["metadata"]["namespace"], "namespace")?,
        uid: field(&pod["metadata"]["uid"], "uid")?,
        ip: field(&pod["status"]["podIP"], "status.podIP")?.parse()?,
        qos: text(&pod["status"]["qosClass"]).unwrap_or_else(|| "BestEffort".to_owned()),
        service_account: text(&pod["spec"]["serviceAccountName"]).unwrap_or_else(|| "default".to_owned()),
        host_network: pod["spec"]["hostNetwork"] == true,
        annotations: strings(&pod["metadata"]["annotations"]),
        containers,
        proxy,
        name,
    })
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|n| u16::try_from(n).ok())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn strings(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(k, v)| Some((k.clone(), text(v)?))).collect()
}

fn json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Boolean(b)) => Value::Bool(*b),
        Yaml::Value(Scalar::Integer(i)) => Value::Number((*i).into()),
        Yaml::Value(Scalar::FloatingPoint(f)) => Number::from_f64(f.into_inner()).map_or(Value::Null, Value::Number),
        Yaml::Value(Scalar::String(s)) => Value::String(s.to_string()),
        Yaml::Sequence(items) => Value::Array(items.iter().map(json).collect()),
        Yaml::Mapping(pairs) => {
            let mut object = Map::new();
            for (key, value) in pairs {
                if let Some(key) = key.as_str() {
                    object.insert(key.to_owned(), json(value));
                }
            }
            Value::Object(object)
        }
        Yaml::Tagged(_, inner) => json(inner),
        Yaml::Value(Scalar::Null) | Yaml::Representation(..) | Yaml::Alias(_) | Yaml::BadValue => Value::Null,
    }
}
