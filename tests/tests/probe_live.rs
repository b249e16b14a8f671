//! The probe on a real kernel: what sockets did, and what it says they did.
//!
//! Needs root; elsewhere each test says that it was skipped. `EGRESS_REQUIRE_LIVE=1` makes that a failure.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "probe/node.rs"]
mod node;
#[path = "probe/observer.rs"]
mod observer;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use aya::programs::{CgroupSkb, TestRun as _, TestRunOptions, loaded_programs};
use egress_core::attribution::place_of;
use egress_core::input::{Counters, Failure, Input, Opener, SocketEvent, Transport, Wire};
use egress_tui::source::bpf::Options;

use rustix::io::Errno;

use node::{APP, APP6, Actor, Node, OUTSIDE, OUTSIDE6, POD, hex};
use observer::Observer;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A ClientHello as far as the probe looks: record type, version, length, and what a test can recognise.
fn hello(length: u16) -> Vec<u8> {
    let mut bytes = vec![0x16, 3, 1];
    bytes.extend(length.to_be_bytes());
    bytes.extend((0..length).map(|i| (i % 251) as u8));
    bytes
}

/// An established connection from the pod to a server outside, as `app`'s socket `s` and `server`'s socket `c`.
fn connection(app: &mut Actor, server: &mut Actor, port: u16) -> u64 {
    let to = format!("{OUTSIDE}:{port}");
    server.listen("l", "tcp4", &to);
    let cookie = app.socket("s", "tcp4");
    app.tell(&format!("connect s {to}"));
    server.tell("accept l c");
    cookie
}

fn opened(event: &SocketEvent) -> Option<(Opener, SocketAddr, SocketAddr, SocketAddr, Option<Wire>)> {
    match event {
        SocketEvent::Open { opener, dialled, remote, local, wire, .. } => {
            Some((*opener, *dialled, *remote, *local, *wire))
        }
        _ => None,
    }
}

fn closed(event: &SocketEvent) -> Option<Counters> {
    match event {
        SocketEvent::Close { counters, .. } => Some(*counters),
        _ => None,
    }
}

#[test]
fn a_connection_is_opened_accepted_and_closed_with_its_counters() {
    let Some(node) = Node::live() else { return };
    let mut observer = Observer::start(&node);
    let (mut app, mut server) = (node.app(), node.outside());
    server.listen("l", "tcp4", &format!("{OUTSIDE}:80"));
    let cookie = app.socket("s", "tcp4");
    let local = addr(&app.tell(&format!("connect s {OUTSIDE}:80")));
    let accepted: u64 = server.tell("accept l c").parse().unwrap();
    app.tell(&format!("send s {}", hex(&[b'x'; 38])));
    server.tell("read c 38");
    server.tell(&format!("send c {}", hex(&[b'y'; 5000])));
    app.tell("read s 5000");
    app.tell("close s");
    server.tell("read c 0");
    server.tell("close c");

    let to = addr(&format!("{OUTSIDE}:80"));
    let (opener, dialled, remote, at_local, wire) = observer.event("open", cookie, opened);
    assert_eq!((dialled, remote, at_local), (to, to, local));
    assert_eq!(wire, Some(Wire { source: local, destination: to }));
    assert_eq!((opener.tgid, opener.tid, opener.uid, opener.gid), (app.pid, app.pid, 0, 0));
    assert_eq!(&opener.comm[..6], b"actor\0");
    let (from, by) = observer.event("accept", accepted, |event| match event {
        SocketEvent::Accept { remote, local, .. } => Some((*remote, *local)),
        _ => None,
    });
    assert_eq!((from, by), (local, to), "the accept mirrors the wire");
    let counters = observer.event("close", cookie, closed);
    assert_eq!((counters.sent, counters.received, counters.retransmits), (38, 5000, 0));
    assert!(counters.rtt_micros.is_some());
    observer.stop();
    assert_eq!(observer.lost(), 0);
}

