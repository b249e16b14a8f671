//! AuthorizationPolicy, in the form that istiod turns it into: alternatives of conditions on the operation, and alternatives of
//! conditions on the source (Istio: `pilot/pkg/security/authz/model/model.go` New).

use arcstr::ArcStr;

use crate::mesh::object::Meta;
use crate::mesh::object::read::{At, Labels};

/// What happens to a connection that a rule holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyAction {
    Allow,
    Deny,
    Audit,
    Custom,
}

/// What a condition looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attribute {
    DestinationIp,
    DestinationPort,
    ServerName,
    SourceIp,
    RemoteIp,
    SourceNamespace,
    SourceTrustDomain,
    SourceServiceAccount,
    SourcePrincipal,
    Host,
    Path,
    Method,
    Header,
    /// `request.auth.*`: claims of a token.
    Token,
    /// `experimental.envoy.filters.*`: metadata of other filters.
    Metadata,
}

impl Attribute {
    /// Has no meaning for bytes that are no HTTP (`authz/model/generator.go`).
    pub(crate) fn is_http_only(self) -> bool {
        matches!(self, Self::Host | Self::Path | Self::Method | Self::Header | Self::Token)
    }

    /// Of a `when` key: on the operation, or on the source; `None` where istiod knows no such key.
    fn of_key(key: &str) -> Option<(Self, Side)> {
        Some(match key {
            "destination.ip" => (Self::DestinationIp, Side::Operation),
            "destination.port" => (Self::DestinationPort, Side::Operation),
            "connection.sni" => (Self::ServerName, Side::Operation),
            "source.ip" => (Self::SourceIp, Side::Source),
            "remote.ip" => (Self::RemoteIp, Side::Source),
            "source.namespace" => (Self::SourceNamespace, Side::Source),
            "source.trustDomain" => (Self::SourceTrustDomain, Side::Source),
            "source.serviceAccount" => (Self::SourceServiceAccount, Side::Source),
            "source.principal" => (Self::SourcePrincipal, Side::Source),
            "request.auth.principal" | "request.auth.audiences" | "request.auth.presenter" => {
                (Self::Token, Side::Source)
            }
            _ if key.starts_with("experimental.envoy.filters.") => (Self::Metadata, Side::Operation),
            _ if key.starts_with("request.headers") => (Self::Header, Side::Source),
            _ if key.starts_with("request.auth.claims") => (Self::Token, Side::Source),
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Operation,
    Source,
}

/// One field (with its `not` twin), which has to hold.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) attribute: Attribute,
    /// Path of the values, or of their negation where only that is given.
    pub(crate) path: ArcStr,
    /// One of them has to fit, if there are any.
    pub(crate) values: Vec<ArcStr>,
    /// None of them may fit.
    pub(crate) not_values: Vec<ArcStr>,
}

/// A rule: some operation and some source have to hold, each with all of its conditions.
#[derive(Debug, Clone)]
pub(crate) struct PolicyRule {
    pub(crate) path: ArcStr,
    pub(crate) operations: Vec<Vec<Condition>>,
    pub(crate) sources: Vec<Vec<Condition>>,
    /// A key that istiod does not know: it leaves the rule out.
    pub(crate) unknown: Option<ArcStr>,
}

/// A `targetRef`.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) group: ArcStr,
    pub(crate) kind: ArcStr,
    pub(crate) namespace: ArcStr,
    pub(crate) name: ArcStr,
}

/// Which workloads a policy (or EnvoyFilter) is for (`model.TargetablePolicy`).
#[derive(Debug, Clone, Default)]
pub(crate) struct Attachment {
    /// `None` is every workload.
    pub(crate) selector: Option<Labels>,
    pub(crate) targets: Vec<Target>,
}

impl Attachment {
    pub(crate) fn read(spec: &At<'_>, selector: &str, labels: &str) -> Self {
        let target = |at: At<'_>| Target {
            group: at.key("group", |v| v.text()),
            kind: at.key("kind", |v| v.text()),
            namespace: at.key("namespace", |v| v.text()),
            name: at.key("name", |v| v.text()),
        };
        let mut targets = spec.key("targetRefs", |l| l.each(target));
        if targets.is_empty() {
            targets.extend(spec.key("targetRef", |t| t.is_present().then(|| target(t))));
        }
        Self { selector: spec.key(selector, |s| s.is_present().then(|| s.key(labels, |l| l.labels()))), targets }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct AuthorizationPolicy {
    pub(crate) meta: Meta,
    pub(crate) attachment: Attachment,
    pub(crate) action: PolicyAction,
    /// The authorizer that action CUSTOM asks.
    pub(crate) provider: ArcStr,
    /// Annotated `istio.io/dry-run`: evaluated, not enforced.
    pub(crate) dry_run: bool,
    pub(crate) rules: Vec<PolicyRule>,
}

impl AuthorizationPolicy {
    pub(crate) fn read(meta: Meta, at: &At<'_>) -> Self {
        let dry_run = at.key("metadata", |m| {
            m.key("annotations", |a| a.key("istio.io/dry-run", |v| v.string()))
                .is_some_and(|v| matches!(v.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
        });
        at.key("spec", |s| Self {
            attachment: Attachment::read(&s, "selector", "matchLabels"),
            action: s
                .key("action", |a| {
                    a.word(&[
                        ("ALLOW", PolicyAction::Allow),
                        ("DENY", PolicyAction::Deny),
                        ("AUDIT", PolicyAction::Audit),
                        ("CUSTOM", PolicyAction::Custom),
                    ])
                })
                .unwrap_or(PolicyAction::Allow),
            provider: s.key("provider", |p| p.key("name", |n| n.text())),
            dry_run,
            // istiod skips a rule that is null; one that is an empty object holds everything
            rules: s
                .key("rules", |l| l.each(|r| r.is_present().then(|| rule(&r, meta.namespace()))))
                .into_iter()
                .flatten()
                .collect(),
            meta,
        })
    }
}

fn rule(at: &At<'_>, namespace: &str) -> PolicyRule {
    let (mut operation, mut source, mut unknown) = (Vec::new(), Vec::new(), None);
    at.key("when", |l| {
        l.each(|w| {
            let key = w.key("key", |k| k.text());
            let values = field(&w, "values", "notValues");
            match (Attribute::of_key(&key), values) {
                (None, _) => unknown = Some(key),
                (Some(_), None) => {}
                (Some((attribute, Side::Operation)), Some(f)) => operation.push(f.on(attribute, namespace)),
                (Some((attribute, Side::Source)), Some(f)) => source.push(f.on(attribute, namespace)),
            }
        });
    });
    let either = |key: &str, inner: &str, fields: &[(&str, &str, Attribute)], base: Vec<Condition>| {
        let alternatives = at.key(key, |l| {
            l.each(|item| {
                item.key(inner, |f| {
                    let own =
                        fields.iter().filter_map(|(yes, no, what)| Some(field(&f, yes, no)?.on(*what, namespace)));
                    own.chain(base.iter().cloned()).collect::<Vec<Condition>>()
                })
            })
        });
        if alternatives.is_empty() { vec![base] } else { alternatives }
    };
    PolicyRule {
        path: at.path(),
        operations: either(
            "to",
            "operation",
            &[
                ("hosts", "notHosts", Attribute::Host),
                ("methods", "notMethods", Attribute::Method),
                ("paths", "notPaths", Attribute::Path),
                ("ports", "notPorts", Attribute::DestinationPort),
            ],
            operation,
        ),
        sources: either(
            "from",
            "source",
            &[
                ("principals", "notPrincipals", Attribute::SourcePrincipal),
                ("requestPrincipals", "notRequestPrincipals", Attribute::Token),
                ("serviceAccounts", "notServiceAccounts", Attribute::SourceServiceAccount),
                ("trustDomains", "notTrustDomains", Attribute::SourceTrustDomain),
                ("namespaces", "notNamespaces", Attribute::SourceNamespace),
                ("remoteIpBlocks", "notRemoteIpBlocks", Attribute::RemoteIp),
                ("ipBlocks", "notIpBlocks", Attribute::SourceIp),
            ],
            source,
        ),
        unknown,
    }
}

/// Values and negated values of one field, with the path to name.
struct Field {
    path: ArcStr,
    values: Vec<ArcStr>,
    not_values: Vec<ArcStr>,
}

impl Field {
    /// A service account without a namespace is one of the policy's (`serviceAccountRegex`).
    fn on(mut self, attribute: Attribute, namespace: &str) -> Condition {
        if attribute == Attribute::SourceServiceAccount {
            for value in self.values.iter_mut().chain(&mut self.not_values).filter(|v| !v.contains('/')) {
                *value = format!("{namespace}/{value}").into();
            }
        }
        Condition { attribute, path: self.path, values: self.values, not_values: self.not_values }
    }
}

fn field(at: &At<'_>, yes: &str, no: &str) -> Option<Field> {
    let (path, values) = at.key(yes, |l| (l.path(), l.strings()));
    let (not_path, not_values) = at.key(no, |l| (l.path(), l.strings()));
    let path = if values.is_empty() { not_path } else { path };
    (!values.is_empty() || !not_values.is_empty()).then(|| Field { path, values, not_values })
}
