//! What the watches told so far: which objects there are, what changed since the mesh was last made, and what is missing.
//! No I/O and no clock: whatever it is told, it says the same.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use egress_core::id::WallTime;
use serde_json::Value;

use super::access::Access;
use super::kinds::{KINDS, Kind, Part};
use super::plan::{Pods, Wishes};
use super::trouble::Trouble;
use super::watch::{Key, News, Target};

/// Numbers the watches; one that was ended never comes back.
pub(super) type WatchId = u64;

/// An object that is new, changed or gone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Edit {
    /// Its kind.
    pub(super) kind: &'static Kind,
    /// Its name.
    pub(super) key: Key,
    /// What is kept of it; `None` where it is gone.
    pub(super) value: Option<Value>,
}

#[derive(Debug)]
pub(super) struct Watched {
    pub(super) target: Target,
    /// Its objects.
    pub(super) keys: BTreeSet<Key>,
    /// All objects arrived once.
    pub(super) listed: bool,
    /// When it was last open, or when it began.
    pub(super) open_until: WallTime,
    pub(super) closed: Option<Trouble>,
}

/// Objects of a watch that was ended.
#[derive(Debug)]
struct Leaving {
    id: WatchId,
    kind: usize,
    keys: BTreeSet<Key>,
    /// They are used until another watch of their kind knows better.
    used: bool,
}