#[test]
fn the_path_of_a_cgroup_and_the_process_come_before_the_first_event_that_names_them() {
    let Some(node) = Node::live() else { return };
    let mut observer = Observer::start(&node);
    let (mut app, mut server) = (node.app(), node.outside());
    let cookie = connection(&mut app, &mut server, 80);
    observer.stop();
    let opener = observer.event("open", cookie, opened).0;
    let at = |fits: &dyn Fn(&Input) -> bool| observer.seen.iter().position(fits).expect("seen");
    let open = at(&|input| matches!(input, Input::Socket(event) if event.cookie().0 == cookie));
    let cgroup = at(&|input| match input {
        Input::Cgroup { id, path } if *id == opener.cgroup => {
            let path = path.as_ref().expect("a living cgroup has a path");
            let place = place_of(path).expect("a path that kubelet could have made");
            assert!(path.ends_with(&"ab".repeat(32)), "{path}");
            assert_eq!((place.pod_uid.as_str(), place.container_id.as_deref()), (POD, Some(&*"ab".repeat(32))));
            true
        }
        _ => false,
    });
    let process = at(&|input| {
        matches!(input, Input::Process { tgid, comm, cgroup }
            if *tgid == opener.tgid && comm.as_deref() == Some("actor") && cgroup.as_ref().is_some_and(|c| c.contains(POD)))
    });
    assert!(cgroup < open && process < open, "cgroup {cgroup}, process {process}, open {open}");
}

#[test]
fn sockets_of_two_namespaces_are_told_apart() {
    let Some(node) = Node::live() else { return };
    let mut observer = Observer::start(&node);
    let (mut app, mut server) = (node.app(), node.outside());
    let inside = connection(&mut app, &mut server, 80);
    let outside = server.socket("s", "tcp4");
    server.tell(&format!("connect s {OUTSIDE}:80"));
    observer.stop();
    let [one, other] = [inside, outside].map(|cookie| observer.event("open", cookie, opened).0.netns);
    assert_ne!(one, other);
}

#[test]
fn a_connect_over_ipv6_keeps_all_four_numbers() {
    let Some(node) = Node::live() else { return };
    let mut observer = Observer::start(&node);
    let (mut app, mut server) = (node.app(), node.outside());
    let to = format!("[{OUTSIDE6}]:443");
    server.listen("l", "tcp6", &to);
    let cookie = app.socket("s", "tcp6");
    let local = addr(&app.tell(&format!("connect s {to}")));
    app.tell(&format!("send s {}", hex(&hello(300))));
    observer.stop();
    let (_, dialled, remote, at_local, wire) = observer.event("open", cookie, opened);
    assert_eq!(local.ip().to_string(), APP6);
    assert_eq!((dialled, remote, at_local), (addr(&to), addr(&to), local));
    assert_eq!(wire, Some(Wire { source: local, destination: addr(&to) }));
    assert_eq!(observer.payloads(cookie)[0].bytes, hello(300));
}

#[test]
fn a_v4_mapped_connect_is_an_ipv4_connect() {
    let Some(node) = Node::live() else { return };
    let mut observer = Observer::start(&node);
    let (mut app, mut server) = (node.app(), node.outside());
    server.listen("l", "tcp4", &format!("{OUTSIDE}:80"));
    let cookie = app.socket("s", "tcp6");
    app.tell(&format!("connect s [::ffff:{OUTSIDE}]:80"));
    observer.stop();
    let (_, dialled, _, local, wire) = observer.event("open", cookie, opened);
    assert_eq!(dialled, addr(&format!("{OUTSIDE}:80")));
    assert_eq!(local.ip().to_string(), APP);
    assert_eq!(wire.unwrap().destination, dialled);
}

