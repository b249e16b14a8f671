//! Every host of the mesh, numbered once: a decision looks its names up here, and finds everything else by the numbers. Each table
//! that had the texts of its hosts itself would make a decision wait for memory once more.

use std::hash::Hash;
use std::sync::Arc;

use arcstr::ArcStr;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::mesh::host::HostMap;
use crate::mesh::paged::{Paged, Pool};

/// The number of a host or pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HostId(u32);

impl HostId {
    /// Of what is not numbered; no table has it.
    pub(crate) const NONE: Self = Self(u32::MAX);

    pub(crate) fn number(self) -> u32 {
        self.0
    }

    pub(crate) fn place(self) -> usize {
        self.0 as usize
    }
}

/// The numbers of the patterns that hold a name, the most specific first.
pub(crate) type Holding = SmallVec<[HostId; 4]>;

/// Hosts and patterns of upstreams and VirtualServices. Numbers are only ever added: what was made with fewer of them stays right.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts {
    ids: HostMap<HostId>,
    count: u32,
}

impl Hosts {
    /// None yet, with room for so many names.
    pub(crate) fn with_room(names: usize) -> Arc<Self> {
        let mut out = Self::default();
        out.ids.reserve(names);
        Arc::new(out)
    }

    /// These patterns, with the numbers that they had `before`. What is no longer used keeps its number until there is more of it
    /// than of the rest.
    pub(crate) fn of<'a>(before: Arc<Self>, patterns: impl Iterator<Item = &'a ArcStr>) -> Arc<Self> {
        let mut out = before;
        for pattern in patterns {
            if out.get(pattern).is_none() {
                Arc::make_mut(&mut out).add(pattern);
            }
        }
        out
    }

    fn add(&mut self, pattern: &ArcStr) {
        let next = HostId(self.count);
        self.ids.entry(pattern, || next);
        self.count += 1;
    }

    /// Exactly this pattern.
    pub(crate) fn get(&self, pattern: &str) -> Option<HostId> {
        self.ids.get(pattern).copied()
    }

    /// The patterns that hold a name.
    pub(crate) fn holding(&self, name: &str) -> Holding {
        let mut out = Holding::new();
        self.ids.each_match(name, |id| out.push(*id));
        out
    }

    /// What `f` has for the pattern that fits a name (or a pattern) best, of those for which it has something: exactly this one, else
    /// the longest wildcard that holds it (`model.MostSpecificHostMatch`).
    pub(crate) fn most_specific<T>(&self, name: &str, mut f: impl FnMut(HostId) -> Option<T>) -> Option<T> {
        if let Some(found) = self.get(name).and_then(&mut f) {
            return Some(found);
        }
        let mut found = None;
        self.ids.each_suffix(name.strip_prefix('*').unwrap_or(name), |_, id| {
            if found.is_none() {
                found = f(*id);
            }
        });
        found
    }

    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }
}

/// Values by patterns, most of which are numbered: these are found without their texts.
#[derive(Debug)]
pub(crate) struct ByHost<V> {
    hosts: Arc<Hosts>,
    numbered: Numbered<V>,
    /// Short names of Services, and whatever else is no host of an upstream or VirtualService.
    other: HostMap<V>,
}

/// Whichever is smaller.
#[derive(Debug)]
enum Numbered<V> {
    Few(FxHashMap<HostId, V>),
    Many(Paged<V>),
}

/// A table of this part of all hosts is as large in pages.
const MANY: usize = 16;

impl<V: Clone + Eq + Hash> ByHost<V> {
    /// A table of these; of one pattern the value that `join` makes of the one that was there and the new one.
    pub(crate) fn new<'a>(
        hosts: &Arc<Hosts>,
        pool: &Pool<V>,
        values: impl Iterator<Item = (&'a ArcStr, V)>,
        mut join: impl FnMut(&mut V, V),
    ) -> Self {
        let (mut few, mut other) = (FxHashMap::default(), HostMap::default());
        for (pattern, new) in values {
            let mut fresh = false;
            let make = || {
                fresh = true;
                new.clone()
            };
            let known = match hosts.get(pattern) {
                Some(id) => few.entry(id).or_insert_with(make),
                None => other.entry(pattern, make),
            };
            if !fresh {
                join(known, new);
            }
        }
        let numbered = if few.len() * MANY > hosts.len() {
            let mut table = pool.table(hosts);
            for (id, value) in few {
                table.set(id, value);
            }
            Numbered::Many(table.made())
        } else {
            few.shrink_to_fit();
            Numbered::Few(few)
        };
        Self { hosts: Arc::clone(hosts), numbered, other }
    }

