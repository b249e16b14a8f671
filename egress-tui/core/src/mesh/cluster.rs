//! What a cluster is for a proxy: whether it exists, what it dials, and what it wraps connections in
//! (Istio: `networking/core/cluster*.go`, `xds/endpoints`).

use std::net::IpAddr;
use std::sync::Arc;

use arcstr::ArcStr;
use smallvec::SmallVec;

use crate::id::ObjectRef;

use crate::mesh::chain::Cluster;
use crate::mesh::host;
use crate::mesh::index::Index;
use crate::mesh::object::policy::{PeerAuthentication, PeerMode};
use crate::mesh::object::read::selects;
use crate::mesh::object::{Policy, Resolution, Subset, TlsSettings, TlsSettingsMode};
use crate::mesh::protocol::Protocol;
use crate::mesh::proxy::{Proxy, Role};
use crate::mesh::reach::{Reach, ReachAddress};
use crate::mesh::registry::{Port, Upstream, UpstreamId};
use crate::mesh::visible::Merged;

/// Why a cluster does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// No upstream of that name is known to the proxy.
    Host,
    /// The upstream does not have the port.
    Port(UpstreamId),
    /// The DestinationRule that applies does not define the subset.
    Subset(UpstreamId),
    /// Names to resolve, but none is given.
    Names(UpstreamId),
}

/// How the next address is found.
#[derive(Debug)]
pub(crate) enum Dial<'a> {
    /// These addresses, sorted as text.
    Endpoints(Endpoints<'a>),
    /// Names that are resolved (and addresses among them).
    Names(SmallVec<[(ArcStr, u16); 1]>),
    /// The address that was dialled, perhaps at another port.
    Original(Option<u16>),
    /// The name in the bytes.
    Dynamic,
}

/// The endpoint speaks Istio's mTLS.
pub(crate) type Mtls = bool;

/// The endpoints of a cluster. There may be thousands, and a decision looks at the first ones: they are not gathered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoints<'a> {
    upstream: &'a Upstream,
    port: &'a Port,
    subset: Option<&'a Subset>,
}

impl<'a> Endpoints<'a> {
    fn reach(self) -> impl Iterator<Item = (&'a Reach, u16)> {
        let fits = move |r: &Reach| r.ready && self.subset.is_none_or(|s| selects(&s.labels, &r.labels));
        self.upstream.reach(self.port).filter(move |(r, _)| fits(r))
    }

    /// Their addresses.
    pub(crate) fn iter(self) -> impl Iterator<Item = (IpAddr, u16, Mtls)> + 'a {
        self.reach().filter_map(|(r, port)| match r.address {
            ReachAddress::Ip(ip) => Some((ip, port, r.mtls)),
            ReachAddress::Name(_) | ReachAddress::Unix => None,
        })
    }

    pub(crate) fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

/// What a connection is wrapped in, with the server name where it is not the cluster's own ([`own_name`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wrap {
    Nothing,
    Tls(ArcStr),
    IstioMutual(ArcStr),
    /// mTLS with endpoints that speak it, nothing with others.
    Automatic,
}

/// The server name by which proxies ask each other for a cluster.
pub(crate) fn own_name(cluster: &Cluster) -> ArcStr {
    arcstr::format!("outbound_.{}_.{}_.{}", cluster.port, cluster.subset, cluster.host)
}

/// A cluster that exists.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) upstream: &'a Upstream,
    /// Outside of the mesh: what the first of merged entries says, whichever the port comes from (`appendSidecarServices`).
    pub(crate) external: bool,
    pub(crate) dial: Dial<'a>,
    pub(crate) wrap: Wrap,
    /// The DestinationRule that has a policy for it, and the path of that policy.
    pub(crate) rule: Option<(ObjectRef, ArcStr)>,
}

