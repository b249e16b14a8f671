//! Services, EndpointSlices, Endpoints, Namespaces, Nodes, Pods.

use std::net::IpAddr;

use arcstr::ArcStr;
use ipnet::IpNet;

use crate::id::ObjectRef;
use crate::mesh::object::Meta;
use crate::mesh::object::read::{At, Labels};
use crate::mesh::protocol::Protocol;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServiceType {
    ClusterIp,
    ExternalName,
}

#[derive(Debug, Clone)]
pub(crate) struct ServicePort {
    pub(crate) number: u16,
    pub(crate) name: ArcStr,
    pub(crate) protocol: Protocol,
    /// Number, or the name of a container's port.
    pub(crate) target: Result<u16, ArcStr>,
    pub(crate) transport: ArcStr,
}

#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) meta: Meta,
    pub(crate) kind: ServiceType,
    pub(crate) external_name: ArcStr,
    pub(crate) headless: bool,
    pub(crate) cluster_ips: Vec<IpAddr>,
    pub(crate) selector: Labels,
    pub(crate) ports: Vec<ServicePort>,
    pub(crate) export_to: Option<Vec<ArcStr>>,
}

impl Service {
    pub(crate) fn read(meta: Meta, at: &At<'_>) -> Self {
        let export =
            at.key("metadata", |m| m.key("annotations", |a| a.key("networking.istio.io/exportTo", |e| e.string())));
        at.key("spec", |s| {
            let cluster_ip = s.key("clusterIP", |c| c.text());
            let external_name = s.key("externalName", |e| e.text());
            let external = s.key("type", |t| t.text()) == "ExternalName" && !external_name.is_empty();
            // Istio reads clusterIP, and clusterIPs only where they are several (kube.ConvertService)
            let mut cluster_ips: Vec<IpAddr> =
                s.key("clusterIPs", |c| c.strings()).iter().filter_map(|c| c.parse().ok()).collect();
            if cluster_ips.len() < 2 {
                cluster_ips = cluster_ip.parse().into_iter().collect();
            }
            Self {
                kind: if external { ServiceType::ExternalName } else { ServiceType::ClusterIp },
                external_name,
                headless: cluster_ip == "None",
                cluster_ips,
                selector: s.key("selector", |l| l.labels()),
                ports: s.key("ports", |p| p.each(Self::port).into_iter().flatten().collect()),
                export_to: export.filter(|e| !e.is_empty()).map(|e| {
                    let mut list: Vec<ArcStr> = e.split(',').map(|n| n.trim().into()).collect();
                    list.sort();
                    list.dedup();
                    list
                }),
                meta,
            }
        })
    }

    fn port(at: At<'_>) -> Option<ServicePort> {
        let number = at.key("port", |p| p.port())?;
        let name = at.key("name", |n| n.text());
        let transport = at.key("protocol", |p| p.string()).unwrap_or_else(|| "TCP".into());
        let app = at.key("appProtocol", |p| p.string());
        Some(ServicePort {
            number,
            protocol: Protocol::of_service_port(number, &name, &transport, app.as_deref()),
            target: at.key("targetPort", |t| t.port_or_name()).filter(|t| *t != Ok(0)).unwrap_or(Ok(number)),
            name,
            transport,
        })
    }
}

/// One address of an endpoint.
#[derive(Debug, Clone)]
pub(crate) struct SliceEndpoint {
    pub(crate) address: IpAddr,
    pub(crate) ready: bool,
    /// The pod that it is, if it is one.
    pub(crate) pod: Option<ArcStr>,
}

/// An EndpointSlice, or one subset of an Endpoints object.
#[derive(Debug, Clone)]
pub(crate) struct EndpointSlice {
    pub(crate) object: ObjectRef,
    /// Of an Endpoints object, which Kubernetes mirrors into slices: where those are known, they count.
    pub(crate) mirrored: bool,
    /// The Service's namespace and name.
    pub(crate) namespace: ArcStr,
    pub(crate) service: ArcStr,
    pub(crate) ports: Vec<(ArcStr, u16)>,
    pub(crate) endpoints: Vec<SliceEndpoint>,
}

