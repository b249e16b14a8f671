//! MeshConfig: the `mesh` key of the ConfigMap `istio` (Istio: `pkg/config/mesh`).

use arcstr::ArcStr;
use serde_json::Value;

use crate::id::ObjectRef;
use crate::manifest;
use crate::mesh::declared::Settings;
use crate::mesh::object::read::{At, Labels, Note, Reading, selects};
use crate::mesh::object::{OutboundPolicy, PolicyMode};
use crate::mesh::options::Rules;

/// A label selector as Kubernetes writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) labels: Labels,
    /// Key, operator, values.
    pub(crate) expressions: Vec<(ArcStr, ArcStr, Vec<ArcStr>)>,
}

impl Selector {
    pub(crate) fn read(at: &At<'_>) -> Self {
        Self {
            labels: at.key("matchLabels", |l| l.labels()),
            expressions: at.key("matchExpressions", |e| {
                e.each(|e| {
                    (e.key("key", |k| k.text()), e.key("operator", |o| o.text()), e.key("values", |v| v.strings()))
                })
            }),
        }
    }

    pub(crate) fn holds(&self, labels: &[(ArcStr, ArcStr)]) -> bool {
        selects(&self.labels, labels)
            && self.expressions.iter().all(|(key, operator, values)| {
                let value = crate::mesh::object::read::label(labels, key);
                match operator.as_str() {
                    "In" => value.is_some_and(|v| values.contains(v)),
                    "NotIn" => value.is_none_or(|v| !values.contains(v)),
                    "Exists" => value.is_some(),
                    "DoesNotExist" => value.is_none(),
                    _ => false,
                }
            })
    }
}

/// serviceEntryVisibility: how far an entry may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryVisibility {
    Public,
    Namespace,
    None,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MeshConfig {
    /// The ConfigMap, or the object that declares the settings, if there is one.
    pub(crate) object: Option<ObjectRef>,
    /// The field of it that holds the settings, and those that stand elsewhere in it.
    below: ArcStr,
    places: Vec<(ArcStr, ArcStr)>,
    pub(crate) policy: OutboundPolicy,
    pub(crate) root_namespace: ArcStr,
    pub(crate) service_export: Vec<ArcStr>,
    pub(crate) virtual_service_export: Vec<ArcStr>,
    pub(crate) destination_rule_export: Vec<ArcStr>,
    pub(crate) discovery: Vec<Selector>,
    pub(crate) proxy_metadata: Labels,
    pub(crate) interception: ArcStr,
    pub(crate) auto_mtls: bool,
    /// Namespace selectors with what they permit, and the default.
    pub(crate) visibility: (Vec<(Selector, EntryVisibility)>, EntryVisibility),
    pub(crate) visibility_for_sidecars: bool,
    pub(crate) trust_domain: ArcStr,
    pub(crate) trust_domain_aliases: Vec<ArcStr>,
    /// External authorizers by name, with whether they speak HTTP only.
    pub(crate) authorizers: Vec<(ArcStr, bool)>,
    /// Gateways take the client's address from headers that proxies before them set.
    pub(crate) trusts_forwarded: bool,
}

impl Default for MeshConfig {
    fn default() -> Self {
        let public = || vec![ArcStr::from("*")];
        Self {
            object: None,
            below: ".data.mesh".into(),
            places: Vec::new(),
            policy: OutboundPolicy { mode: PolicyMode::AllowAny, proxy: None },
            root_namespace: "istio-system".into(),
            service_export: public(),
            virtual_service_export: public(),
            destination_rule_export: public(),
            discovery: Vec::new(),
            proxy_metadata: Vec::new(),
            interception: "REDIRECT".into(),
            auto_mtls: true,
            visibility: (Vec::new(), EntryVisibility::Public),
            visibility_for_sidecars: false,
            trust_domain: "cluster.local".into(),
            trust_domain_aliases: Vec::new(),
            authorizers: Vec::new(),
            trusts_forwarded: false,
        }
    }
}

impl MeshConfig {
    /// From the ConfigMap; notes name fields as `.data.mesh.…`.
    pub(crate) fn read(object: ObjectRef, config_map: &Value, reading: &Reading) -> Self {
        let mut config =
            Self { root_namespace: object.name.namespace.clone(), object: Some(object), ..Self::default() };
        let Some(text) = config_map.pointer("/data/mesh").and_then(Value::as_str) else { return config };
        let parsed = manifest::parse("", text);
        for problem in &parsed.problems {
            let says = format!("line {} of the text: {}", problem.line, problem.says);
            reading.note(Note { field: ".data.mesh".into(), says });
        }
        let Some(raw) = parsed.objects.first() else { return config };
        let inner = Reading::default();
        config.apply(&At::root(&raw.value, &inner));
        for note in inner.take_notes() {
            reading.note(Note { field: format!(".data.mesh{}", note.field).into(), ..note });
        }
        config
    }

