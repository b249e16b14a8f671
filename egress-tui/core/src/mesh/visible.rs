//! Which VirtualServices, DestinationRules and Sidecars a proxy gets (Istio: `push_context.go`, `destination_rule.go`).

use std::sync::Arc;

use arcstr::ArcStr;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::mesh::bits::Bits;
use crate::mesh::host::{self, HostMap};
use crate::mesh::hosts::{HostId, Hosts, Overlaps};
use crate::mesh::object::read::selects;
use crate::mesh::object::{
    DestinationRule, HttpAction, HttpMatch, HttpRule, MeshConfig, Meta, Policy, Semantics, StringMatch, Subset,
    VirtualService,
};
use crate::mesh::options::Rules;
use crate::mesh::registry::{Upstream, Visibility};

/// Index into [`VirtualServices::list`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct VsId(pub(crate) u32);

/// VirtualServices in order of age, by gateway and by who may see them.
#[derive(Debug, Default)]
pub(crate) struct VirtualServices {
    pub(crate) list: Vec<Arc<VirtualService>>,
    pub(crate) visibility: Vec<Visibility>,
    /// (namespace, gateway): of that namespace and exported to it.
    private: FxHashMap<(ArcStr, ArcStr), Vec<VsId>>,
    /// (namespace, gateway): exported to it by name, from elsewhere.
    exported: FxHashMap<(ArcStr, ArcStr), Vec<VsId>>,
    public: FxHashMap<ArcStr, Vec<VsId>>,
    /// Every one that names a gateway.
    pub(crate) by_gateway: FxHashMap<ArcStr, Vec<VsId>>,
    /// Numbers of the hosts of each.
    host_ids: Vec<SmallVec<[HostId; 1]>>,
    /// By host, whoever sees them.
    pub(crate) by_host: Overlaps<VsId>,
}

impl VirtualServices {
    pub(crate) fn new(all: Vec<Arc<VirtualService>>, config: &MeshConfig, hosts: &Arc<Hosts>) -> Self {
        let (delegates, mut roots): (Vec<_>, Vec<_>) = all.into_iter().partition(|v| v.hosts.is_empty());
        Meta::oldest_first(&mut roots, |v| &v.meta);
        let of = |v: &VirtualService| {
            Visibility::new(v.export_to.as_deref().unwrap_or(&config.virtual_service_export), v.meta.namespace())
        };
        let delegates: FxHashMap<(ArcStr, ArcStr), (Arc<VirtualService>, Visibility)> = delegates
            .into_iter()
            .map(|v| ((v.meta.namespace().clone(), v.meta.name().clone()), (v.clone(), of(&v))))
            .collect();
        let mut out = Self::default();
        for mut vs in roots {
            if vs.http.iter().any(|r| r.delegate.is_some()) {
                let http = delegate(&vs, &delegates);
                Arc::make_mut(&mut vs).http = http;
            }
            let id = VsId(out.list.len() as u32);
            let visibility = of(&vs);
            out.index(id, &vs, &visibility);
            out.host_ids.push(vs.hosts.iter().filter_map(|h| hosts.get(h)).collect());
            out.list.push(vs);
            out.visibility.push(visibility);
        }
        let named = (0u32..).zip(&out.list).flat_map(|(n, vs)| vs.hosts.iter().map(move |h| (h, VsId(n))));
        out.by_host = Overlaps::new(hosts, named);
        out
    }

    fn index(&mut self, id: VsId, vs: &VirtualService, visibility: &Visibility) {
        for gateway in &vs.gateways {
            let named = self.by_gateway.entry(gateway.clone()).or_default();
            if named.last() == Some(&id) {
                continue;
            }
            named.push(id);
            match visibility {
                Visibility::Public => self.public.entry(gateway.clone()).or_default().push(id),
                Visibility::Namespaces(list) => {
                    for namespace in list {
                        let map = if namespace == vs.meta.namespace() { &mut self.private } else { &mut self.exported };
                        map.entry((namespace.clone(), gateway.clone())).or_default().push(id);
                    }
                }
            }
        }
    }

    pub(crate) fn host_ids(&self, id: VsId) -> &[HostId] {
        &self.host_ids[id.0 as usize]
    }

    pub(crate) fn get(&self, id: VsId) -> &VirtualService {
        &self.list[id.0 as usize]
    }

