//! Which Istio is meant: behaviour that differs between releases, as data, and istiod's feature switches.
//!
//! Native sidecars (`ENABLE_NATIVE_SIDECARS`, chosen by istiod since 1.27) are no row here: the pod's spec shows where its proxy
//! stands, whatever release put it there.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A release of Istio. Behaviour changes with minor releases only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IstioVersion {
    /// 1, so far.
    pub major: u16,
    /// 31 in 1.31.2.
    pub minor: u16,
}

impl IstioVersion {
    /// The newest one whose behaviour is known here.
    pub const NEWEST: Self = Self { major: 1, minor: 31 };
}

impl fmt::Display for IstioVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What is wrong with `--istio-version` or `--istiod-env`.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionError {
    /// Not a version.
    #[error("{0:?} is not an Istio version; write it as 1.31 or 1.31.2")]
    Version(String),
    /// Not `K=V`.
    #[error("{0:?} is not KEY=VALUE")]
    Pair(String),
    /// Not a switch that changes an egress decision.
    #[error("{name:?} is not a known switch of istiod; known are {known}")]
    Switch {
        /// What was given.
        name: String,
        /// What may be given.
        known: String,
    },
    /// Not a boolean.
    #[error("{name}={value:?}: write true or false")]
    Value {
        /// The switch.
        name: String,
        /// What was given.
        value: String,
    },
}

impl FromStr for IstioVersion {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let bad = || OptionError::Version(text.to_owned());
        let mut parts = text.strip_prefix('v').unwrap_or(text).split(['.', '-']);
        let mut number = || parts.next().and_then(|p| p.parse::<u16>().ok());
        let (major, minor) = (number().ok_or_else(bad)?, number().ok_or_else(bad)?);
        Ok(Self { major, minor })
    }
}

macro_rules! rules {
    (releases { $($r:ident $rsince:literal $rdoc:literal;)* } switches { $($field:ident $name:literal $since:literal $default:literal $doc:literal;)* }) => {
        /// What differs between releases and environments.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Rules { $(#[doc = $rdoc] pub $r: bool,)* $(#[doc = $doc] pub $field: bool,)* }

        impl Rules {
            /// The defaults of a release.
            pub fn of(version: IstioVersion) -> Self {
                let since = |minor| version >= IstioVersion { major: 1, minor };
                Self { $($r: since($rsince),)* $($field: $default && since($since),)* }
            }

            /// The switches, as istiod spells them.
            pub const SWITCHES: &'static [&'static str] = &[$($name,)*];

            /// What istiod's environment says. Names that are no switch, and values that Go's ParseBool refuses, change nothing
            /// (Istio: `pkg/env`).
            pub(crate) fn run_with<'a>(&mut self, environment: impl Iterator<Item = (&'a str, &'a str)>) {
                for (name, value) in environment {
                    if let Some(on) = boolean(value) {
                        self.set(name, on);
                    }
                }
            }

            pub(crate) fn set(&mut self, name: &str, value: bool) -> bool {
                match name {
                    $($name => self.$field = value,)*
                    _ => return false,
                }
                true
            }
        }
    };
}