impl EndpointSlice {
    pub(crate) fn read(meta: &Meta, at: &At<'_>) -> Option<Self> {
        let service = meta.label("kubernetes.io/service-name").filter(|s| !s.is_empty())?;
        Some(Self {
            object: meta.object.clone(),
            mirrored: false,
            namespace: meta.namespace().clone(),
            service: service.clone(),
            ports: at
                .key("ports", |p| p.each(|p| (p.key("name", |n| n.text()), p.key("port", |n| n.port()).unwrap_or(0)))),
            endpoints: at.key("endpoints", |e| {
                let mut out = Vec::new();
                e.each(|e| {
                    let ready = e.key("conditions", |c| c.key("ready", |r| r.bool())).unwrap_or(true);
                    let pod = target_pod(&e);
                    let addresses = e.key("addresses", |a| a.strings());
                    let parsed = addresses.iter().filter_map(|a| a.parse().ok());
                    out.extend(parsed.map(|address| SliceEndpoint { address, ready, pod: pod.clone() }));
                });
                out.shrink_to_fit();
                out
            }),
        })
    }

    /// The subsets of an Endpoints object.
    pub(crate) fn read_endpoints(meta: &Meta, at: &At<'_>) -> Vec<Self> {
        at.key("subsets", |s| {
            s.each(|s| {
                let list = |key: &str, ready: bool| {
                    s.key(key, |a| {
                        let one = |a: At<'_>| {
                            let address = a.key("ip", |i| i.text()).parse().ok()?;
                            Some(SliceEndpoint { address, ready, pod: target_pod(&a) })
                        };
                        a.each(one).into_iter().flatten().collect::<Vec<_>>()
                    })
                };
                let mut endpoints = list("addresses", true);
                endpoints.extend(list("notReadyAddresses", false));
                Self {
                    object: meta.object.clone(),
                    mirrored: true,
                    namespace: meta.namespace().clone(),
                    service: meta.name().clone(),
                    ports: s.key("ports", |p| {
                        p.each(|p| (p.key("name", |n| n.text()), p.key("port", |n| n.port()).unwrap_or(0)))
                    }),
                    endpoints,
                }
            })
        })
    }
}

fn target_pod(at: &At<'_>) -> Option<ArcStr> {
    at.key("targetRef", |t| (t.key("kind", |k| k.text()) == "Pod").then(|| t.key("name", |n| n.text())))
}

#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    pub(crate) meta: Meta,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) meta: Meta,
    pub(crate) addresses: Vec<IpAddr>,
    /// Addresses that its pods get, where the network takes them from here (Node.spec.podCIDRs).
    pub(crate) pod_networks: Vec<IpNet>,
}

impl Node {
    pub(crate) fn read(meta: Meta, at: &At<'_>) -> Self {
        let addresses = at.key("status", |s| s.key("addresses", |a| a.each(|a| a.key("address", |x| x.text()))));
        let networks = at.key("spec", |s| {
            let mut list = s.key("podCIDRs", |l| l.strings());
            list.extend(s.key("podCIDR", |c| c.string()).filter(|one| !list.contains(one)));
            list
        });
        Self {
            meta,
            addresses: addresses.iter().filter_map(|a| a.parse().ok()).collect(),
            // A network of all addresses would make everything a pod.
            pod_networks: networks
                .iter()
                .filter_map(|n| n.parse().ok())
                .filter(|n: &IpNet| n.prefix_len() >= 8)
                .collect(),
        }
    }
}

/// A container as the pod's spec writes it.
#[derive(Debug, Clone)]
pub(crate) struct ContainerSpec {
    pub(crate) path: ArcStr,
    pub(crate) name: ArcStr,
    pub(crate) image: ArcStr,
    pub(crate) args: Vec<ArcStr>,
    pub(crate) env: Vec<(ArcStr, ArcStr)>,
    pub(crate) ports: Vec<(ArcStr, u16, ArcStr)>,
    pub(crate) run_as_user: Option<u32>,
    pub(crate) run_as_group: Option<u32>,
    pub(crate) always_restarts: bool,
    pub(crate) init: bool,
}

/// A pod as it was written; [`crate::mesh::Pod`] is made from it.
#[derive(Debug, Clone)]
pub(crate) struct PodSpec {
    pub(crate) meta: Meta,
    pub(crate) uid: ArcStr,
    pub(crate) annotations: Labels,
    pub(crate) owner: Option<(ArcStr, ArcStr)>,
    pub(crate) host_network: bool,
    pub(crate) node: ArcStr,
    pub(crate) service_account: ArcStr,
    pub(crate) run_as_user: Option<u32>,
    pub(crate) run_as_group: Option<u32>,
    /// Init containers first.
    pub(crate) containers: Vec<ContainerSpec>,
    pub(crate) ips: Vec<IpAddr>,
    /// Container name and id.
    pub(crate) ids: Vec<(ArcStr, ArcStr)>,
    pub(crate) phase: ArcStr,
}