    /// For a proxy of `namespace`, of this gateway (or `mesh`): private ones, then those exported by name, then public ones.
    pub(crate) fn buckets(&self, namespace: &ArcStr, gateway: &ArcStr) -> [&[VsId]; 3] {
        let key = (namespace.clone(), gateway.clone());
        [
            self.private.get(&key).map_or(&[], Vec::as_slice),
            self.exported.get(&key).map_or(&[], Vec::as_slice),
            self.public.get(gateway).map_or(&[], Vec::as_slice),
        ]
    }

    /// What a gateway's proxy gets: routes of the Gateway API of its own namespace go first among the public ones
    /// (`VirtualServicesForGateway`).
    pub(crate) fn for_gateway(&self, namespace: &ArcStr, gateway: &ArcStr) -> Vec<VsId> {
        let [private, exported, public] = self.buckets(namespace, gateway);
        let ours = |id: &VsId| {
            let vs = self.get(*id);
            vs.semantics == Semantics::GatewayApi && vs.meta.namespace() == namespace
        };
        let mut out: Vec<VsId> = private.iter().chain(exported).copied().collect();
        out.extend(public.iter().copied().filter(ours));
        out.extend(public.iter().copied().filter(|id| !ours(id)));
        out
    }
}

/// The rules of a root with those of its delegates in their place (`model.MergeHTTPRoutes`).
fn delegate(
    root: &VirtualService,
    delegates: &FxHashMap<(ArcStr, ArcStr), (Arc<VirtualService>, Visibility)>,
) -> Vec<HttpRule> {
    let mut out = Vec::new();
    for rule in &root.http {
        let Some((namespace, name)) = &rule.delegate else {
            out.push(rule.clone());
            continue;
        };
        let namespace = if namespace.is_empty() { root.meta.namespace() } else { namespace };
        let Some((target, visibility)) = delegates.get(&(namespace.clone(), name.clone())) else { continue };
        if !visibility.includes(root.meta.namespace()) {
            continue;
        }
        for inner in &target.http {
            let Some(matches) = merge_matches(&rule.matches, &inner.matches) else { continue };
            let mut merged = inner.clone();
            merged.at.object = Some(target.meta.object.clone());
            merged.matches = matches;
            if inner.matches.is_empty() {
                // the conditions are the root's, the rule is the delegate's
                merged.matches.iter_mut().for_each(|m| m.path = inner.at.path.clone());
            }
            // a rewrite of the root holds where the delegate has none; so do its headers and mirrors
            if !inner.rewrites || inner.authority.is_none() {
                merged.authority = inner.authority.clone().or_else(|| rule.authority.clone());
            }
            if let (HttpAction::Route(_), HttpAction::Answer(_)) = (&merged.action, &rule.action) {
                merged.action = rule.action.clone();
            }
            if merged.mirrors.is_empty() {
                merged.mirrors.clone_from(&rule.mirrors);
            }
            out.push(merged);
        }
    }
    out
}

fn merge_matches(root: &[HttpMatch], inner: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    if root.is_empty() {
        return Some(inner.to_vec());
    }
    if inner.is_empty() {
        return Some(root.to_vec());
    }
    let mut out = Vec::new();
    for leaf in inner {
        let before = out.len();
        out.extend(root.iter().filter(|r| !conflict(r, leaf)).map(|r| merge_match(r, leaf)));
        if out.len() == before {
            return None;
        }
    }
    Some(out)
}

fn merge_match(root: &HttpMatch, leaf: &HttpMatch) -> HttpMatch {
    let mut out = leaf.clone();
    out.uri = leaf.uri.clone().or_else(|| root.uri.clone());
    out.scheme = leaf.scheme.clone().or_else(|| root.scheme.clone());
    out.method = leaf.method.clone().or_else(|| root.method.clone());
    out.authority = leaf.authority.clone().or_else(|| root.authority.clone());
    let join = |mine: &mut Vec<(ArcStr, StringMatch)>, theirs: &[(ArcStr, StringMatch)]| {
        for (name, value) in theirs {
            if !mine.iter().any(|(n, _)| n == name) {
                mine.push((name.clone(), value.clone()));
            }
        }
    };
    join(&mut out.headers, &root.headers);
    join(&mut out.without_headers, &root.without_headers);
    join(&mut out.query, &root.query);
    out.port = leaf.port.or(root.port);
    for (key, value) in &root.source_labels {
        if let Err(place) = out.source_labels.binary_search_by(|(k, _)| k.cmp(key)) {
            out.source_labels.insert(place, (key.clone(), value.clone()));
        }
    }
    if out.source_namespace.is_empty() {
        out.source_namespace.clone_from(&root.source_namespace);
    }
    if out.gateways.is_empty() {
        out.gateways.clone_from(&root.gateways);
    }
    out
}

