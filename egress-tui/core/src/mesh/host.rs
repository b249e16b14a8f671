//! Host names and patterns (Istio: `pkg/config/host`).
//!
//! A pattern is a name, or `*` followed by a suffix. Suffixes compare as text: `*.a.com` holds `x.a.com` and `y.x.a.com`, not `a.com`.

use arcstr::ArcStr;
use rustc_hash::FxHashMap;

/// Begins with `*`.
pub(crate) fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// The two overlap: one holds the other (`host.Name.Matches`).
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (Some(x), Some(y)) => x.ends_with(y) || y.ends_with(x),
        (Some(suffix), None) => b.ends_with(suffix),
        (None, Some(suffix)) => a.ends_with(suffix),
        (None, None) => a == b,
    }
}

/// `a` is held by `b` (`host.Name.SubsetOf`).
pub(crate) fn subset(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (Some(x), Some(y)) => x.len() >= y.len() && x.ends_with(y),
        (Some(_), None) => false,
        (None, Some(suffix)) => a.ends_with(suffix),
        (None, None) => a == b,
    }
}

/// Names that both sides hold (`host.Names.Intersection`).
pub(crate) fn intersection(a: &[ArcStr], b: &[ArcStr]) -> Vec<ArcStr> {
    let mut out: Vec<ArcStr> = Vec::new();
    for x in a {
        for y in b {
            let common = if subset(x, y) {
                x
            } else if subset(y, x) {
                y
            } else {
                continue;
            };
            if !out.contains(common) {
                out.push(common.clone());
            }
        }
    }
    out
}

/// Patterns to values, with the most specific match in time that does not depend on how many there are.
#[derive(Debug, Clone)]
pub(crate) struct HostMap<V> {
    exact: FxHashMap<ArcStr, V>,
    /// What follows the `*`, where it begins with a dot or is empty.
    suffix: FxHashMap<ArcStr, V>,
    /// How long those are, a bit for each length (the highest for all that are longer): most ends of a name need no lookup.
    lengths: u64,
    /// What follows the `*` elsewhere (`*foo.com`): admission refuses these, files may hold them.
    odd: Vec<(ArcStr, V)>,
}

impl<V> Default for HostMap<V> {
    fn default() -> Self {
        Self { exact: FxHashMap::default(), suffix: FxHashMap::default(), lengths: 0, odd: Vec::new() }
    }
}

impl<V> HostMap<V> {
    /// Makes room for so many names.
    pub(crate) fn reserve(&mut self, names: usize) {
        self.exact.reserve(names);
    }

    /// The value of exactly this pattern, put there if it is new.
    pub(crate) fn entry(&mut self, pattern: &ArcStr, new: impl FnOnce() -> V) -> &mut V {
        match pattern.strip_prefix('*') {
            None => self.exact.entry(pattern.clone()).or_insert_with(new),
            Some(suffix) if suffix.is_empty() || suffix.starts_with('.') => {
                self.lengths |= length_bit(suffix.len());
                self.suffix.entry(suffix.into()).or_insert_with(new)
            }
            Some(suffix) => {
                let found = self.odd.iter().position(|(s, _)| s.as_str() == suffix);
                let at = found.unwrap_or_else(|| {
                    self.odd.push((suffix.into(), new()));
                    self.odd.len() - 1
                });
                &mut self.odd[at].1
            }
        }
    }

    /// The value of exactly this pattern.
    pub(crate) fn get(&self, pattern: &str) -> Option<&V> {
        match pattern.strip_prefix('*') {
            None => self.exact.get(pattern),
            Some(suffix) => {
                self.suffix.get(suffix).or_else(|| self.odd.iter().find(|(s, _)| s.as_str() == suffix).map(|(_, v)| v))
            }
        }
    }

    /// The value of the longest wildcard that holds all of `name` (a name, or a pattern), and the length of what follows its `*`.
    pub(crate) fn wildcard(&self, name: &str) -> Option<(usize, &V)> {
        let mut best = None;
        self.each_suffix(name.strip_prefix('*').unwrap_or(name), |length, value| {
            best.get_or_insert((length, value));
        });
        best
    }

    /// Exact, else the longest wildcard (`model.MostSpecificHostMatch`).
    pub(crate) fn most_specific(&self, name: &str) -> Option<&V> {
        self.get(name).or_else(|| self.wildcard(name).map(|(_, value)| value))
    }

    /// Every value whose pattern holds this name, the most specific first.
    pub(crate) fn each_match(&self, name: &str, mut f: impl FnMut(&V)) {
        if let Some(value) = self.exact.get(name) {
            f(value);
        }
        self.each_suffix(name, |_, value| f(value));
    }