/// Each way to fail ends in exactly one event that says how.
#[test]
fn failures_are_seen_once_each_and_told_apart() {
    let Some(node) = Node::live() else { return };
    node.sysctl("net.ipv4.tcp_syn_retries", "1");
    node.in_app("ip route add unreachable 198.51.100.1/32");
    node.in_app("ip route add prohibit 198.51.100.2/32");
    node.in_app("iptables -A OUTPUT -d 198.51.100.3 -p tcp -j REJECT --reject-with tcp-reset");
    node.in_app("iptables -A OUTPUT -d 198.51.100.4 -j DROP");
    let mut observer = Observer::start(&node);
    let cases = [
        (format!("{OUTSIDE}:9"), Errno::CONNREFUSED, Failure::Refused),
        ("198.51.100.1:80".into(), Errno::HOSTUNREACH, Failure::Unreachable),
        ("198.51.100.2:80".into(), Errno::ACCESS, Failure::Unreachable),
        ("198.51.100.3:80".into(), Errno::CONNREFUSED, Failure::Refused),
        ("198.51.100.4:80".into(), Errno::TIMEDOUT, Failure::TimedOut),
    ];
    let mut cookies = Vec::new();
    let mut app = node.app();
    for (to, errno, failure) in &cases {
        let cookie = app.socket("s", "tcp4");
        assert_eq!(app.attempt(&format!("connect s {to}")), Err(errno.raw_os_error().to_string()), "{to}");
        app.tell("close s");
        cookies.push((cookie, addr(to), *failure));
    }
    observer.stop();
    for (cookie, to, expected) in cookies {
        let events: Vec<_> = observer.events().into_iter().filter(|event| event.cookie().0 == cookie).collect();
        let [SocketEvent::Fail { dialled, failure, opener, .. }] = events[..] else {
            panic!("{to}: {events:#?}");
        };
        assert_eq!((*dialled, *failure, opener.tgid), (to, expected, app.pid));
    }
}

#[test]
fn a_socket_that_fails_and_tries_again_is_seen_twice() {
    let Some(node) = Node::live() else { return };
    node.in_app("ip route add unreachable 198.51.100.1/32");
    let mut observer = Observer::start(&node);
    let (mut app, mut server) = (node.app(), node.outside());
    server.listen("l", "tcp4", &format!("{OUTSIDE}:80"));
    let cookie = app.socket("s", "tcp4");
    app.attempt("connect s 198.51.100.1:80").unwrap_err();
    app.tell(&format!("connect s {OUTSIDE}:80"));
    observer.stop();
    let events: Vec<_> = observer.events().into_iter().filter(|event| event.cookie().0 == cookie).collect();
    let [SocketEvent::Fail { failure: Failure::Unreachable, .. }, SocketEvent::Open { dialled, .. }] = events[..]
    else {
        panic!("{events:#?}");
    };
    assert_eq!(*dialled, addr(&format!("{OUTSIDE}:80")));
}

/// REDIRECT as istio-init sets it up: the socket never learns of it, the wire and the accept do.
fn redirected(node: &Node, iptables: &str, kind: &str, to: &str, listener: &str) {
    node.in_app(&format!("{iptables} -t nat -A OUTPUT -p tcp --dport 443 -j REDIRECT --to-ports 15001"));
    let mut observer = Observer::start(node);
    let (mut app, mut proxy) = (node.app(), node.app());
    proxy.listen("l", kind, listener);
    let cookie = app.socket("s", kind);
    let local = addr(&app.tell(&format!("connect s {to}")));
    let accepted: u64 = proxy.tell("accept l c").parse().unwrap();
    observer.stop();
    let (_, dialled, remote, at_local, wire) = observer.event("open", cookie, opened);
    assert_eq!((dialled, remote, at_local), (addr(to), addr(to), local), "the socket knows nothing of NAT");
    let wire = wire.expect("the first packet was seen");
    assert_eq!(wire.destination.port(), 15001);
    assert!(wire.destination.ip().is_loopback());
    let mirrored = observer.event("accept", accepted, |event| match event {
        SocketEvent::Accept { local, remote, .. } => Some(Wire { source: *remote, destination: *local }),
        _ => None,
    });
    assert_eq!(wire, mirrored);
}

#[test]
fn a_redirected_connection_shows_where_it_really_went() {
    let Some(node) = Node::live() else { return };
    redirected(&node, "iptables", "tcp4", &format!("{OUTSIDE}:443"), "0.0.0.0:15001");
}

#[test]
fn a_redirected_ipv6_connection_shows_where_it_really_went() {
    let Some(node) = Node::live() else { return };
    redirected(&node, "ip6tables", "tcp6", &format!("[{OUTSIDE6}]:443"), "[::]:15001");
}

