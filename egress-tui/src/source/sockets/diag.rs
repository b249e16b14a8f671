//! sock_diag(7): TCP sockets of a network namespace, with the cookie that BPF programs see too.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use egress_core::id::SocketCookie;
use egress_core::input::Counters;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use super::{Found, State};

/// `SOCK_DIAG_BY_FAMILY`, `NLMSG_ERROR`, `NLMSG_DONE`.
const BY_FAMILY: u16 = 20;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// `INET_DIAG_INFO`: attribute with a `struct tcp_info`.
const INFO: u16 = 2;
/// Address families, as inet_diag spells them.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Sizes of `struct nlmsghdr`, `struct inet_diag_msg` and `struct rtattr`.
const HEADER: usize = 16;
const MESSAGE: usize = 72;
const ATTRIBUTE: usize = 4;

/// Every established or listening TCP socket of this thread's network namespace.
pub(super) fn dump() -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )?;
        rustix::net::send(&socket, &request(family), SendFlags::empty())?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let (read, _) = rustix::net::recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
            if messages(&buffer[..read], &mut found)? == Dump::Ended {
                break;
            }
        }
    }
    Ok(found)
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn request(family: u8) -> Vec<u8> {
    let states = 1_u32 << State::ESTABLISHED.0 | 1 << State::CLOSE_WAIT.0 | 1 << State::LISTEN.0;
    let mut out = Vec::with_capacity(HEADER + 56);
    out.extend(((HEADER + 56) as u32).to_ne_bytes());
    out.extend(BY_FAMILY.to_ne_bytes());
    out.extend(DUMP.to_ne_bytes());
    out.extend([0; 8]);
    out.extend([family, libc::IPPROTO_TCP as u8, 1 << (INFO - 1), 0]);
    out.extend(states.to_ne_bytes());
    out.extend([0; 48]);
    out
}

/// Whether there is more to read.
#[derive(Debug, PartialEq, Eq)]
enum Dump {
    GoesOn,
    Ended,
}

/// Reads what one recv() gave.
fn messages(mut bytes: &[u8], found: &mut Vec<Found>) -> io::Result<Dump> {
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    while bytes.len() >= HEADER {
        let length = u32_at(bytes, 0).unwrap_or(0) as usize;
        let message = bytes.get(..length).filter(|m| m.len() >= HEADER).ok_or_else(cut)?;
        match u16_at(bytes, 4).unwrap_or(0) {
            DONE => return Ok(Dump::Ended),
            ERROR => {
                let errno = u32_at(message, HEADER).unwrap_or(0).cast_signed();
                return Err(io::Error::from_raw_os_error(-errno));
            }
            BY_FAMILY => found.extend(socket(&message[HEADER..])),
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Dump::GoesOn)
}

/// Reads `struct inet_diag_msg` and its attributes.
fn socket(message: &[u8]) -> Option<Found> {
    let (fixed, mut attributes) = message.split_at_checked(MESSAGE)?;
    let family = fixed[0];
    let port = |at: usize| Some(u16::from_be_bytes([*fixed.get(at)?, *fixed.get(at + 1)?]));
    let cookie = u64::from(u32_at(fixed, 44)?) | u64::from(u32_at(fixed, 48)?) << 32;
    let mut counters = Counters::default();
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let length = usize::from(length);
        let Some(value) = attributes.get(ATTRIBUTE..length) else { break };
        if kind == INFO {
            counters = tcp_info(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Found {
        state: State(fixed[1]),
        local: SocketAddr::new(address(family, &fixed[8..24])?, port(4)?),
        remote: SocketAddr::new(address(family, &fixed[24..40])?, port(6)?),
        uid: u32_at(fixed, 64)?,
        inode: u32_at(fixed, 68)?.into(),
        cookie: SocketCookie(cookie),
        counters,
    })
}

/// Fields of `struct tcp_info` (`include/uapi/linux/tcp.h`) by their offsets; older kernels know fewer of them.
fn tcp_info(bytes: &[u8]) -> Counters {
    /// The SYN counts as a byte.
    const SYN: u64 = 1;
    Counters {
        sent: u64_at(bytes, 120).unwrap_or(0).saturating_sub(SYN),
        received: u64_at(bytes, 128).unwrap_or(0),
        rtt_micros: u32_at(bytes, 68).filter(|rtt| *rtt != 0),
        retransmits: u32_at(bytes, 100).unwrap_or(0),
    }
}

fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    if family == AF_INET {
        let octets: [u8; 4] = *bytes.first_chunk()?;
        return Some(Ipv4Addr::from(octets).into());
    }
    let octets: [u8; 16] = *bytes.first_chunk()?;
    Some(Ipv6Addr::from(octets).to_canonical())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn this_process_finds_its_own_connection() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let found = dump().unwrap();
        let of = |local: SocketAddr, state: State| {
            found.iter().find(|f| f.local == local && f.state == state).unwrap_or_else(|| panic!("{local}: {found:#?}"))
        };
        let mine = of(client.local_addr().unwrap(), State::ESTABLISHED);
        assert_eq!(mine.remote, listener.local_addr().unwrap());
        assert_eq!(mine.cookie.0, rustix::net::sockopt::socket_cookie(&client).unwrap());
        assert_eq!((mine.counters.sent, mine.counters.received), (0, 0));
        let listening = found.iter().filter(|f| f.state == State::LISTEN).map(|f| f.local);
        assert!(listening.clone().any(|local| local == listener.local_addr().unwrap()));
        drop(server);
    }

    #[test]
    fn what_is_cut_off_is_an_error_and_what_is_strange_is_passed_over() {
        let mut found = Vec::new();
        assert_eq!(messages(&[], &mut found).unwrap(), Dump::GoesOn);
        let mut done = request(2);
        done[4..6].copy_from_slice(&DONE.to_ne_bytes());
        assert_eq!(messages(&done, &mut found).unwrap(), Dump::Ended);
        for length in 16..done.len() {
            assert!(messages(&done[..length], &mut found).is_err(), "{length} bytes");
        }
        let mut short = vec![0; 40];
        short[0..4].copy_from_slice(&40_u32.to_ne_bytes());
        short[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        assert_eq!(messages(&short, &mut found).unwrap(), Dump::GoesOn);
        let mut error = vec![0; 20];
        error[0..4].copy_from_slice(&20_u32.to_ne_bytes());
        error[4..6].copy_from_slice(&ERROR.to_ne_bytes());
        error[16..20].copy_from_slice(&(-13_i32).to_ne_bytes());
        assert_eq!(messages(&error, &mut found).unwrap_err().raw_os_error(), Some(13));
        assert_eq!(found.len(), 0);
    }
}