    /// Wherever it stands.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        let bare = |config: &Self| {
            let none = Self::default();
            Self { object: None, below: none.below, places: none.places, ..config.clone() }
        };
        bare(self) == bare(other)
    }

    /// From the object that declares them, where there is no ConfigMap.
    pub(crate) fn declared(settings: &Settings) -> Self {
        let mut config = Self {
            object: Some(settings.by.clone()),
            below: settings.below.clone(),
            places: settings.places.clone(),
            root_namespace: settings.root.clone(),
            ..Self::default()
        };
        config.apply(&At::root(&settings.mesh, &Reading::default()));
        config
    }

    /// Where a setting stands in [`MeshConfig::object`].
    pub(crate) fn field(&self, key: &str) -> ArcStr {
        let place = self.places.iter().find(|(k, _)| k == key);
        place.map_or_else(|| format!("{}.{key}", self.below).into(), |(_, field)| field.clone())
    }

    /// Takes out what a release does not know.
    pub(crate) fn restrict(&mut self, rules: &Rules) {
        if !rules.dynamic_policy && self.policy.mode == PolicyMode::AllowAnyDynamicDns {
            self.policy.mode = PolicyMode::AllowAny;
        }
        self.visibility_for_sidecars &= rules.entry_visibility;
    }

    /// A message that is present replaces the default one as a whole (`mesh.ApplyMeshConfig`).
    fn apply(&mut self, at: &At<'_>) {
        if let Some(policy) = at.key("outboundTrafficPolicy", |p| OutboundPolicy::read(&p)) {
            self.policy = policy;
        }
        if let Some(root) = at.key("rootNamespace", |r| r.string()).filter(|r| !r.is_empty()) {
            self.root_namespace = root;
        }
        let list = |key: &str, field: &mut Vec<ArcStr>| {
            let value = at.key(key, |l| l.strings());
            if !value.is_empty() {
                *field = value;
            }
        };
        list("defaultServiceExportTo", &mut self.service_export);
        list("defaultVirtualServiceExportTo", &mut self.virtual_service_export);
        list("defaultDestinationRuleExportTo", &mut self.destination_rule_export);
        self.discovery = at.key("discoverySelectors", |l| l.each(|s| Selector::read(&s)));
        at.key("defaultConfig", |d| {
            self.proxy_metadata = d.key("proxyMetadata", |m| m.labels());
            if let Some(mode) = d.key("interceptionMode", |m| m.string()) {
                self.interception = mode;
            }
        });
        if let Some(domain) = at.key("trustDomain", |t| t.string()).filter(|t| !t.is_empty()) {
            self.trust_domain = domain;
        }
        self.trust_domain_aliases = at.key("trustDomainAliases", |l| l.strings());
        self.authorizers = at
            .key("extensionProviders", |l| {
                l.each(|p| {
                    let is = |key: &str| p.key(key, |v| v.is_present());
                    (is("envoyExtAuthzHttp") || is("envoyExtAuthzGrpc"))
                        .then(|| (p.key("name", |n| n.text()), is("envoyExtAuthzHttp")))
                })
            })
            .into_iter()
            .flatten()
            .collect();
        self.trusts_forwarded = at.key("defaultConfig", |d| {
            d.key("gatewayTopology", |g| g.key("numTrustedProxies", |n| n.number())).is_some_and(|n| n > 0)
        });
        self.auto_mtls = at.key("enableAutoMtls", |b| b.bool()).unwrap_or(true);
        at.key("serviceEntryVisibility", |v| {
            let words = [
                ("PUBLIC", EntryVisibility::Public),
                ("NAMESPACE", EntryVisibility::Namespace),
                ("NONE", EntryVisibility::None),
            ];
            let one = |x: At<'_>| x.word(&words).unwrap_or(EntryVisibility::Public);
            self.visibility_for_sidecars = v.key("applyToSidecars", |b| b.bool()).unwrap_or(false);
            self.visibility.1 = v.key("default", one);
            self.visibility.0 = v.key("policies", |l| {
                l.each(|p| (p.key("namespaceSelector", |s| Selector::read(&s)), p.key("visibility", one)))
            });
        });
    }
}