/// Every way in which an application may write a ClientHello gives the same bytes.
#[test]
fn a_client_hello_is_whole_however_it_is_written() {
    let Some(node) = Node::live() else { return };
    let mut observer = Observer::start(&node);
    let (mut app, mut server) = (node.app(), node.outside());
    server.listen("l", "tcp4", &format!("{OUTSIDE}:443"));
    let mut sent = Vec::new();
    for (length, writes) in
        [(512, vec![]), (1745, vec![]), (1745, vec![5]), (1745, vec![6, 905]), (6000, vec![]), (6000, vec![3000])]
    {
        let bytes = hello(length);
        let cookie = app.socket("s", "tcp4");
        app.tell(&format!("connect s {OUTSIDE}:443"));
        server.tell("accept l c");
        let mut ends = writes.clone();
        ends.push(bytes.len());
        let mut start = 0;
        for end in ends {
            app.tell(&format!("send s {}", hex(&bytes[start..end])));
            server.tell(&format!("read c {}", end - start));
            start = end;
        }
        app.tell(&format!("send s {}", hex(b"what follows is nobody's business")));
        sent.push((cookie, bytes, writes));
    }
    observer.stop();
    for (cookie, bytes, writes) in sent {
        let mut whole: Vec<u8> = Vec::new();
        for piece in observer.payloads(cookie) {
            assert_eq!(piece.offset as usize, whole.len(), "{writes:?}: pieces follow each other");
            assert_eq!(piece.total as usize, bytes.len(), "{writes:?}");
            whole.extend(&piece.bytes);
        }
        assert_eq!(whole, bytes, "{} bytes written as {writes:?}", bytes.len());
    }
    assert_eq!(observer.lost(), 0);
}

#[test]
fn the_first_bytes_of_http_and_of_anything_else_are_copied() {
    let Some(node) = Node::live() else { return };
    let mut observer = Observer::start(&node);
    let (mut app, mut server) = (node.app(), node.outside());
    server.listen("l", "tcp4", &format!("{OUTSIDE}:80"));
    let mut write = |app: &mut Actor, pieces: &[&[u8]]| {
        let cookie = app.socket("s", "tcp4");
        app.tell(&format!("connect s {OUTSIDE}:80"));
        server.tell("accept l c");
        for piece in pieces {
            app.tell(&format!("send s {}", hex(piece)));
            server.tell(&format!("read c {}", piece.len()));
        }
        cookie
    };
    let request = b"GET /a HTTP/1.1\r\nHost: www.example.com\r\n\r\n";
    let http = write(&mut app, &[request, b"GET /b HTTP/1.1\r\n"]);
    let greeting = write(&mut app, &[&[b'E'; 100], b"more"]);
    let connect = b"CONNECT www.example.com:443 HTTP/1.1\r\n\r\n";
    let tunnel = write(&mut app, &[connect, &hello(300)]);
    let upgrade = write(&mut app, &[&[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f], &hello(300)]);
    let silent = write(&mut app, &[]);
    observer.stop();
    let copied = |cookie: u64| -> Vec<(u32, u32, Vec<u8>)> {
        observer.payloads(cookie).iter().map(|p| (p.offset, p.total, p.bytes.clone())).collect()
    };
    assert_eq!(copied(http), [(0, request.len() as u32, request.to_vec())], "one request and no more");
    assert_eq!(copied(greeting), [(0, 64, vec![b'E'; 64])], "a fingerprint");
    assert_eq!(
        copied(tunnel),
        [(0, connect.len() as u32, connect.to_vec()), (0, 305, hello(300))],
        "what a tunnel carries begins anew"
    );
    assert_eq!(copied(upgrade).last(), Some(&(0, 305, hello(300))), "TLS after a request for it");
    assert_eq!(copied(silent), []);
}