/// The delegate's match asks for something that the root's excludes (`model.hasConflict`).
fn conflict(root: &HttpMatch, leaf: &HttpMatch) -> bool {
    let one = |a: &Option<StringMatch>, b: &Option<StringMatch>| {
        a.as_ref().zip(b.as_ref()).is_some_and(|(a, b)| string_conflict(a, b))
    };
    let named = |a: &[(ArcStr, StringMatch)], b: &[(ArcStr, StringMatch)]| {
        b.iter().any(|(name, leaf)| a.iter().any(|(n, root)| n == name && string_conflict(root, leaf)))
    };
    one(&root.uri, &leaf.uri)
        || one(&root.scheme, &leaf.scheme)
        || one(&root.method, &leaf.method)
        || one(&root.authority, &leaf.authority)
        || named(&root.headers, &leaf.headers)
        || named(&root.without_headers, &leaf.without_headers)
        || named(&root.query, &leaf.query)
        || root.ignore_case != leaf.ignore_case
        || root.port.zip(leaf.port).is_some_and(|(a, b)| a != b)
        || (!root.source_namespace.is_empty() && root.source_namespace != leaf.source_namespace)
        || leaf.source_labels.iter().any(|(k, v)| root.source_labels.iter().any(|(rk, rv)| rk == k && rv != v))
        || (!root.gateways.is_empty()
            && !leaf.gateways.is_empty()
            && (root.gateways.len() < leaf.gateways.len() || leaf.gateways.iter().any(|g| !root.gateways.contains(g))))
}

fn string_conflict(root: &StringMatch, leaf: &StringMatch) -> bool {
    use StringMatch::{Any, Exact, Prefix, Regex};
    match (root, leaf) {
        (Exact(a), Exact(b)) => a != b,
        (Prefix(a), Prefix(b) | Exact(b)) => !b.starts_with(a.as_str()),
        (Regex(_) | Exact(_) | Prefix(_) | Any, _) => true,
    }
}

/// One or several DestinationRules for a host, merged (`ConsolidatedDestRule`).
#[derive(Debug, Clone)]
pub(crate) struct Merged {
    /// The objects, the oldest first; indexes into [`DestinationRules::list`].
    pub(crate) from: Vec<u32>,
    pub(crate) policy: Option<Policy>,
    /// Subsets, each with the object that it comes from.
    pub(crate) subsets: Vec<(u32, Subset)>,
    selector: Option<crate::mesh::object::read::Labels>,
    namespace: ArcStr,
    exported: Option<Vec<ArcStr>>,
}

impl Merged {
    /// It applies to some workloads of its namespace only.
    pub(crate) fn has_selector(&self) -> bool {
        self.selector.is_some()
    }
}

/// DestinationRules by namespace, host and who may see them.
#[derive(Debug, Default)]
pub(crate) struct DestinationRules {
    pub(crate) list: Vec<Arc<DestinationRule>>,
    local: FxHashMap<ArcStr, HostMap<Vec<Merged>>>,
    exported: FxHashMap<ArcStr, HostMap<Vec<Merged>>>,
    root_private: HostMap<Vec<Merged>>,
    root: ArcStr,
    /// Numbered hosts that a rule names, and whether a rule has a wildcard: most upstreams have no rule, and are known by this.
    named: Bits,
    wildcards: bool,
}

