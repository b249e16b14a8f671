//! The first request of an HTTP/1 connection (RFC 9112).

use crate::name::{HostName, printable};

pub(super) enum Request {
    Found { host: Option<HostName>, path: Option<String>, connect: bool },
    Partial,
    No,
}

/// Methods that the kernel side also looks for; anything else is not taken for HTTP.
const METHODS: [&str; 9] = ["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"];

/// Longest path that is kept.
const LONGEST_PATH: usize = 512;

pub(super) fn request(bytes: &[u8]) -> Request {
    let method = bytes.split(|b| *b == b' ').next().unwrap_or_default();
    if !METHODS
        .iter()
        .any(|m| m.as_bytes() == method || (method.len() == bytes.len() && m.as_bytes().starts_with(bytes)))
    {
        return Request::No;
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Err(httparse::Error::TooManyHeaders) | Ok(_) => {}
        Err(_) => return Request::No,
    }
    let connect = request.method == Some("CONNECT");
    let named = request.headers.iter().find(|h| h.name.eq_ignore_ascii_case("host")).map(|h| h.value);
    let target = request.path.map(str::as_bytes);
    let host = if connect { target } else { named };
    let path = request.path.map(|p| printable(p.get(..LONGEST_PATH).unwrap_or(p)));
    match (host, bytes.windows(4).any(|w| w == b"\r\n\r\n")) {
        (None, false) => Request::Partial,
        (host, _) => Request::Found { host: host.map(without_port), path, connect },
    }
}

/// `host:port` → `host`, `[::1]:80` → `::1`.
fn without_port(value: &[u8]) -> HostName {
    let value = value.trim_ascii();
    if let Some(rest) = value.strip_prefix(b"[") {
        return HostName::sanitise(rest.split(|b| *b == b']').next().unwrap_or(rest));
    }
    match value.iter().rposition(|b| *b == b':') {
        Some(colon) if value[colon + 1..].iter().all(u8::is_ascii_digit) && !value[..colon].contains(&b':') => {
            HostName::sanitise(&value[..colon])
        }
        _ => HostName::sanitise(value),
    }
}