    fn at(&self, id: HostId) -> Option<&V> {
        match &self.numbered {
            Numbered::Few(few) => few.get(&id),
            Numbered::Many(table) => table.get(id),
        }
    }

    /// The value of exactly this pattern.
    pub(crate) fn get(&self, pattern: &str) -> Option<&V> {
        match self.hosts.get(pattern) {
            Some(id) => self.at(id),
            None => self.other.get(pattern),
        }
    }

    /// Exact, else the longest wildcard (`model.MostSpecificHostMatch`).
    pub(crate) fn most_specific(&self, name: &str) -> Option<&V> {
        if let Some(exact) = self.get(name) {
            return Some(exact);
        }
        let mut best = self.other.wildcard(name);
        self.hosts.ids.each_suffix(name.strip_prefix('*').unwrap_or(name), |length, id| {
            if best.is_none_or(|(longest, _)| length > longest)
                && let Some(value) = self.at(*id)
            {
                best = Some((length, value));
            }
        });
        best.map(|(_, value)| value)
    }
}

/// The values of one number: most have one, which is found without a second look.
#[derive(Debug, Clone, Copy)]
enum Values<V> {
    None,
    One(V),
    /// A place in [`Overlaps::several`].
    Several(u32),
}

/// Values by their patterns: by the number, and every one whose pattern overlaps another pattern. Neither takes longer where there are
/// more of them.
#[derive(Debug, Clone)]
pub(crate) struct Overlaps<V> {
    hosts: Arc<Hosts>,
    /// The values of each number.
    of: Box<[Values<V>]>,
    /// Those of numbers that have several.
    several: Vec<Box<[V]>>,
    /// Patterns by their end: those that one suffix holds stand together.
    ends: Vec<(ArcStr, V)>,
    /// The same in lower case, where that differs.
    lower: Option<Box<Self>>,
}

impl<V> Default for Overlaps<V> {
    fn default() -> Self {
        Self { hosts: Arc::default(), of: Box::default(), several: Vec::new(), ends: Vec::new(), lower: None }
    }
}

