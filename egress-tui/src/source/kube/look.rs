//! A look at the cluster from time to time, for what no watch tells: that it does not answer any more, that it is another one or was
//! restored from a backup (watches then succeed and stay silent for ever), that rights were granted or taken away (a watch that is
//! open goes on).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kube::core::Request;
use kube::core::params::ListParams;
use serde_json::Value;
use tokio::task::JoinSet;

use super::access;
use super::server::Server;
use super::trouble::{Trouble, answered};

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Looked {
    /// Everything is as it was.
    Same,
    /// Nothing that was read so far holds.
    OtherCluster,
    /// Rights have to be asked for again.
    OtherRights,
    /// It does not answer.
    Trouble(Trouble),
}

/// How closely a look looks at rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    /// Not at all.
    Unseen,
    /// Whether they changed.
    Seen,
    /// They are asked for again, kind by kind, although no change was seen.
    AskedAgain,
}

/// Looks, one at a time.
pub(super) struct Looker {
    server: Arc<Server>,
    looks: JoinSet<Result<Seen, Trouble>>,
    uid: Option<String>,
    rules: Option<Value>,
}

struct Seen {
    /// Of the namespace kube-system: it lives as long as the cluster. `None` where it may not be read.
    uid: Option<String>,
    /// An older version than one that was seen before.
    older: bool,
    rules: Option<Value>,
    ask_again: bool,
}

impl Looker {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { server, looks: JoinSet::new(), uid: None, rules: None }
    }

    /// Begins a look, unless one is going on.
    pub(super) fn look(&mut self, rights: Rights) {
        if self.looks.is_empty() {
            let server = self.server.clone();
            self.looks.spawn(async move { answered(look(&server, rights)).await });
        }
    }

    /// What the next look saw; `None` where none is going on.
    pub(super) async fn next(&mut self) -> Option<Looked> {
        let seen = match self.looks.join_next().await?.ok()? {
            Ok(seen) => seen,
            Err(trouble) => {
                if let Trouble::NotAccepted(_) = &trouble {
                    self.server.connection.renew().await;
                }
                return Some(Looked::Trouble(trouble));
            }
        };
        let other = seen.older || (self.uid.is_some() && seen.uid.is_some() && seen.uid != self.uid);
        let rights = seen.ask_again || (self.rules.is_some() && seen.rules.is_some() && seen.rules != self.rules);
        self.uid = seen.uid.or(self.uid.take());
        self.rules = seen.rules.or(self.rules.take());
        Some(match (other, rights) {
            (true, _) => Looked::OtherCluster,
            (false, true) => Looked::OtherRights,
            (false, false) => Looked::Same,
        })
    }
}

async fn look(server: &Server, rights: Rights) -> Result<Seen, Trouble> {
    let client = server.connection.client();
    let newest = server.newest.load(Ordering::Relaxed);
    let params = ListParams::default().fields("metadata.name=kube-system").limit(1);
    let request = Request::new("/api/v1/namespaces").list(&params);
    let request = request.map_err(|e| Trouble::NotUnderstood(e.to_string()))?;
    let (uid, older) = match client.request::<Value>(request).await.map_err(Trouble::from) {
        Ok(list) => {
            let text = |pointer: &str| list.pointer(pointer).and_then(Value::as_str);
            let version = text("/metadata/resourceVersion").and_then(|v| v.parse::<u64>().ok());
            let older = version.is_some_and(|version| version < newest);
            (text("/items/0/metadata/uid").map(str::to_owned), older)
        }
        Err(Trouble::Denied) => (None, false),
        Err(trouble) => return Err(trouble),
    };
    // A server without reviews of rules still has those of single accesses.
    let rules = match rights {
        Rights::Unseen => None,
        Rights::Seen | Rights::AskedAgain => access::rules(&client).await.unwrap_or_default(),
    };
    Ok(Seen { uid, older, rules, ask_again: rights == Rights::AskedAgain })
}
