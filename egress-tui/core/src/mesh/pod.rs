//! Pods, as far as attribution and interception need them.

use std::net::IpAddr;

use arcstr::ArcStr;

use crate::id::{NamespacedName, ObjectRef};

/// A pod of one [`crate::mesh::Mesh`]; means nothing in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodIndex(pub u32);

/// What stands between the pod's application and the network (semantics §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyKind {
    /// hostNetwork.
    Host,
    /// istio-proxy as router.
    Gateway,
    /// istio-proxy as waypoint.
    Waypoint,
    /// istio-proxy as sidecar.
    Sidecar,
    /// Redirected to ztunnel.
    Ambient,
    /// ztunnel or istio-cni itself.
    Ztunnel,
    /// gRPC without a proxy.
    Proxyless,
    /// Nothing.
    None,
}

/// What a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContainerRole {
    /// The application.
    App,
    /// The proxy's (`istio-proxy`), native sidecars included.
    Proxy,
    /// An init container, not the proxy.
    Init,
}

/// One container of a pod.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its name.
    pub name: ArcStr,
    /// Its id without the runtime's prefix, once it runs.
    pub id: Option<ArcStr>,
    /// What it is.
    pub role: ContainerRole,
    /// `securityContext.runAsUser`, its own or the pod's.
    pub run_as_user: Option<u32>,
}

/// A pod.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its name.
    pub name: NamespacedName,
    /// `metadata.uid`.
    pub uid: ArcStr,
    /// `status.podIPs`.
    pub ips: Vec<IpAddr>,
    /// `spec.nodeName`.
    pub node: ArcStr,
    /// Labels, sorted by key.
    pub labels: Vec<(ArcStr, ArcStr)>,
    /// Annotations, sorted by key.
    pub annotations: Vec<(ArcStr, ArcStr)>,
    /// `spec.serviceAccountName`.
    pub service_account: ArcStr,
    /// The controller that made it (Deployment from a ReplicaSet's name and pod-template-hash), or the pod itself.
    pub workload: ObjectRef,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// What stands between it and the network.
    pub proxy: ProxyKind,
    /// Namespace or pod ask for a proxy (injection label, revision, dataplane mode), whether or not there is one.
    pub enrolled: bool,
    /// Its containers, init containers first.
    pub containers: Vec<Container>,
    /// The pod as an object reference.
    pub object: ObjectRef,
}

impl Pod {
    /// The container with this id (64 hex digits).
    pub fn container_by_id(&self, id: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.id.as_deref() == Some(id))
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&ArcStr> {
        self.labels.binary_search_by(|(k, _)| k.as_str().cmp(key)).ok().map(|i| &self.labels[i].1)
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&ArcStr> {
        self.annotations.binary_search_by(|(k, _)| k.as_str().cmp(key)).ok().map(|i| &self.annotations[i].1)
    }
}
