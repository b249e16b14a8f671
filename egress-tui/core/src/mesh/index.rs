//! All objects of a mesh, typed, sorted and indexed. Built once from raw objects, in any order; never changed.

use std::net::IpAddr;
use std::sync::Arc;

use arcstr::ArcStr;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;

use crate::id::ObjectRef;
use crate::manifest::{Problem, RawObject};
use crate::mesh::ambient;
use crate::mesh::declared::{self, Declared, Origins};
use crate::mesh::gatewayapi;
use crate::mesh::host;
use crate::mesh::hosts::{Hosts, Overlaps};
use crate::mesh::kept::group;
use crate::mesh::object::authorization::AuthorizationPolicy;
use crate::mesh::object::kube::{ContainerSpec, Node};
use crate::mesh::object::policy::{EnvoyFilter, PeerAuthentication};
use crate::mesh::object::read::{At, Labels, Reading};
use crate::mesh::object::{
    DestinationRule, EndpointSlice, Gateway, MeshConfig, Meta, Namespace, PodSpec, Resolution, Service, ServiceEntry,
    Sidecar, VirtualService, WorkloadEntry,
};
use crate::mesh::options::{IstioVersion, MeshOptions, Rules};
use crate::mesh::reach::{self, Endpoints};
use crate::mesh::registry::{Registry, Sources};
use crate::mesh::remark::{self, GatewayHosts, GatewayRules, Misspelt};
use crate::mesh::revisions;
use crate::mesh::shared::Shared;
use crate::mesh::visible::{DestinationRules, VirtualServices};
use crate::verdict::Says;
use crate::verdict::says::says;

/// See the module.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) version: IstioVersion,
    pub(crate) rules: Rules,
    pub(crate) config: MeshConfig,
    /// Hosts of upstreams and VirtualServices.
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) virtual_services: Arc<VirtualServices>,
    pub(crate) destination_rules: Arc<DestinationRules>,
    /// Field of the mesh's outboundTrafficPolicy.
    pub(crate) policy_field: ArcStr,
    /// Endpoints of Services.
    reach: Arc<Endpoints>,
    /// The objects that these four were made of.
    pub(crate) parts: Parts,
    /// With a selector first, then oldest first (`initSidecarScopes`).
    pub(crate) sidecars: Vec<Arc<Sidecar>>,
    pub(crate) sidecars_of: FxHashMap<ArcStr, Vec<u32>>,
    /// Oldest first.
    pub(crate) gateways: Vec<Arc<Gateway>>,
    pub(crate) services: Vec<Arc<Service>>,
    pub(crate) services_of: FxHashMap<ArcStr, Vec<u32>>,
    pub(crate) namespaces: FxHashMap<ArcStr, Labels>,
    pub(crate) nodes: Vec<Arc<Node>>,
    pub(crate) peer_authentications: Vec<Arc<PeerAuthentication>>,
    pub(crate) envoy_filters: Vec<Arc<EnvoyFilter>>,
    /// Some EnvoyFilter is for proxies of certain releases.
    pub(crate) filters_by_version: bool,
    /// Oldest first.
    pub(crate) authorization_policies: Vec<Arc<AuthorizationPolicy>>,
    pub(crate) policies_of: FxHashMap<ArcStr, Vec<u32>>,
    /// What proxies have alike.
    pub(crate) shared: Shared,
    /// Labels that selectors ask for.
    selected: FxHashSet<(ArcStr, ArcStr)>,
    pub(crate) waypoints: Vec<gatewayapi::Waypoint>,
    /// What is only declared, and by which objects.
    pub(crate) origins: Origins,
    /// Objects that istiod does not read: outside of its discovery selectors, or of another revision; entries of these hosts.
    pub(crate) hidden: HiddenEntries,
    /// Settings of other revisions that say something else.
    pub(crate) other_settings: Vec<Problem>,
    pub(crate) gateway_hosts: GatewayHosts,
    pub(crate) gateway_rules: Arc<GatewayRules>,
    pub(crate) misspelt: Option<Arc<Misspelt>>,
}

