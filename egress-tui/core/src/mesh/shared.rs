//! What many proxies have alike: filter chains, routes and names are kept once for the whole mesh, however many proxies use them.

use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use arcstr::ArcStr;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use crate::mesh::chain::{Chain, Chains, Named};
use crate::mesh::hosts::Hosts;
use crate::mesh::listener::{Bind, Listener};
use crate::mesh::paged::{Once, Pool};
use crate::mesh::route::{HttpRoute, VirtualHost};
use crate::mesh::scope::Found;
use crate::mesh::visible::VsId;

type Routes = Once<[HttpRoute]>;
type Listeners = SmallVec<[Arc<Listener>; 1]>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// By port and address: few differ from proxy to proxy.
    listeners: Mutex<FxHashMap<(u16, Bind), Listeners>>,
    chains: Mutex<FxHashSet<Arc<Chain>>>,
    /// Of upstreams, by host and port.
    own_routes: Mutex<FxHashMap<(ArcStr, u16), Routes>>,
    /// Of VirtualServices: few differ from proxy to proxy.
    routes: Mutex<FxHashMap<VsId, SmallVec<[Routes; 1]>>>,
    virtual_hosts: Mutex<FxHashSet<Arc<VirtualHost>>>,
    names: Mutex<FxHashSet<ArcStr>>,
    pub(crate) pages: Pages,
}

/// Pages of the tables that proxies have.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pub(crate) upstreams: Pool<Found>,
    pub(crate) virtual_services: Pool<VsId>,
    pub(crate) chains: Pool<Named>,
    pub(crate) virtual_hosts: Pool<Once<VirtualHost>>,
}

/// A poisoned lock only means that another thread panicked; what it guards is whole after every step.
fn with<T, R>(lock: &Mutex<T>, f: impl FnOnce(&mut T) -> R) -> R {
    f(&mut lock.lock().unwrap_or_else(PoisonError::into_inner))
}

fn once<T: Eq + Hash + Clone>(set: &mut FxHashSet<T>, value: T) -> T {
    if let Some(known) = set.get(&value) {
        return known.clone();
    }
    set.insert(value.clone());
    value
}

impl Shared {
    pub(crate) fn chains(&self, list: Vec<Chain>) -> Box<[Once<Chain>]> {
        with(&self.chains, |set| list.into_iter().map(|chain| Once::new(once(set, Arc::new(chain)))).collect())
    }

    pub(crate) fn listener(
        &self,
        at: (u16, Bind),
        of_pod: bool,
        chains: Vec<Chain>,
        hosts: &Arc<Hosts>,
    ) -> Arc<Listener> {
        let list = self.chains(chains);
        let same = |known: &Arc<Listener>| known.of_pod == of_pod && known.chains.list == list;
        let find = |known: &Listeners| known.iter().find(|k| same(k)).cloned();
        if let Some(known) = with(&self.listeners, |map| map.get(&at).and_then(find)) {
            return known;
        }
        let new = Arc::new(Listener { bind: at.1, chains: Chains::new(list, hosts, &self.pages.chains), of_pod });
        with(&self.listeners, |map| map.entry(at).or_default().push(new.clone()));
        new
    }

    pub(crate) fn own_route(&self, host: &ArcStr, port: u16, make: impl FnOnce() -> HttpRoute) -> Routes {
        with(&self.own_routes, |map| {
            map.entry((host.clone(), port)).or_insert_with(|| Once::new(Arc::from([make()]))).clone()
        })
    }

    pub(crate) fn routes(&self, id: VsId, routes: Vec<HttpRoute>) -> Routes {
        with(&self.routes, |map| {
            let known = map.entry(id).or_default();
            if let Some(same) = known.iter().find(|k| k[..] == routes[..]) {
                return same.clone();
            }
            known.push(Once::new(routes.into()));
            known[known.len() - 1].clone()
        })
    }

    pub(crate) fn virtual_host(&self, host: VirtualHost) -> Once<VirtualHost> {
        with(&self.virtual_hosts, |set| Once::new(once(set, Arc::new(host))))
    }

    pub(crate) fn name(&self, text: &str) -> ArcStr {
        with(&self.names, |set| {
            if let Some(known) = set.get(text) {
                return known.clone();
            }
            let new = ArcStr::from(text);
            set.insert(new.clone());
            new
        })
    }
}
