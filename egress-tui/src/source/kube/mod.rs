//! Objects from a cluster: watched, trimmed, compiled, and what is missing of them told.
//!
//! ```text
//! connect ─▶ discover (which kinds, which versions) ─▶ access (what may be read) ─▶ plan (which watches)
//!     watch ─┐
//!     watch ─┼─ News ─▶ keep (what there is, what is missing) ─ edits ─▶ Mesh ─▶ Input::Mesh, Input::Cluster
//!     look  ─┘
//! ```
//!
//! Load on the API server, for each node: one watch, on a connection of its own, for each kind that is served and may be read (some 30),
//! of pods those of the node and those that route; besides them, every [`watch::Pace::look`], one list of one Namespace, and every other
//! time one review of rules. Nothing is ever written but access reviews, which ask.

mod access;
mod compile;
mod connect;
mod discover;
mod keep;
mod kinds;
mod look;
mod plan;
mod trim;
mod trouble;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arcstr::ArcStr;
use egress_core::input::Input;
use egress_core::mesh::MeshOptions;
use egress_core::world::{ClusterState, Gap, Incomplete};
use tokio::sync::{mpsc, oneshot, watch as channel};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

pub use connect::{Cluster, ConnectError};
pub use kinds::{KINDS, Kind, Part};
pub use plan::Pods;
pub use watch::Pace;

use crate::source::clock;
use access::Access;
use compile::Compiler;
use connect::Connection;
use keep::{Keeper, WatchId};
use look::{Looked, Looker, Rights};
use trouble::Trouble;
use watch::{Era, News, Pause, Server, Target};

/// News that may wait; a watch that is faster waits.
const CHANNEL: usize = 1_024;

/// How often kinds are looked for whose definitions came or went, before the next look has to do.
const TRIES: u32 = 10;

/// Looks after which rights are asked for again although no change of them was seen.
const LOOKS: u32 = 20;

/// Between looks while the server does not answer.
const IMPATIENT: Duration = Duration::from_secs(1);

/// What is wanted of a cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which one.
    pub cluster: Cluster,
    /// Which pods.
    pub pods: Pods,
    /// What the mesh is compiled for.
    pub mesh: MeshOptions,
    /// How long things take.
    pub pace: Pace,
}

/// How much was read so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes received.
    pub bytes: u64,
    /// Objects of each kind.
    pub objects: BTreeMap<&'static str, usize>,
    /// Watches.
    pub watches: usize,
    /// How often history was gone (410), so that objects were listed anew.
    pub gone: u64,
    /// How long the latest mesh took to be made.
    pub compiled: Duration,
}

/// Whether the first mesh is on its way to the engine.
#[derive(Debug, Clone)]
enum Loading {
    /// Nothing was heard yet.
    Waiting,
    /// It is tried again.
    Failing(String),
    /// It never will be: the configuration leads nowhere.
    Unusable(String),
    /// It is.
    Done,
}

/// A cluster that is watched.
pub struct Running {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    loaded: channel::Receiver<Loading>,
    figures: channel::Receiver<Figures>,
}

impl Running {
    /// Waits until the objects are on their way to the engine; an error if it is clear that they never will be.
    pub async fn loaded(&mut self) -> Result<(), String> {
        let told = self.loaded.wait_for(|l| matches!(l, Loading::Done | Loading::Unusable(_))).await;
        match told.as_deref() {
            Ok(Loading::Unusable(why)) => Err(why.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err("the cluster's source ended".to_owned()),
        }
    }

    /// What the cluster said instead of giving its objects.
    pub fn why_not_loaded(&self) -> String {
        match &*self.loaded.borrow() {
            Loading::Failing(why) | Loading::Unusable(why) => why.clone(),
            Loading::Waiting | Loading::Done => "the cluster did not answer in time".to_owned(),
        }
    }

    /// How much was read so far.
    pub fn figures(&self) -> Figures {
        self.figures.borrow().clone()
    }

    /// Ends all watches.
    pub async fn stop(self) {
        // It may have ended with the engine.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// Begins to watch; returns at once.
pub fn start(options: Options, out: mpsc::Sender<Vec<Input>>) -> Running {
    let (stop, stopped) = oneshot::channel();
    let (loaded_send, loaded) = channel::channel(Loading::Waiting);
    let (figures_send, figures) = channel::channel(Figures::default());
    let task = tokio::spawn(async move {
        let run = run(options, out, loaded_send, figures_send);
        tokio::select! {
            () = run => {}
            _ = stopped => {}
        }
    });
    Running { task, stop, loaded, figures }
}

async fn run(
    options: Options,
    out: mpsc::Sender<Vec<Input>>,
    loaded: channel::Sender<Loading>,
    figures: channel::Sender<Figures>,
) {
    let (client, place) = match options.cluster.connect().await {
        Ok(connected) => connected,
        Err(error) => {
            let why = error.to_string();
            // Nobody listens any more, if it fails.
            let _ = out.send(vec![Input::Cluster(unusable(&why))]).await;
            loaded.send_replace(Loading::Unusable(why));
            out.closed().await;
            return;
        }
    };
    let server = Arc::new(Server::new(Connection::new(options.cluster.clone(), client), options.pace));
    tokio::time::sleep(server.part_of(options.pace.spread)).await;
    let (news_send, news) = mpsc::channel(CHANNEL);
    let (era, _) = channel::channel(Era::default());
    let driver = Driver {
        keeper: Keeper::new(options.pods.clone()),
        compiler: Compiler::new(place.as_str().into(), options.mesh),
        looker: Looker::new(server.clone()),
        server,
        pods: options.pods,
        name: egress_core::name::printable(&place).into(),
        out,
        loaded,
        figures,
        era,
        interrupted: false,
        news_send,
        tasks: JoinSet::new(),
        watches: BTreeMap::new(),
        next: 0,
        told: None,
        served: Vec::new(),
        access: Vec::new(),
        named: BTreeMap::new(),
        rested: Instant::now(),
    };
    driver.run(news).await;
}

/// A configuration that leads to no cluster.
fn unusable(why: &str) -> ClusterState {
    let missing = Incomplete {
        what: format!("no cluster: {why}"),
        affects: "flows are shown, verdicts are not: every flow is unknown".to_owned(),
        fix: "name a kubeconfig with --kubeconfig or KUBECONFIG, or manifests with --mesh PATH".to_owned(),
    };
    ClusterState { gaps: vec![Gap { kind: "all".into(), missing }], ..ClusterState::default() }
}

/// One cluster, as long as it is watched.
struct Driver {
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
    news_send: mpsc::Sender<(WatchId, News)>,
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
    async fn run(mut self, mut news: mpsc::Receiver<(WatchId, News)>) {
        if !self.begin().await {
            return;
        }
        let mut look = interval(self.server.pace.look);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.tick().await;
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
                Some((id, first)) = news.recv() => {
                    self.hear(id, first);
                    while let Ok((id, more)) = news.try_recv() {
                        self.hear(id, more);
                    }
                }
                Some(looked) = self.looker.next() => {
                    if self.saw(looked) {
                        self.ask_rights().await;
                        self.plan().await;
                    }
                    if self.keeper.is_silent() {
                        look.reset_after(IMPATIENT);
                    }
                }
                _ = look.tick() => {
                    looks += 1;
                    self.looker.look(match looks {
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
        self.keeper.hear(id, news, clock::now().1);
    }

    /// Takes in what a look saw; whether rights have to be asked for again.
    fn saw(&mut self, looked: Looked) -> bool {
        match &looked {
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
        looked != Looked::Same
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