impl PodSpec {
    pub(crate) fn read(meta: Meta, at: &At<'_>) -> Self {
        let user = |c: &At<'_>, key: &str| c.key("securityContext", |s| s.key(key, |u| u.number())).map(|u| u as u32);
        let (uid, annotations, owner) = at.key("metadata", |m| {
            let owners = m.key("ownerReferences", |o| {
                o.each(|o| {
                    (
                        o.key("controller", |c| c.bool()) == Some(true),
                        o.key("kind", |k| k.text()),
                        o.key("name", |n| n.text()),
                    )
                })
            });
            let owner =
                owners.into_iter().max_by_key(|(controller, ..)| *controller).map(|(_, kind, name)| (kind, name));
            (m.key("uid", |u| u.text()), m.key("annotations", |a| a.labels()), owner)
        });
        let (ips, ids, phase) = at.key("status", |s| {
            let mut ips: Vec<IpAddr> = s
                .key("podIPs", |l| l.each(|i| i.key("ip", |i| i.text())))
                .iter()
                .filter_map(|i| i.parse().ok())
                .collect();
            if let Ok(ip) = s.key("podIP", |i| i.text()).parse()
                && !ips.contains(&ip)
            {
                ips.insert(0, ip);
            }
            let id = |c: At<'_>| (c.key("name", |n| n.text()), c.key("containerID", |i| i.text()));
            let mut ids = s.key("initContainerStatuses", |l| l.each(id));
            ids.extend(s.key("containerStatuses", |l| l.each(id)));
            ids.extend(s.key("ephemeralContainerStatuses", |l| l.each(id)));
            (ips, ids, s.key("phase", |p| p.text()))
        });
        at.key("spec", |s| {
            let container = |c: At<'_>, init: bool| ContainerSpec {
                path: c.path(),
                name: c.key("name", |n| n.text()),
                image: c.key("image", |i| i.text()),
                args: c.key("args", |a| a.strings()),
                env: c.key("env", |e| e.each(|e| (e.key("name", |n| n.text()), e.key("value", |v| v.text())))),
                ports: c.key("ports", |p| {
                    p.each(|p| {
                        let transport = p.key("protocol", |t| t.string()).unwrap_or_else(|| "TCP".into());
                        (p.key("name", |n| n.text()), p.key("containerPort", |n| n.port()).unwrap_or(0), transport)
                    })
                }),
                run_as_user: user(&c, "runAsUser"),
                run_as_group: user(&c, "runAsGroup"),
                always_restarts: c.key("restartPolicy", |r| r.text()) == "Always",
                init,
            };
            let mut containers = s.key("initContainers", |l| l.each(|c| container(c, true)));
            containers.extend(s.key("containers", |l| l.each(|c| container(c, false))));
            containers.extend(s.key("ephemeralContainers", |l| l.each(|c| container(c, false))));
            Self {
                uid,
                annotations,
                owner,
                host_network: s.key("hostNetwork", |h| h.bool()).unwrap_or(false),
                node: s.key("nodeName", |n| n.text()),
                service_account: s.key("serviceAccountName", |n| n.text()),
                run_as_user: user(&s, "runAsUser"),
                run_as_group: user(&s, "runAsGroup"),
                containers,
                ips,
                ids,
                phase,
                meta,
            }
        })
    }
}

impl PodSpec {
    /// The container that runs the proxy.
    pub(crate) fn proxy_container(&self) -> Option<&ContainerSpec> {
        self.containers.iter().find(|c| c.name == "istio-proxy")
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&ArcStr> {
        crate::mesh::object::read::label(&self.annotations, key)
    }

    /// The revision of the istiod that its proxy is attached to.
    pub(crate) fn revision(&self) -> Option<ArcStr> {
        if let Some(revision) = self.annotation("istio.io/rev") {
            return Some(revision.clone());
        }
        let status = self.annotation("sidecar.istio.io/status")?;
        let status: serde_json::Value = serde_json::from_str(status).ok()?;
        Some(status.get("revision")?.as_str()?.into())
    }
}