rules! {
    releases {
        // field, minor release since which it holds
        host_exclusion 31 "`~namespace/host` in a Sidecar excludes (`model/sidecar.go`); before, `~/*` imports nothing and the rest matches nothing.";
        dynamic_dns 30 "Entries with resolution DYNAMIC_DNS work in sidecars (release note of 1.30); before, only waypoints have them.";
        dynamic_policy 31 "outboundTrafficPolicy ALLOW_ANY_DYNAMIC_DNS exists (release note of 1.31); before, istiod refuses the word and the default stays.";
        entry_visibility 31 "meshConfig.serviceEntryVisibility exists (release note of 1.31); before, it is an unknown field.";
        ambient_dns_capture 25 "DNS queries of ambient pods are answered by ztunnel by default (cni `ambient.dnsCapture`).";
    }
    switches {
        // field, istiod's variable, minor release since which the default holds, that default
        ip_autoallocate "PILOT_ENABLE_IP_AUTOALLOCATE" 25 true "Addresses of `status.addresses` are used, by proxies with DNS capture (`model/service.go`); off by default in 1.23 and 1.24.";
        unified_scope "PILOT_UNIFIED_SIDECAR_SCOPE" 24 true "Of one hostname in several namespaces, Services win over entries (`model/sidecar.go`).";
        pick_best_namespace "PILOT_SIDECAR_PICK_BEST_SERVICE_NAMESPACE" 30 true "Destinations of VirtualServices come from the best namespace, not the first by name (`model/sidecar.go`).";
        external_name_alias "ENABLE_EXTERNAL_NAME_ALIAS" 21 true "ExternalName Services are aliases (`kube/conversion.go`); before, each is a host of its own that is resolved to its name.";
        merge_rules_by_export "ENABLE_ENHANCED_DESTINATIONRULE_MERGE" 18 true "DestinationRules of one host merge only where their exportTo are equal (`model/destination_rule.go`).";
        scope_gateways "PILOT_SCOPE_GATEWAY_TO_NAMESPACE" 0 false "A Gateway applies to pods of its own namespace only (`model/push_context.go`).";
        strict_gateways "PILOT_ENABLE_STRICT_GATEWAY_MERGING" 31 true "Pods of a managed Gateway API gateway take no Gateway of another namespace (`filterStrictGatewayMerging`).";
        filter_gateway_clusters "PILOT_FILTER_GATEWAY_CLUSTER_CONFIG" 0 false "A gateway knows only the destinations of its routes: no route leads elsewhere, so no answer depends on it.";
        selector_policies_on_kube_gateways "ENABLE_SELECTOR_BASED_K8S_GATEWAY_POLICY" 0 true "AuthorizationPolicies and EnvoyFilters with a selector apply to Gateway API gateways too (`model/policyattachment.go`).";
        several_authorizers "PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS" 0 false "A workload may have CUSTOM policies of several authorizers (`authz/builder`).";
        absolute_names "PILOT_ENABLE_ABSOLUTE_FQDN_VHOST_DOMAIN" 26 true "Hosts match with a dot at the end as well (`core/httproute.go`).";
    }
}

/// What a mesh is compiled for.
#[derive(Debug, Clone, Default)]
pub struct MeshOptions {
    /// The release; `None`: what the pods' proxies say, else the newest known.
    pub istio_version: Option<IstioVersion>,
    /// istiod's environment, as far as it changes decisions.
    pub istiod_env: Vec<(String, bool)>,
}

impl MeshOptions {
    /// Reads `--istio-version` and `--istiod-env` values.
    pub fn parse<'a>(version: Option<&str>, env: impl IntoIterator<Item = &'a str>) -> Result<Self, OptionError> {
        let istio_version = version.map(str::parse).transpose()?;
        let mut probe = Rules::of(IstioVersion::NEWEST);
        let mut istiod_env = Vec::new();
        for pair in env {
            let (name, value) = pair.split_once('=').ok_or_else(|| OptionError::Pair(pair.to_owned()))?;
            let wrong = || OptionError::Value { name: name.to_owned(), value: value.to_owned() };
            let on = boolean(value).ok_or_else(wrong)?;
            if !probe.set(name, on) {
                return Err(OptionError::Switch { name: name.to_owned(), known: Rules::SWITCHES.join(", ") });
            }
            istiod_env.push((name.to_owned(), on));
        }
        Ok(Self { istio_version, istiod_env })
    }

    /// The switches for a release.
    pub fn rules(&self, version: IstioVersion) -> Rules {
        self.override_rules(Rules::of(version))
    }

    /// The given rules with what the options say instead.
    pub(crate) fn override_rules(&self, mut rules: Rules) -> Rules {
        for (name, on) in &self.istiod_env {
            rules.set(name, *on);
        }
        rules
    }
}

fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" => Some(true),
        "false" | "0" | "f" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_follow_the_release_and_the_environment() {
        let options = MeshOptions::parse(Some("1.23.4"), ["PILOT_SCOPE_GATEWAY_TO_NAMESPACE=true"]).expect("valid");
        let rules = options.rules(options.istio_version.expect("given"));
        assert!(rules.scope_gateways && rules.external_name_alias && !rules.unified_scope && !rules.host_exclusion);
        assert!(Rules::of(IstioVersion::NEWEST).unified_scope);
    }

    #[test]
    fn nonsense_is_named() {
        assert_eq!(MeshOptions::parse(Some("new"), []).map(|_| ()), Err(OptionError::Version("new".into())));
        assert!(matches!(MeshOptions::parse(None, ["X=true"]), Err(OptionError::Switch { .. })));
        assert!(matches!(MeshOptions::parse(None, ["ENABLE_EXTERNAL_NAME_ALIAS=x"]), Err(OptionError::Value { .. })));
    }
}