#[test]
fn a_udp_flow_is_its_first_datagram_and_ends_with_its_bytes() {
    let Some(node) = Node::live() else { return };
    let mut observer = Observer::start(&node);
    let (mut app, mut server) = (node.app(), node.outside());
    server.socket("u", "udp4");
    server.tell(&format!("bind u {OUTSIDE}:443"));
    let to = addr(&format!("{OUTSIDE}:443"));

    let probing = app.socket("p", "udp4");
    app.tell(&format!("connect p {to}"));
    app.tell("close p");
    let connected = app.socket("c", "udp4");
    let connected_local = addr(&app.tell(&format!("connect c {to}")));
    app.tell(&format!("send c {}", hex(b"hello")));
    app.tell(&format!("send c {}", hex(b"again")));
    assert_eq!(server.tell("receive u"), format!("{connected_local} {}", hex(b"hello")));
    server.tell("receive u");
    server.tell(&format!("sendto u {connected_local} {}", hex(b"welcome")));
    app.tell("receive c");
    app.tell("close c");
    let unconnected = app.socket("d", "udp4");
    for (peer, bytes) in [(to, "one"), (to, "two"), (addr(&format!("{OUTSIDE}:444")), "three")] {
        app.tell(&format!("sendto d {peer} {}", hex(bytes.as_bytes())));
    }
    let unconnected_port = addr(&app.tell("address d")).port();
    app.tell("close d");
    observer.stop();

    let of = |cookie: u64| -> Vec<_> { observer.events().into_iter().filter(|e| e.cookie().0 == cookie).collect() };
    assert_eq!(of(probing).len(), 0, "connecting alone sends nothing");
    let [SocketEvent::Open { transport, dialled, local, wire, opener, .. }, SocketEvent::Close { counters, .. }] =
        of(connected)[..]
    else {
        panic!("{:#?}", of(connected));
    };
    assert_eq!((*transport, *dialled, *local, opener.tgid), (Transport::Udp, to, connected_local, app.pid));
    assert_eq!(*wire, Some(Wire { source: connected_local, destination: to }));
    assert_eq!((counters.sent, counters.received), (10, 7));
    let events = of(unconnected);
    let peers: Vec<_> = events.iter().filter_map(|event| opened(event)).collect();
    assert_eq!(peers.len(), 2, "one open for each peer: {events:#?}");
    let from = addr(&format!("{APP}:{unconnected_port}"));
    for (open, port) in peers.iter().zip([443, 444]) {
        let to = SocketAddr::new(to.ip(), port);
        assert_eq!((open.1, open.3), (to, from));
        assert_eq!(open.4, Some(Wire { source: from, destination: to }));
    }
    assert_eq!(closed(events.last().unwrap()).map(|c| c.sent), Some(11));
    let servers: Vec<_> =
        observer.events().into_iter().filter(|e| opened(e).is_some_and(|o| o.0.tgid == server.pid)).collect();
    assert_eq!(servers.len(), 0, "a server's answer is no flow: {servers:#?}");
}

#[test]
fn a_dns_answer_belongs_to_the_socket_that_asked() {
    let Some(node) = Node::live() else { return };
    let mut observer = Observer::start(&node);
    let (mut app, mut server) = (node.app(), node.outside());
    let mut ask = |port: u16, answer: &[u8]| {
        server.socket("u", "udp4");
        server.tell(&format!("bind u {OUTSIDE}:{port}"));
        let cookie = app.socket("s", "udp4");
        app.tell(&format!("connect s {OUTSIDE}:{port}"));
        app.tell(&format!("send s {}", hex(&[7; 30])));
        let heard = server.tell("receive u");
        let from = heard.split(' ').next().unwrap();
        server.tell(&format!("sendto u {from} {}", hex(answer)));
        app.tell("receive s");
        cookie
    };
    let short = ask(53, &[1; 120]);
    let agent = ask(15053, &[2; 60]);
    let large = ask(53, &[3; 1200]);
    let other = ask(5300, &[4; 60]);
    observer.stop();
    let answers: Vec<_> = observer
        .seen
        .iter()
        .filter_map(|input| match input {
            Input::Dns { cookie, message, .. } => Some((cookie.0, message.clone())),
            _ => None,
        })
        .collect();
    assert!(!answers.iter().any(|(cookie, _)| *cookie == other));
    assert_eq!(answers, [(short, vec![1; 120]), (agent, vec![2; 60]), (large, vec![3; 1200])]);
}

