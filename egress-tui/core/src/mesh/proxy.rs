//! One proxy, or all that are alike: its scope, and what istiod programs into it, compiled port by port when first asked for.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use arcstr::ArcStr;

use crate::mesh::gateway::MergedGateway;
use crate::mesh::index::Index;
use crate::mesh::listener::PortListeners;
use crate::mesh::object::PolicyMode;
use crate::mesh::object::policy::{EnvoyFilter, EnvoyPatch};
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
    /// The release of the proxy as its image says, where some EnvoyFilter asks for it.
    pub(crate) version: Option<ArcStr>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) key: ProxyKey,
    pub(crate) scope: Arc<Scope>,
    /// EnvoyFilters that may have changed its configuration, with those of their patches that apply.
    pub(crate) filters: Vec<(u32, Vec<u32>)>,
    /// AuthorizationPolicies that a gateway applies to what arrives.
    pub(crate) policies: Vec<u32>,
    /// What it has on each port of its scope, compiled when first asked for.
    ports: Box<[OnPort]>,
    /// What it has on every other port: nothing.
    no_listeners: PortListeners,
    no_routes: OnceLock<PortRoutes>,
    pub(crate) gateway: OnceLock<Option<MergedGateway>>,
}

/// See [`Proxy::listeners`] and [`Proxy::routes`].
#[derive(Debug, Default)]
struct OnPort {
    listeners: OnceLock<PortListeners>,
    routes: OnceLock<PortRoutes>,
}

impl Proxy {
    pub(crate) fn new(index: &Index, key: ProxyKey, scope: Arc<Scope>) -> Self {
        let filters = (0u32..).zip(&index.envoy_filters).filter_map(|(n, f)| {
            let patches = applying(index, &key, f);
            (!patches.is_empty()).then_some((n, patches))
        });
        let filters = filters.collect();
        let policies = match key.role {
            Role::Gateway => index.policies_for(&key.namespace, &key.labels),
            Role::Sidecar => Vec::new(),
        };
        Self {
            ports: scope.ports.iter().map(|_| OnPort::default()).collect(),
            no_listeners: PortListeners::default(),
            no_routes: OnceLock::new(),
            key,
            scope,
            filters,
            policies,
            gateway: OnceLock::new(),
        }
    }

    pub(crate) fn namespace(&self) -> &ArcStr {
        &self.key.namespace
    }

    /// The address that this proxy binds for an upstream.
    pub(crate) fn address(&self, upstream: &Upstream) -> Address {
        upstream.address_for(self.key.allocated)
    }

    /// Path of the address that this proxy binds.
    pub(crate) fn address_field(&self, upstream: &Upstream) -> ArcStr {
        match (upstream.address, self.address(upstream)) {
            (Address::Any, Address::Ip(own)) => {
                let place = upstream.allocated.iter().find(|(_, a)| *a == own).map_or(0, |(n, _)| *n);
                Upstream::allocated_field(place)
            }
            _ => upstream.address_field(),
        }
    }

    /// Addresses by which it knows an upstream (`GetAllAddressesForProxy`).
    pub(crate) fn addresses(&self, upstream: &Upstream) -> Vec<IpAddr> {
        if !upstream.cluster_ips.is_empty() {
            let family = |ip: &&IpAddr| ip.is_ipv6() == self.key.ipv6;
            return upstream.cluster_ips.iter().filter(family).copied().collect();
        }
        match upstream.address {
            Address::Any if self.key.allocated => upstream.allocated.iter().map(|(_, ip)| *ip).collect(),
            Address::Ip(ip) => vec![ip],
            Address::Any | Address::Cidr(_) => Vec::new(),
        }
    }

    pub(crate) fn mode(&self) -> PolicyMode {
        self.scope.policy.mode
    }

    /// Its listeners on a port.
    pub(crate) fn listeners(&self, index: &Index, port: u16) -> &PortListeners {
        match self.on(port) {
            Some(on) => on.listeners.get_or_init(|| PortListeners::new(index, self, port)),
            None => &self.no_listeners,
        }
    }

    /// Its route table of a port.
    pub(crate) fn routes(&self, index: &Index, port: u16) -> &PortRoutes {
        match self.on(port) {
            Some(on) => on.routes.get_or_init(|| PortRoutes::new(index, self, port)),
            None => self.no_routes.get_or_init(|| PortRoutes::empty(index)),
        }
    }

    fn on(&self, port: u16) -> Option<&OnPort> {
        self.scope.ports.binary_search(&port).ok().map(|place| &self.ports[place])
    }
}

/// Patches of an EnvoyFilter that a proxy gets (`push_context.go` EnvoyFilters, `envoyfilter.go` proxyMatch).
fn applying(index: &Index, key: &ProxyKey, filter: &EnvoyFilter) -> Vec<u32> {
    let namespace = filter.meta.namespace();
    if (*namespace != key.namespace && *namespace != index.config.root_namespace)
        || !index.attaches(&filter.attachment, namespace, &key.namespace, &key.labels)
    {
        return Vec::new();
    }
    let fits = |p: &EnvoyPatch| {
        let role = if key.role == Role::Sidecar { p.sidecars } else { p.gateways };
        // a proxy whose release is not known may be one of those that are meant
        role && p.version.as_ref().zip(key.version.as_ref()).is_none_or(|(wanted, own)| wanted.is_match(own))
    };
    (0u32..).zip(&filter.patches).filter(|(_, p)| fits(p)).map(|(n, _)| n).collect()
}
