//! One socket, as far as it is known.

use std::net::{IpAddr, SocketAddr};

use arcstr::ArcStr;

use crate::attribution::Place;
use crate::id::{Nanos, SocketCookie};
use crate::input::{Counters, Failure, Opener, Transport, Wire};
use crate::mesh::{Bytes, ContainerRole, Mesh, PodIndex, ProxyKind};
use crate::name::HostName;
use crate::sniff::{self, Sniffed};
use crate::world::{Attribution, Joint};

/// Identifies a row of the socket table: a TCP socket, or one peer of a UDP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) cookie: SocketCookie,
    /// Only for UDP, whose sockets talk to many.
    pub(super) peer: Option<SocketAddr>,
}

/// What a socket is, which decides how it is judged (design §3, §4.1 line 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// An application's, or any process that behaves like one (a shell in the proxy's container).
    App,
    /// Envoy of a sidecar, or ztunnel in the pod's network namespace.
    Sidecar,
    /// Envoy of a gateway or waypoint.
    Gateway,
    /// Another process in a gateway's pod.
    GatewayOther,
    /// pilot-agent, or what ztunnel opens for itself.
    Agent,
    /// No pod.
    Host,
    /// A pod's uid stands in the path, but no Pod object has it.
    Stranger,
}

/// First bytes that a socket sent, put together.
#[derive(Debug, Default)]
pub(super) struct FirstBytes {
    bytes: Vec<u8>,
    /// All that the kernel side wanted to deliver is here, or a piece was lost.
    complete: bool,
    /// Hash of the captured bytes, once complete.
    pub(super) fingerprint: Option<u64>,
    pub(super) sniffed: Option<Sniffed>,
}

/// Longest stream of first bytes that is put together; the kernel side caps it at the same length.
const LONGEST_FIRST_BYTES: usize = 8_192;

/// First bytes of opaque protocols that are kept for comparing prefixes.
pub(super) const OPAQUE_KEPT: usize = 64;

impl FirstBytes {
    /// Takes a piece. Returns whether anything new is known.
    pub(super) fn add(&mut self, offset: u32, total: u32, piece: &[u8]) -> bool {
        if offset == 0 && self.complete && self.sniffed.as_ref().is_none_or(|s| s.bytes == Bytes::Opaque || s.connect) {
            // A new start: a protocol that begins in the clear (Postgres SSLRequest, CONNECT) and goes on with TLS.
            *self = Self::default();
        }
        if self.complete || offset as usize != self.bytes.len() {
            return false;
        }
        self.bytes.extend_from_slice(piece);
        self.bytes.truncate(LONGEST_FIRST_BYTES);
        if self.bytes.len() >= (total as usize).min(LONGEST_FIRST_BYTES) {
            self.complete = true;
            self.fingerprint = Some(xxhash_rust::xxh3::xxh3_64(&self.bytes));
        }
        self.sniffed = sniff::classify(&self.bytes, self.complete);
        if self.complete {
            self.bytes.truncate(OPAQUE_KEPT);
            self.bytes.shrink_to_fit();
        }
        self.sniffed.is_some()
    }

    /// Both began to speak, and one's beginning is not the other's: they do not carry the same stream.
    pub(super) fn contradicts(&self, other: &Self) -> bool {
        let (a, b) = (&self.bytes, &other.bytes);
        let n = a.len().min(b.len()).min(OPAQUE_KEPT);
        a[..n] != b[..n]
    }
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) key: Key,
    pub(super) opener: Opener,
    pub(super) transport: Transport,
    pub(super) dialled: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) local: Option<SocketAddr>,
    pub(super) wire: Option<Wire>,
    pub(super) started: Nanos,
    pub(super) seen: Nanos,
    pub(super) failure: Option<Failure>,
    pub(super) closed: Option<Nanos>,
    pub(super) counters: Counters,
    pub(super) first: FirstBytes,
    pub(super) whose: Whose,
    pub(super) role: Role,
    /// The socket whose connection this one carries on.
    pub(super) claimed_by: Option<Key>,
    /// The socket that carries this one on, and what joined them.
    pub(super) next: Option<(Key, Joint)>,
    /// What this connection added to its flow.
    pub(super) booked: Option<super::flows::Booked>,
}

impl Socket {
    pub(super) fn bytes(&self) -> Bytes {
        self.first.sniffed.as_ref().map_or(Bytes::Unknown, |s| s.bytes)
    }

    pub(super) fn sni(&self) -> Option<&HostName> {
        self.first.sniffed.as_ref()?.sni.as_ref()
    }

    pub(super) fn host(&self) -> Option<&HostName> {
        self.first.sniffed.as_ref()?.host.as_ref()
    }

    /// The address that the next hop sees.
    pub(super) fn source(&self) -> Option<SocketAddr> {
        self.wire.map(|w| w.source).or(self.local)
    }