#[test]
fn a_connection_that_lives_on_is_sampled() {
    let Some(node) = Node::live() else { return };
    let mut observer = Observer::start(&node);
    let (mut app, mut server) = (node.app(), node.outside());
    let cookie = connection(&mut app, &mut server, 80);
    let end = Instant::now() + Duration::from_secs(10);
    let mut sent = 0;
    loop {
        app.tell(&format!("send s {}", hex(&[b'x'; 1000])));
        server.tell("read c 1000");
        sent += 1000;
        let sample = observer.seen.iter().find_map(|input| match input {
            Input::Socket(SocketEvent::Sample { cookie: of, counters, .. }) if of.0 == cookie => Some(*counters),
            _ => None,
        });
        if let Some(counters) = sample {
            assert!(counters.sent >= 1000 && counters.sent <= sent, "{counters:?} of {sent}");
            break;
        }
        assert!(Instant::now() < end, "no sample");
        let before = observer.seen.len();
        let mut skipped = 0;
        observer.until("anything", |_| {
            skipped += 1;
            (skipped > before).then_some(())
        });
    }
}

/// The kernel side keeps most sockets in a table indexed by cookie; one whose place is taken is kept elsewhere.
#[test]
fn a_socket_whose_place_is_taken_is_seen_all_the_same() {
    let Some(node) = Node::live() else { return };
    let mut observer = Observer::start(&node);
    let (mut app, mut server) = (node.app(), node.outside());
    let first = connection(&mut app, &mut server, 80);
    server.socket("u", "udp4");
    server.tell(&format!("bind u {OUTSIDE}:53"));
    let mut beside = |kind: &str| app.tell(&format!("socket-beside {kind} {kind} {first}")).parse::<u64>().unwrap();
    let (tcp, udp, refused) = (beside("tcp4"), beside("udp4"), beside("tcp6"));
    app.tell(&format!("connect tcp4 {OUTSIDE}:80"));
    server.tell("accept l d");
    app.tell(&format!("send tcp4 {}", hex(&hello(100))));
    server.tell("read d 105");
    app.tell(&format!("connect udp4 {OUTSIDE}:53"));
    app.tell(&format!("send udp4 {}", hex(&[1; 20])));
    let from = server.tell("receive u").split(' ').next().unwrap().to_owned();
    server.tell(&format!("sendto u {from} {}", hex(&[2; 30])));
    app.tell("receive udp4");
    app.attempt(&format!("connect tcp6 [{OUTSIDE6}]:9")).unwrap_err();
    for (whose, name) in [(&mut app, "tcp4"), (&mut server, "d")] {
        whose.tell(&format!("close {name}"));
    }
    app.tell("close udp4");
    app.tell(&format!("send s {}", hex(&[b'x'; 10])));
    server.tell("read c 10");
    app.tell("close s");
    server.tell("close c");

    assert_eq!(observer.event("close", tcp, closed).sent, 105);
    assert_eq!(observer.event("close", first, closed).sent, 10);
    observer.stop();
    for cookie in [first, tcp] {
        let wire = observer.event("open", cookie, opened).4.expect("the first packet was seen");
        assert_eq!(wire.destination, addr(&format!("{OUTSIDE}:80")));
    }
    assert_eq!(observer.payloads(tcp)[0].bytes, hello(100));
    assert_eq!(observer.event("open", udp, opened).1, addr(&format!("{OUTSIDE}:53")));
    let counters = observer.event("close", udp, closed);
    assert_eq!((counters.sent, counters.received), (20, 30));
    assert!(observer.seen.iter().any(|input| matches!(input, Input::Dns { cookie, .. } if cookie.0 == udp)));
    observer.event("fail", refused, |event| matches!(event, SocketEvent::Fail { .. }).then_some(()));
    assert_eq!(observer.lost(), 0);
}

#[test]
fn two_captures_at_once_both_see_everything() {
    let Some(node) = Node::live() else { return };
    let mut observers = [Observer::start(&node), Observer::start(&node)];
    let (mut app, mut server) = (node.app(), node.outside());
    let cookie = connection(&mut app, &mut server, 80);
    for observer in &mut observers {
        observer.stop();
        observer.event("open", cookie, opened);
    }
}

