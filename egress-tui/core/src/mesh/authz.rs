//! What AuthorizationPolicies say at a gateway to a connection that arrives there (Istio: `pilot/pkg/security/authz`; Envoy:
//! the RBAC filters). Sidecars apply them to what comes in only, so an outbound connection meets them on its second leg.

use std::net::{IpAddr, SocketAddr};

use arcstr::ArcStr;
use ipnet::IpNet;

use crate::id::ObjectRef;
use crate::mesh::Certainty;
use crate::mesh::index::Index;
use crate::mesh::object::authorization::{
    Attachment, Attribute, AuthorizationPolicy, Condition, PolicyAction, PolicyRule,
};
use crate::mesh::object::read::{Labels, label, selects};
use crate::verdict::{Mark, Step};

/// Marks the pods of a gateway of the Gateway API.
pub(crate) const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

impl Index {
    /// The object applies to a proxy that is no waypoint (`WorkloadPolicyMatcher.ShouldAttachPolicy`). `Err` is the field that
    /// keeps it off, of an object whose namespace would let it apply.
    pub(crate) fn attaches(
        &self,
        to: &Attachment,
        policy_namespace: &str,
        namespace: &str,
        labels: &[(ArcStr, ArcStr)],
    ) -> bool {
        let selected = || to.selector.as_ref().is_none_or(|s| selects(s, labels));
        let Some(gateway) = label(labels, GATEWAY_NAME) else { return to.targets.is_empty() && selected() };
        if to.targets.is_empty() {
            return self.rules.selector_policies_on_kube_gateways && selected();
        }
        policy_namespace == namespace
            && to.targets.iter().any(|t| {
                (t.namespace.is_empty() || t.namespace == *namespace)
                    && t.group == "gateway.networking.k8s.io"
                    && t.kind == "Gateway"
                    && t.name == *gateway
            })
    }

    /// Policies of a gateway's pod, in the order in which istiod reads them: of the root namespace, then of its own, oldest first
    /// (`ListAuthorizationPolicies`).
    pub(crate) fn policies_for(&self, namespace: &ArcStr, labels: &Labels) -> Vec<u32> {
        if self.authorization_policies.is_empty() {
            return Vec::new();
        }
        let of = |ns: &ArcStr| {
            let list = self.policies_of.get(ns).map_or(&[][..], Vec::as_slice);
            let fits = |n: &&u32| {
                let policy = &self.authorization_policies[**n as usize];
                self.attaches(&policy.attachment, ns, namespace, labels)
            };
            list.iter().filter(fits).copied().collect::<Vec<u32>>()
        };
        let mut out = of(&self.config.root_namespace);
        if *namespace != self.config.root_namespace {
            out.extend(of(namespace));
        }
        out
    }
}

/// Who the other side is, as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Without mTLS there is none.
    None,
    /// `spiffe://…`
    Of(String),
    /// It may have one.
    Unknown,
}

/// A connection as it stands before the filters of a gateway.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) to: SocketAddr,
    /// Address of the proxy that connected; `None` where it is not known who did.
    pub(crate) from: Option<IpAddr>,
    pub(crate) identity: Identity,
    /// As the TLS inspector found it; empty without TLS or inspector.
    pub(crate) sni: &'a str,
    /// `None`: the filter does not look into HTTP.
    pub(crate) http: Option<Request<'a>>,
}

/// What is known of a request.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) host: Option<&'a str>,
    pub(crate) path: Option<&'a str>,
}

/// What the policies say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// Nothing stops it; the step names what permits it, where something has to.
    Passes(Option<Step>),
    /// Stopped.
    Stops(Step),
    /// Stopped or not, depending on what is not known.
    Open(Step, Certainty),
    /// An authorizer outside decides.
    Asks(Step),
}

/// Whether something holds; `Open` names what would tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    Yes,
    No,
    Open(&'static str),
}

