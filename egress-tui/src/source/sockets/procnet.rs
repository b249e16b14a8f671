//! `/proc/PID/net/tcp` and `tcp6` (proc(5)): the sockets of a process's network namespace, for whoever may not enter it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use egress_core::id::SocketCookie;
use egress_core::input::Counters;

use super::{Found, State};

/// Marks cookies that are made up from an inode, because these files do not tell the real one.
const MADE_UP: u64 = 1 << 63;

/// The sockets of the namespace of the process whose folder below procfs this is.
pub(super) fn read(process: &Path) -> Vec<Found> {
    let text = |name: &str| std::fs::read_to_string(process.join("net").join(name)).unwrap_or_default();
    [text("tcp"), text("tcp6")].iter().flat_map(|text| text.lines().filter_map(line)).collect()
}

/// `SL LOCAL REMOTE STATE QUEUES TIMER RETRANSMITS UID TIMEOUT INODE …`; the heading does not parse and is passed over.
fn line(line: &str) -> Option<Found> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (endpoint(words.next()?)?, endpoint(words.next()?)?);
    let state = State(u8::from_str_radix(words.next()?, 16).ok()?);
    let uid = words.nth(3)?.parse().ok()?;
    let inode: u64 = words.nth(1)?.parse().ok()?;
    Some(Found {
        state,
        local,
        remote,
        uid,
        inode,
        cookie: SocketCookie(MADE_UP | inode),
        counters: Counters::default(),
    })
}

/// `0100007F:1F90`: words of 32 bits in the machine's byte order, the port as a number.
fn endpoint(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let mut octets = Vec::with_capacity(16);
    for at in (0..address.len()).step_by(8) {
        octets.extend(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let address: IpAddr = if let Ok(four) = <[u8; 4]>::try_from(octets.as_slice()) {
        Ipv4Addr::from(four).into()
    } else {
        Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).to_canonical()
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn this_process_finds_its_own_connection() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let found = read(Path::new("/proc/self"));
            let mine = found.iter().find(|f| f.local == client.local_addr().unwrap()).unwrap();
            assert_eq!((mine.remote, mine.state), (listener.local_addr().unwrap(), State::ESTABLISHED));
            assert!(mine.inode != 0 && mine.cookie.0 & MADE_UP != 0);
        }
    }

    #[test]
    fn broken_lines_are_passed_over() {
        for text in
            ["", "  sl  local_address rem_address", "0: 01:02 3:4 01", "0: 0100007F:ZZZZ 0100007F:1F90 01 0 0 0 0 0 1"]
        {
            assert_eq!(line(text), None, "{text}");
        }
    }
}
