//! Host names and patterns (Istio: `pkg/config/host`).
//!
//! A pattern is a name, or `*` followed by a suffix. Suffixes compare as text: `*.a.com` holds `x.a.com` and `y.x.a.com`, not `a.com`.

use arcstr::ArcStr;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

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

    /// The value of the longest wildcard that holds all of `name` (a name, or a pattern).
    pub(crate) fn wildcard(&self, name: &str) -> Option<&V> {
        let name = name.strip_prefix('*').unwrap_or(name);
        let mut best: Option<(usize, &V)> = None;
        self.each_end(name, |end, value| {
            best.get_or_insert((end, value));
        });
        for (suffix, value) in &self.odd {
            if name.ends_with(suffix.as_str()) && best.is_none_or(|(len, _)| suffix.len() > len) {
                best = Some((suffix.len(), value));
            }
        }
        best.map(|(_, v)| v)
    }

    /// Exact, else the longest wildcard (`model.MostSpecificHostMatch`).
    pub(crate) fn most_specific(&self, name: &str) -> Option<&V> {
        self.get(name).or_else(|| self.wildcard(name))
    }

    /// Every value whose pattern holds this name, the most specific first.
    pub(crate) fn each_match(&self, name: &str, mut f: impl FnMut(&V)) {
        if let Some(value) = self.exact.get(name) {
            f(value);
        }
        self.each_suffix(name, &mut f);
    }

    /// The wildcards (but odd ones) that hold all names with this end, with the length of what follows their `*`; the longest first.
    fn each_end<'a>(&'a self, name: &str, mut f: impl FnMut(usize, &'a V)) {
        if self.lengths == 0 {
            return;
        }
        for (at, byte) in name.bytes().enumerate() {
            let length = name.len() - at;
            if byte == b'.'
                && self.lengths & length_bit(length) != 0
                && let Some(value) = self.suffix.get(&name[at..])
            {
                f(length, value);
            }
        }
        if let Some(value) = self.suffix.get("").filter(|_| self.lengths & 1 == 1) {
            f(0, value);
        }
    }

    /// Every value whose pattern is a wildcard that holds all names with this end.
    fn each_suffix(&self, name: &str, mut f: impl FnMut(&V)) {
        self.each_end(name, |_, value| f(value));
        for (_, value) in self.odd.iter().filter(|(suffix, _)| name.ends_with(suffix.as_str())) {
            f(value);
        }
    }
}

/// The bit of [`HostMap::lengths`] that stands for a length.
fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// Patterns to values, for every value whose pattern overlaps another one, in time that does not depend on how many there are.
#[derive(Debug, Clone)]
pub(crate) struct Overlaps<V> {
    map: HostMap<SmallVec<[V; 1]>>,
    /// Patterns by their end: those that one suffix holds stand together.
    ends: Vec<(ArcStr, V)>,
    /// The same in lower case, where that differs.
    lower: Option<Box<Self>>,
}

impl<V> Default for Overlaps<V> {
    fn default() -> Self {
        Self { map: HostMap::default(), ends: Vec::new(), lower: None }
    }
}

impl<V: Copy + Ord> Overlaps<V> {
    pub(crate) fn new<'a>(patterns: impl Iterator<Item = (&'a ArcStr, V)> + Clone) -> Self {
        let mut out = Self::of_one_case(patterns.clone().map(|(p, v)| (p.clone(), v)));
        if out.ends.iter().any(|(p, _)| p.bytes().any(|b| b.is_ascii_uppercase())) {
            let lower = patterns.map(|(p, v)| (p.to_ascii_lowercase().into(), v));
            out.lower = Some(Box::new(Self::of_one_case(lower)));
        }
        out
    }

    fn of_one_case(patterns: impl Iterator<Item = (ArcStr, V)>) -> Self {
        let mut out = Self::default();
        for (pattern, value) in patterns {
            out.map.entry(&pattern, SmallVec::new).push(value);
            out.ends.push((pattern, value));
        }
        out.ends.sort_by_cached_key(|(p, v)| (backwards(p).collect::<SmallVec<[u8; 64]>>(), *v));
        out.ends.shrink_to_fit();
        out
    }

    /// Exactly this pattern.
    pub(crate) fn get(&self, pattern: &str) -> Option<&[V]> {
        self.map.get(pattern).map(SmallVec::as_slice)
    }

    /// Every value whose pattern holds this name, the most specific first.
    pub(crate) fn each_match(&self, name: &str, mut f: impl FnMut(&[V])) {
        self.map.each_match(name, |list| f(list));
    }

    /// The values whose pattern overlaps this one ([`overlap`]), sorted, each once.
    pub(crate) fn of(&self, pattern: &str) -> SmallVec<[V; 4]> {
        let mut out: SmallVec<[V; 4]> = SmallVec::new();
        match pattern.strip_prefix('*') {
            None => self.map.each_match(pattern, |list| out.extend_from_slice(list)),
            Some(suffix) => {
                // wildcards that hold this one, and all that it holds
                self.map.each_suffix(suffix, |list| out.extend_from_slice(list));
                let first = self.ends.partition_point(|(p, _)| backwards(p).lt(backwards(suffix)));
                let held =
                    self.ends[first..].iter().take_while(|(p, _)| p.strip_prefix('*').unwrap_or(p).ends_with(suffix));
                out.extend(held.map(|(_, value)| *value));
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    }

    /// The same, where case does not matter; `pattern` is in lower case.
    pub(crate) fn of_any_case(&self, pattern: &str) -> SmallVec<[V; 4]> {
        self.lower.as_deref().unwrap_or(self).of(pattern)
    }
}

/// A name or the suffix of a wildcard, from its end.
fn backwards(pattern: &str) -> impl Iterator<Item = u8> + '_ {
    pattern.strip_prefix('*').unwrap_or(pattern).bytes().rev()
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
    format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}").into()
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

        #[test]
        fn overlaps_are_those_that_a_scan_finds(patterns in proptest::collection::vec(pattern(), 0..12), other in pattern()) {
            let patterns: Vec<ArcStr> = patterns.iter().map(ArcStr::from).collect();
            let index = Overlaps::new(patterns.iter().zip(0u32..));
            let scanned: Vec<u32> =
                patterns.iter().zip(0u32..).filter(|(p, _)| overlap(p, &other)).map(|(_, n)| n).collect();
            prop_assert_eq!(index.of(&other).to_vec(), scanned);
        }
    }
}
