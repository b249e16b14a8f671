//! The question: one connection, as far as it is known.

use std::net::SocketAddr;

use crate::input::Transport;
use crate::mesh::PodIndex;

/// Which side of the path is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallLeg {
    /// A socket opened by an application in the pod.
    Outbound,
    /// A connection that arrives at the gateway pod; `to` is the pod's address and the port that it listens on.
    Gateway,
}

/// What the first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bytes {
    /// A TLS ClientHello.
    Tls,
    /// An HTTP/1 request.
    Http,
    /// An HTTP/2 preface.
    Http2,
    /// Neither.
    Opaque,
    /// Not seen.
    Unknown,
}

impl Bytes {
    /// The spelling of `payload` in `explain --calls`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Opaque => "opaque",
            Self::Unknown => "unknown",
        }
    }

    /// The bytes with this spelling.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Tls, Self::Http, Self::Http2, Self::Opaque, Self::Unknown].into_iter().find(|b| b.as_str() == text)
    }
}

/// One connection. Names are lower case (see [`crate::name::HostName`]).
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
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
    /// Server name in the ClientHello.
    pub sni: Option<&'a str>,
    /// Host header. `None` with HTTP bytes means the destination address.
    pub host: Option<&'a str>,
    /// Path of the request, where known.
    pub path: Option<&'a str>,
    /// The name of a DNS answer that held the address; only used where nothing in the bytes tells.
    pub dns: Option<&'a str>,
    /// Name of the container; `None` is an ordinary application container.
    pub container: Option<&'a str>,
    /// Effective uid of the process.
    pub uid: Option<u32>,
    /// Effective gid of the process.
    pub gid: Option<u32>,
    /// Whether capture is to be computed from the pod's configuration (`explain`), or is known to have happened
    /// (the kernel saw the proxy accept it): `true` skips the rules of interception.
    pub captured: bool,
}
