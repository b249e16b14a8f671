//! One cluster: watches begin and end as it and the rights change, and what they tell becomes meshes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arcstr::ArcStr;
use egress_core::input::Input;
use egress_core::world::ClusterState;
use kube::Client;
use tokio::sync::{mpsc, watch as channel};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::access::{self, Access};
use super::compile::Compiler;
use super::connect::Connection;
use super::keep::{Keeper, WatchId};
use super::kinds::Kind;
use super::look::{Looked, Looker, Rights};
use super::plan::{self, Pods};
use super::server::{Era, Pause, Server};
use super::trouble::Trouble;
use super::watch::{self, News, Target};
use super::{Figures, Loading, Options, discover};
use crate::source::clock;

/// News that may wait; a watch that is faster waits.
const CHANNEL: usize = 1_024;

/// How often kinds are looked for whose definitions came or went, before the next look has to do.
const TRIES: u32 = 10;

/// Looks after which rights are asked for again although no change of them was seen.
const LOOKS: u32 = 20;

/// Between looks while the server does not answer.
const IMPATIENT: Duration = Duration::from_secs(1);

/// One cluster, as long as it is watched.
pub(super) struct Driver {
    server: Arc<Server>,
    keeper: Keeper,
    compiler: Compiler,
    looker: Looker,
    pods: Pods,
    name: ArcStr,
    out: mpsc::Sender<Vec<Input>>,
    loaded: channel::Sender<Loading>,
    figures: channel::Sender<Figures>,
    era: channel::Sender<Era>,
    /// The last look had no answer.
    interrupted: bool,
    /// A watch ended for a reason that may be the server's.
    in_doubt: bool,
    news_send: mpsc::Sender<(WatchId, News)>,
    news: mpsc::Receiver<(WatchId, News)>,
    tasks: JoinSet<()>,
    watches: BTreeMap<WatchId, (Target, AbortHandle)>,
    next: WatchId,
    told: Option<ClusterState>,
    served: Vec<(&'static Kind, String)>,
    access: Vec<(&'static Kind, Access)>,
    /// ConfigMaps by name, and whether they may be read.
    named: BTreeMap<String, bool>,
    /// Before that nothing is compiled again.
    rested: Instant,
}

impl Driver {
    pub(super) fn new(
        options: Options,
        (client, place): (Client, &str),
        out: mpsc::Sender<Vec<Input>>,
        loaded: channel::Sender<Loading>,
        figures: channel::Sender<Figures>,
    ) -> Self {
        let server = Arc::new(Server::new(Connection::new(options.cluster, client), options.pace));
        let name = ArcStr::from(egress_core::name::printable(place));
        let (news_send, news) = mpsc::channel(CHANNEL);
        Self {
            keeper: Keeper::new(options.pods.clone()),
            compiler: Compiler::new(name.clone(), options.mesh),
            looker: Looker::new(server.clone()),
            server,
            pods: options.pods,
            name,
            out,
            loaded,
            figures,
            era: channel::channel(Era::default()).0,
            interrupted: false,
            in_doubt: false,
            news_send,
            news,
            tasks: JoinSet::new(),
            watches: BTreeMap::new(),
            next: 0,
            told: None,
            served: Vec::new(),
            access: Vec::new(),
            named: BTreeMap::new(),
            rested: Instant::now(),
        }
    }

    /// Until nobody listens.
    pub(super) async fn run(mut self) {
        tokio::time::sleep(self.server.part_of(self.server.pace.spread)).await;
        if !self.begin().await {
            return;
        }
        let mut look = interval(self.server.pace.look);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.tick().await;
        let mut next_look = Instant::now() + self.server.pace.look;
        let patience = Instant::now() + self.server.pace.patience;
        // Edits take effect together; kinds are looked for a little after their definitions changed.
        let (mut due, mut discover) = (None, None);
        let (mut looks, mut tries) = (0, 0);
        loop {
            let now = Instant::now();
            let begun = self.compiler.has_compiled();
            let ready = begun || self.keeper.is_settled() || (now >= patience && self.keeper.is_listed());
            let wait = (!begun && now < patience).then_some(patience);
            let wake = [due.filter(|_| ready), discover, wait].into_iter().flatten().min();
            // Staleness shows itself by time that passes.
            let wake = wake.unwrap_or_else(|| now + IMPATIENT);
            tokio::select! {
                Some((id, first)) = self.news.recv() => {
                    self.hear(id, first);
                    while let Ok((id, more)) = self.news.try_recv() {
                        self.hear(id, more);
                    }
                }
                Some(looked) = self.looker.next() => {
                    if self.saw(&looked) {
                        self.ask_rights().await;
                        self.plan().await;
                    }
                    self.in_doubt |= self.keeper.is_silent();
                }
                _ = look.tick() => {
                    looks += 1;
                    next_look = Instant::now() + self.server.pace.look;
                    self.looker.look(match looks {
                        _ if self.interrupted => Rights::Unseen,
                        n if n % LOOKS == 0 => Rights::AskedAgain,
                        n if n % 2 == 0 => Rights::Unseen,
                        _ => Rights::Seen,
                    });
                    tries = 0;
                    if self.keeper.awaits_kinds() || !self.keeper.hears_of_kinds() {
                        discover.get_or_insert_with(Instant::now);
                    }
                }
                () = sleep_until(wake) => {}
            }
            let now = Instant::now();
            if std::mem::take(&mut self.in_doubt) && next_look > now + IMPATIENT {
                // When it answers again all watches are opened at once, however long their pauses are by then.
                next_look = now + IMPATIENT;
                look.reset_at(next_look);
            }
            if self.keeper.take_definitions_changed() {
                tries = 0;
                discover.get_or_insert(now + self.server.pace.first);
            }
            if self.keeper.misses_kinds() && tries < TRIES {
                discover.get_or_insert(now + self.server.pace.first);
            }
            if discover.is_some_and(|at| at <= now) {
                discover = None;
                if self.discover().await.is_ok() {
                    self.plan().await;
                }
                tries += 1;
                if (self.keeper.awaits_kinds() || self.keeper.misses_kinds()) && tries < TRIES {
                    // The definition is there before the kind is.
                    discover = Some(now + self.server.pace.first * 4);
                }
            }
            self.plan_by_wishes().await;
            if self.keeper.has_edits() || !self.compiler.has_compiled() {
                // Where objects change all the time, compiling them takes a fifth of it at most.
                due.get_or_insert((now + self.server.pace.gather).max(self.rested));
            }
            let ready = self.compiler.has_compiled()
                || self.keeper.is_settled()
                || (now >= patience && self.keeper.is_listed());
            if ready && due.is_some_and(|at| at <= now) {
                due = None;
                if !self.publish().await {
                    return;
                }
            }
            if !self.tell_state().await {
                return;
            }
        }
    }

    /// Until the server said what it has and what may be read of it. False: nobody listens.
    async fn begin(&mut self) -> bool {
        let mut pause = Pause::new(&self.server.pace);
        loop {
            let trouble = match self.discover().await {
                Ok(()) => {
                    self.ask_rights().await;
                    self.plan().await;
                    return true;
                }
                Err(trouble) => trouble,
            };
            if let Trouble::NotAccepted(_) = &trouble {
                self.server.connection.renew().await;
            }
            self.keeper.answers(clock::now().1, Some(trouble.to_string()));
            self.loaded.send_replace(Loading::Failing(format!("{}: {trouble}", self.name)));
            if !self.tell_state().await {
                return false;
            }
            pause.wait(&self.server).await;
        }
    }

    async fn discover(&mut self) -> Result<(), Trouble> {
        let client = self.server.connection.client();
        self.served = discover::served(&client).await?;
        self.keeper.answers(clock::now().1, None);
        self.keeper.serves(self.served.clone());
        let new: Vec<_> = self
            .served
            .iter()
            .filter(|(kind, _)| !self.access.iter().any(|(known, _)| known == kind))
            .cloned()
            .collect();
        if !self.access.is_empty() && !new.is_empty() {
            self.access.extend(access::ask_all(&client, &new).await);
        }
        self.access.retain(|(kind, _)| self.served.iter().any(|(served, _)| served == kind));
        self.keeper.may_read(self.access.clone());
        Ok(())
    }

    async fn ask_rights(&mut self) {
        self.access = access::ask_all(&self.server.connection.client(), &self.served).await;
        self.keeper.may_read(self.access.clone());
        self.named.clear();
    }

    /// Begins and ends watches.
    async fn plan(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        let wishes = self.keeper.wishes();
        let mut wanted = Vec::new();
        for (kind, version) in self.served.clone() {
            let denied = self.access.iter().any(|(k, access)| *k == kind && matches!(access, Access::Denied(_)));
            for target in plan::targets(kind, &version, &self.pods, &wishes) {
                if !denied && self.may_read_name(&target).await {
                    wanted.push(target);
                }
            }
        }
        let over: Vec<WatchId> =
            self.watches.iter().filter(|(_, (target, _))| !wanted.contains(target)).map(|(id, _)| *id).collect();
        for target in wanted {
            if !self.watches.values().any(|(known, _)| *known == target) {
                self.watch(target);
            }
        }
        for id in over {
            let Some((target, task)) = self.watches.remove(&id) else { continue };
            task.abort();
            // What was known of a kind that may be read no more is better than nothing; of a kind that is no more there is nothing.
            let denied = self.access.iter().any(|(k, access)| *k == target.kind && matches!(access, Access::Denied(_)));
            self.keeper.ended(id, !denied);
        }
    }

    /// Watches of pods and ConfigMaps depend on objects.
    async fn plan_by_wishes(&mut self) {
        if self.keeper.take_wishes_changed() {
            self.plan().await;
        }
    }

    async fn may_read_name(&mut self, target: &Target) -> bool {
        let Some(name) = target.name() else { return true };
        if let Some(known) = self.named.get(name) {
            return *known;
        }
        let access = access::ask(&self.server.connection.client(), target.kind, Some(name)).await;
        let may = !matches!(access, Access::Denied(_));
        self.named.insert(name.to_owned(), may);
        self.keeper.may_read_name(name, may);
        may
    }

    fn watch(&mut self, target: Target) {
        let id = self.next;
        self.next += 1;
        self.keeper.began(id, target.clone(), clock::now().1);
        let (send, mut receive) = mpsc::channel(CHANNEL / 8);
        let news = self.news_send.clone();
        let follow = watch::follow(target.clone(), self.server.clone(), send, self.era.subscribe());
        let task = self.tasks.spawn(async move {
            let forward = async {
                while let Some(one) = receive.recv().await {
                    if news.send((id, one)).await.is_err() {
                        return;
                    }
                }
            };
            tokio::join!(follow, forward);
        });
        self.watches.insert(id, (target, task));
    }

    fn hear(&mut self, id: WatchId, news: News) {
        self.in_doubt |= matches!(news, News::Closed(Trouble::Unreachable(_) | Trouble::NotAccepted(_)));
        self.keeper.hear(id, news, clock::now().1);
    }

    /// Takes in what a look saw; whether rights have to be asked for again.
    fn saw(&mut self, looked: &Looked) -> bool {
        match looked {
            Looked::Trouble(trouble) => {
                self.interrupted = true;
                self.keeper.answers(clock::now().1, Some(trouble.to_string()));
                return false;
            }
            Looked::OtherCluster => {
                self.server.newest.store(0, Ordering::Relaxed);
                self.era.send_modify(|era| era.cluster += 1);
            }
            Looked::Same | Looked::OtherRights if self.interrupted => self.era.send_modify(|era| era.connection += 1),
            Looked::Same | Looked::OtherRights => {}
        }
        self.interrupted = false;
        self.keeper.answers(clock::now().1, None);
        *looked != Looked::Same
    }

    /// Compiles what changed, and hands it to the engine. False: nobody listens.
    async fn publish(&mut self) -> bool {
        let edits = self.keeper.take_edits();
        let (began, edited) = (Instant::now(), self.compiler.has_compiled());
        let Some((source, mesh)) = self.compiler.compile(edits).await else { return false };
        let compiled = began.elapsed();
        if edited {
            self.rested = Instant::now() + (compiled * 4).min(self.server.pace.longest);
        }
        let at = clock::now().0;
        let objects = self.keeper.count();
        let bytes = self.server.bytes.load(Ordering::Relaxed);
        let (watches, gone) = (self.watches.len(), self.server.gone.load(Ordering::Relaxed));
        self.figures.send_replace(Figures { bytes, objects, watches, gone, compiled });
        let state = self.keeper.state(&self.name, clock::now().1);
        self.told = Some(state.clone());
        let sent = self.out.send(vec![Input::Cluster(state), Input::Mesh { at, source, mesh }]).await.is_ok();
        self.loaded.send_replace(Loading::Done);
        sent
    }

    /// Tells what is known of the cluster, where that changed. False: nobody listens.
    async fn tell_state(&mut self) -> bool {
        let state = self.keeper.state(&self.name, clock::now().1);
        if self.told.as_ref() == Some(&state) {
            return !self.out.is_closed();
        }
        self.told = Some(state.clone());
        self.out.send(vec![Input::Cluster(state)]).await.is_ok()
    }
}
