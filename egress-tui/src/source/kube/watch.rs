//! One watch: all objects first, then what changes, for ever.
//!
//! The list comes as a stream of events where the server can do that (Kubernetes 1.32 and later, by default 1.34), else in pages; what arrives is
//! trimmed before anything keeps it. A list takes effect as a whole, so a watch that begins anew never shows half of the objects.
//! Whatever fails is told and tried again, soon at first and at most [`super::Pace::longest`] later.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::AsyncBufReadExt as _;
use kube::core::Request;
use kube::core::params::{ListParams, WatchParams};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::kinds::{Kind, Part};
use super::server::{Era, Pause, Server};
use super::trim::trim;
use super::trouble::Trouble;

/// Objects of one page: what kubectl asks for.
const PAGE: u32 = 500;

/// Bytes of one event. Objects have 1.5 MiB at most where etcd keeps its defaults.
const LONGEST_LINE: usize = 64 << 20;

/// A list that stands still for so long is begun again.
const STANDS_STILL: Duration = Duration::from_mins(1);

/// What one watch asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The kind.
    pub(super) kind: &'static Kind,
    /// The version that is served and understood.
    pub(super) version: String,
    /// Field selector.
    pub(super) fields: Option<String>,
    /// Label selector.
    pub(super) labels: Option<String>,
}

impl Target {
    fn api_version(&self) -> String {
        if self.kind.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.kind.group, self.version) }
    }

    /// The only object that is wanted.
    pub(super) fn name(&self) -> Option<&str> {
        self.fields.as_deref()?.strip_prefix("metadata.name=")
    }

    fn path(&self) -> String {
        if self.kind.group.is_empty() {
            format!("/api/{}/{}", self.version, self.kind.plural)
        } else {
            format!("/apis/{}/{}/{}", self.kind.group, self.version, self.kind.plural)
        }
    }
}

/// Namespace and name; the namespace is empty for objects of the whole cluster.
pub(super) type Key = (String, String);

/// An object, trimmed.
#[derive(Debug)]
pub(super) struct Item {
    /// Its name.
    pub(super) key: Key,
    /// What is kept of it.
    pub(super) value: Value,
}

/// What a watch has to say.
#[derive(Debug)]
pub(super) enum News {
    /// These are all objects.
    All(Vec<Item>),
    /// An object is new or changed.
    Put(Item),
    /// An object is gone.
    Gone(Key),
    /// The watch is open.
    Open,
    /// The watch is not open.
    Closed(Trouble),
}

/// A line of a watch.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    what: String,
    object: Value,
}

