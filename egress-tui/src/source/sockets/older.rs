//! Sockets of one network namespace, made into what the probe would have told of them.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use egress_core::id::{Nanos, NetnsCookie};
use egress_core::input::{Input, Opener, SocketEvent, Transport, Wire};

use super::pods::{Namespace, Whose};
use super::{Found, State};

/// Where the kernel's ephemeral ports begin, unless `net.ipv4.ip_local_port_range` says otherwise.
const EPHEMERAL: u16 = 32_768;

/// Kernels before 5.14 do not tell a namespace's cookie: its inode stands for it, marked so that the two never meet.
const BY_INODE: u64 = 1 << 63;

/// What is known of a namespace's connections.
#[derive(Debug, Default)]
pub(super) struct Older {
    pub(super) inputs: Vec<Input>,
    /// Connections of which nothing can be said.
    pub(super) lost: u64,
}

/// What was accepted first, then what was opened, with the numbers that its first packet must have had.
pub(super) fn connections(found: &[Found], namespace: &Namespace, inode: u64, at: Nanos) -> Older {
    let listening: HashSet<u16> = found.iter().filter(|f| f.state == State::LISTEN).map(|f| f.local.port()).collect();
    let connected = || found.iter().filter(|f| matches!(f.state, State::ESTABLISHED | State::CLOSE_WAIT));
    // A server may have stopped listening, and goes on serving.
    let served = |f: &Found| f.local.port() < EPHEMERAL && f.remote.port() >= EPHEMERAL;
    let (accepted, opened): (Vec<&Found>, Vec<&Found>) =
        connected().partition(|f| listening.contains(&f.local.port()) || served(f));
    let accepts: HashMap<SocketAddr, &Found> = accepted.iter().map(|f| (f.remote, *f)).collect();
    let ends: HashSet<SocketAddr> = opened.iter().map(|f| f.local).collect();
    let own: HashSet<IpAddr> = connected().map(|f| f.local.ip()).collect();
    // Accepted from an address of this pod, but from a port that no socket here has: NAT changed it, and whose connection
    // it is cannot be told.
    let orphans: Vec<&Found> =
        accepted.iter().copied().filter(|a| own.contains(&a.remote.ip()) && !ends.contains(&a.remote)).collect();

    let mut out = Older::default();
    for accept in &accepted {
        let (cookie, local, remote) = (accept.cookie, accept.local, accept.remote);
        out.inputs.push(Input::Socket(SocketEvent::Accept { cookie, at, local, remote }));
    }
    for socket in opened {
        let owner = match namespace.whose(socket.inode, socket.uid) {
            Whose::Process(owner) => owner,
            Whose::Nobody => continue,
            Whose::Unknown => {
                out.lost += 1;
                continue;
            }
        };
        // A proxy does not redirect itself; an application's socket and one of its own may have the same port.
        let other_end = accepts.get(&socket.local).filter(|a| a.local == socket.remote || a.uid != socket.uid);
        let wire = match other_end {
            Some(accept) => Wire { source: accept.remote, destination: accept.local },
            None if orphans.iter().any(|a| a.remote.ip() == socket.local.ip() && a.uid != socket.uid) => {
                out.lost += 1;
                continue;
            }
            None => Wire { source: socket.local, destination: socket.remote },
        };
        out.inputs.extend(owner.inputs());
        out.inputs.push(Input::Socket(SocketEvent::Open {
            cookie: socket.cookie,
            at,
            started: Nanos::BEFORE,
            opener: Opener {
                tgid: owner.tgid,
                tid: owner.tgid,
                uid: socket.uid,
                gid: owner.gid,
                comm: owner.comm(),
                cgroup: owner.cgroup,
                netns: NetnsCookie(inode | BY_INODE),
            },
            transport: Transport::Tcp,
            dialled: socket.remote,
            remote: socket.remote,
            local: socket.local,
            wire: Some(wire),
            rtt_micros: socket.counters.rtt_micros,
        }));
    }
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use egress_core::id::{CgroupId, SocketCookie};
    use egress_core::input::Counters;

    use super::super::pods::Owner;
    use super::*;

    const APP: u32 = 1000;
    const PROXY: u32 = 1337;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn found(state: State, local: &str, remote: &str, uid: u32, inode: u64) -> Found {
        let (local, remote) = (addr(local), addr(remote));
        Found { state, local, remote, uid, inode, cookie: SocketCookie(inode), counters: Counters::default() }
    }

    fn owner(uid: u32) -> Owner {
        let (name, path) = ("x".into(), "/p".into());
        Owner { tgid: uid, uid, gid: uid, name, cgroup: CgroupId(1), path, pod: "/p".into() }
    }

    /// (inode, destination of the first packet) of what was opened, and what was lost.
    fn opened(found: &[Found]) -> (Vec<(u64, SocketAddr)>, u64) {
        let by_inode = found.iter().map(|f| (f.inode, owner(f.uid))).collect();
        let older = connections(found, &Namespace::of(vec![owner(APP), owner(PROXY)], by_inode, false), 5, Nanos(9));
        let opened = older.inputs.iter().filter_map(|input| match input {
            Input::Socket(SocketEvent::Open { cookie, wire, started, .. }) => {
                assert_eq!(*started, Nanos::BEFORE);
                Some((cookie.0, wire.unwrap().destination))
            }
            _ => None,
        });
        (opened.collect(), older.lost)
    }

    #[test]
    fn listeners_and_what_they_accepted_are_no_rows() {
        let (open, lost) = opened(&[
            found(State::LISTEN, "0.0.0.0:8080", "0.0.0.0:0", APP, 1),
            found(State::ESTABLISHED, "192.0.2.1:8080", "198.51.100.9:40000", APP, 2),
            found(State::ESTABLISHED, "192.0.2.1:5432", "198.51.100.9:40001", APP, 3),
            found(State::CLOSE_WAIT, "192.0.2.1:50000", "203.0.113.7:443", APP, 4),
        ]);
        assert_eq!((open, lost), (vec![(4, addr("203.0.113.7:443"))], 0));
    }

    #[test]
    fn a_redirected_connection_is_found_at_its_other_end() {
        let (open, lost) = opened(&[
            found(State::LISTEN, "0.0.0.0:15001", "0.0.0.0:0", PROXY, 1),
            found(State::ESTABLISHED, "127.0.0.1:15001", "192.0.2.1:50000", PROXY, 2),
            found(State::ESTABLISHED, "192.0.2.1:50000", "203.0.113.7:443", APP, 3),
            found(State::ESTABLISHED, "192.0.2.1:50001", "203.0.113.7:443", PROXY, 4),
        ]);
        assert_eq!((open, lost), (vec![(3, addr("127.0.0.1:15001")), (4, addr("203.0.113.7:443"))], 0));
    }

    #[test]
    fn where_nat_changed_the_port_nothing_is_said_of_whoever_it_may_be() {
        let (open, lost) = opened(&[
            found(State::LISTEN, "0.0.0.0:15001", "0.0.0.0:0", PROXY, 1),
            found(State::ESTABLISHED, "127.0.0.1:15001", "192.0.2.1:61000", PROXY, 2),
            found(State::ESTABLISHED, "192.0.2.1:50000", "203.0.113.7:443", APP, 3),
            found(State::ESTABLISHED, "192.0.2.1:50001", "203.0.113.7:443", PROXY, 4),
        ]);
        assert_eq!((open, lost), (vec![(4, addr("203.0.113.7:443"))], 1));
    }

    #[test]
    fn a_server_in_the_same_pod_is_reached_without_a_proxy() {
        let (open, lost) = opened(&[
            found(State::LISTEN, "127.0.0.1:9000", "0.0.0.0:0", APP, 1),
            found(State::ESTABLISHED, "127.0.0.1:9000", "127.0.0.1:50000", APP, 2),
            found(State::ESTABLISHED, "127.0.0.1:50000", "127.0.0.1:9000", APP, 3),
        ]);
        assert_eq!((open, lost), (vec![(3, addr("127.0.0.1:9000"))], 0));
    }
}
