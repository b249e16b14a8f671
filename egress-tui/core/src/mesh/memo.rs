//! Answers that are remembered. Connections of the same sort ask the same: a memo answers the second one without a decision.

use std::net::SocketAddr;
use std::sync::Arc;

use arcstr::ArcStr;
use rustc_hash::FxHashMap;

use crate::input::Transport;
use crate::mesh::{Bytes, Call, CallLeg, Expected, Mesh, PodIndex};
use crate::name::HostName;

/// Answers that are remembered at a time; beyond it a memo starts anew.
const MOST: usize = 65_536;

/// A [`Call`] that keeps its names: everything that an answer depends on besides the mesh. The pod stands for its namespace, labels,
/// service account, addresses, Sidecar and rules of interception, which are the mesh's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The pod that opens it, or at which it arrives.
    pub pod: PodIndex,
    /// Which of the two.
    pub leg: CallLeg,
    /// Its destination.
    pub to: SocketAddr,
    /// TCP or UDP.
    pub transport: Transport,
    /// What it starts with.
    pub bytes: Bytes,
    /// Server name.
    pub sni: Option<HostName>,
    /// Host header.
    pub host: Option<HostName>,
    /// Path of the request.
    pub path: Option<String>,
    /// The name of a DNS answer.
    pub dns: Option<HostName>,
    /// Name of the container.
    pub container: Option<ArcStr>,
    /// Effective uid.
    pub uid: Option<u32>,
    /// Effective gid.
    pub gid: Option<u32>,
    /// The proxy is known to have it.
    pub captured: bool,
}

impl Asked {
    /// The question.
    pub fn call(&self) -> Call<'_> {
        Call {
            pod: self.pod,
            leg: self.leg,
            to: self.to,
            transport: self.transport,
            bytes: self.bytes,
            sni: self.sni.as_ref().map(HostName::as_str),
            host: self.host.as_ref().map(HostName::as_str),
            path: self.path.as_deref(),
            dns: self.dns.as_ref().map(HostName::as_str),
            container: self.container.as_deref(),
            uid: self.uid,
            gid: self.gid,
            captured: self.captured,
        }
    }
}

/// Answers of one mesh. Asked with another mesh it forgets them all, so no answer outlives the objects that it rests on.
#[derive(Debug, Default)]
pub struct Memo {
    /// Which mesh the answers are of.
    of: u64,
    answers: FxHashMap<Asked, Arc<Expected>>,
}

impl Memo {
    /// [`Mesh::expect`], remembered.
    pub fn expect(&mut self, mesh: &Mesh, asked: &Asked) -> Arc<Expected> {
        if self.of != mesh.edition || self.answers.len() >= MOST {
            self.answers.clear();
            self.of = mesh.edition;
        }
        if let Some(known) = self.answers.get(asked) {
            return known.clone();
        }
        let answer = Arc::new(mesh.expect(&asked.call()));
        self.answers.insert(asked.clone(), answer.clone());
        answer
    }
}