/// Watches until nobody listens.
pub(super) async fn follow(
    target: Target,
    server: Arc<Server>,
    out: mpsc::Sender<News>,
    mut era: watch::Receiver<Era>,
) {
    let is_open = Arc::new(AtomicBool::new(false));
    let api_version = target.api_version();
    let mut follower = Follower { api_version, target, server, out, from: None, is_open: is_open.clone() };
    let mut pause = Pause::new(&follower.server.pace);
    let mut cluster = era.borrow_and_update().cluster;
    loop {
        let now = era.borrow_and_update().cluster;
        if now != cluster {
            (cluster, follower.from) = (now, None);
        }
        let began = Instant::now();
        is_open.store(false, Ordering::Relaxed);
        let told = tokio::select! {
            told = follower.round() => told,
            goes_on = over(&mut era, cluster, &is_open) => {
                if !goes_on {
                    return;
                }
                continue;
            }
        };
        let lasted = began.elapsed();
        if lasted >= follower.server.pace.longest {
            pause.over(&follower.server.pace);
        }
        let trouble = match told {
            // Whatever is in between may end every watch at once.
            Ok(()) if lasted < follower.server.pace.first => {
                pause.wait(&follower.server).await;
                continue;
            }
            Ok(()) => continue,
            Err(End::NobodyListens) => return,
            Err(End::Trouble(trouble)) => trouble,
        };
        match &trouble {
            // A kind that went and came back has another history.
            Trouble::NotServed => follower.from = None,
            Trouble::Gone => {
                follower.server.gone.fetch_add(1, Ordering::Relaxed);
                follower.from = None;
            }
            Trouble::NotAccepted(_) => follower.server.connection.renew().await,
            _ => {}
        }
        if follower.tell(News::Closed(trouble)).await.is_err() {
            return;
        }
        tokio::select! {
            () = pause.wait(&follower.server) => {}
            changed = era.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Until what is going on is of no use any more: it is another cluster, or a watch that is open may be so on one side only. A
/// list is left alone: it notices itself. False: nobody listens.
async fn over(era: &mut watch::Receiver<Era>, cluster: u64, is_open: &AtomicBool) -> bool {
    loop {
        if era.changed().await.is_err() {
            return false;
        }
        if era.borrow_and_update().cluster != cluster || is_open.load(Ordering::Relaxed) {
            return true;
        }
    }
}

enum End {
    NobodyListens,
    Trouble(Trouble),
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

struct Follower {
    target: Target,
    api_version: String,
    server: Arc<Server>,
    out: mpsc::Sender<News>,
    /// The version up to which everything is known.
    from: Option<String>,
    /// All objects are known, and changes arrive.
    is_open: Arc<AtomicBool>,
}

impl Follower {
    /// One watch, from its list if there is none yet, until the server ends it.
    async fn round(&mut self) -> Result<(), End> {
        if self.from.is_none() {
            if self.server.streams.load(Ordering::Relaxed) {
                match self.events(true).await {
                    Err(End::Trouble(Trouble::NotUnderstood(_))) => self.server.streams.store(false, Ordering::Relaxed),
                    told => return told,
                }
            }
            self.pages().await?;
        }
        self.events(false).await
    }

    fn named(&self) -> bool {
        self.target.kind.part == Part::Names
    }

    /// All objects, in pages.
    async fn pages(&mut self) -> Result<(), End> {
        let mut items = Vec::new();
        let mut params = ListParams { limit: Some(PAGE), ..ListParams::default() };
        params.field_selector.clone_from(&self.target.fields);
        params.label_selector.clone_from(&self.target.labels);
        let version = loop {
            let request = Request::new(self.target.path());
            let request = if self.named() { request.list_metadata(&params) } else { request.list(&params) };
            let request = request.map_err(|e| Trouble::NotUnderstood(e.to_string()))?;
            let client = self.server.connection.client();
            let text = match timely(client.request_text(request)).await {
                // The pages that are left were forgotten: all of it in one.
                Err(Trouble::Gone) if params.continue_token.is_some() => {
                    self.server.gone.fetch_add(1, Ordering::Relaxed);
                    items.clear();
                    (params.continue_token, params.limit) = (None, None);
                    continue;
                }
                answer => answer?,
            };
            self.server.bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
            let mut page: Value = serde_json::from_str(&text).map_err(|e| Trouble::Unreachable(e.to_string()))?;
            if let Some(Value::Array(list)) = page.get_mut("items").map(Value::take) {
                items.extend(list.into_iter().filter_map(|object| self.item(object)));
            }
            let meta = |name: &str| page.pointer(name).and_then(Value::as_str).filter(|t| !t.is_empty());
            match meta("/metadata/continue") {
                Some(token) => params.continue_token = Some(token.to_owned()),
                None => break meta("/metadata/resourceVersion").unwrap_or_default().to_owned(),
            }
        };
        self.server.saw(&version);
        self.from = Some(version);
        self.tell(News::All(items)).await
    }

    /// Events of one watch; with `initial`, all objects come first.
    async fn events(&mut self, initial: bool) -> Result<(), End> {
        let long = self.server.pace.watch;
        let long = long.mul_f64(0.75) + self.server.part_of(long.mul_f64(0.25));
        let mut params = WatchParams::default().timeout((long.as_secs() as u32).max(1));
        params.field_selector.clone_from(&self.target.fields);
        params.label_selector.clone_from(&self.target.labels);
        if initial {
            params = params.initial_events();
        }
        let from = if initial { String::new() } else { self.from.clone().unwrap_or_default() };
        let request = Request::new(self.target.path());
        let request = if self.named() { request.watch_metadata(&params, &from) } else { request.watch(&params, &from) };
        let request = request.map_err(|e| Trouble::NotUnderstood(e.to_string()))?;
        let client = self.server.connection.client();
        let stream = timely(client.request_stream(request)).await?;
        let mut stream = pin!(stream);
        // The events before the bookmark that ends them.
        let mut first = initial.then(Vec::new);
        if !initial {
            self.open().await?;
        }
        let end = Instant::now() + long + Duration::from_secs(30);
        let mut line = Vec::new();
        loop {
            line.clear();
            let left = end.saturating_duration_since(Instant::now());
            let left = if first.is_some() { left.min(STANDS_STILL) } else { left };
            let late = |_| Trouble::Unreachable("the server neither goes on nor ends the watch".to_owned());
            let read = timeout(left, next_line(&mut stream, &mut line)).await.map_err(late)??;
            if read == 0 {
                // The server ended it, or the connection broke: the next watch tells which.
                return if first.is_some() {
                    Err(Trouble::Unreachable("the list was cut short".into()).into())
                } else {
                    Ok(())
                };
            }
            self.server.bytes.fetch_add(read as u64, Ordering::Relaxed);
            let Ok(Line { what, object }) = serde_json::from_slice(&line) else {
                // A line that was cut off by the end of the connection.
                return Err(Trouble::Unreachable("an event was cut short".to_owned()).into());
            };
            let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(str::to_owned);
            let over = object
                .pointer("/metadata/annotations/k8s.io~1initial-events-end")
                .and_then(Value::as_str)
                .is_some_and(|end| end == "true");
            let news = match what.as_str() {
                "ADDED" | "MODIFIED" => self.item(object).map(News::Put),
                "DELETED" => key(&object).map(News::Gone),
                "ERROR" => {
                    let code = object.get("code").and_then(Value::as_u64).unwrap_or_default();
                    let message = object.get("message").and_then(Value::as_str).unwrap_or_default();
                    let code = u16::try_from(code).unwrap_or_default();
                    return Err(Trouble::of_status(code, message).into());
                }
                _ => None,
            };
            match (&mut first, news) {
                (Some(first), Some(News::Put(item))) => first.push(item),
                (Some(first), Some(News::Gone(gone))) => first.retain(|item| item.key != gone),
                (_, Some(news)) => self.tell(news).await?,
                (_, None) => {}
            }
            if over && let Some(all) = first.take() {
                self.tell(News::All(all)).await?;
                self.open().await?;
            }
            if let (None, Some(version)) = (&first, version) {
                self.server.saw(&version);
                self.from = Some(version);
            }
        }
    }

    fn item(&self, object: Value) -> Option<Item> {
        let key = key(&object)?;
        Some(Item { key, value: trim(object, &self.api_version, self.target.kind.kind) })
    }

    async fn open(&self) -> Result<(), End> {
        self.is_open.store(true, Ordering::Relaxed);
        self.tell(News::Open).await
    }

    async fn tell(&self, news: News) -> Result<(), End> {
        self.out.send(news).await.map_err(|_| End::NobodyListens)
    }
}

fn key(object: &Value) -> Option<Key> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let name = text("/metadata/name");
    (!name.is_empty()).then(|| (text("/metadata/namespace"), name))
}

/// An answer that may be long.
async fn timely<T>(answer: impl Future<Output = kube::Result<T>>) -> Result<T, Trouble> {
    let late = |_| Trouble::Unreachable(format!("no list within {} s", STANDS_STILL.as_secs()));
    Ok(timeout(STANDS_STILL, answer).await.map_err(late)??)
}

/// Reads up to the end of a line; 0 bytes is the end of all.
async fn next_line(
    stream: &mut (impl futures_util::AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> Result<usize, Trouble> {
    loop {
        let piece = stream.fill_buf().await?;
        if piece.is_empty() {
            return Ok(line.len());
        }
        let end = piece.iter().position(|b| *b == b'\n');
        let take = end.map_or(piece.len(), |at| at + 1);
        line.extend_from_slice(&piece[..take]);
        stream.consume_unpin(take);
        if end.is_some() {
            return Ok(line.len());
        }
        if line.len() > LONGEST_LINE {
            return Err(Trouble::Unreachable(format!("an event has more than {LONGEST_LINE} bytes")));
        }
    }
}