impl Truth {
    fn of(value: bool) -> Self {
        if value { Self::Yes } else { Self::No }
    }

    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            open @ Self::Open(_) => open,
        }
    }

    fn any(list: impl IntoIterator<Item = Self>) -> Self {
        let mut out = Self::No;
        for truth in list {
            match truth {
                Self::Yes => return Self::Yes,
                open @ Self::Open(_) => out = open,
                Self::No => {}
            }
        }
        out
    }
}

/// A value that istiod cannot turn into a matcher for this filter.
struct Unusable;

/// How a rule came out.
struct Held<'p> {
    truth: Truth,
    /// The conditions that do not hold, of the alternative that comes nearest.
    failing: Vec<&'p Condition>,
    /// The condition that could not be told, or that made istiod leave the rule out.
    open: Option<&'p Condition>,
    left_out: bool,
}

/// All policies of one gateway's pod against one connection.
pub(crate) struct Court<'a> {
    pub(crate) index: &'a Index,
    pub(crate) arrival: &'a Arrival<'a>,
}

impl Court<'_> {
    /// CUSTOM, then DENY, then ALLOW; AUDIT stops nothing (`authz/builder/builder.go`, order of the filters in `listener_builder.go`
    /// and `networkfilter.go`).
    pub(crate) fn rule(&self, policies: &[u32]) -> Ruling {
        let of = |action: PolicyAction| {
            policies
                .iter()
                .map(|n| &*self.index.authorization_policies[*n as usize])
                .filter(move |p| p.action == action && !p.dry_run)
        };
        let custom = self.custom(&of(PolicyAction::Custom).collect::<Vec<_>>());
        if let Some(stopped @ Ruling::Stops(_)) = custom {
            return stopped;
        }
        let denied = self.deny(of(PolicyAction::Deny));
        if let Some(stopped @ Ruling::Stops(_)) = denied {
            return stopped;
        }
        let allowed = self.allow(&of(PolicyAction::Allow).collect::<Vec<_>>());
        if let Some(stopped @ Ruling::Stops(_)) = allowed {
            return stopped;
        }
        custom.or(denied).or(allowed).unwrap_or(Ruling::Passes(None))
    }

    /// What an authorizer answers is not known; one that the mesh does not define denies what it was to be asked about.
    fn custom(&self, policies: &[&AuthorizationPolicy]) -> Option<Ruling> {
        let mut providers: Vec<&ArcStr> = policies.iter().map(|p| &p.provider).collect();
        providers.sort();
        providers.dedup();
        let several = providers.len() > 1 && !self.index.rules.several_authorizers;
        let mut out = None;
        for policy in policies {
            let known = self.index.config.authorizers.iter().find(|(name, _)| *name == policy.provider);
            if !several && known.is_some_and(|(_, http)| *http) && self.arrival.http.is_none() {
                continue;
            }
            for rule in &policy.rules {
                let held = self.holds(rule, PolicyAction::Custom);
                let object = policy.meta.object.clone();
                let provider = crate::name::printable(&policy.provider);
                match (held.truth, known.is_some() && !several) {
                    (Truth::No, _) => {}
                    (Truth::Yes, false) => {
                        let says = if several {
                            "its pods have policies of several authorizers, which istiod turns into a denial".to_owned()
                        } else {
                            format!("the mesh defines no authorizer {provider}: istiod turns the rule into a denial")
                        };
                        return Some(Ruling::Stops(stop(says).by(object, rule.path.clone())));
                    }
                    (Truth::Open(missing), false) => {
                        out = out.or(Some(open(&held, rule, object, missing, "would be denied")));
                    }
                    (_, true) => {
                        let says = format!("what the authorizer {provider} answers is not known");
                        out = out.or(Some(Ruling::Asks(
                            Step::new("policy", Mark::Unknown, says).by(object, rule.path.clone()),
                        )));
                    }
                }
            }
        }
        out
    }

    fn deny<'p>(&self, policies: impl Iterator<Item = &'p AuthorizationPolicy>) -> Option<Ruling> {
        let mut out = None;
        for policy in policies {
            for rule in &policy.rules {
                let held = self.holds(rule, PolicyAction::Deny);
                let object = policy.meta.object.clone();
                match held.truth {
                    Truth::Yes => {
                        let says = match held.open.filter(|_| held.left_out) {
                            Some(c) => format!(
                                "the rule denies it: {} has no meaning for bytes that are no HTTP, and is left out of a denial",
                                c.path
                            ),
                            None => "the rule denies it".to_owned(),
                        };
                        return Some(Ruling::Stops(stop(says).by(object, rule.path.clone())));
                    }
                    Truth::Open(missing) => out = out.or(Some(open(&held, rule, object, missing, "denies it"))),
                    Truth::No => {}
                }
            }
        }
        out
    }

    /// Where there is any policy with action ALLOW, what none of their rules holds is denied.
    fn allow(&self, policies: &[&AuthorizationPolicy]) -> Option<Ruling> {
        let mut undecided = None;
        let mut nearest: Option<(usize, &AuthorizationPolicy, &PolicyRule, Held<'_>)> = None;
        for policy in policies {
            for rule in &policy.rules {
                let held = self.holds(rule, PolicyAction::Allow);
                let object = policy.meta.object.clone();
                match held.truth {
                    Truth::Yes => {
                        let step = Step::new("policy", Mark::Ok, "the rule allows it").by(object, rule.path.clone());
                        return Some(Ruling::Passes(Some(step)));
                    }
                    Truth::Open(missing) => {
                        undecided = undecided.or(Some(open(&held, rule, object, missing, "allows it")));
                    }
                    Truth::No => {
                        let far = if held.left_out { usize::MAX } else { held.failing.len() };
                        if nearest.as_ref().is_none_or(|(known, ..)| far < *known) {
                            nearest = Some((far, policy, rule, held));
                        }
                    }
                }
            }
        }
        if undecided.is_some() {
            return undecided;
        }
        let Some((_, policy, rule, held)) = nearest else {
            let policy = policies.first()?;
            let says = "no rule allows anything: the policy has none".to_owned();
            return Some(Ruling::Stops(stop(says).by(policy.meta.object.clone(), ".spec")));
        };
        let (field, says) = match (held.left_out, held.open, held.failing.as_slice()) {
            (true, Some(c), _) => (
                c.path.clone(),
                format!(
                    "no rule allows it: {} has no meaning for bytes that are no HTTP, so istiod leaves the rule out",
                    c.path
                ),
            ),
            (true, None, _) => (rule.path.clone(), "no rule allows it: istiod cannot read the rule".to_owned()),
            (false, _, [one]) => (one.path.clone(), format!("no rule allows it: {}", self.why_not(one))),
            (false, ..) => (rule.path.clone(), "no rule allows it".to_owned()),
        };
        Some(Ruling::Stops(stop(says).by(policy.meta.object.clone(), field)))
    }

    /// What the connection has in place of what a condition wants.
    fn why_not(&self, condition: &Condition) -> String {
        let a = self.arrival;
        let identity = || match &a.identity {
            Identity::Of(name) => format!("the caller is {name}"),
            _ => "the caller has no identity, because it does not come with mTLS of the mesh".to_owned(),
        };
        match condition.attribute {
            Attribute::DestinationPort => format!("it arrives at port {} of the gateway's pod", a.to.port()),
            Attribute::DestinationIp => format!("it arrives at {}", a.to.ip()),
            Attribute::ServerName if a.sni.is_empty() => "it has no server name".to_owned(),
            Attribute::ServerName => format!("the server name is {}", crate::name::printable(a.sni)),
            Attribute::SourceIp | Attribute::RemoteIp => {
                a.from.map_or_else(|| "it comes from elsewhere".to_owned(), |ip| format!("it comes from {ip}"))
            }
            Attribute::SourceNamespace
            | Attribute::SourceTrustDomain
            | Attribute::SourceServiceAccount
            | Attribute::SourcePrincipal => identity(),
            Attribute::Host => {
                let host = a.http.as_ref().and_then(|r| r.host).unwrap_or_default();
                format!("the host is {}", crate::name::printable(host))
            }
            Attribute::Path => {
                let path = a.http.as_ref().and_then(|r| r.path).unwrap_or_default();
                format!("the path is {}", crate::name::printable(path))
            }
            Attribute::Method | Attribute::Header | Attribute::Token | Attribute::Metadata => {
                "the condition does not hold".to_owned()
            }
        }
    }

    fn holds<'p>(&self, rule: &'p PolicyRule, action: PolicyAction) -> Held<'p> {
        let nothing = |left_out| Held { truth: Truth::No, failing: Vec::new(), open: None, left_out };
        if rule.unknown.is_some() {
            return nothing(true);
        }
        let mut dropped = None;
        let (operation, mut failing, open) = match self.nearest(&rule.operations, action, &mut dropped) {
            Ok(found) => found,
            Err(condition) => return Held { open: Some(condition), ..nothing(true) },
        };
        let (source, others, open_source) = match self.nearest(&rule.sources, action, &mut dropped) {
            Ok(found) => found,
            Err(condition) => return Held { open: Some(condition), ..nothing(true) },
        };
        failing.extend(others);
        let truth = match (operation, source) {
            (Truth::No, _) | (_, Truth::No) => Truth::No,
            (Truth::Yes, other) | (other, Truth::Yes) => other,
            (open, Truth::Open(_)) => open,
        };
        let left_out = dropped.is_some() && open.is_none() && open_source.is_none();
        Held { truth, failing, open: open.or(open_source).or(dropped), left_out }
    }

    /// The alternatives of one side. An ALLOW rule with something unusable in any of them does not exist (`Generate`, `checkError`).
    fn nearest<'p>(
        &self,
        alternatives: &'p [Vec<Condition>],
        action: PolicyAction,
        dropped: &mut Option<&'p Condition>,
    ) -> Result<(Truth, Vec<&'p Condition>, Option<&'p Condition>), &'p Condition> {
        let mut best: Option<(Truth, Vec<&'p Condition>, Option<&'p Condition>)> = None;
        let rank = |t: Truth| match t {
            Truth::Yes => 0,
            Truth::Open(_) => 1,
            Truth::No => 2,
        };
        for conditions in alternatives {
            let (mut failing, mut open, mut truth) = (Vec::new(), None, Truth::Yes);
            for condition in conditions {
                match self.condition(condition, action == PolicyAction::Allow) {
                    Err(Unusable) => return Err(condition),
                    Ok(None) => *dropped = dropped.or(Some(condition)),
                    Ok(Some(Truth::Yes)) => {}
                    Ok(Some(Truth::No)) => failing.push(condition),
                    Ok(Some(unsure @ Truth::Open(_))) => {
                        open = open.or(Some(condition));
                        truth = unsure;
                    }
                }
            }
            if !failing.is_empty() {
                truth = Truth::No;
            }
            let nearer =
                |(known, list, _): &(Truth, Vec<_>, _)| (rank(truth), failing.len()) < (rank(*known), list.len());
            if best.as_ref().is_none_or(nearer) {
                best = Some((truth, failing, open));
            }
        }
        Ok(best.unwrap_or((Truth::Yes, Vec::new(), None)))
    }

    /// `None`: nothing of it is usable, and it is left out (of a rule that does not allow).
    fn condition(&self, condition: &Condition, strict: bool) -> Result<Option<Truth>, Unusable> {
        let side = |values: &[ArcStr]| -> Result<Option<Truth>, Unusable> {
            let mut usable = Vec::with_capacity(values.len());
            for value in values {
                match self.value(condition.attribute, value) {
                    Ok(truth) => usable.push(truth),
                    Err(Unusable) if strict => return Err(Unusable),
                    Err(Unusable) => {}
                }
            }
            Ok((!usable.is_empty()).then(|| Truth::any(usable)))
        };
        let yes = side(&condition.values)?;
        let no = side(&condition.not_values)?.map(Truth::not);
        Ok(match (yes, no) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => Some(one),
            (Some(Truth::No), _) | (_, Some(Truth::No)) => Some(Truth::No),
            (Some(Truth::Yes), Some(other)) | (Some(other), Some(Truth::Yes)) => Some(other),
            (Some(open), Some(_)) => Some(open),
        })
    }

    fn value(&self, attribute: Attribute, value: &str) -> Result<Truth, Unusable> {
        let a = self.arrival;
        if attribute.is_http_only() && a.http.is_none() {
            return Err(Unusable);
        }
        let (host, path) = a.http.as_ref().map_or((None, None), |r| (r.host, r.path));
        Ok(match attribute {
            Attribute::DestinationIp => Truth::of(network(value)?.contains(&a.to.ip())),
            Attribute::DestinationPort => Truth::of(value.parse::<u16>().map_err(|_| Unusable)? == a.to.port()),
            Attribute::ServerName => Truth::of(text(value, a.sni)),
            Attribute::SourceIp | Attribute::RemoteIp => {
                let network = network(value)?;
                let behind = attribute == Attribute::RemoteIp && a.http.is_some() && self.index.config.trusts_forwarded;
                match a.from.filter(|_| !behind) {
                    Some(ip) => Truth::of(network.contains(&ip)),
                    None => Truth::Open("the address that it comes from"),
                }
            }
            Attribute::SourceNamespace
            | Attribute::SourceTrustDomain
            | Attribute::SourceServiceAccount
            | Attribute::SourcePrincipal => match &a.identity {
                Identity::None => Truth::No,
                Identity::Unknown => Truth::Open("the identity of the caller"),
                Identity::Of(name) => Truth::of(self.names(attribute, value, name)),
            },
            Attribute::Host => match host {
                Some(host) => Truth::of(text(&value.to_ascii_lowercase(), &host.to_ascii_lowercase())),
                None => Truth::Open("the Host header"),
            },
            Attribute::Path => match path {
                Some(path) => {
                    let path = path.split(['?', '#']).next().unwrap_or(path);
                    Truth::of(if value.contains("{*}") || value.contains("{**}") {
                        template(&value.replace("{**}", "**").replace("{*}", "*"), path)
                    } else {
                        text(value, path)
                    })
                }
                None if value == "*" => Truth::Yes,
                None => Truth::Open("the path of the request"),
            },
            // every request has a method
            Attribute::Method if value == "*" => Truth::Yes,
            Attribute::Method => Truth::Open("the method of the request"),
            Attribute::Header => Truth::Open("a header of the request"),
            Attribute::Token => Truth::Open("the token of the request"),
            Attribute::Metadata => Truth::Open("what other filters of the gateway say of it"),
        })
    }

    /// `authz/model/generator.go`: srcNamespace, srcServiceAccount, srcTrustDomain and srcPrincipal. The values of
    /// a policy's namespace-less service accounts are resolved when it is read.
    fn names(&self, attribute: Attribute, value: &str, name: &str) -> bool {
        let config = &self.index.config;
        let domains = || std::iter::once(&config.trust_domain).chain(&config.trust_domain_aliases);
        let bare = name.strip_prefix("spiffe://").unwrap_or(name);
        match attribute {
            Attribute::SourceNamespace => glob(&format!("*/ns/{value}/*"), name),
            Attribute::SourceServiceAccount => {
                let (namespace, account) = value.split_once('/').unwrap_or(("", value));
                bare.split_once("/ns/").is_some_and(|(_, rest)| rest == format!("{namespace}/sa/{account}"))
            }
            Attribute::SourceTrustDomain => {
                let own = bare.split('/').next().unwrap_or_default();
                match value.split_once('*') {
                    None if domains().any(|d| d == value) => domains().any(|d| d == own),
                    None => own == value,
                    Some((first, last)) => {
                        own.len() >= first.len() + last.len() && own.starts_with(first) && own.ends_with(last)
                    }
                }
            }
            _ => self.principal(value, bare),
        }
    }

    /// A principal that names a trust domain of this mesh (or `cluster.local`) is for all of them
    /// (`trustdomain/bundle.go` ReplaceTrustDomainAliases).
    fn principal(&self, value: &str, bare: &str) -> bool {
        let config = &self.index.config;
        if value == "*" || text(value, bare) {
            return true;
        }
        let Some((domain, rest)) = value.split_once('/').filter(|_| value.matches('/').count() == 4) else {
            return false;
        };
        let mut domains = std::iter::once(&config.trust_domain).chain(&config.trust_domain_aliases);
        let ours = domain == "cluster.local" || domains.any(|d| text(domain, d) || text(d, domain));
        let mut all = std::iter::once(&config.trust_domain).chain(&config.trust_domain_aliases);
        domain != "*" && ours && all.any(|d| text(&format!("{d}/{rest}"), bare))
    }
}

