//! The few names that one mesh uses. Few, so that objects meet.

use super::chance::Chance;

/// Where applications and gateways live.
pub(super) const NAMESPACES: [&str; 5] = ["shop", "bank", "edge", "tools", "istio-system"];

const HOSTS: [&str; 9] = [
    "api.example.com",
    "www.example.com",
    "img.www.example.com",
    "example.com",
    "badexample.com",
    "db.example.net",
    "cdn.example.net",
    "a.cdn.example.net",
    "b.a.cdn.example.net",
];
const WILDCARDS: [&str; 7] = [
    "*.example.com",
    "*.www.example.com",
    "*.example.net",
    "*.cdn.example.net",
    "*.a.cdn.example.net",
    "*.com",
    "*.net",
];
const ADDRESSES: [&str; 6] =
    ["203.0.113.5", "203.0.113.6", "203.0.113.17", "198.51.100.11", "198.51.100.12", "240.240.0.7"];
const RANGES: [&str; 7] = [
    "203.0.113.0/28",
    "203.0.113.4/30",
    "203.0.113.0/24",
    "198.51.100.0/24",
    "198.51.100.11/32",
    "10.96.0.0/16",
    "203.0.0.0/8",
];
const PORTS: [u16; 11] = [80, 443, 8080, 8443, 5432, 1433, 3306, 6379, 9443, 31400, 15443];

/// What one mesh is made of.
#[derive(Debug, Default)]
pub(super) struct Pools {
    /// Full names.
    pub(super) hosts: Vec<&'static str>,
    /// `*.suffix`.
    pub(super) wildcards: Vec<&'static str>,
    /// Single addresses outside of the cluster.
    pub(super) addresses: Vec<&'static str>,
    /// Ranges of addresses.
    pub(super) ranges: Vec<&'static str>,
    /// Ports that entries, Services, servers and calls use.
    pub(super) ports: Vec<u16>,
}

impl Pools {
    /// A choice for one mesh: 80 and 443 more often than not.
    pub(super) fn choose(chance: &mut Chance) -> Self {
        let mut ports = chance.some(&PORTS[2..], 1, 3);
        for usual in [80, 443] {
            if chance.percent(80) {
                ports.push(usual);
            }
        }
        Self {
            hosts: chance.some(&HOSTS, 3, 5),
            wildcards: chance.some(&WILDCARDS, 1, 3),
            addresses: chance.some(&ADDRESSES, 2, 4),
            ranges: chance.some(&RANGES, 1, 3),
            ports,
        }
    }

    /// A name, a wildcard in so many of a hundred cases.
    pub(super) fn host(&self, chance: &mut Chance, wildcards: usize) -> String {
        if chance.percent(wildcards) {
            chance.of(&self.wildcards).to_owned()
        } else {
            chance.of(&self.hosts).to_owned()
        }
    }
}

/// A full name below a wildcard, or the name itself.
pub(super) fn full(host: &str, label: &str) -> String {
    host.strip_prefix("*.").map_or_else(|| host.to_owned(), |suffix| format!("{label}.{suffix}"))
}

/// Whether `pattern` covers `host`: equal, or a wildcard of a suffix.
pub(super) fn covers(pattern: &str, host: &str) -> bool {
    pattern == "*"
        || pattern == host
        || pattern.strip_prefix('*').is_some_and(|suffix| host.ends_with(suffix) && host.len() > suffix.len())
}