    /// The wildcards (but odd ones) that hold all names with this end, with the length of what follows their `*`; the longest first.
    fn each_end<'a>(&'a self, name: &str, mut f: impl FnMut(usize, &'a V)) {
        if self.lengths == 0 {
            return;
        }
        let mut end = |length: usize| {
            let at = name.len() - length;
            if name.as_bytes()[at] == b'.'
                && let Some(value) = self.suffix.get(&name[at..])
            {
                f(length, value);
            }
        };
        if self.lengths & LONG != 0 {
            (LONG.ilog2() as usize..=name.len()).rev().for_each(&mut end);
        }
        // of the others only those that there are
        let mut left = self.lengths & !LONG & !1;
        while let Some(length) = left.checked_ilog2() {
            left &= !(1 << length);
            if length as usize <= name.len() {
                end(length as usize);
            }
        }
        if let Some(value) = self.suffix.get("").filter(|_| self.lengths & 1 == 1) {
            f(0, value);
        }
    }

    /// Every value whose pattern is a wildcard that holds all names with this end, with the length of what follows its `*`; the
    /// longest first.
    pub(crate) fn each_suffix<'a>(&'a self, name: &str, mut f: impl FnMut(usize, &'a V)) {
        if self.odd.is_empty() {
            return self.each_end(name, f);
        }
        let odd = self.odd.iter().filter(|(suffix, _)| name.ends_with(suffix.as_str()));
        let mut all: Vec<(usize, &V)> = odd.map(|(suffix, value)| (suffix.len(), value)).collect();
        self.each_end(name, |length, value| all.push((length, value)));
        all.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        for (length, value) in all {
            f(length, value);
        }
    }
}

/// The bit of [`HostMap::lengths`] that stands for every length that has none of its own.
const LONG: u64 = 1 << 63;

/// The bit of [`HostMap::lengths`] that stands for a length.
fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// A host of a VirtualService, DestinationRule or destination: without a dot it is a Service of `namespace`
/// (`model.ResolveShortnameToFQDN`).
pub(crate) fn resolve(host: &ArcStr, namespace: &str) -> ArcStr {
    let short =
        !host.is_empty() && host.as_str() != "*" && !host.contains('.') && host.parse::<std::net::IpAddr>().is_err();
    if short { service_host(host, namespace) } else { host.clone() }
}

/// Domain of the cluster. Istio takes it from the proxy; no field of an object holds it.
pub(crate) const CLUSTER_DOMAIN: &str = "cluster.local";

/// The host name of a Kubernetes Service.
pub(crate) fn service_host(name: &str, namespace: &str) -> ArcStr {
    [name, ".", namespace, ".svc.", CLUSTER_DOMAIN].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn istio_documented_pairs_hold() {
        assert!(overlap("*.com", "foo.com") && overlap("bar.com", "*.com") && overlap("*", "*.com"));
        assert!(!overlap("*.foo.com", "foo.com") && !overlap("foo.com", "bar.com"));
        assert!(subset("x.a.com", "*.a.com") && subset("*.b.a.com", "*.a.com"));
        assert!(!subset("*.a.com", "x.a.com") && !subset("*.a.com", "*.b.a.com"));
        let names = |l: &[&str]| l.iter().map(|s| ArcStr::from(*s)).collect::<Vec<_>>();
        assert_eq!(
            intersection(&names(&["foo.com", "*.net"]), &names(&["*.com", "bar.net"])),
            names(&["foo.com", "bar.net"])
        );
        assert_eq!(intersection(&names(&["foo.com", "*.net"]), &names(&["*.bar.net"])), names(&["*.bar.net"]));
    }

    #[test]
    fn two_labels_are_not_expanded() {
        assert_eq!(resolve(&"gw".into(), "ns"), "gw.ns.svc.cluster.local");
        assert_eq!(resolve(&"gw.ns".into(), "ns"), "gw.ns");
        assert_eq!(resolve(&"*".into(), "ns"), "*");
        assert_eq!(resolve(&"::1".into(), "ns"), "::1");
    }

    fn pattern() -> impl Strategy<Value = String> {
        "(\\*\\.|\\*|)([ab]\\.){0,3}[ab]"
    }

    proptest! {
        #[test]
        fn subset_is_one_half_of_overlap(a in pattern(), b in pattern()) {
            prop_assert_eq!(overlap(&a, &b), subset(&a, &b) || subset(&b, &a));
            prop_assert_eq!(overlap(&a, &b), overlap(&b, &a));
        }

        #[test]
        fn the_map_answers_as_a_scan_would(patterns in proptest::collection::vec(pattern(), 0..12), name in pattern()) {
            let mut map = HostMap::default();
            for p in &patterns { map.entry(&p.as_str().into(), || p.clone()); }
            let exact = patterns.iter().find(|p| **p == name);
            let longest = patterns.iter().filter(|p| is_wildcard(p) && subset(&name, p)).max_by_key(|p| p.len());
            prop_assert_eq!(map.most_specific(&name), exact.or(longest));
        }
    }
}
