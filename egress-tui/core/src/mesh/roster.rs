//! Every pod, and how it is found: by uid, address, name, and by the Service that it stands behind.

use std::net::IpAddr;

use arcstr::ArcStr;
use rustc_hash::FxHashMap;

use crate::id::{NamespacedName, ObjectRef};
use crate::mesh::host;
use crate::mesh::index::Index;
use crate::mesh::object::read::selects;
use crate::mesh::object::{HttpAction, VirtualService};
use crate::mesh::pods::{self, PodRecord};
use crate::mesh::{Pod, PodIndex, ProxyKind};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    pub(crate) pods: Vec<Pod>,
    /// What only the mesh needs of each.
    pub(crate) records: Vec<PodRecord>,
    pub(crate) by_uid: FxHashMap<ArcStr, PodIndex>,
    pub(crate) by_ip: FxHashMap<IpAddr, PodIndex>,
    pub(crate) by_name: FxHashMap<(ArcStr, ArcStr), PodIndex>,
    /// Pods behind each Service that fronts gateways, in order of their names.
    pub(crate) fronts: FxHashMap<ObjectRef, Box<[PodIndex]>>,
    /// Those Services by their hosts.
    pub(crate) gateways: FxHashMap<ArcStr, NamespacedName>,
}

impl Roster {
    pub(crate) fn new(index: &Index) -> Self {
        let (pods, records): (Vec<Pod>, Vec<PodRecord>) =
            index.pods().iter().map(|spec| pods::read(index, spec)).unzip();
        let mut out = Self { pods, records, ..Self::default() };
        let mut fronts: FxHashMap<ObjectRef, Vec<PodIndex>> = FxHashMap::default();
        for ((n, pod), record) in (0u32..).zip(&out.pods).zip(&out.records) {
            let place = PodIndex(n);
            if !pod.uid.is_empty() {
                out.by_uid.entry(pod.uid.clone()).or_insert(place);
            }
            if !pod.host_network && record.running {
                for ip in &pod.ips {
                    out.by_ip.entry(*ip).or_insert(place);
                }
            }
            out.by_name.insert((pod.name.namespace.clone(), pod.name.name.clone()), place);
            if pod.proxy != ProxyKind::Gateway {
                continue;
            }
            for n in index.services_of.get(&pod.name.namespace).into_iter().flatten() {
                let service = &index.services[*n as usize];
                if !service.selector.is_empty() && selects(&service.selector, &pod.labels) {
                    fronts.entry(service.meta.object.clone()).or_default().push(place);
                }
            }
        }
        let host = |n: &NamespacedName| host::service_host(&n.name, &n.namespace);
        out.gateways = fronts.keys().map(|service| (host(&service.name), service.name.clone())).collect();
        out.fronts = fronts.into_iter().map(|(service, pods)| (service, pods.into())).collect();
        out
    }

    /// Some rule of it leads to a gateway.
    pub(crate) fn leads_to_gateway(&self, vs: &VirtualService) -> bool {
        let http = vs.http.iter().filter_map(|rule| match &rule.action {
            HttpAction::Route(routes) => Some(routes),
            HttpAction::Redirect(_) | HttpAction::Answer(_) => None,
        });
        let all = http.chain(vs.tls.iter().chain(&vs.tcp).map(|rule| &rule.routes));
        !self.gateways.is_empty() && all.flatten().any(|route| self.gateways.contains_key(&route.host))
    }
}