    /// Where its packets really go.
    pub(super) fn next_hop(&self) -> SocketAddr {
        self.wire.map_or(self.remote, |w| w.destination)
    }

    pub(super) fn is_over(&self) -> bool {
        self.closed.is_some() || self.failure.is_some()
    }
}

/// Whose socket it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whose {
    pub(super) pod: Option<PodIndex>,
    pub(super) pod_uid: Option<ArcStr>,
    pub(super) container: Option<ArcStr>,
    pub(super) container_role: ContainerRole,
    pub(super) evidence: Attribution,
    /// Name of the process (`/proc/PID/comm`), else of the thread.
    pub(super) comm: ArcStr,
}

/// What is known of a socket's surroundings when it is attributed.
pub(super) struct Surroundings<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) cgroup: Option<&'a Place>,
    pub(super) process: Option<&'a Place>,
    pub(super) process_comm: Option<&'a ArcStr>,
    pub(super) netns_pod: Option<&'a ArcStr>,
}

/// Design §7.4: cgroup path, then network namespace of a known pod, then source address.
pub(super) fn attribute(opener: &Opener, local: Option<IpAddr>, around: &Surroundings<'_>) -> (Whose, Role) {
    let mesh = around.mesh;
    let place = around.cgroup.or(around.process);
    let by_cgroup = place.map(|p| (p.pod_uid.clone(), Attribution::Cgroup));
    let by_netns = around.netns_pod.map(|uid| (uid.clone(), Attribution::Netns));
    let by_address = || {
        let pod = mesh.pod_by_ip(local?)?;
        Some((mesh.pod(pod).uid.clone(), Attribution::Address))
    };
    // ztunnel opens the sockets of other pods, in their network namespaces
    let kind = |uid: &str| mesh.pod_by_uid(uid).map(|p| mesh.pod(p).proxy);
    let by_ztunnel = by_cgroup.as_ref().is_some_and(|(uid, _)| kind(uid) == Some(ProxyKind::Ztunnel));
    let other = |found: &(ArcStr, Attribution)| by_cgroup.as_ref().is_none_or(|(uid, _)| *uid != found.0);
    let found = if by_ztunnel {
        by_netns.or_else(by_address).filter(other).or(by_cgroup)
    } else {
        by_cgroup.or(by_netns).or_else(by_address)
    };
    let comm = around.process_comm.cloned().unwrap_or_else(|| comm_of(&opener.comm));
    let Some((uid, evidence)) = found else {
        let whose = Whose {
            pod: None,
            pod_uid: None,
            container: None,
            container_role: ContainerRole::App,
            evidence: Attribution::None,
            comm,
        };
        return (whose, Role::Host);
    };
    let pod = mesh.pod_by_uid(&uid);
    let container = pod.and_then(|p| mesh.pod(p).container_by_id(place?.container_id.as_deref()?));
    let container_role = container.map_or(ContainerRole::App, |c| c.role);
    let role = match pod.map(|p| mesh.pod(p).proxy) {
        None => Role::Stranger,
        Some(ProxyKind::Ztunnel) if comm == "ztunnel" => Role::Agent,
        Some(_) if by_ztunnel && evidence != Attribution::Cgroup => Role::Sidecar,
        Some(kind) => role_of(kind, container.map(|c| c.role), &comm, opener),
    };
    let container = container.map(|c| c.name.clone());
    (Whose { pod, pod_uid: Some(uid), container, container_role, evidence, comm }, role)
}

/// uid that Istio runs its proxies under, unless the pod says otherwise.
const PROXY_UID: u32 = 1337;

/// `container` is `None` where no status of the pod names the container that the cgroup belongs to; then the process's
/// name and uid have to tell.
fn role_of(kind: ProxyKind, container: Option<ContainerRole>, process: &str, opener: &Opener) -> Role {
    let gateway = matches!(kind, ProxyKind::Gateway | ProxyKind::Waypoint);
    let may_be_proxy = match container {
        Some(ContainerRole::Proxy) => true,
        Some(ContainerRole::App) => gateway,
        Some(ContainerRole::Init) => false,
        None => gateway || (kind == ProxyKind::Sidecar && opener.uid == PROXY_UID),
    };
    if may_be_proxy {
        // Envoy names its workers `wrk:worker_N`; the process itself is `envoy`.
        let worker = "wrk:worker_";
        if process == "envoy" || process.starts_with(worker) || opener.comm.starts_with(worker.as_bytes()) {
            return if gateway { Role::Gateway } else { Role::Sidecar };
        }
        if process == "pilot-agent" {
            return Role::Agent;
        }
    }
    if gateway { Role::GatewayOther } else { Role::App }
}

/// The kernel's 16 bytes, printable.
pub(super) fn comm_of(bytes: &[u8; 16]) -> ArcStr {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    crate::name::printable(&String::from_utf8_lossy(&bytes[..end])).into()
}