/// The cluster, as the proxy has it.
pub(crate) fn find<'a>(index: &'a Index, proxy: &'a Proxy, cluster: &'a Cluster) -> Result<Known<'a>, Missing> {
    let scoped = proxy.scope.get(&cluster.host).ok_or(Missing::Host)?;
    let upstream = index.registry.get(scoped.id);
    if upstream.resolution == Resolution::Alias {
        return Err(Missing::Host);
    }
    let port =
        scoped.port(upstream, cluster.port).filter(|p| p.protocol != Protocol::Udp).ok_or(Missing::Port(scoped.id))?;
    let owner = index.registry.get(scoped.port_owner(cluster.port));
    if upstream.resolution == Resolution::DynamicDns && host::is_wildcard(&upstream.host) {
        // a dynamic forward proxy: for these protocols, and without subsets (buildOutboundClusters)
        if !cluster.subset.is_empty()
            || !matches!(port.protocol, Protocol::Http | Protocol::Tls | Protocol::Grpc | Protocol::Http2)
        {
            return Err(Missing::Port(scoped.id));
        }
        return Ok(Known {
            cluster,
            upstream: owner,
            external: upstream.external,
            dial: Dial::Dynamic,
            wrap: Wrap::Nothing,
            rule: None,
        });
    }
    let rule = index.destination_rules.find(proxy.namespace(), &proxy.key.labels, upstream);
    let found = if cluster.subset.is_empty() {
        None
    } else {
        let named = rule.and_then(|r| r.subsets.iter().find(|(_, s)| s.name == cluster.subset));
        Some(named.ok_or(Missing::Subset(scoped.id))?)
    };
    let top = rule.and_then(|r| r.policy.as_ref());
    let subset = found.map(|(_, s)| s);
    let policy = effective(top, subset, cluster.port);
    let dial = dial(proxy, upstream, port, subset, &policy).ok_or(Missing::Names(scoped.id))?;
    let wrap = wrap(index, proxy, upstream, port, cluster, &policy, rule.is_some_and(Merged::has_selector), &dial);
    let from = if policy.of_subset { found.map(|(n, _)| *n) } else { rule.and_then(|r| r.from.first().copied()) };
    let object = from.map(|n| index.destination_rules.list[n as usize].meta.object.clone());
    let rule = object.filter(|_| policy.tls.is_some()).map(|o| (o, policy.path));
    Ok(Known { cluster, upstream: owner, external: upstream.external, dial, wrap, rule })
}

/// TLS settings and balancer for a port and subset.
struct Effective<'a> {
    tls: Option<&'a TlsSettings>,
    passthrough: bool,
    path: ArcStr,
    /// The path is one of a subset's policy.
    of_subset: bool,
}

/// Settings of a port replace those of the whole; a subset's replace one by one, except where it has settings of the port
/// (`GetPortLevelTrafficPolicy`, `MergeSubsetTrafficPolicy`).
fn effective<'a>(top: Option<&'a Policy>, subset: Option<&'a Subset>, port: u16) -> Effective<'a> {
    let of_port = |policy: Option<&'a Policy>| {
        let own = policy.and_then(|p| p.ports.iter().find(|(n, _)| *n == port)).map(|(_, p)| p);
        (own.or(policy), own.is_some())
    };
    let (mut tls, mut passthrough, mut path, mut of_subset) = (None, None, ArcStr::new(), false);
    if let (Some(policy), _) = of_port(top) {
        tls = policy.tls.as_ref();
        passthrough = policy.passthrough;
        path = policy.path.clone();
    }
    if let (Some(policy), level) = of_port(subset.and_then(|s| s.policy.as_ref())) {
        if policy.tls.is_some() || level {
            tls = policy.tls.as_ref();
            path = policy.path.clone();
            of_subset = true;
        }
        if policy.passthrough.is_some() || level {
            passthrough = policy.passthrough;
        }
    }
    Effective { tls, passthrough: passthrough.unwrap_or(false), path, of_subset }
}

