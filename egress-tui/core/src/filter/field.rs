//! The table of fields: parsing, completion, help and the documentation come from it.

use std::net::IpAddr;

use super::Op;
use crate::verdict::{Class, Reason, Severity, Verdict};
use crate::world::{Flow, Hop};

/// What a field holds, and so how it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Text: contains, equals, matches.
    Text,
    /// One word of a closed list.
    Choice,
    /// A severity: a closed list with an order.
    Severity,
    /// An address: lies in a range.
    Address,
    /// A whole number.
    Number,
    /// Bytes per second, with K, M, G.
    Amount,
    /// A span of time, with s, m, h, d.
    Span,
    /// A moment: a time of day (UTC), RFC 3339, or a span before now.
    Moment,
}

impl Kind {
    /// The operators that make sense.
    pub fn ops(self) -> &'static [Op] {
        use Op::{Above, AtLeast, AtMost, Below, Has, Is, IsNot, Matches};
        match self {
            Self::Text => &[Has, Is, IsNot, Matches],
            Self::Choice | Self::Address => &[Has, Is, IsNot],
            Self::Severity | Self::Number | Self::Amount | Self::Span => {
                &[Has, Is, IsNot, Above, AtLeast, Below, AtMost]
            }
            Self::Moment => &[Has],
        }
    }
}

macro_rules! fields {
    ($($variant:ident $name:literal $kind:ident $help:literal;)*) => {
        /// A field of a flow.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Field { $(#[doc = $help] $variant,)* }

        impl Field {
            /// Every field, in the order of help.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in filters.
            pub fn name(self) -> &'static str { match self { $(Self::$variant => $name,)* } }

            /// What it holds.
            pub fn kind(self) -> Kind { match self { $(Self::$variant => Kind::$kind,)* } }

            /// What help says.
            pub fn help(self) -> &'static str { match self { $(Self::$variant => $help,)* } }
        }
    };
}

fields! {
    Class "class" Choice "Group of verdicts: bypass, unregistered (unreg), unknown, direct, gateway, exempt, stopped.";
    Verdict "verdict" Choice "The verdict, as JSON spells it, or the word on screen.";
    Reason "reason" Choice "A reason code, deciding or contributing; EXCLUDED_* takes all that begin so.";
    Severity "severity" Severity "crit, high, med, low, ok, info; can be compared.";
    Workload "workload" Text "Namespace and name of the workload.";
    Namespace "ns" Text "Namespace of the pod.";
    Pod "pod" Text "Namespace and name of the pod.";
    Node "node" Text "Node that the flow was seen on.";
    Host "host" Text "Name of the destination, where one is known.";
    Name "name" Choice "How the name is known: sni, http, dns, entry, none.";
    Ip "ip" Address "Address of either end.";
    Dst "dst" Address "Address that was dialled.";
    Src "src" Address "Address of the pod.";
    Port "port" Number "Port that was dialled.";
    L7 "l7" Text "What was spoken: tls, http, http2, tcp, udp.";
    Via "via" Text "What came next on the way: a gateway's pod, or direct.";
    Gateway "gw" Text "Namespace and name of the gateway that it went through.";
    Entry "se" Text "Namespace and name of a ServiceEntry in the chain.";
    Route "vs" Text "Namespace and name of a VirtualService in the chain.";
    Tx "tx" Amount "Bytes per second sent.";
    Rx "rx" Amount "Bytes per second received.";
    Rate "rate" Amount "Bytes per second, both ways.";
    Age "age" Span "Time since it was first seen.";
    Count "n" Number "Connections so far.";
    State "state" Choice "open, closed, failed (no connection succeeded).";
    Pid "pid" Number "Process of the first connection.";
    Command "cmd" Text "Name of that process.";
    Since "since" Moment "First seen at or after a time (13:45 is UTC), or within a span (5m).";
    Is "is" Choice "problem (medium or worse, or unknown), new (first seen within five minutes), stale (judged by old objects).";
    Has "has" Choice "name, gateway, process, failures: it has one.";
    No "no" Choice "name, gateway, process, failures: it has none.";
}

/// Every name.
pub fn names() -> impl Iterator<Item = &'static str> {
    Field::ALL.iter().map(|f| f.name())
}

