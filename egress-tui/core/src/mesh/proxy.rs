//! One proxy, or all that are alike: its scope, and what istiod programs into it, compiled port by port when first asked for.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock, RwLock};

use arcstr::ArcStr;
use rustc_hash::FxHashMap;

use crate::mesh::gateway::MergedGateway;
use crate::mesh::index::Index;
use crate::mesh::listener::PortListeners;
use crate::mesh::object::PolicyMode;
use crate::mesh::object::read::Labels;
use crate::mesh::registry::{Address, Upstream};
use crate::mesh::route::PortRoutes;
use crate::mesh::scope::Scope;

/// Sidecar or gateway; waypoints are a kind of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Sidecar,
    Gateway,
}

/// What makes two proxies alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ProxyKey {
    pub(crate) namespace: ArcStr,
    pub(crate) role: Role,
    pub(crate) sidecar: Option<u32>,
    /// Labels that any selector asks for.
    pub(crate) labels: Labels,
    /// Uses addresses that istiod allocates.
    pub(crate) allocated: bool,
    /// Has only IPv6 addresses.
    pub(crate) ipv6: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) key: ProxyKey,
    pub(crate) scope: Arc<Scope>,
    /// EnvoyFilters that may have changed its configuration: indexes.
    pub(crate) filters: Vec<u32>,
    listeners: RwLock<FxHashMap<u16, Arc<PortListeners>>>,
    routes: RwLock<FxHashMap<u16, Arc<PortRoutes>>>,
    pub(crate) gateway: OnceLock<Option<MergedGateway>>,
}

impl Proxy {
    pub(crate) fn new(index: &Index, key: ProxyKey, scope: Arc<Scope>) -> Self {
        let applies = |f: &crate::mesh::object::policy::EnvoyFilter| {
            let here = f.meta.namespace() == &key.namespace || *f.meta.namespace() == index.config.root_namespace;
            let role = if key.role == Role::Sidecar { f.sidecars } else { f.gateways };
            here && role && crate::mesh::object::read::selects(&f.selector, &key.labels)
        };
        let filters = (0u32..).zip(&index.envoy_filters).filter(|(_, f)| applies(f)).map(|(n, _)| n).collect();
        Self { key, scope, filters, listeners: RwLock::default(), routes: RwLock::default(), gateway: OnceLock::new() }
    }

    pub(crate) fn namespace(&self) -> &ArcStr {
        &self.key.namespace
    }

    /// The address that this proxy binds for an upstream.
    pub(crate) fn address(&self, upstream: &Upstream) -> Address {
        upstream.address_for(self.key.allocated)
    }

    /// Addresses by which it knows an upstream (`GetAllAddressesForProxy`).
    pub(crate) fn addresses(&self, upstream: &Upstream) -> Vec<IpAddr> {
        if !upstream.cluster_ips.is_empty() {
            let family = |ip: &&IpAddr| ip.is_ipv6() == self.key.ipv6;
            return upstream.cluster_ips.iter().filter(family).copied().collect();
        }
        match upstream.address {
            Address::Any if self.key.allocated => upstream.allocated.clone(),
            Address::Ip(ip) => vec![ip],
            Address::Any | Address::Cidr(_) => Vec::new(),
        }
    }

    pub(crate) fn mode(&self) -> PolicyMode {
        self.scope.policy.mode
    }

    /// Its listeners on a port.
    pub(crate) fn listeners(&self, index: &Index, port: u16) -> Arc<PortListeners> {
        cached(&self.listeners, port, || PortListeners::new(index, self, port))
    }

    /// Its route table of a port.
    pub(crate) fn routes(&self, index: &Index, port: u16) -> Arc<PortRoutes> {
        cached(&self.routes, port, || PortRoutes::new(index, self, port))
    }
}

fn cached<T>(cache: &RwLock<FxHashMap<u16, Arc<T>>>, port: u16, make: impl FnOnce() -> T) -> Arc<T> {
    // a poisoned lock only means that another thread panicked; the map itself is whole
    let known = cache.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(&port).cloned();
    known.unwrap_or_else(|| {
        let fresh = Arc::new(make());
        let mut map = cache.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        map.entry(port).or_insert(fresh).clone()
    })
}