fn dial<'a>(
    proxy: &Proxy,
    upstream: &'a Upstream,
    port: &'a Port,
    subset: Option<&'a Subset>,
    policy: &Effective<'_>,
) -> Option<Dial<'a>> {
    let endpoints = Endpoints { upstream, port, subset };
    if upstream.resolution.is_dns() {
        let mut names: SmallVec<[(ArcStr, u16); 1]> = endpoints
            .reach()
            .filter_map(|(r, port)| match &r.address {
                ReachAddress::Name(name) => Some((name.clone(), port)),
                ReachAddress::Ip(ip) => Some((ip.to_string().into(), port)),
                ReachAddress::Unix => None,
            })
            .collect();
        if names.is_empty() && !endpoints.reach().any(|(r, _)| r.address == ReachAddress::Unix) {
            return None;
        }
        names.sort();
        return Some(if policy.passthrough { Dial::Original(None) } else { Dial::Names(names) });
    }
    let router = proxy.key.role == Role::Gateway;
    if policy.passthrough || (upstream.resolution == Resolution::Passthrough && !router) {
        return Some(Dial::Original(port.target));
    }
    Some(Dial::Endpoints(endpoints))
}

/// `buildUpstreamTLSSettings`, `buildUpstreamClusterTLSContext`.
#[expect(clippy::too_many_arguments, reason = "one call, and each argument is a fact of its own")]
fn wrap(
    index: &Index,
    proxy: &Proxy,
    upstream: &Upstream,
    port: &Port,
    cluster: &Cluster,
    policy: &Effective<'_>,
    selected: bool,
    dial: &Dial<'_>,
) -> Wrap {
    match policy.tls {
        Some(tls) => match tls.mode {
            TlsSettingsMode::Disable => Wrap::Nothing,
            TlsSettingsMode::IstioMutual => {
                Wrap::IstioMutual(if tls.sni.is_empty() { own_name(cluster) } else { tls.sni.clone() })
            }
            TlsSettingsMode::Simple | TlsSettingsMode::Mutual => {
                let secret = !tls.credential.is_empty() && !tls.credential.starts_with("configmap://");
                // a sidecar may not fetch secrets, unless the rule selects it
                let denied = secret && proxy.key.role == Role::Sidecar && !selected;
                let incomplete = tls.mode == TlsSettingsMode::Mutual && tls.credential.is_empty() && !tls.has_files;
                if denied || incomplete { Wrap::Nothing } else { Wrap::Tls(tls.sni.clone()) }
            }
        },
        None if upstream.external || !index.config.auto_mtls => Wrap::Nothing,
        None => {
            let unsure = matches!(dial, Dial::Original(_)) || upstream.resolution == Resolution::Passthrough;
            let mut reach = upstream.reach(port).peekable();
            if unsure && (reach.peek().is_none() || reach.any(|(r, _)| !r.mtls)) {
                return Wrap::Nothing;
            }
            match index.peer_mode(&upstream.namespace) {
                PeerMode::Disable => Wrap::Nothing,
                _ => Wrap::Automatic,
            }
        }
    }
}

impl Index {
    /// mTLS mode of a namespace, else of the mesh (`GetNamespaceMutualTLSMode`).
    pub(crate) fn peer_mode(&self, namespace: &str) -> PeerMode {
        self.peer_policy(namespace).0
    }

    /// The same, with the object that says so.
    pub(crate) fn peer_policy(&self, namespace: &str) -> (PeerMode, Option<&Arc<PeerAuthentication>>) {
        let of = |ns: &str| {
            let all = self.peer_authentications.iter().filter(|p| p.selects_all && p.meta.namespace() == ns);
            let oldest = all.min_by_key(|p| p.meta.age());
            (oldest.map_or(PeerMode::Unset, |p| p.mode), oldest)
        };
        match of(namespace) {
            (PeerMode::Unset, _) => of(&self.config.root_namespace),
            found => found,
        }
    }
}
