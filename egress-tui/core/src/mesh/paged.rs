//! Tables by host, in pages. Proxies of different namespaces know nearly the same of most hosts: where a page of one is equal to a page
//! of another, both have the same one. What every decision reads so stays small however many namespaces ask.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashSet;

use crate::mesh::hosts::{HostId, Hosts};

/// Hosts on a page.
const PAGE: usize = 64;

type Page<V> = [Option<V>; PAGE];

/// Something that is kept once: equal ones are the same one, so that their addresses tell.
pub(crate) struct Once<T: ?Sized>(Arc<T>);

impl<T: ?Sized> Once<T> {
    /// The caller keeps equal ones once.
    pub(crate) fn new(one: Arc<T>) -> Self {
        Self(one)
    }
}

impl<T: ?Sized> Clone for Once<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized> Deref for Once<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> PartialEq for Once<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T: ?Sized> Eq for Once<T> {}

impl<T: ?Sized> Hash for Once<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).cast::<()>().hash(state);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Pages of tables of one sort.
#[derive(Debug)]
pub(crate) struct Pool<V>(Mutex<FxHashSet<Arc<Page<V>>>>);

impl<V> Default for Pool<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V: Clone + Eq + Hash> Pool<V> {
    /// The pages of a table that is made from now on.
    pub(crate) fn table(&self, hosts: &Hosts) -> Making<'_, V> {
        Making { pool: self, pages: (0..hosts.len().div_ceil(PAGE)).map(|_| None).collect() }
    }
}

/// A table that is being made.
pub(crate) struct Making<'p, V> {
    pool: &'p Pool<V>,
    pages: Box<[Option<Box<Page<V>>>]>,
}

impl<V: Clone + Eq + Hash> Making<'_, V> {
    /// Gives a host a value, in place of the one that it had. A host that is not numbered has none.
    pub(crate) fn set(&mut self, host: HostId, value: V) {
        if let Some(page) = self.pages.get_mut(host.place() / PAGE) {
            page.get_or_insert_with(|| Box::new([const { None }; PAGE]))[host.place() % PAGE] = Some(value);
        }
    }

    /// The table.
    pub(crate) fn made(self) -> Paged<V> {
        // a poisoned lock only means that another thread panicked; what it guards is whole after every step
        let mut known = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut once = |page: Box<Page<V>>| {
            if let Some(same) = known.get(&*page) {
                return Arc::clone(same);
            }
            let new: Arc<Page<V>> = Arc::from(page);
            known.insert(Arc::clone(&new));
            new
        };
        Paged(self.pages.into_iter().map(|page| page.map(&mut once)).collect())
    }
}

/// A value for each host that has one.
#[derive(Debug)]
pub(crate) struct Paged<V>(Box<[Option<Arc<Page<V>>>]>);

impl<V> Paged<V> {
    pub(crate) fn get(&self, host: HostId) -> Option<&V> {
        self.0.get(host.place() / PAGE)?.as_ref()?[host.place() % PAGE].as_ref()
    }
}

#[cfg(test)]
mod tests {
    use arcstr::ArcStr;

    use super::*;

    #[test]
    fn equal_pages_are_kept_once() {
        let names: Vec<ArcStr> = (0..200).map(|n| arcstr::format!("h{n}.example.com")).collect();
        let hosts = Hosts::of(Arc::default(), names.iter());
        let pool = Pool::<u32>::default();
        let table = |own: u32| {
            let mut making = pool.table(&hosts);
            for (n, name) in (0u32..).zip(&names).filter(|(n, _)| *n < 64 || *n == 150) {
                making.set(hosts.get(name).unwrap_or(HostId::NONE), if n == 150 { own } else { n });
            }
            making.made()
        };
        let (a, b) = (table(1), table(2));
        let page = |t: &Paged<u32>, n: usize| t.0[n].as_ref().map(Arc::as_ptr);
        assert_eq!(page(&a, 0), page(&b, 0));
        assert_ne!(page(&a, 2), page(&b, 2));
        assert_eq!((page(&a, 1), page(&b, 3)), (None, None));
        let at = |t: &Paged<u32>, n: usize| hosts.get(&names[n]).and_then(|id| t.get(id).copied());
        assert_eq!((at(&a, 63), at(&a, 150), at(&b, 150), at(&b, 64)), (Some(63), Some(1), Some(2), None));
        assert_eq!(a.get(HostId::NONE), None);
    }
}
