//! All objects of a mesh, typed, sorted and indexed. Built once from raw objects, in any order; never changed.

use std::cell::RefCell;

use arcstr::ArcStr;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;

use crate::id::ObjectRef;
use crate::manifest::{self, Problem, RawObject};
use crate::mesh::declared::{self, Declared, Origins};
use crate::mesh::gatewayapi;
use crate::mesh::object::authorization::AuthorizationPolicy;
use crate::mesh::object::kube::Node;
use crate::mesh::object::policy::{EnvoyFilter, PeerAuthentication};
use crate::mesh::object::read::{At, Labels, Note};
use crate::mesh::object::{
    DestinationRule, EndpointSlice, Gateway, MeshConfig, Meta, Namespace, PodSpec, Resolution, Service, ServiceEntry,
    Sidecar, VirtualService, WorkloadEntry,
};
use crate::mesh::options::{IstioVersion, MeshOptions, Rules};
use crate::mesh::registry::{Registry, Sources};
use crate::mesh::remark::{self, GatewayHosts, GatewayRules, Misspelt};
use crate::mesh::visible::{DestinationRules, VirtualServices};

/// See the module.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) version: IstioVersion,
    pub(crate) rules: Rules,
    pub(crate) config: MeshConfig,
    pub(crate) registry: Registry,
    pub(crate) virtual_services: VirtualServices,
    pub(crate) destination_rules: DestinationRules,
    /// With a selector first, then oldest first (`initSidecarScopes`).
    pub(crate) sidecars: Vec<Sidecar>,
    pub(crate) sidecars_of: FxHashMap<ArcStr, Vec<u32>>,
    /// Oldest first.
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) services: Vec<Service>,
    pub(crate) services_of: FxHashMap<ArcStr, Vec<u32>>,
    pub(crate) namespaces: FxHashMap<ArcStr, Labels>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) peer_authentications: Vec<PeerAuthentication>,
    pub(crate) envoy_filters: Vec<EnvoyFilter>,
    /// Some EnvoyFilter is for proxies of certain releases.
    pub(crate) filters_by_version: bool,
    /// Oldest first.
    pub(crate) authorization_policies: Vec<AuthorizationPolicy>,
    pub(crate) policies_of: FxHashMap<ArcStr, Vec<u32>>,
    /// Label keys that any selector or sourceLabels asks for: proxies that agree in them are alike.
    pub(crate) label_keys: FxHashSet<ArcStr>,
    /// What is only declared, and by which objects.
    pub(crate) origins: Origins,
    /// Objects that istiod does not read: outside of its discovery selectors, or of another revision; entries of these hosts.
    pub(crate) hidden: Vec<Hidden>,
    pub(crate) gateway_hosts: GatewayHosts,
    pub(crate) gateway_rules: GatewayRules,
    pub(crate) misspelt: Option<Misspelt>,
}

/// A ServiceEntry that istiod does not read.
#[derive(Debug)]
pub(crate) struct Hidden {
    pub(crate) entry: ServiceEntry,
    /// The object and field that hide it, and a sentence.
    pub(crate) by: (ObjectRef, ArcStr, String),
}

/// Typed objects on the way into an [`Index`].
#[derive(Default)]
pub(crate) struct Objects {
    pub(crate) entries: Vec<ServiceEntry>,
    pub(crate) workloads: Vec<WorkloadEntry>,
    pub(crate) virtual_services: Vec<VirtualService>,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) destination_rules: Vec<DestinationRule>,
    pub(crate) sidecars: Vec<Sidecar>,
    pub(crate) services: Vec<Service>,
    pub(crate) slices: Vec<EndpointSlice>,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) pods: Vec<PodSpec>,
    pub(crate) peer_authentications: Vec<PeerAuthentication>,
    pub(crate) envoy_filters: Vec<EnvoyFilter>,
    pub(crate) authorization_policies: Vec<AuthorizationPolicy>,
    pub(crate) config: Option<MeshConfig>,
    pub(crate) misspelt: Option<Misspelt>,
    pub(crate) gateway_api: gatewayapi::Objects,
    pub(crate) declared: Declared,
}

/// Raw objects, sorted, with the names of those that are read.
pub(crate) struct Sorted {
    pub(crate) raw: Vec<RawObject>,
    pub(crate) names: Vec<ObjectRef>,
    pub(crate) problems: Vec<Problem>,
}