fn stop(says: String) -> Step {
    Step::new("policy", Mark::Decides, says)
}

fn open(held: &Held<'_>, rule: &PolicyRule, object: ObjectRef, missing: &'static str, effect: &str) -> Ruling {
    let says = format!("whether the rule {effect} depends on {missing}, which is not known");
    let field = held.open.map_or_else(|| rule.path.clone(), |c| c.path.clone());
    let certainty = match held.open.map(|c| c.attribute) {
        Some(Attribute::Host) => Certainty::NeedsHost,
        _ => Certainty::NeedsL7,
    };
    Ruling::Open(Step::new("policy", Mark::Unknown, says).by(object, field), certainty)
}

fn network(value: &str) -> Result<IpNet, Unusable> {
    value.parse::<IpNet>().or_else(|_| value.parse::<IpAddr>().map(IpNet::from)).map_err(|_| Unusable)
}

/// `*`, `*suffix`, `prefix*`, or the text itself (`authz/matcher/string.go`).
fn text(pattern: &str, value: &str) -> bool {
    if pattern == "*" {
        return !value.is_empty();
    }
    if let Some(suffix) = pattern.strip_prefix('*') {
        return value.ends_with(suffix);
    }
    match pattern.strip_suffix('*') {
        Some(prefix) => value.starts_with(prefix),
        None => pattern == value,
    }
}