impl<V: Copy + Ord> Overlaps<V> {
    /// `hosts` holds all of the patterns.
    pub(crate) fn new<'a>(hosts: &Arc<Hosts>, patterns: impl Iterator<Item = (&'a ArcStr, V)> + Clone) -> Self {
        let mut out = Self::of_one_case(hosts, patterns.clone());
        if out.ends.iter().any(|(p, _)| p.bytes().any(|b| b.is_ascii_uppercase())) {
            let lower: Vec<(ArcStr, V)> = patterns.map(|(p, v)| (p.to_ascii_lowercase().into(), v)).collect();
            let hosts = Hosts::of(Arc::default(), lower.iter().map(|(p, _)| p));
            out.lower = Some(Box::new(Self::of_one_case(&hosts, lower.iter().map(|(p, v)| (p, *v)))));
        }
        out
    }

    fn of_one_case<'a>(hosts: &Arc<Hosts>, patterns: impl Iterator<Item = (&'a ArcStr, V)>) -> Self {
        let mut out = Self { hosts: Arc::clone(hosts), ..Self::default() };
        let mut of: Vec<(HostId, V)> = Vec::new();
        for (pattern, value) in patterns {
            of.extend(hosts.get(pattern).map(|id| (id, value)));
            out.ends.push((pattern.clone(), value));
        }
        of.sort_by_key(|(id, _)| *id);
        out.of = vec![Values::None; hosts.len()].into();
        for same in of.chunk_by(|(a, _), (b, _)| a == b) {
            let [(id, first), rest @ ..] = same else { continue };
            out.of[id.place()] = if rest.is_empty() {
                Values::One(*first)
            } else {
                out.several.push(same.iter().map(|(_, value)| *value).collect());
                Values::Several(out.several.len() as u32 - 1)
            };
        }
        out.several.shrink_to_fit();
        out.ends.sort_by_cached_key(|(p, v)| (backwards(p).collect::<SmallVec<[u8; 64]>>(), *v));
        out.ends.shrink_to_fit();
        out
    }

    /// The values of the pattern with this number.
    pub(crate) fn at(&self, host: HostId) -> &[V] {
        match self.of.get(host.place()) {
            None | Some(Values::None) => &[],
            Some(Values::One(only)) => std::slice::from_ref(only),
            Some(Values::Several(place)) => &self.several[*place as usize],
        }
    }

    /// Exactly this pattern.
    pub(crate) fn get(&self, pattern: &str) -> Option<&[V]> {
        self.hosts.get(pattern).map(|id| self.at(id)).filter(|list| !list.is_empty())
    }

    /// Every value whose pattern holds this name, the most specific first.
    pub(crate) fn each_match(&self, name: &str, mut f: impl FnMut(&[V])) {
        for id in self.hosts.holding(name) {
            f(self.at(id));
        }
    }

    /// The values whose pattern overlaps this one ([`overlap`](crate::mesh::host::overlap)), sorted, each once.
    pub(crate) fn of(&self, pattern: &str) -> SmallVec<[V; 4]> {
        let mut out: SmallVec<[V; 4]> = SmallVec::new();
        match pattern.strip_prefix('*') {
            None => self.each_match(pattern, |list| out.extend_from_slice(list)),
            Some(suffix) => {
                // wildcards that hold this one, and all that it holds
                self.hosts.ids.each_suffix(suffix, |_, id| out.extend_from_slice(self.at(*id)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::host::overlap;
    use proptest::prelude::*;

    fn pattern() -> impl Strategy<Value = String> {
        "(\\*\\.|\\*|)([ab]\\.){0,3}[ab]"
    }

    proptest! {
        #[test]
        fn overlaps_are_those_that_a_scan_finds(patterns in proptest::collection::vec(pattern(), 0..12), other in pattern()) {
            let patterns: Vec<ArcStr> = patterns.iter().map(ArcStr::from).collect();
            let hosts = Hosts::of(Arc::default(), patterns.iter());
            let index = Overlaps::new(&hosts, patterns.iter().zip(0u32..));
            let scanned: Vec<u32> =
                patterns.iter().zip(0u32..).filter(|(p, _)| overlap(p, &other)).map(|(_, n)| n).collect();
            prop_assert_eq!(index.of(&other).to_vec(), scanned);
        }

        #[test]
        fn tables_answer_as_one_of_texts_would(known in proptest::collection::vec(pattern(), 0..8), patterns in proptest::collection::vec(pattern(), 0..12), name in pattern()) {
            let [known, patterns] = [known, patterns].map(|list| list.iter().map(ArcStr::from).collect::<Vec<_>>());
            let hosts = Hosts::of(Arc::default(), known.iter());
            let pool = Pool::default();
            let (mut texts, mut paged) = (HostMap::default(), pool.table(&hosts));
            let table = ByHost::new(&hosts, &pool, patterns.iter().zip(0u32..), |_, _| {});
            for (n, pattern) in (0u32..).zip(&patterns) {
                texts.entry(pattern, || n);
            }
            prop_assert_eq!(table.most_specific(&name), texts.most_specific(&name));
            prop_assert_eq!(table.get(&name), texts.get(&name));
            let mut only_known = HostMap::default();
            for (n, pattern) in (0u32..).zip(&patterns) {
                if let Some(id) = hosts.get(pattern) {
                    paged.set(id, *only_known.entry(pattern, || n));
                }
            }
            let paged = paged.made();
            prop_assert_eq!(hosts.most_specific(&name, |id| paged.get(id).copied()), only_known.most_specific(&name).copied());
        }

        #[test]
        fn numbers_stay_when_hosts_are_added(first in proptest::collection::vec(pattern(), 0..12), more in proptest::collection::vec(pattern(), 0..12)) {
            let [first, more] = [first, more].map(|list| list.iter().map(ArcStr::from).collect::<Vec<_>>());
            let before = Hosts::of(Arc::default(), first.iter());
            let after = Hosts::of(Arc::clone(&before), more.iter());
            for pattern in &first {
                prop_assert_eq!(before.get(pattern), after.get(pattern));
            }
            let mut numbers: Vec<usize> = first.iter().chain(&more).filter_map(|p| after.get(p)).map(HostId::place).collect();
            numbers.sort_unstable();
            numbers.dedup();
            prop_assert_eq!(numbers, (0..after.len()).collect::<Vec<_>>());
        }
    }
}