/// A name for an `IstioOperator` that has none, as files for `istioctl install` have: of its first gateway, else what istioctl
/// calls what it installed.
fn unnamed(value: &Value) -> String {
    let gateways = ["/spec/components/egressGateways/0/name", "/spec/components/ingressGateways/0/name"];
    let name = gateways.iter().find_map(|p| value.pointer(p).and_then(Value::as_str));
    name.unwrap_or("installed-state").to_owned()
}

/// The object's name; the namespace is `default` where none is written, as kubectl has it.
fn name_of(value: &Value) -> Option<(ObjectRef, ArcStr)> {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let kind = text("/kind");
    let own = text("/metadata/name");
    let made = (own.is_empty() && kind == "IstioOperator").then(|| unnamed(value));
    let name = made.as_deref().unwrap_or(own);
    if kind.is_empty() {
        return None;
    }
    let cluster = matches!(
        kind,
        "Namespace"
            | "Node"
            | "GatewayClass"
            | "CustomResourceDefinition"
            | "ClusterRole"
            | "ClusterRoleBinding"
            | "PersistentVolume"
            | "Istio"
            | "IstioRevision"
    );
    let namespace = match text("/metadata/namespace") {
        "" if !cluster => "default",
        namespace => namespace,
    };
    Some((ObjectRef::new(kind, namespace, name), text("/apiVersion").into()))
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Newer versions of one object first.
fn version_rank(api_version: &str) -> (u8, u32) {
    let version = api_version.rsplit('/').next().unwrap_or_default();
    let digits = |prefix: &str| version.strip_prefix(prefix).and_then(|v| v.parse::<u32>().ok()).map(|n| u32::MAX - n);
    let split = |word: &str| {
        let (major, minor) = version.strip_prefix('v')?.split_once(word)?;
        Some(u32::MAX - (major.parse::<u32>().ok()? * 1000 + minor.parse::<u32>().ok()?))
    };
    if let Some(n) = digits("v") {
        (0, n)
    } else if let Some(n) = split("beta") {
        (1, n)
    } else {
        (2, split("alpha").unwrap_or(u32::MAX))
    }
}

/// Sorts by kind and name, and keeps one of each: the newest version, then the first by file and line.
pub(crate) fn sort(objects: Vec<RawObject>) -> Sorted {
    let mut problems = Vec::new();
    let mut named: Vec<(ObjectRef, ArcStr, RawObject)> = Vec::with_capacity(objects.len());
    for raw in objects {
        match name_of(&raw.value) {
            Some((object, version)) if !object.name.name.is_empty() => named.push((object, version, raw)),
            Some((object, _)) => {
                problems.push(told(Some(object), ".metadata.name", &raw, "is missing: the object is ignored"));
            }
            None => problems.push(told(None, ".kind", &raw, "is missing: the object is ignored")),
        }
    }
    named.sort_by(|a, b| {
        let place = |x: &RawObject| (x.origin.line, x.origin.item);
        a.0.cmp(&b.0)
            .then_with(|| group(&a.1).cmp(group(&b.1)))
            .then_with(|| version_rank(&a.1).cmp(&version_rank(&b.1)))
            .then_with(|| a.2.origin.file.cmp(&b.2.origin.file))
            .then_with(|| place(&a.2).cmp(&place(&b.2)))
            .then_with(|| a.2.value.to_string().cmp(&b.2.value.to_string()))
    });
    let (mut kept, mut refs): (Vec<RawObject>, Vec<ObjectRef>) = (Vec::new(), Vec::new());
    let mut last: Option<(ObjectRef, String)> = None;
    for (object, version, item) in named {
        let key = (object.clone(), group(&version).to_owned());
        if last.as_ref() == Some(&key) {
            if kept.last().is_some_and(|known| known.value != item.value) {
                problems.push(told(Some(object), "", &item, "stands in the input more than once; another one counts"));
            }
            continue;
        }
        last = Some(key);
        kept.push(item);
        refs.push(object);
    }
    Sorted { raw: kept, names: refs, problems }
}

fn told(object: Option<ObjectRef>, field: &str, raw: &RawObject, says: &str) -> Problem {
    let line = manifest::field_line(&raw.origin, field).unwrap_or(raw.origin.line);
    Problem { object, field: field.into(), file: raw.origin.file.clone(), line, column: 0, says: says.to_owned() }
}

impl Objects {
    /// Reads every raw object of a kind that matters.
    pub(crate) fn read(sorted: &mut Sorted) -> Self {
        let mut out = Self::default();
        let mut problems = Vec::new();
        for (raw, object) in sorted.raw.iter().zip(&sorted.names) {
            let notes = RefCell::new(Vec::new());
            out.read_one(object, raw, &notes);
            for Note { field, says } in notes.into_inner() {
                let line = manifest::field_line(&raw.origin, &field).unwrap_or(raw.origin.line);
                let file = raw.origin.file.clone();
                problems.push(Problem { object: Some(object.clone()), field, file, line, column: 0, says });
            }
        }
        sorted.problems.extend(problems);
        out
    }

    fn read_one(&mut self, object: &ObjectRef, raw: &RawObject, notes: &RefCell<Vec<Note>>) {
        let api = raw.value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let at = At::root(&raw.value, notes);
        if self.misspelt.is_none() {
            self.misspelt = remark::misspelt(object, &raw.value);
        }
        let meta = || Meta::read(object.clone(), &at);
        match (group(api), object.kind.as_str()) {
            ("networking.istio.io", "ServiceEntry") => self.entries.push(ServiceEntry::read(meta(), &at)),
            ("networking.istio.io", "WorkloadEntry") => self.workloads.push(WorkloadEntry::read(meta(), &at)),
            ("networking.istio.io", "VirtualService") => self.virtual_services.push(VirtualService::read(meta(), &at)),
            ("networking.istio.io", "Gateway") => self.gateways.push(Gateway::read(meta(), &at)),
            ("networking.istio.io", "DestinationRule") => {
                self.destination_rules.push(DestinationRule::read(meta(), &at));
            }
            ("networking.istio.io", "Sidecar") => self.sidecars.push(Sidecar::read(meta(), &at)),
            ("networking.istio.io", "EnvoyFilter") => self.envoy_filters.push(EnvoyFilter::read(meta(), &at)),
            ("security.istio.io", "PeerAuthentication") => {
                self.peer_authentications.push(PeerAuthentication::read(meta(), &at));
            }
            ("security.istio.io", "AuthorizationPolicy") => {
                self.authorization_policies.push(AuthorizationPolicy::read(meta(), &at));
            }
            ("", "Service") => self.services.push(Service::read(meta(), &at)),
            ("", "Endpoints") => {
                let slices = EndpointSlice::read_endpoints(&meta(), &at);
                // Kubernetes mirrors Endpoints into slices: where those are known, they count
                self.slices.extend(slices.into_iter().map(|mut s| {
                    s.service = format!("\0{}", s.service).into();
                    s
                }));
            }
            ("discovery.k8s.io", "EndpointSlice") => self.slices.extend(EndpointSlice::read(&meta(), &at)),
            ("", "Namespace") => self.namespaces.push(Namespace { meta: meta() }),
            ("", "Node") => self.nodes.push(Node::read(meta(), &at)),
            ("", "Pod") => self.pods.push(PodSpec::read(meta(), &at)),
            ("", "ConfigMap") if self.takes_config(object) && raw.value.pointer("/data/mesh").is_some() => {
                self.config = Some(MeshConfig::read(object.clone(), &raw.value, notes));
            }
            ("apiextensions.k8s.io", "CustomResourceDefinition") => {
                let version = raw.value.pointer("/metadata/annotations/gateway.networking.k8s.io~1bundle-version");
                self.gateway_api.read_definition(&object.name.name, version.and_then(Value::as_str));
            }
            ("gateway.networking.k8s.io", kind) => self.gateway_api.read(kind, meta(), &at),
            (group, _) => self.declared.read(group, object, &raw.value, &at),
        }
    }

    /// The ConfigMap of the default revision, else the first one of another: `istio`, `istio-REVISION`.
    fn takes_config(&self, object: &ObjectRef) -> bool {
        let name = &object.name.name;
        name == "istio" || (self.config.is_none() && name.starts_with("istio-"))
    }

    /// Endpoints count for Services without slices.
    fn settle_endpoints(&mut self) {
        let sliced: FxHashSet<(ArcStr, ArcStr)> = self
            .slices
            .iter()
            .filter(|s| !s.service.starts_with('\0'))
            .map(|s| (s.namespace.clone(), s.service.clone()))
            .collect();
        self.slices.retain_mut(|s| match s.service.strip_prefix('\0') {
            None => true,
            Some(name) => {
                s.service = name.into();
                !sliced.contains(&(s.namespace.clone(), s.service.clone()))
            }
        });
    }
}

impl Index {
    /// Compiles typed objects.
    pub(crate) fn new(mut objects: Objects, options: &MeshOptions) -> (Self, Vec<PodSpec>) {
        objects.settle_endpoints();
        let (origins, settings) = declared::complete(&mut objects);
        let version = options
            .istio_version
            .or_else(|| detect(&objects.pods))
            .or_else(|| settings.as_ref().and_then(|s| s.version))
            .unwrap_or(IstioVersion::NEWEST)
            .min(IstioVersion::NEWEST);
        let mut rules = Rules::of(version);
        if let Some(settings) = &settings {
            settings.switch(&mut rules);
        }
        let rules = options.override_rules(rules);
        let mut config = objects.config.take().unwrap_or_default();
        config.restrict(&rules);
        let namespaces: FxHashMap<ArcStr, Labels> =
            objects.namespaces.iter().map(|n| (n.meta.name().clone(), n.meta.labels.clone())).collect();
        let hidden = hide(&mut objects, &config, &namespaces, &rules);
        gatewayapi::translate(&mut objects, &namespaces);
        let registry = Registry::new(&Sources {
            entries: &objects.entries,
            services: &objects.services,
            slices: &objects.slices,
            workloads: &objects.workloads,
            pods: &objects.pods,
            config: &config,
            rules: &rules,
            namespaces: &namespaces,
        });
        let mut sidecars = objects.sidecars;
        sidecars.sort_by(|a, b| (a.selector.is_none(), a.meta.age()).cmp(&(b.selector.is_none(), b.meta.age())));
        let mut sidecars_of: FxHashMap<ArcStr, Vec<u32>> = FxHashMap::default();
        for (n, sidecar) in sidecars.iter().enumerate() {
            sidecars_of.entry(sidecar.meta.namespace().clone()).or_default().push(n as u32);
        }
        let mut gateways = objects.gateways;
        gateways.sort_by(|a, b| a.meta.age().cmp(&b.meta.age()));
        let mut envoy_filters = objects.envoy_filters;
        envoy_filters.sort_by(|a, b| a.meta.age().cmp(&b.meta.age()));
        let mut authorization_policies = objects.authorization_policies;
        authorization_policies.sort_by(|a, b| a.meta.age().cmp(&b.meta.age()));
        let mut policies_of: FxHashMap<ArcStr, Vec<u32>> = FxHashMap::default();
        for (n, policy) in (0u32..).zip(&authorization_policies) {
            policies_of.entry(policy.meta.namespace().clone()).or_default().push(n);
        }
        let mut services_of: FxHashMap<ArcStr, Vec<u32>> = FxHashMap::default();
        for (n, service) in objects.services.iter().enumerate() {
            services_of.entry(service.meta.namespace().clone()).or_default().push(n as u32);
        }
        let mut index = Self {
            version,
            gateway_rules: remark::gateway_rules(&objects.virtual_services),
            virtual_services: VirtualServices::new(objects.virtual_services, &config),
            destination_rules: DestinationRules::new(objects.destination_rules, &config, &rules),
            rules,
            config,
            registry,
            sidecars,
            sidecars_of,
            gateway_hosts: remark::gateway_hosts(&gateways),
            misspelt: objects.misspelt,
            gateways,
            services: objects.services,
            services_of,
            namespaces,
            nodes: objects.nodes,
            peer_authentications: objects.peer_authentications,
            filters_by_version: envoy_filters.iter().flat_map(|f| &f.patches).any(|p| p.version.is_some()),
            envoy_filters,
            authorization_policies,
            policies_of,
            label_keys: FxHashSet::default(),
            origins,
            hidden,
        };
        index.label_keys = index.keys();
        (index, objects.pods)
    }

    /// See [`Index::label_keys`].
    fn keys(&self) -> FxHashSet<ArcStr> {
        let mut keys = FxHashSet::default();
        let mut add = |labels: &Labels| keys.extend(labels.iter().map(|(k, _)| k.clone()));
        for vs in &self.virtual_services.list {
            vs.http.iter().flat_map(|r| &r.matches).for_each(|m| add(&m.source_labels));
            vs.tls.iter().chain(&vs.tcp).flat_map(|r| &r.matches).for_each(|m| add(&m.source_labels));
        }
        self.destination_rules.list.iter().filter_map(|r| r.selector.as_ref()).for_each(&mut add);
        self.sidecars.iter().filter_map(|s| s.selector.as_ref()).for_each(&mut add);
        let filters = self.envoy_filters.iter().map(|f| &f.attachment);
        let attachments = filters.chain(self.authorization_policies.iter().map(|p| &p.attachment));
        attachments.filter_map(|a| a.selector.as_ref()).for_each(&mut add);
        keys.insert(crate::mesh::authz::GATEWAY_NAME.into());
        keys
    }

    /// The Sidecar that applies to a pod (`doGetSidecarScope`).
    pub(crate) fn sidecar_for(&self, namespace: &ArcStr, labels: &[(ArcStr, ArcStr)]) -> Option<u32> {
        let fits = |n: &&u32| {
            let selector = &self.sidecars[**n as usize].selector;
            selector.as_ref().is_none_or(|s| crate::mesh::object::read::selects(s, labels))
        };
        let own = self.sidecars_of.get(namespace).and_then(|list| list.iter().find(fits));
        let root = || {
            let list = self.sidecars_of.get(&self.config.root_namespace)?;
            list.iter().find(|n| self.sidecars[**n as usize].selector.is_none())
        };
        own.or_else(root).copied()
    }
}

/// The newest release that a proxy's image names (`…/proxyv2:1.31.2-distroless`).
fn detect(pods: &[PodSpec]) -> Option<IstioVersion> {
    let tag = |pod: &PodSpec| {
        let image = &pod.proxy_container()?.image;
        image.split('@').next()?.rsplit_once(':')?.1.parse::<IstioVersion>().ok()
    };
    pods.iter().filter_map(tag).filter(|v| v.major == 1).max()
}

/// Takes out what istiod does not read: namespaces outside of its discovery selectors, and objects of a revision that no proxy
/// is attached to.
fn hide(
    objects: &mut Objects,
    config: &MeshConfig,
    namespaces: &FxHashMap<ArcStr, Labels>,
    rules: &Rules,
) -> Vec<Hidden> {
    let none = Labels::new();
    let selected = |namespace: &ArcStr| {
        let labels = namespaces.get(namespace).unwrap_or(&none);
        config.discovery.is_empty()
            || *namespace == config.root_namespace
            || config.discovery.iter().any(|s| s.holds(labels))
    };
    let revisions: FxHashSet<ArcStr> = objects.pods.iter().filter_map(PodSpec::revision).collect();
    let of_revision = |meta: &Meta| match meta.label("istio.io/rev") {
        None => true,
        Some(revision) => revisions.is_empty() || revisions.contains(revision),
    };
    let reads = |meta: &Meta| selected(meta.namespace()) && of_revision(meta);
    let mut hidden = Vec::new();
    let (kept, out): (Vec<_>, Vec<_>) = std::mem::take(&mut objects.entries)
        .into_iter()
        .partition(|e| reads(&e.meta) && (rules.dynamic_dns || e.resolution != Resolution::DynamicDns));
    objects.entries = kept;
    for entry in out {
        let by = if reads(&entry.meta) {
            let says = "sidecars know resolution DYNAMIC_DNS since release 1.30".to_owned();
            (entry.meta.object.clone(), ".spec.resolution".into(), says)
        } else if selected(entry.meta.namespace()) {
            let revision = entry.meta.label("istio.io/rev").cloned().unwrap_or_default();
            let says = format!("the entry is for revision {revision}, to which no proxy is attached");
            (entry.meta.object.clone(), ".metadata.labels[\"istio.io/rev\"]".into(), says)
        } else {
            let object = config
                .object
                .clone()
                .unwrap_or_else(|| ObjectRef::new("ConfigMap", config.root_namespace.clone(), "istio"));
            let says = format!("discoverySelectors leave out the namespace {}", entry.meta.namespace());
            (object, config.field("discoverySelectors"), says)
        };
        hidden.push(Hidden { entry, by });
    }
    objects.workloads.retain(|o| reads(&o.meta));
    objects.virtual_services.retain(|o| reads(&o.meta));
    objects.gateways.retain(|o| reads(&o.meta));
    objects.destination_rules.retain(|o| reads(&o.meta));
    objects.sidecars.retain(|o| reads(&o.meta));
    objects.envoy_filters.retain(|o| reads(&o.meta));
    objects.authorization_policies.retain(|o| reads(&o.meta));
    objects.peer_authentications.retain(|o| reads(&o.meta));
    objects.services.retain(|o| selected(o.meta.namespace()));
    objects.gateway_api.retain(&reads);
    hidden
}