#[derive(Debug, Default)]
struct Held {
    /// What the value hashes to.
    print: u64,
    /// Watches that have it.
    by: Vec<WatchId>,
    wishes: Wishes,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) pods: Pods,
    pub(super) watches: BTreeMap<WatchId, Watched>,
    objects: BTreeMap<(usize, Key), Held>,
    edits: BTreeMap<(usize, Key), Option<Value>>,
    pub(super) served: Vec<(&'static Kind, String)>,
    pub(super) access: Vec<(&'static Kind, Access)>,
    /// ConfigMaps that may not be read.
    pub(super) denied_names: BTreeSet<String>,
    /// The server itself did not answer since then.
    pub(super) silent: Option<(WallTime, String)>,
    /// When it was last heard of.
    heard: Option<WallTime>,
    definitions_changed: bool,
    wishes_changed: bool,
    /// Objects of watches that were ended, until those that take their place have theirs.
    leaving: Vec<Leaving>,
}

fn index(kind: &Kind) -> usize {
    KINDS.iter().position(|k| k == kind).unwrap_or(KINDS.len())
}

fn print(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Keeper {
    /// Nothing is known yet.
    pub(super) fn new(pods: Pods) -> Self {
        Self {
            pods,
            watches: BTreeMap::new(),
            objects: BTreeMap::new(),
            edits: BTreeMap::new(),
            served: Vec::new(),
            access: Vec::new(),
            denied_names: BTreeSet::new(),
            silent: None,
            heard: None,
            definitions_changed: false,
            wishes_changed: false,
            leaving: Vec::new(),
        }
    }

    /// What the server has.
    pub(super) fn serves(&mut self, served: Vec<(&'static Kind, String)>) {
        self.served = served;
    }

    /// What may be read.
    pub(super) fn may_read(&mut self, access: Vec<(&'static Kind, Access)>) {
        self.access = access;
    }

    /// This ConfigMap may, or may not, be read.
    pub(super) fn may_read_name(&mut self, name: &str, may: bool) {
        if may {
            self.denied_names.remove(name);
        } else {
            self.denied_names.insert(name.to_owned());
        }
    }

    /// The server does not answer, or does again.
    pub(super) fn answers(&mut self, at: WallTime, why: Option<String>) {
        match why {
            None => (self.silent, self.heard) = (None, Some(at)),
            Some(why) => {
                // Whatever happened after it was last heard of is not known.
                let since = self.silent.take().map_or(self.heard.unwrap_or(at), |(since, _)| since);
                self.silent = Some((since, why));
            }
        }
    }

    /// A watch began.
    pub(super) fn began(&mut self, id: WatchId, target: Target, at: WallTime) {
        let watched = Watched { target, keys: BTreeSet::new(), listed: false, open_until: at, closed: None };
        self.watches.insert(id, watched);
    }

    /// A watch was ended by us; `forget`: its objects go with it, else they are used until another watch knows better.
    pub(super) fn ended(&mut self, id: WatchId, forget: bool) {
        let Some(watched) = self.watches.remove(&id) else { return };
        self.leaving.push(Leaving { id, kind: index(watched.target.kind), keys: watched.keys, used: !forget });
        self.let_go();
    }

    /// Forgets what was left behind, once no other watch of that kind is still on its way to the same objects.
    fn let_go(&mut self) {
        let of = |kind: usize| self.watches.values().filter(move |w| index(w.target.kind) == kind);
        let stays = |left: &Leaving| of(left.kind).any(|w| !w.listed) || (left.used && of(left.kind).next().is_none());
        let (stay, go): (Vec<_>, Vec<_>) = std::mem::take(&mut self.leaving).into_iter().partition(stays);
        self.leaving = stay;
        for Leaving { id, kind, keys, .. } in go {
            for key in keys {
                self.release(kind, key, id);
            }
        }
    }

    /// A watch said something.
    pub(super) fn hear(&mut self, id: WatchId, news: News, at: WallTime) {
        let Some(watched) = self.watches.get_mut(&id) else { return };
        let kind = index(watched.target.kind);
        let names = watched.target.kind.part == Part::Names;
        if !matches!(news, News::Closed(_)) {
            (self.silent, self.heard) = (None, Some(at));
        }
        match news {
            News::Open => {
                watched.closed = None;
                watched.open_until = at;
            }
            News::Closed(trouble) => {
                if watched.closed.is_none() {
                    watched.open_until = at;
                }
                watched.closed = Some(trouble);
            }
            News::Put(item) => {
                watched.keys.insert(item.key.clone());
                self.definitions_changed |= self.put(kind, item.key, item.value, id) && names;
            }
            News::Gone(key) => {
                watched.keys.remove(&key);
                self.definitions_changed |= names;
                self.release(kind, key, id);
            }
            News::All(items) => {
                watched.listed = true;
                let now: BTreeSet<Key> = items.iter().map(|i| i.key.clone()).collect();
                let before = std::mem::replace(&mut watched.keys, now.clone());
                self.definitions_changed |= names && before != now;
                for key in before.difference(&now) {
                    self.release(kind, key.clone(), id);
                }
                for item in items {
                    self.definitions_changed |= self.put(kind, item.key, item.value, id) && names;
                }
                self.let_go();
            }
        }
    }

    /// Whether it changed anything.
    fn put(&mut self, kind: usize, key: Key, value: Value, id: WatchId) -> bool {
        let print = print(&value);
        let held = self.objects.entry((kind, key.clone())).or_default();
        let same = !held.by.is_empty() && held.print == print;
        if !held.by.contains(&id) {
            held.by.push(id);
        }
        if same {
            return false;
        }
        held.print = print;
        let wishes = KINDS.get(kind).map(|k| Wishes::of(k, &value)).unwrap_or_default();
        self.wishes_changed |= held.wishes != wishes;
        held.wishes = wishes;
        self.edits.insert((kind, key), Some(value));
        true
    }

    fn release(&mut self, kind: usize, key: Key, id: WatchId) {
        let Some(held) = self.objects.get_mut(&(kind, key.clone())) else { return };
        held.by.retain(|by| *by != id);
        if held.by.is_empty() {
            self.wishes_changed |= !held.wishes.is_empty();
            self.objects.remove(&(kind, key.clone()));
            self.edits.insert((kind, key), None);
        }
    }

    /// What changed since this was last asked.
    pub(super) fn take_edits(&mut self) -> Vec<Edit> {
        let edits = std::mem::take(&mut self.edits);
        let edit =
            |((kind, key), value): ((usize, Key), Option<Value>)| Some(Edit { kind: KINDS.get(kind)?, key, value });
        edits.into_iter().filter_map(edit).collect()
    }

    /// The server does not answer.
    pub(super) fn is_silent(&self) -> bool {
        self.silent.is_some()
    }

    /// Something changed since edits were taken.
    pub(super) fn has_edits(&self) -> bool {
        !self.edits.is_empty()
    }

    /// Definitions of kinds changed since this was last asked.
    pub(super) fn take_definitions_changed(&mut self) -> bool {
        std::mem::take(&mut self.definitions_changed)
    }

    /// Definitions of kinds are watched, so that new kinds are heard of.
    pub(super) fn hears_of_kinds(&self) -> bool {
        self.watches.values().any(|w| w.target.kind.part == Part::Names && w.listed)
    }

    /// Definitions are there of kinds that the server does not serve yet, or the other way round.
    pub(super) fn awaits_kinds(&self) -> bool {
        if !self.hears_of_kinds() {
            return false;
        }
        let definitions = KINDS.iter().position(|k| k.part == Part::Names).unwrap_or_default();
        KINDS.iter().filter(|k| k.is_custom()).any(|kind| {
            let defined = self.objects.contains_key(&(definitions, (String::new(), kind.resource())));
            defined != self.served.iter().any(|(served, _)| *served == kind)
        })
    }

    /// What objects ask for may have changed since this was last asked.
    pub(super) fn take_wishes_changed(&mut self) -> bool {
        std::mem::take(&mut self.wishes_changed)
    }

    /// What all objects ask for.
    pub(super) fn wishes(&self) -> Wishes {
        let mut all = Wishes::default();
        for held in self.objects.values().filter(|h| !h.wishes.is_empty()) {
            all.selectors.extend(held.wishes.selectors.iter().cloned());
            all.revisions.extend(held.wishes.revisions.iter().cloned());
        }
        all
    }

    /// Every watch gave its objects, or will not.
    pub(super) fn is_settled(&self) -> bool {
        let will_not = |w: &Watched| matches!(w.closed, Some(Trouble::Denied | Trouble::NotServed));
        self.watches.values().all(|w| w.listed || will_not(w))
    }

    /// Some objects of each kind that is watched arrived.
    pub(super) fn is_listed(&self) -> bool {
        self.watches.values().any(|w| w.listed)
    }

    /// A kind that the server was said to have is not there.
    pub(super) fn misses_kinds(&self) -> bool {
        self.watches.values().any(|w| w.closed == Some(Trouble::NotServed))
    }

    /// Objects by kind.
    pub(super) fn count(&self) -> BTreeMap<&'static str, usize> {
        let mut out = BTreeMap::new();
        for (kind, _) in self.objects.keys() {
            if let Some(kind) = KINDS.get(*kind) {
                *out.entry(kind.kind).or_default() += 1;
            }
        }
        out
    }

    /// Some object of that kind is known.
    pub(super) fn has(&self, kind: &Kind) -> bool {
        let kind = index(kind);
        self.objects.range((kind, Key::default())..).next().is_some_and(|((k, _), _)| *k == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::super::watch::Item;
    use super::*;
    use serde_json::json;

    fn kind(name: &str) -> &'static Kind {
        KINDS.iter().find(|k| k.kind == name).expect("in the table")
    }

    fn target(name: &str) -> Target {
        Target { kind: kind(name), version: "v1".to_owned(), fields: None, labels: None }
    }

    fn item(name: &str, spec: i32) -> Item {
        Item { key: ("n".to_owned(), name.to_owned()), value: json!({"spec": spec}) }
    }

    const NOW: WallTime = WallTime(0);

    fn later(seconds: i64) -> WallTime {
        WallTime(seconds * 1_000_000_000)
    }

    fn keeper() -> Keeper {
        let mut keeper = Keeper::new(Pods::All);
        keeper.began(1, target("ServiceEntry"), NOW);
        keeper
    }

    fn names(edits: &[Edit]) -> Vec<(&str, bool)> {
        edits.iter().map(|e| (e.key.1.as_str(), e.value.is_some())).collect()
    }

    #[test]
    fn a_list_replaces_what_was_known_and_only_differences_are_edits() {
        let mut keeper = keeper();
        keeper.hear(1, News::All(vec![item("a", 1), item("b", 1)]), NOW);
        assert_eq!(names(&keeper.take_edits()), [("a", true), ("b", true)]);
        keeper.hear(1, News::All(vec![item("b", 1), item("c", 1)]), NOW);
        assert_eq!(names(&keeper.take_edits()), [("a", false), ("c", true)]);
        keeper.hear(1, News::Put(item("c", 1)), NOW);
        assert!(!keeper.has_edits());
        keeper.hear(1, News::Put(item("c", 2)), NOW);
        keeper.hear(1, News::Gone(item("c", 2).key), NOW);
        assert_eq!(names(&keeper.take_edits()), [("c", false)]);
    }

    #[test]
    fn an_object_that_two_watches_have_is_gone_when_both_lost_it() {
        let mut keeper = keeper();
        keeper.began(2, target("ServiceEntry"), NOW);
        keeper.hear(1, News::All(vec![item("a", 1)]), NOW);
        keeper.hear(2, News::All(vec![item("a", 1)]), NOW);
        assert_eq!(names(&keeper.take_edits()), [("a", true)]);
        keeper.hear(1, News::Gone(item("a", 1).key), NOW);
        assert!(!keeper.has_edits());
        keeper.ended(2, true);
        assert_eq!(names(&keeper.take_edits()), [("a", false)]);
    }

    #[test]
    fn objects_of_a_right_that_was_taken_away_are_used_until_it_is_given_back() {
        let mut keeper = keeper();
        keeper.hear(1, News::All(vec![item("a", 1), item("b", 1)]), NOW);
        keeper.take_edits();
        keeper.ended(1, false);
        assert!(!keeper.has_edits());
        keeper.began(2, target("ServiceEntry"), NOW);
        keeper.hear(2, News::All(vec![item("b", 1)]), NOW);
        assert_eq!(names(&keeper.take_edits()), [("a", false)]);
    }

    #[test]
    fn a_watch_that_takes_the_place_of_another_takes_over_its_objects() {
        let mut keeper = keeper();
        keeper.hear(1, News::All(vec![item("a", 1), item("b", 1)]), NOW);
        keeper.take_edits();
        keeper.began(2, target("ServiceEntry"), NOW);
        keeper.ended(1, true);
        assert!(!keeper.has_edits(), "nothing is gone before the other one knows");
        keeper.hear(2, News::All(vec![item("a", 1), item("c", 1)]), NOW);
        assert_eq!(names(&keeper.take_edits()), [("b", false), ("c", true)]);
    }

    #[test]
    fn a_watch_that_stays_closed_makes_the_mesh_stale_since_it_was_last_open() {
        let mut keeper = keeper();
        keeper.hear(1, News::All(Vec::new()), NOW);
        keeper.hear(1, News::Open, later(1));
        keeper.hear(1, News::Closed(Trouble::Unreachable("refused".to_owned())), later(60));
        assert_eq!(keeper.state(&"c".into(), later(61)).stale, None);
        keeper.hear(1, News::Closed(Trouble::Unreachable("refused".to_owned())), later(64));
        assert_eq!(keeper.state(&"c".into(), later(65)).stale, Some((later(60), "refused".into())));
        keeper.hear(1, News::Open, later(70));
        assert_eq!(keeper.state(&"c".into(), later(90)).stale, None);
    }

    #[test]
    fn a_server_that_falls_silent_makes_the_mesh_stale_since_it_was_last_heard_of() {
        let mut keeper = keeper();
        keeper.hear(1, News::All(Vec::new()), NOW);
        keeper.hear(1, News::Put(item("a", 1)), later(7));
        keeper.answers(later(20), Some("no answer".to_owned()));
        keeper.answers(later(26), Some("no answer".to_owned()));
        assert_eq!(keeper.state(&"c".into(), later(26)).stale, Some((later(7), "no answer".into())));
        // An event of any watch says that it is there.
        keeper.hear(1, News::Gone(item("a", 1).key), later(27));
        assert_eq!(keeper.state(&"c".into(), later(60)).stale, None);
    }

    #[test]
    fn what_is_denied_is_named_with_the_rule_that_would_grant_it() {
        let mut keeper = keeper();
        keeper.may_read(vec![(kind("VirtualService"), Access::Denied(vec!["watch"])), (kind("Pod"), Access::Granted)]);
        let gaps = keeper.state(&"c".into(), NOW).gaps;
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_eq!(gaps[0].kind, "VirtualService");
        assert!(gaps[0].missing.fix.contains(r#"resources: ["virtualservices"], verbs: [get, list, watch]"#));
        keeper.may_read(Vec::new());
        assert!(keeper.state(&"c".into(), NOW).gaps.is_empty());
    }

    #[test]
    fn a_right_that_goes_under_a_watch_is_a_gap_and_its_objects_stay() {
        let mut keeper = keeper();
        keeper.hear(1, News::All(vec![item("a", 1)]), NOW);
        keeper.hear(1, News::Closed(Trouble::Denied), later(5));
        let gaps = keeper.state(&"c".into(), later(6)).gaps;
        assert!(gaps[0].missing.what.contains("known before are used"), "{gaps:?}");
        assert_eq!(names(&keeper.take_edits()), [("a", true)]);
    }

    #[test]
    fn a_machine_that_is_no_node_is_told() {
        let mut keeper = Keeper::new(Pods::OfNode("w1".into()));
        keeper.began(1, target("Node"), NOW);
        keeper.hear(1, News::All(vec![item("w2", 1)]), NOW);
        assert!(keeper.state(&"c".into(), NOW).gaps[0].missing.what.contains("no Node w1"));
        keeper.hear(1, News::Put(item("w1", 1)), NOW);
        assert!(keeper.state(&"c".into(), NOW).gaps.is_empty());
    }
}
