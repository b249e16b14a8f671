//! One table of verdicts: spelling, screen word, class, severity, definition. Everything printed comes from here.

/// How bad: `crit` means that a control was defeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// For the record.
    Info,
    /// As it should be.
    Ok,
    /// Hygiene.
    Low,
    /// An undocumented dependency.
    Med,
    /// The path is wrong.
    High,
    /// A control was defeated.
    Crit,
}

impl Severity {
    /// Worst first.
    pub const ALL: [Self; 6] = [Self::Crit, Self::High, Self::Med, Self::Low, Self::Ok, Self::Info];

    /// The spelling in JSON, filters and `--fail-on`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crit => "crit",
            Self::High => "high",
            Self::Med => "med",
            Self::Low => "low",
            Self::Ok => "ok",
            Self::Info => "info",
        }
    }
}

/// How screens group verdicts. Derived, never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Left without the gateway that the configuration demands.
    Bypass,
    /// Went to something that nobody registered for it.
    Unregistered,
    /// Not enough is known, or what was seen contradicts the configuration.
    Unknown,
    /// Registered, and allowed to go straight out.
    Direct,
    /// Through its gateway or waypoint.
    Gateway,
    /// Not the mesh's business.
    Exempt,
    /// Did not leave.
    Stopped,
}

impl Class {
    /// In the order in which screens show them.
    pub const ALL: [Self; 7] =
        [Self::Bypass, Self::Unregistered, Self::Unknown, Self::Direct, Self::Gateway, Self::Exempt, Self::Stopped];

    /// The spelling in JSON and filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Unregistered => "unregistered",
            Self::Unknown => "unknown",
            Self::Direct => "direct",
            Self::Gateway => "gateway",
            Self::Exempt => "exempt",
            Self::Stopped => "stopped",
        }
    }

    /// The two-cell mark that says the class without colour.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Bypass => "!!",
            Self::Unregistered => "??",
            Self::Unknown => "..",
            Self::Direct => "->",
            Self::Gateway => "ok",
            Self::Exempt => "--",
            Self::Stopped => "xx",
        }
    }

    /// The word in the header of a screen, at most eight cells.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bypass => "BYPASS",
            Self::Unregistered => "UNREG",
            Self::Unknown => "UNKNOWN",
            Self::Direct => "DIRECT",
            Self::Gateway => "GATEWAY",
            Self::Exempt => "EXEMPT",
            Self::Stopped => "STOPPED",
        }
    }
}

macro_rules! verdicts {
    ($($variant:ident $text:literal $word:literal $class:ident $severity:ident $definition:literal;)*) => {
        /// What the engine says of a flow.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Verdict { $(#[doc = $definition] $variant,)* }

        impl Verdict {
            /// Every verdict, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The spelling in JSON and filters.
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $text,)* } }

            /// The word on screens, at most eight cells.
            pub fn word(self) -> &'static str { match self { $(Self::$variant => $word,)* } }

            /// The group that screens put it in.
            pub fn class(self) -> Class { match self { $(Self::$variant => Class::$class,)* } }

            /// Its severity before policy.
            pub fn severity(self) -> Severity { match self { $(Self::$variant => Severity::$severity,)* } }

            /// What it means, for help and reports.
            pub fn definition(self) -> &'static str { match self { $(Self::$variant => $definition,)* } }
        }
    };
}

verdicts! {
    Bypass "bypass" "BYPASS" Bypass Crit "The configuration demands a gateway, a waypoint or a block for this connection, yet it left directly.";
    WrongGateway "wrong-gateway" "WRONG-GW" Bypass High "It went through another gateway than the configured one.";
    WaypointBypass "waypoint-bypass" "WP-BYP" Bypass Crit "The entry has a waypoint, but the connection did not use it.";
    GatewayRogue "gateway-rogue" "ROGUE" Bypass High "A gateway's or waypoint's own connection to something that none of its routes permits.";
    Unregistered "unregistered" "UNREG" Unregistered High "No entry or Service knows this destination; outboundTrafficPolicy let it pass.";
    NotVisible "not-visible" "HIDDEN" Unregistered High "An entry exists, but exportTo, a Sidecar, a discovery selector or a revision hides it from this workload.";
    WrongPort "wrong-port" "PORT" Unregistered Med "The host is registered and visible, this port is not.";
    WrongProtocol "wrong-protocol" "PROTO" Unregistered Med "The port is registered, but the bytes do not fit its protocol.";
    SniIpMismatch "sni-ip-mismatch" "SNI-IP" Unregistered High "The server name matched an entry with resolution NONE, but the address is not one of the host's.";
    CapturedByOther "captured-by-other" "HIJACK" Unregistered High "An entry of another host owns this address and port and took the connection over.";
    Udp "udp" "UDP" Unregistered Med "UDP leaves the pod past the proxy: nothing intercepts it.";
    Unknown "unknown" "UNKNOWN" Unknown Info "Not enough evidence; the chain says what is missing.";
    PolicyMismatch "policy-mismatch" "DRIFT" Unknown Med "What was seen contradicts the configuration (stale proxy, EnvoyFilter, other revision).";
    Conditional "conditional" "COND" Unknown Info "Several outcomes are allowed and the evidence does not choose between them.";
    RegisteredDirect "registered-direct" "DIRECT" Direct Ok "Registered, and no rule leads to a gateway.";
    NotCaptured "not-captured" "UNCAPT" Direct Med "Registered, but the proxy never saw the connection.";
    ViaGateway "via-gateway" "GATEWAY" Gateway Ok "Through the expected egress gateway.";
    ViaWaypoint "via-waypoint" "WAYPOINT" Gateway Ok "Through the expected waypoint.";
    GatewayDirect "gateway-direct" "GW-DIAL" Gateway Med "The application addressed the gateway itself.";
    GatewayLeg "gateway-leg" "GW-LEG" Gateway Ok "A gateway's upstream connection that one of its routes permits; its client was not seen here.";
    OutsideMesh "outside-mesh" "OUTSIDE" Exempt Info "The pod or process is not in the mesh by design.";
    ProxyInfra "proxy-infra" "INFRA" Exempt Info "Control traffic of the proxy itself.";
    InCluster "in-cluster" "INTERNAL" Exempt Info "The destination is inside the cluster.";
    Blocked "blocked" "BLOCKED" Stopped Info "Policy stopped it.";
    Broken "broken" "BROKEN" Stopped High "The configuration leads nowhere.";
}

impl Verdict {
    /// The verdict with this spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|v| v.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn spellings_and_words_are_unique_and_fit() {
        let spellings: BTreeSet<_> = Verdict::ALL.iter().map(|v| v.as_str()).collect();
        let words: BTreeSet<_> = Verdict::ALL.iter().map(|v| v.word()).collect();
        assert_eq!(spellings.len(), Verdict::ALL.len());
        assert_eq!(words.len(), Verdict::ALL.len());
        assert!(words.iter().all(|w| w.len() <= 8));
    }

    #[test]
    fn every_class_and_severity_is_used() {
        for class in Class::ALL {
            assert!(Verdict::ALL.iter().any(|v| v.class() == class), "{class:?}");
        }
        let severities: BTreeSet<_> = Verdict::ALL.iter().map(|v| v.severity()).collect();
        assert!(severities.contains(&Severity::Crit) && severities.contains(&Severity::Ok));
    }
}