/// `*` is any text, also none.
fn glob(pattern: &str, value: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| value.strip_prefix(first)) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            match rest.find(middle) {
                Some(at) => rest = &rest[at + middle.len()..],
                None => return false,
            }
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

/// Envoy's URI template: `*` is one segment, `**` any text.
fn template(pattern: &str, path: &str) -> bool {
    let path = path.as_bytes();
    let mut ends = vec![false; path.len() + 1];
    ends[0] = true;
    let mut rest = pattern.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let mut next = vec![false; path.len() + 1];
        if *first != b'*' {
            for (at, byte) in path.iter().enumerate() {
                next[at + 1] = ends[at] && byte == first;
            }
            rest = after;
        } else if after.first() == Some(&b'*') {
            let from = ends.iter().position(|e| *e).unwrap_or(ends.len());
            next[from..].fill(true);
            rest = &after[1..];
        } else {
            for at in 0..path.len() {
                next[at + 1] = (ends[at] || next[at]) && path[at] != b'/';
            }
            rest = after;
        }
        ends = next;
    }
    ends[path.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_match_as_istiod_writes_them() {
        assert!(text("*", "x") && !text("*", ""));
        assert!(text("*.com", "a.com") && text("/a*", "/ab") && !text("/a", "/ab"));
        assert!(glob("*/ns/team-*/*", "spiffe://cluster.local/ns/team-a/sa/app"));
        assert!(!glob("*/ns/team/*", "spiffe://cluster.local/ns/team-a/sa/app"));
    }

    #[test]
    fn templates_hold_segments_or_everything() {
        assert!(template("/a/*/c", "/a/b/c") && !template("/a/*/c", "/a/b/d/c") && !template("/a/*/c", "/a//c"));
        assert!(template("/a/**", "/a/b/c") && template("/a/**", "/a/") && !template("/a/**", "/b"));
        assert!(template("/a/**/z", "/a/b/z") && !template("/a/**/z", "/a/b/zz"));
    }
}
