//! Whether a gateway's own connection is one that its routes lead to.

use std::net::SocketAddr;

use crate::mesh::chain::{Action, Cluster, Picked};
use crate::mesh::cluster::{self, Dial, Wrap};
use crate::mesh::host;
use crate::mesh::proxy::Proxy;
use crate::mesh::route::Target;
use crate::mesh::{Mesh, PodIndex};
use crate::verdict::{Mark, Step};

impl Mesh {
    /// The route of this gateway's (or waypoint's) pod that leads to `to`, if any does: by endpoint address, or by `name`
    /// (what the proxy resolved or the server name in the bytes) and port. Without a name, the port alone has to do.
    pub fn gateway_permits(&self, pod: PodIndex, to: SocketAddr, name: Option<&str>) -> Option<Step> {
        if let Some(step) = self.waypoint_permits(pod, (to.ip(), to.port()), name) {
            return Some(step);
        }
        let proxy = self.proxy(pod)?;
        let merged = self.merged_gateway(proxy, pod)?;
        let chains = merged.listeners.iter().flat_map(|l| &l.chains.list).filter_map(|c| match &c.action {
            Action::Tcp(clusters) => Some((clusters.as_slice(), c.origin.rule, false)),
            Action::Routes | Action::OwnRoutes(_) | Action::GatewayRoutes(_) => None,
        });
        let hosts = merged.tables.iter().flat_map(|t| {
            let asked = name.and_then(|n| t.table.find(&n.to_ascii_lowercase()));
            t.hosts.iter().map(move |h| (h, asked.is_some_and(|a| a == h)))
        });
        let routes = hosts.flat_map(|(h, asked)| h.routes.iter().map(move |r| (r, asked)));
        let routes = routes.filter_map(|(r, asked)| match &r.target {
            Target::Clusters(clusters) => {
                let asked = r.authority.as_deref().map_or(asked, |own| name == Some(own));
                Some((clusters.as_slice(), r.rule, asked))
            }
            Target::Answer(_) | Target::Redirect(_) | Target::Nothing => None,
        });
        for (clusters, rule, asked) in chains.chain(routes) {
            for weighted in clusters {
                if let Some(step) = self.leads(proxy, &weighted.cluster, rule, to, (name, asked)) {
                    return Some(step);
                }
            }
        }
        None
    }

    fn leads(
        &self,
        proxy: &Proxy,
        cluster: &Cluster,
        rule: Option<Picked>,
        to: SocketAddr,
        // the name, and whether it is that of a request which the rule takes
        (name, asked): (Option<&str>, bool),
    ) -> Option<Step> {
        let known = cluster::find(&self.index, proxy, cluster).ok()?;
        // TLS that begins here offers the name of the request
        let offered = asked && matches!(&known.wrap, Wrap::Tls(sni) if sni.is_empty());
        let named = |host: &str| {
            offered || name.is_none_or(|n| n.eq_ignore_ascii_case(host) || host::subset(&n.to_ascii_lowercase(), host))
        };
        let fits = match &known.dial {
            Dial::Endpoints(list) => list.iter().any(|(ip, port, _)| SocketAddr::new(ip, port) == to),
            Dial::Names(list) => {
                list.iter().any(|(host, port)| *port == to.port() && (named(host) || host.parse() == Ok(to.ip())))
                    || (named(&known.upstream.host) && list.iter().any(|(_, port)| *port == to.port()))
            }
            Dial::Dynamic => cluster.port == to.port() && named(&known.upstream.host),
            Dial::Original(_) => false,
        };
        if !fits {
            return None;
        }
        let says = match name {
            None if matches!(known.dial, Dial::Names(_) | Dial::Dynamic) => {
                format!("a route leads to {} on this port; which name was resolved is not known", known.upstream.host)
            }
            _ => format!("a route leads to {}", known.upstream.host),
        };
        let step = Step::new("route", Mark::Ok, says);
        Some(match rule {
            Some(rule) => {
                let (object, field) = self.rule_field(rule);
                step.by(object, field)
            }
            None => step.by(known.upstream.object.clone(), known.upstream.host_field()),
        })
    }
}