/// Rings of one page and a receiver that stands still: traffic goes on, and what was not delivered was counted.
#[test]
fn what_does_not_fit_is_counted_exactly_and_holds_nobody_up() {
    const CONNECTIONS: u64 = 5_000;
    let Some(node) = Node::live() else { return };
    let options = Options { cgroup_root: Some(node.root.clone()), ring_bytes: 4096, ..Options::default() };
    let mut observer = Observer::with(&options, 1);
    let mut app = node.app();
    app.listen("l", "tcp4", "127.0.0.1:7000");
    app.tell(&format!("burst l 127.0.0.1:7000 {CONNECTIONS}"));
    observer.stop();
    let (mut opens, mut accepts, mut closes) = (0, 0, 0);
    for event in observer.events() {
        match event {
            SocketEvent::Open { .. } => opens += 1,
            SocketEvent::Accept { .. } => accepts += 1,
            SocketEvent::Close { .. } => closes += 1,
            other => panic!("{other:?}"),
        }
    }
    let lost = observer.lost();
    assert!(lost > 0, "one page cannot hold this");
    assert_eq!(opens + accepts + closes + lost, 3 * CONNECTIONS, "{opens} + {accepts} + {closes} + {lost} lost");
}

#[test]
fn nothing_is_left_of_a_capture_that_was_killed() {
    let Some(node) = Node::live() else { return };
    let mut capturing = Actor::start(&[]);
    assert_eq!(capturing.tell(&format!("capture {}", node.root.display())), "full");
    let programs = programs_of(capturing.pid);
    assert!(programs.len() >= 8, "{programs:?}");
    let alive = || {
        let ids: BTreeSet<u32> = loaded_programs().flatten().map(|program| program.id()).collect();
        programs.intersection(&ids).count()
    };
    assert_eq!(alive(), programs.len());
    capturing.kill();
    let end = Instant::now() + Duration::from_secs(10);
    // The kernel frees them when their last reader has left, which is soon.
    while alive() > 0 {
        assert!(Instant::now() < end, "{} programs are still loaded", alive());
        std::thread::yield_now();
    }
}

/// Ids of the programs that a process holds by links, from `/proc/PID/fdinfo`.
fn programs_of(pid: u32) -> BTreeSet<u32> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    folder
        .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok())
        .filter(|text| text.contains("link_id:"))
        .filter_map(|text| text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok()))
        .collect()
}

#[test]
fn without_rights_it_says_what_is_missing_and_what_to_do() {
    let Some(node) = Node::live() else { return };
    let mut nobody = Actor::spawn(Command::new(env!("CARGO_BIN_EXE_actor")).uid(65534).gid(65534));
    let error = nobody.attempt(&format!("capture {}", node.root.display())).unwrap_err();
    for capability in ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"] {
        assert!(error.contains(capability), "{error}");
    }
}

/// Packets of any length and content pass, and none of them stops a program.
#[test]
fn random_and_truncated_packets_pass() {
    let Some(_node) = Node::live() else { return };
    let object = concat!(env!("CARGO_MANIFEST_DIR"), "/../egress-ebpf/egress.bpf.o");
    let mut programs = aya::Ebpf::load_file(object).unwrap();
    for name in ["skb_egress", "skb_ingress"] {
        let program: &mut CgroupSkb = programs.program_mut(name).unwrap().try_into().unwrap();
        program.load().unwrap();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..2_000 {
            // An Ethernet header, which the kernel takes off, and what claims to be IPv4, IPv6 or something else. The
            // kernel itself refuses to run on less than a network header; what follows may be cut anywhere.
            let (kind, first, header) = match round % 4 {
                0 => ([0x08, 0x00], 0x40, 20),
                1 => ([0x86, 0xdd], 0x60, 40),
                _ => ([random() as u8, random() as u8], random() as u8, 40),
            };
            let length = 14 + header + (random() % 1400) as usize;
            let mut packet: Vec<u8> = (0..length).map(|_| random() as u8).collect();
            packet[12..14].copy_from_slice(&kind);
            packet[14] = first | (random() % 16) as u8;
            // TCP or UDP, where either version names it.
            packet[20] = [6, 17][(random() % 2) as usize];
            packet[23] = packet[20];
            let options = TestRunOptions { data_in: Some(&packet), ..TestRunOptions::new() };
            let result = program.test_run(options).unwrap();
            assert_eq!(result.return_value, 1, "{name} blocks {packet:02x?}");
        }
    }
}