/// Objects that an index was made of, as far as parts of it can serve the index after an edit.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    namespaces: Vec<Arc<Namespace>>,
    entries: Vec<Arc<ServiceEntry>>,
    workloads: Vec<Arc<WorkloadEntry>>,
    pub(crate) slices: Vec<Arc<EndpointSlice>>,
    pods: Vec<Arc<PodSpec>>,
    virtual_services: Vec<Arc<VirtualService>>,
    destination_rules: Vec<Arc<DestinationRule>>,
}

/// Parts of an index that an edit left as they were.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each part by itself")]
pub(crate) struct Unchanged {
    /// Services, slices and pods.
    reach: bool,
    /// Pods, and the Services that front them.
    pub(crate) pods: bool,
    pub(crate) registry: bool,
    virtual_services: bool,
    destination_rules: bool,
    pub(crate) nodes: bool,
}

/// The same objects, read once.
fn same<T>(a: &[Arc<T>], b: &[Arc<T>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

impl Unchanged {
    fn of(before: &Index, objects: &Objects, version: IstioVersion, rules: &Rules, config: &MeshConfig) -> Self {
        let parts = &before.parts;
        let settings = before.version == version
            && before.rules == *rules
            && before.config == *config
            && same(&parts.namespaces, &objects.namespaces);
        let pods = settings && same(&before.services, &objects.services) && same(&parts.pods, &objects.pods);
        let reach = pods && same(&parts.slices, &objects.slices);
        Self {
            pods,
            reach,
            registry: reach && same(&parts.entries, &objects.entries) && same(&parts.workloads, &objects.workloads),
            virtual_services: settings && same(&parts.virtual_services, &objects.virtual_services),
            destination_rules: settings && same(&parts.destination_rules, &objects.destination_rules),
            nodes: same(&before.nodes, &objects.nodes),
        }
    }
}

/// The hosts of these objects, with the numbers that they had before; all anew where more than half of them are gone.
fn hosts(objects: &Objects, before: Option<&Index>) -> Arc<Hosts> {
    let services = objects.services.iter().map(|s| host::service_host(s.meta.name(), s.meta.namespace()));
    let services: Vec<ArcStr> = services.collect();
    let all = || {
        let entries = objects.entries.iter().flat_map(|e| &e.hosts);
        entries.chain(&services).chain(objects.virtual_services.iter().flat_map(|v| &v.hosts))
    };
    let anew = || Hosts::of(Hosts::with_room(objects.entries.len() + services.len()), all());
    let Some(before) = before else { return anew() };
    let out = Hosts::of(Arc::clone(&before.hosts), all());
    if out.len() > 2 * all().count() + 64 { anew() } else { out }
}

/// A ServiceEntry that istiod does not read.
#[derive(Debug)]
pub(crate) struct Hidden {
    pub(crate) entry: Arc<ServiceEntry>,
    /// The object and field that hide it, and a sentence.
    pub(crate) by: (ObjectRef, ArcStr, Says),
}

/// Entries that istiod does not read, by what they would register.
#[derive(Debug, Default)]
pub(crate) struct HiddenEntries {
    pub(crate) list: Vec<Hidden>,
    pub(crate) by_host: Overlaps<u32>,
    pub(crate) by_address: FxHashMap<IpAddr, Vec<u32>>,
}

impl HiddenEntries {
    fn new(list: Vec<Hidden>) -> Self {
        let mut by_address: FxHashMap<IpAddr, Vec<u32>> = FxHashMap::default();
        for (n, hidden) in (0u32..).zip(&list) {
            for ip in hidden.entry.addresses.iter().filter_map(|a| a.parse().ok()) {
                by_address.entry(ip).or_default().push(n);
            }
        }
        let named = (0u32..).zip(&list).flat_map(|(n, h)| h.entry.hosts.iter().map(move |h| (h, n)));
        let hosts = Hosts::of(Arc::default(), named.clone().map(|(h, _)| h));
        let by_host = Overlaps::new(&hosts, named);
        Self { list, by_host, by_address }
    }
}

/// Typed objects, each list in order of its objects' names.
#[derive(Debug, Default, Clone)]
pub(crate) struct Objects {
    pub(crate) entries: Vec<Arc<ServiceEntry>>,
    pub(crate) workloads: Vec<Arc<WorkloadEntry>>,
    pub(crate) virtual_services: Vec<Arc<VirtualService>>,
    pub(crate) gateways: Vec<Arc<Gateway>>,
    pub(crate) destination_rules: Vec<Arc<DestinationRule>>,
    pub(crate) sidecars: Vec<Arc<Sidecar>>,
    pub(crate) services: Vec<Arc<Service>>,
    pub(crate) slices: Vec<Arc<EndpointSlice>>,
    pub(crate) namespaces: Vec<Arc<Namespace>>,
    pub(crate) nodes: Vec<Arc<Node>>,
    pub(crate) pods: Vec<Arc<PodSpec>>,
    pub(crate) peer_authentications: Vec<Arc<PeerAuthentication>>,
    pub(crate) envoy_filters: Vec<Arc<EnvoyFilter>>,
    pub(crate) authorization_policies: Vec<Arc<AuthorizationPolicy>>,
    pub(crate) configs: Vec<Arc<MeshConfig>>,
    pub(crate) misspelt: Vec<Arc<Misspelt>>,
    pub(crate) gateway_api: gatewayapi::Objects,
    pub(crate) declared: Declared,
}

impl Objects {
    /// Reads an object of a kind that matters.
    pub(crate) fn read_one(&mut self, object: &ObjectRef, raw: &RawObject, reading: &Reading) {
        let api = raw.value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let at = At::root(&raw.value, reading);
        self.misspelt.extend(remark::misspelt(object, &raw.value).map(Arc::new));
        let meta = || Meta::read(object.clone(), &at);
        match (group(api), object.kind.as_str()) {
            ("networking.istio.io", "ServiceEntry") => self.entries.push(Arc::new(ServiceEntry::read(meta(), &at))),
            ("networking.istio.io", "WorkloadEntry") => self.workloads.push(Arc::new(WorkloadEntry::read(meta(), &at))),
            ("networking.istio.io", "VirtualService") => {
                self.virtual_services.push(Arc::new(VirtualService::read(meta(), &at)));
            }
            ("networking.istio.io", "Gateway") => self.gateways.push(Arc::new(Gateway::read(meta(), &at))),
            ("networking.istio.io", "DestinationRule") => {
                self.destination_rules.push(Arc::new(DestinationRule::read(meta(), &at)));
            }
            ("networking.istio.io", "Sidecar") => self.sidecars.push(Arc::new(Sidecar::read(meta(), &at))),
            ("networking.istio.io", "EnvoyFilter") => self.envoy_filters.push(Arc::new(EnvoyFilter::read(meta(), &at))),
            ("security.istio.io", "PeerAuthentication") => {
                self.peer_authentications.push(Arc::new(PeerAuthentication::read(meta(), &at)));
            }
            ("security.istio.io", "AuthorizationPolicy") => {
                self.authorization_policies.push(Arc::new(AuthorizationPolicy::read(meta(), &at)));
            }
            ("", "Service") => self.services.push(Arc::new(Service::read(meta(), &at))),
            ("", "Endpoints") => {
                self.slices.extend(EndpointSlice::read_endpoints(&meta(), &at).into_iter().map(Arc::new));
            }
            ("discovery.k8s.io", "EndpointSlice") => {
                self.slices.extend(EndpointSlice::read(&meta(), &at).map(Arc::new));
            }
            ("", "Namespace") => self.namespaces.push(Arc::new(Namespace { meta: meta() })),
            ("", "Node") => self.nodes.push(Arc::new(Node::read(meta(), &at))),
            ("", "Pod") => self.pods.push(Arc::new(PodSpec::read(meta(), &at))),
            ("", "ConfigMap") if is_mesh_config(object) && raw.value.pointer("/data/mesh").is_some() => {
                self.configs.push(Arc::new(MeshConfig::read(object.clone(), &raw.value, reading)));
            }
            ("apiextensions.k8s.io", "CustomResourceDefinition") => {
                let version = raw.value.pointer("/metadata/annotations/gateway.networking.k8s.io~1bundle-version");
                self.gateway_api.read_definition(&object.name.name, version.and_then(Value::as_str));
            }
            ("gateway.networking.k8s.io", kind) => self.gateway_api.read(kind, meta(), &at),
            (group, _) => self.declared.read(group, object, &raw.value, &at),
        }
    }

    /// Forgets an object.
    pub(crate) fn remove(&mut self, group: &str, object: &ObjectRef) {
        macro_rules! forget {
            ($list:ident) => {
                self.$list.retain(|o| o.meta.object != *object)
            };
        }
        self.misspelt.retain(|m| m.object != *object);
        match (group, object.kind.as_str()) {
            ("networking.istio.io", "ServiceEntry") => forget!(entries),
            ("networking.istio.io", "WorkloadEntry") => forget!(workloads),
            ("networking.istio.io", "VirtualService") => forget!(virtual_services),
            ("networking.istio.io", "Gateway") => forget!(gateways),
            ("networking.istio.io", "DestinationRule") => forget!(destination_rules),
            ("networking.istio.io", "Sidecar") => forget!(sidecars),
            ("networking.istio.io", "EnvoyFilter") => forget!(envoy_filters),
            ("security.istio.io", "PeerAuthentication") => forget!(peer_authentications),
            ("security.istio.io", "AuthorizationPolicy") => forget!(authorization_policies),
            ("", "Service") => forget!(services),
            ("", "Endpoints") | ("discovery.k8s.io", "EndpointSlice") => self.slices.retain(|s| s.object != *object),
            ("", "Namespace") => forget!(namespaces),
            ("", "Node") => forget!(nodes),
            ("", "Pod") => forget!(pods),
            ("", "ConfigMap") => self.configs.retain(|c| c.object.as_ref() != Some(object)),
            ("apiextensions.k8s.io" | "gateway.networking.k8s.io", _) => self.gateway_api.remove(object),
            _ => self.declared.remove(object),
        }
    }

    /// Puts what was added into the order of a first reading.
    pub(crate) fn sort(&mut self) {
        macro_rules! sort {
            ($($list:ident),*) => { $(self.$list.sort_by(|a, b| a.meta.object.cmp(&b.meta.object));)* };
        }
        sort!(
            entries,
            workloads,
            virtual_services,
            gateways,
            destination_rules,
            sidecars,
            services,
            namespaces,
            nodes,
            pods
        );
        sort!(peer_authentications, envoy_filters, authorization_policies);
        self.slices.sort_by(|a, b| a.object.cmp(&b.object));
        self.configs.sort_by(|a, b| a.object.cmp(&b.object));
        self.misspelt.sort_by(|a, b| a.object.cmp(&b.object));
        self.gateway_api.sort();
        self.declared.sort();
    }

    /// Gives back what the lists grew beyond their need.
    pub(crate) fn shrink(&mut self) {
        macro_rules! shrink {
            ($($list:ident),*) => { $(self.$list.shrink_to_fit();)* };
        }
        shrink!(entries, workloads, virtual_services, gateways, destination_rules, sidecars, services, slices, pods);
    }

    /// Endpoints count for Services without slices.
    fn settle_endpoints(&mut self) {
        let of = |s: &EndpointSlice| (s.namespace.clone(), s.service.clone());
        if !self.slices.iter().any(|s| s.mirrored) {
            return;
        }
        let sliced: FxHashSet<(ArcStr, ArcStr)> = self.slices.iter().filter(|s| !s.mirrored).map(|s| of(s)).collect();
        self.slices.retain(|s| !s.mirrored || !sliced.contains(&of(s)));
    }
}

impl Index {
    /// Compiles typed objects; of the index before an edit it keeps the parts whose objects are still the same.
    pub(crate) fn new(mut objects: Objects, options: &MeshOptions, before: Option<&Self>) -> (Self, Unchanged) {
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
        // What runs wins over what is declared, and what is asked for over both.
        rules.run_with(environment(&objects.pods));
        let rules = options.override_rules(rules);
        let (config, other_settings) = revisions::choose(&objects.configs, &objects.pods);
        let mut config = config.map(|c| (*c).clone()).unwrap_or_default();
        config.restrict(&rules);
        let namespaces: FxHashMap<ArcStr, Labels> =
            objects.namespaces.iter().map(|n| (n.meta.name().clone(), n.meta.labels.clone())).collect();
        let hidden = hide(&mut objects, &config, &namespaces, &rules);
        let waypoints = ambient::waypoints(&objects.gateway_api);
        gatewayapi::translate(&mut objects, &namespaces);
        let unchanged =
            before.map_or_else(Unchanged::default, |b| Unchanged::of(b, &objects, version, &rules, &config));
        let hosts = hosts(&objects, before);
        // too many hosts of objects that are gone: everything is numbered anew
        let renumbered = before.is_some_and(|b| !Arc::ptr_eq(&b.hosts, &hosts) && hosts.len() < b.hosts.len());
        let unchanged = if renumbered {
            Unchanged { registry: false, virtual_services: false, destination_rules: false, ..unchanged }
        } else {
            unchanged
        };
        let kept = |part: bool| before.filter(|_| part);
        let sources = Sources {
            entries: &objects.entries,
            services: &objects.services,
            slices: &objects.slices,
            workloads: &objects.workloads,
            pods: &objects.pods,
            config: &config,
            rules: &rules,
            namespaces: &namespaces,
            hosts: &hosts,
        };
        let reach =
            kept(unchanged.reach).map_or_else(|| Arc::new(reach::of_services(&sources)), |b| Arc::clone(&b.reach));
        let registry = kept(unchanged.registry)
            .map_or_else(|| Arc::new(Registry::new(&sources, &reach)), |b| Arc::clone(&b.registry));
        let virtual_services = kept(unchanged.virtual_services).map_or_else(
            || Arc::new(VirtualServices::new(objects.virtual_services.clone(), &config, &hosts)),
            |b| Arc::clone(&b.virtual_services),
        );
        let gateway_rules = kept(unchanged.virtual_services).map_or_else(
            || Arc::new(remark::gateway_rules(&objects.virtual_services)),
            |b| Arc::clone(&b.gateway_rules),
        );
        let destination_rules = kept(unchanged.destination_rules).map_or_else(
            || Arc::new(DestinationRules::new(objects.destination_rules.clone(), &config, &rules, &hosts)),
            |b| Arc::clone(&b.destination_rules),
        );
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
            gateway_rules,
            hosts,
            virtual_services,
            destination_rules,
            registry,
            reach,
            policy_field: config.field("outboundTrafficPolicy"),
            parts: Parts {
                namespaces: objects.namespaces,
                entries: objects.entries,
                workloads: objects.workloads,
                slices: objects.slices,
                pods: objects.pods,
                virtual_services: objects.virtual_services,
                destination_rules: objects.destination_rules,
            },
            rules,
            config,
            sidecars,
            sidecars_of,
            gateway_hosts: remark::gateway_hosts(&gateways),
            misspelt: objects.misspelt.into_iter().next(),
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
            shared: Shared::default(),
            selected: FxHashSet::default(),
            waypoints,
            origins,
            hidden: HiddenEntries::new(hidden),
            other_settings,
        };
        index.selected = index.selected_labels();
        (index, unchanged)
    }

    /// Pods, in the order of their names.
    pub(crate) fn pods(&self) -> &[Arc<PodSpec>] {
        &self.parts.pods
    }

    /// See [`Index::matters`].
    fn selected_labels(&self) -> FxHashSet<(ArcStr, ArcStr)> {
        let mut out = FxHashSet::default();
        let mut add = |labels: &Labels| out.extend(labels.iter().cloned());
        for vs in &self.virtual_services.list {
            vs.http.iter().flat_map(|r| &r.matches).for_each(|m| add(&m.source_labels));
            vs.tls.iter().chain(&vs.tcp).flat_map(|r| &r.matches).for_each(|m| add(&m.source_labels));
        }
        self.destination_rules.list.iter().filter_map(|r| r.selector.as_ref()).for_each(&mut add);
        let filters = self.envoy_filters.iter().map(|f| &f.attachment);
        let attachments = filters.chain(self.authorization_policies.iter().map(|p| &p.attachment));
        attachments.filter_map(|a| a.selector.as_ref()).for_each(&mut add);
        out
    }

    /// Some selector asks for this label with this value (Sidecars aside: which one applies is known): proxies that differ in other
    /// labels only are alike.
    pub(crate) fn matters(&self, label: &(ArcStr, ArcStr)) -> bool {
        label.0 == crate::mesh::authz::GATEWAY_NAME || self.selected.contains(label)
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

/// The settings of a mesh: `istio`, or `istio-REVISION`.
fn is_mesh_config(object: &ObjectRef) -> bool {
    object.name.name == "istio" || object.name.name.starts_with("istio-")
}

/// The release: of the control plane's image, else the newest of the proxies' (`…/proxyv2:1.31.2-distroless`).
fn detect(pods: &[Arc<PodSpec>]) -> Option<IstioVersion> {
    let tag = |image: &str| image.split('@').next()?.rsplit_once(':')?.1.parse::<IstioVersion>().ok();
    let control = control_plane(pods).and_then(|container| tag(&container.image)).filter(|v| v.major == 1);
    let proxies = || pods.iter().filter_map(|pod| tag(&pod.proxy_container()?.image)).filter(|v| v.major == 1).max();
    control.or_else(proxies)
}

/// The container of istiod: of the default revision, where there are several.
fn control_plane(pods: &[Arc<PodSpec>]) -> Option<&ContainerSpec> {
    let revision = |pod: &PodSpec| pod.meta.label("istio.io/rev").cloned().unwrap_or_else(|| "default".into());
    let is_istiod = |pod: &&Arc<PodSpec>| {
        pod.meta.label("app").is_some_and(|app| app == "istiod")
            && !matches!(pod.phase.as_str(), "Succeeded" | "Failed")
    };
    let first = pods.iter().filter(is_istiod).min_by_key(|pod| {
        let revision = revision(pod);
        (revision != "default", revision, pod.meta.object.clone())
    })?;
    first.containers.iter().find(|c| c.name == "discovery")
}

/// What istiod is started with, as far as its pod's spec tells.
fn environment(pods: &[Arc<PodSpec>]) -> impl Iterator<Item = (&str, &str)> {
    let variables = control_plane(pods).map(|container| container.env.as_slice()).unwrap_or_default();
    variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
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
    let revisions: FxHashSet<ArcStr> = objects.pods.iter().filter_map(|p| p.revision()).collect();
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
            let says = "sidecars know resolution DYNAMIC_DNS since release 1.30";
            (entry.meta.object.clone(), ".spec.resolution".into(), says.into())
        } else if selected(entry.meta.namespace()) {
            let revision = entry.meta.label("istio.io/rev").cloned().unwrap_or_default();
            let says = says!["the entry is for revision ", &revision, ", to which no proxy is attached"];
            (entry.meta.object.clone(), ".metadata.labels[\"istio.io/rev\"]".into(), says)
        } else {
            let object = config
                .object
                .clone()
                .unwrap_or_else(|| ObjectRef::new("ConfigMap", config.root_namespace.clone(), "istio"));
            let says = says!["discoverySelectors leave out the namespace ", entry.meta.namespace()];
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

#[cfg(test)]
mod tests {
    use crate::manifest;
    use crate::mesh::{Mesh, MeshOptions};

    fn istiod(revision: &str, image: &str, switch: &str) -> String {
        format!(
            "---\nkind: Pod\napiVersion: v1\nmetadata: {{name: istiod-{revision}, namespace: istio-system, labels: {{app: istiod, istio.io/rev: {revision}}}}}\n\
             spec: {{containers: [{{name: discovery, image: 'example/pilot:{image}', env: [{{name: PILOT_SCOPE_GATEWAY_TO_NAMESPACE, value: '{switch}'}}]}}]}}\n"
        )
    }

    fn mesh(text: &str, options: &MeshOptions) -> Mesh {
        Mesh::compile(&manifest::parse("a.yaml", text).objects, options)
    }

    #[test]
    fn the_control_plane_tells_release_and_switches_and_what_is_asked_for_wins() {
        let text = format!("{}{}", istiod("canary", "1.28.1", "false"), istiod("default", "1.29.3-distroless", "true"));
        let told = mesh(&text, &MeshOptions::default());
        assert_eq!(told.istio_version().to_string(), "1.29");
        assert!(told.index.rules.scope_gateways);
        let options = MeshOptions::parse(Some("1.26"), ["PILOT_SCOPE_GATEWAY_TO_NAMESPACE=false"]).expect("valid");
        let asked = mesh(&text, &options);
        assert_eq!(asked.istio_version().to_string(), "1.26");
        assert!(!asked.index.rules.scope_gateways);
    }

    #[test]
    fn a_switch_that_is_no_boolean_changes_nothing() {
        assert!(!mesh(&istiod("default", "1.31.0", "perhaps"), &MeshOptions::default()).index.rules.scope_gateways);
    }
}