impl DestinationRules {
    pub(crate) fn new(mut list: Vec<Arc<DestinationRule>>, config: &MeshConfig, rules: &Rules, hosts: &Hosts) -> Self {
        list.sort_by(|a, b| (a.selector.is_none(), a.meta.age()).cmp(&(b.selector.is_none(), b.meta.age())));
        let mut out = Self { root: config.root_namespace.clone(), ..Self::default() };
        let default_private = config.destination_rule_export.iter().any(|e| e == ".");
        for (n, rule) in list.iter().enumerate() {
            let own = rule.meta.namespace();
            // a rule with a selector stays in its namespace
            let declared = if rule.selector.is_some() { Some(vec![ArcStr::from(".")]) } else { rule.export_to.clone() };
            let names = |word: &str| declared.as_ref().is_some_and(|d| d.iter().any(|e| e == word));
            if declared.is_none() || names("*") || names(".") || names(own) {
                merge(out.local.entry(own.clone()).or_default(), n as u32, rule, declared.as_ref(), rules);
            }
            let private = match &declared {
                None => default_private,
                Some(list) => list.len() == 1 && (names(".") || names(own)),
            };
            if !private {
                merge(out.exported.entry(own.clone()).or_default(), n as u32, rule, declared.as_ref(), rules);
            } else if *own == out.root {
                merge(&mut out.root_private, n as u32, rule, declared.as_ref(), rules);
            }
        }
        out.named = Bits::new(hosts.len(), list.iter().filter_map(|r| hosts.get(&r.host)).map(HostId::number));
        out.wildcards = list.iter().any(|r| host::is_wildcard(&r.host));
        out.list = list;
        out
    }

    /// Some rule may be for the upstream.
    fn may_have(&self, upstream: &Upstream) -> bool {
        // hosts that came later have no bit
        self.wildcards || self.named.get(upstream.host_id.number()).unwrap_or(true)
    }

    /// The rule that a client proxy of `namespace` with these labels gets for an upstream
    /// (`PushContext.destinationRule`, `SidecarScope.DestinationRule`).
    pub(crate) fn find(&self, namespace: &ArcStr, labels: &[(ArcStr, ArcStr)], upstream: &Upstream) -> Option<&Merged> {
        let candidates = Some(upstream).filter(|u| self.may_have(u)).and_then(|u| self.candidates(namespace, u))?;
        let mut catch_all = None;
        for merged in candidates {
            match &merged.selector {
                None => catch_all = Some(merged),
                Some(selector) if merged.namespace == *namespace && selects(selector, labels) => return Some(merged),
                Some(_) => {}
            }
        }
        catch_all
    }

    fn candidates(&self, namespace: &ArcStr, upstream: &Upstream) -> Option<SmallVec<[&Merged; 2]>> {
        let local = if *namespace == self.root { Some(&self.root_private) } else { self.local.get(namespace) };
        if let Some(found) = local.and_then(|m| m.most_specific(&upstream.host)) {
            return Some(found.iter().collect());
        }
        let exported = |owner: &ArcStr| {
            let found = self.exported.get(owner)?.most_specific(&upstream.host)?;
            let ours: SmallVec<[&Merged; 2]> = found
                .iter()
                .filter(|m| m.exported.as_ref().is_none_or(|e| e.iter().any(|e| e == "*" || e == namespace)))
                .collect();
            (!ours.is_empty()).then_some(ours)
        };
        exported(&upstream.namespace).or_else(|| exported(&self.root))
    }
}

/// Adds a rule to those of its host: subsets are added, the oldest policy stays (`mergeDestinationRule`).
fn merge(
    map: &mut HostMap<Vec<Merged>>,
    n: u32,
    rule: &DestinationRule,
    declared: Option<&Vec<ArcStr>>,
    rules: &Rules,
) {
    let list = map.entry(&rule.host, || Vec::with_capacity(1));
    let mut separate = true;
    for known in list.iter_mut() {
        if rules.merge_rules_by_export {
            let superset = match (&known.exported, declared) {
                (Some(theirs), Some(ours)) => theirs.iter().all(|e| ours.contains(e)),
                _ => false,
            };
            if known.exported.as_ref() == declared {
                separate = false;
            } else if superset {
                separate = true;
            } else {
                separate = true;
                continue;
            }
        }
        match (&known.selector, &rule.selector) {
            (Some(a), Some(b)) if a != b => {
                separate = true;
                continue;
            }
            (Some(_), Some(_)) | (None, None) => separate = false,
            _ => {}
        }
        known.from.push(n);
        for subset in &rule.subsets {
            if !known.subsets.iter().any(|(_, s)| s.name == subset.name) {
                known.subsets.push((n, subset.clone()));
            }
        }
        if known.policy.is_none() {
            known.policy.clone_from(&rule.policy);
        }
    }
    if separate {
        list.push(Merged {
            from: vec![n],
            policy: rule.policy.clone(),
            subsets: rule.subsets.iter().map(|s| (n, s.clone())).collect(),
            selector: rule.selector.clone(),
            namespace: rule.meta.namespace().clone(),
            exported: declared.cloned(),
        });
    }
}
