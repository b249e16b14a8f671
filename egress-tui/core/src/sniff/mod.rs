//! First bytes: what protocol, and which name. Pure functions over hostile bytes; they never fail, they know less.

mod dns;
mod http;
mod tls;

pub use dns::{Answer, answers};

use crate::mesh::Bytes;
use crate::name::HostName;

/// What the first bytes of a connection tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sniffed {
    /// The protocol.
    pub bytes: Bytes,
    /// Server name of a ClientHello.
    pub sni: Option<HostName>,
    /// Host header (or the authority of a CONNECT).
    pub host: Option<HostName>,
    /// Path of the first request, printable.
    pub path: Option<String>,
    /// An HTTP proxy is asked to connect on (CONNECT).
    pub connect: bool,
    /// A request whose Host did not come with its first segment: it has one, and it is not known.
    pub cut: bool,
}

impl Sniffed {
    fn only(bytes: Bytes) -> Self {
        Self { bytes, sni: None, host: None, path: None, connect: false, cut: false }
    }
}

/// Start of an HTTP/2 connection with prior knowledge (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Classifies the first bytes; `complete` says that no more will be captured.
///
/// `None` means: more bytes could change the answer, and more may come.
pub fn classify(bytes: &[u8], complete: bool) -> Option<Sniffed> {
    if bytes.is_empty() {
        return None;
    }
    if bytes[0] == 0x16 && bytes.get(1).is_none_or(|major| *major == 3) {
        return match tls::client_hello(bytes) {
            tls::Hello::Found(sni) => Some(Sniffed { sni, ..Sniffed::only(Bytes::Tls) }),
            tls::Hello::Partial if complete => Some(Sniffed::only(Bytes::Tls)),
            tls::Hello::Partial => None,
            tls::Hello::No => Some(Sniffed::only(Bytes::Opaque)),
        };
    }
    if bytes.starts_with(HTTP2_PREFACE) {
        return Some(Sniffed::only(Bytes::Http2));
    }
    match http::request(bytes) {
        http::Request::Found { host, path, connect } => {
            Some(Sniffed { host, path, connect, ..Sniffed::only(Bytes::Http) })
        }
        http::Request::Partial if complete => Some(Sniffed { cut: true, ..Sniffed::only(Bytes::Http) }),
        http::Request::Partial => None,
        http::Request::No => Some(Sniffed::only(Bytes::Opaque)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A ClientHello with one extension, server_name, as RFC 8446 §4.1.2 and RFC 6066 §3 lay it out.
    pub(super) fn hello(name: &str) -> Vec<u8> {
        let list = [&[0][..], &u16::try_from(name.len()).unwrap().to_be_bytes(), name.as_bytes()].concat();
        let server_name = [&u16::try_from(list.len()).unwrap().to_be_bytes()[..], &list].concat();
        let extension = [&[0, 0][..], &u16::try_from(server_name.len()).unwrap().to_be_bytes(), &server_name].concat();
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend(u16::try_from(extension.len()).unwrap().to_be_bytes());
        body.extend(&extension);
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let handshake = [&[1][..], &length[1..], &body].concat();
        [&[0x16, 3, 1][..], &u16::try_from(handshake.len()).unwrap().to_be_bytes(), &handshake].concat()
    }

    #[test]
    fn server_name_of_a_client_hello() {
        let found = classify(&hello("WWW.Example.com"), true).unwrap();
        assert_eq!(found.bytes, Bytes::Tls);
        assert_eq!(found.sni.unwrap().as_str(), "www.example.com");
    }

    #[test]
    fn a_split_hello_waits_for_its_rest() {
        let whole = hello("www.example.com");
        for cut in 1..whole.len() {
            assert_eq!(classify(&whole[..cut], false), None, "cut at {cut}");
        }
        assert_eq!(classify(&whole[..20], true).unwrap().bytes, Bytes::Tls);
    }

    #[test]
    fn hostile_server_name_is_escaped() {
        let found = classify(&hello("evil\x1b[31m.example"), true).unwrap().sni.unwrap();
        assert_eq!(found.as_str(), "evil\\x1b[31m.example");
        assert!(found.is_malformed());
    }

    #[test]
    fn host_of_a_request() {
        let found = classify(b"GET /a HTTP/1.1\r\nHost: Api.Example.com:8080\r\n\r\n", true).unwrap();
        assert_eq!(
            (found.bytes, found.host.unwrap().as_str(), found.path.as_deref()),
            (Bytes::Http, "api.example.com", Some("/a"))
        );
    }

    #[test]
    fn connect_names_the_real_destination() {
        let found = classify(b"CONNECT api.example.com:443 HTTP/1.1\r\nHost: proxy\r\n\r\n", true).unwrap();
        assert!(found.connect);
    }

    #[test]
    fn smtp_and_noise_are_opaque() {
        for bytes in [&b"EHLO x\r\n"[..], &[0, 1, 2, 3], b"*1\r\n$4\r\nPING\r\n"] {
            assert_eq!(classify(bytes, true).unwrap().bytes, Bytes::Opaque);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_classified_without_panic(bytes in proptest::collection::vec(any::<u8>(), 1..600), complete: bool) {
            let _ = classify(&bytes, complete);
            let _ = answers(&bytes);
        }

        #[test]
        fn a_mutated_hello_never_panics(at in 0usize..80, to: u8) {
            let mut bytes = hello("www.example.com");
            let at = at % bytes.len();
            bytes[at] = to;
            prop_assert!(classify(&bytes, true).is_some());
        }
    }
}
