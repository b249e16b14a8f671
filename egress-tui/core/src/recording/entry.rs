//! What frames hold.

use arcstr::ArcStr;
use serde::{Deserialize, Serialize};

use crate::id::{CgroupId, Nanos, SocketCookie, WallTime};
use crate::input::{Payload, SocketEvent};
use crate::world::{Capture, ClusterState, Incomplete, MeshSource};

/// Where a file comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Version of the program that wrote it.
    pub tool: String,
    /// The node that was observed.
    pub node: ArcStr,
    /// The cluster's name, where known.
    pub cluster: Option<ArcStr>,
    /// `--istio-version` of the writer.
    pub istio_version: Option<String>,
    /// `--istiod-env` of the writer.
    pub istiod_env: Vec<String>,
    /// 0 for the first file of a recording; counts on where files are rotated.
    pub part: u32,
}

/// One input. Mirrors [`crate::input::Input`]; the order of the variants is part of the format.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Entry {
    /// A socket did something.
    Socket(SocketEvent),
    /// First bytes that a socket sent.
    Payload(Payload),
    /// A DNS answer.
    Dns {
        /// When it arrived.
        at: Nanos,
        /// The socket that received it.
        cookie: SocketCookie,
        /// The message.
        message: Vec<u8>,
    },
    /// The path of a cgroup.
    Cgroup {
        /// Its id.
        id: CgroupId,
        /// Its path.
        path: Option<ArcStr>,
    },
    /// The cgroup of a process.
    Process {
        /// Thread group id.
        tgid: u32,
        /// Its name.
        comm: Option<ArcStr>,
        /// Its path.
        cgroup: Option<ArcStr>,
    },
    /// Events that never arrived.
    Lost {
        /// Where.
        stage: ArcStr,
        /// Total since the start.
        total: u64,
    },
    /// What the source can see.
    Capture(Capture),
    /// Time passes.
    Tick {
        /// Monotonic time.
        now: Nanos,
        /// The same instant on the wall.
        wall: WallTime,
    },
    /// A part of a text with objects; parts with the same key follow each other.
    Text {
        /// Hash of file, line and the whole text.
        key: u64,
        /// The file, as it was given; empty where the objects come from an API.
        file: ArcStr,
        /// The text's first line in that file.
        line: u32,
        /// The part.
        part: String,
    },
    /// From here on these texts are the mesh.
    Mesh {
        /// When.
        at: Nanos,
        /// Where they come from.
        source: MeshSource,
        /// Keys, in order.
        texts: Vec<u64>,
    },
    /// Something that a source could not see.
    Incomplete(Incomplete),
    /// From here on some texts are the mesh no more, and others are.
    MeshEdit {
        /// When.
        at: Nanos,
        /// Where they come from.
        source: MeshSource,
        /// Keys of those that go.
        gone: Vec<u64>,
        /// Keys of those that come.
        put: Vec<u64>,
    },
    /// What was known of the cluster changed.
    Cluster(ClusterState),
}