impl Field {
    /// The field of this name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|f| f.name().eq_ignore_ascii_case(name))
    }

    /// The words of a closed list.
    pub fn choices(self) -> Vec<&'static str> {
        match self {
            Self::Class => Class::ALL.iter().map(|c| c.as_str()).collect(),
            Self::Verdict => Verdict::ALL.iter().map(|v| v.as_str()).collect(),
            Self::Reason => Reason::ALL.iter().map(|r| r.code()).collect(),
            Self::Severity => Severity::ALL.iter().map(|s| s.as_str()).collect(),
            Self::Name => vec!["sni", "http", "dns", "entry", "none"],
            Self::State => vec!["open", "closed", "failed"],
            Self::Is => vec!["problem", "new", "stale"],
            Self::Has | Self::No => vec!["name", "gateway", "process", "failures"],
            _ => Vec::new(),
        }
    }

    /// Other spellings of words of a closed list: the word on screen, in any case.
    pub fn alias(self, word: &str) -> Option<&'static str> {
        let same = |other: &str| other.eq_ignore_ascii_case(word);
        match self {
            Self::Class => Class::ALL.iter().find(|c| same(c.word())).map(|c| c.as_str()),
            Self::Verdict => Verdict::ALL.iter().find(|v| same(v.word())).map(|v| v.as_str()),
            Self::Severity => [("critical", "crit"), ("medium", "med")].iter().find(|(a, _)| same(a)).map(|(_, s)| *s),
            _ => None,
        }
    }

    /// Whether any text of this field is accepted. Text fields only.
    pub(crate) fn any_text(self, flow: &Flow, accepts: &mut dyn FnMut(&str) -> bool) -> bool {
        let source = &flow.source;
        match self {
            Self::Workload => accepts(&source.label()),
            Self::Namespace => source.namespace.as_deref().is_some_and(accepts),
            Self::Pod => match (&source.namespace, &source.pod) {
                (Some(namespace), Some(pod)) => accepts(&format!("{namespace}/{pod}")),
                _ => false,
            },
            Self::Node => accepts(&source.node),
            Self::Host => flow.destination.name.host.as_ref().is_some_and(|h| accepts(h.as_str())),
            Self::L7 => accepts(flow.spoken()),
            Self::Via => accepts(&flow.via()),
            Self::Gateway => {
                let pods = flow.path.iter().filter(|h| is_gateway(h)).filter_map(|h| h.pod.as_deref());
                pods.into_iter().any(&mut *accepts) || gateway_service(flow).is_some_and(|name| accepts(&name))
            }
            Self::Entry => named(flow, "ServiceEntry", accepts),
            Self::Route => named(flow, "VirtualService", accepts),
            Self::Command => source.process.as_ref().is_some_and(|p| accepts(&p.comm)),
            _ => false,
        }
    }

    /// The words of a closed list that hold for a flow, except those that need the time.
    pub(crate) fn any_choice(self, flow: &Flow, accepts: &dyn Fn(&str) -> bool) -> bool {
        match self {
            Self::Class => accepts(flow.class().as_str()),
            Self::Verdict => accepts(flow.verdict().as_str()),
            Self::Reason => flow.judgement.reasons.iter().any(|r| accepts(r.code())),
            Self::Name => accepts(flow.destination.name.source.as_str()),
            Self::State => accepts(state(flow)),
            Self::Has => ["name", "gateway", "process", "failures"].iter().any(|w| has(flow, w) && accepts(w)),
            Self::No => ["name", "gateway", "process", "failures"].iter().any(|w| !has(flow, w) && accepts(w)),
            _ => false,
        }
    }

    /// Whether any address of this field is accepted.
    pub(crate) fn any_address(self, flow: &Flow, accepts: &dyn Fn(IpAddr) -> bool) -> bool {
        let (source, destination) = (flow.source.ip, flow.destination.ip);
        match self {
            Self::Src => source.is_some_and(accepts),
            Self::Dst => accepts(destination),
            _ => accepts(destination) || source.is_some_and(accepts),
        }
    }

    /// The number of a field that holds one.
    pub(crate) fn number(self, flow: &Flow) -> Option<u64> {
        match self {
            Self::Port => Some(u64::from(flow.destination.port)),
            Self::Count => Some(flow.connections),
            Self::Pid => flow.source.process.as_ref().map(|p| u64::from(p.pid)),
            Self::Tx => Some(flow.sent_per_second),
            Self::Rx => Some(flow.received_per_second),
            Self::Rate => Some(flow.sent_per_second + flow.received_per_second),
            _ => None,
        }
    }
}

fn is_gateway(hop: &Hop) -> bool {
    matches!(hop.role, "gateway" | "waypoint")
}

/// The Service of the gateway that it should have gone through, where it did.
fn gateway_service(flow: &Flow) -> Option<String> {
    let through = flow.class() == Class::Gateway && flow.path.iter().any(is_gateway);
    flow.expected.as_ref().filter(|_| through)?.gateway.as_ref().map(ToString::to_string)
}

fn named(flow: &Flow, kind: &str, accepts: &mut dyn FnMut(&str) -> bool) -> bool {
    let objects = flow.judgement.chain.iter().filter_map(|step| step.object.as_ref());
    objects.filter(|o| o.kind == kind).any(|o| accepts(&o.name.to_string()))
}

/// open, closed or failed.
fn state(flow: &Flow) -> &'static str {
    match (flow.open, flow.failures) {
        (1.., _) => "open",
        (0, failures) if failures > 0 && failures >= flow.connections => "failed",
        _ => "closed",
    }
}

fn has(flow: &Flow, what: &str) -> bool {
    match what {
        "name" => flow.destination.name.host.is_some(),
        "gateway" => flow.path.iter().any(is_gateway),
        "process" => flow.source.process.is_some(),
        _ => flow.failures > 0,
    }
}
