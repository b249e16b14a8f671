//! The mesh: every object that decides where an outbound connection goes, compiled, indexed and immutable.
//!
//! [`Mesh::expect`] answers, for one connection, what Istio's configuration says must happen, with the objects and
//! fields that decide it. It never looks at what was seen; that is compared in [`crate::verdict`].

pub mod call;
pub mod expected;
pub mod pod;

pub use call::{Bytes, Call, CallLeg};
pub use expected::{Certainty, Entry, Expected, Match, Miss, Next, NextKind, Outcome, Owner, Registration, Uncaptured};
pub use pod::{Container, ContainerRole, Pod, PodIndex, ProxyKind};

use std::net::{IpAddr, SocketAddr};

use crate::id::NamespacedName;
use crate::verdict::Step;

/// All objects at one moment.
#[derive(Debug, Default)]
pub struct Mesh {
    pods: Vec<Pod>,
}

/// What an address inside the cluster belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InCluster {
    /// The object; `None` for loopback and link-local.
    pub object: Option<crate::id::ObjectRef>,
    /// `pod`, `service`, `node`, `api-server`, `dns`, `loopback`.
    pub what: &'static str,
}

impl Mesh {
    /// The pod at this index.
    pub fn pod(&self, index: PodIndex) -> &Pod {
        &self.pods[index.0 as usize]
    }

    /// The pod with this `metadata.uid`.
    pub fn pod_by_uid(&self, _uid: &str) -> Option<PodIndex> {
        None
    }

    /// The pod that has this address (never one of hostNetwork).
    pub fn pod_by_ip(&self, _ip: IpAddr) -> Option<PodIndex> {
        None
    }

    /// Node objects.
    pub fn node_count(&self) -> usize {
        0
    }

    /// Every pod.
    pub fn pods(&self) -> impl Iterator<Item = PodIndex> + '_ {
        (0..self.pods.len() as u32).map(PodIndex)
    }

    /// Whose address this is, if it is inside the cluster.
    pub fn in_cluster(&self, _ip: IpAddr, _port: u16) -> Option<InCluster> {
        None
    }

    /// The Service in front of this gateway (or waypoint) pod; `None` for other pods.
    pub fn gateway_of_pod(&self, _pod: PodIndex) -> Option<NamespacedName> {
        None
    }

    /// The route of this gateway's (or waypoint's) pod that leads to `to`, if any does: by endpoint address, or by `name`
    /// (what the proxy resolved or the server name in the bytes) and port.
    pub fn gateway_permits(&self, _pod: PodIndex, _to: SocketAddr, _name: Option<&str>) -> Option<Step> {
        None
    }

    /// An address of the control plane (istiod's Services and pods).
    pub fn is_control_plane(&self, _ip: IpAddr, _port: u16) -> bool {
        false
    }

    /// What Istio's configuration says must happen to this connection.
    pub fn expect(&self, _call: &Call<'_>) -> Expected {
        Expected::unknown("not built yet")
    }
}
