//! The server name of a TLS ClientHello (RFC 8446 §4.1.2, RFC 6066 §3).

use tls_parser::{TlsExtension, TlsMessage, TlsMessageHandshake, parse_tls_extensions, parse_tls_message_handshake};

use crate::name::HostName;

pub(super) enum Hello {
    Found(Option<HostName>),
    Partial,
    No,
}

/// Record header: content type, version, length.
const RECORD_HEADER: usize = 5;

pub(super) fn client_hello(bytes: &[u8]) -> Hello {
    // A hello may span several records: their payloads are put together before it is parsed.
    let mut handshake = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [0x16, _, _, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        handshake.extend_from_slice(&tail[..length.min(tail.len())]);
        if tail.len() < length {
            break;
        }
        rest = &tail[length..];
    }
    if bytes.len() < RECORD_HEADER || handshake.len() < 4 {
        return Hello::Partial;
    }
    if handshake[0] != 1 {
        return Hello::No;
    }
    match parse_tls_message_handshake(&handshake) {
        Ok((_, TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello)))) => {
            Hello::Found(hello.ext.and_then(server_name))
        }
        Ok(_) => Hello::No,
        Err(error) if error.is_incomplete() => Hello::Partial,
        Err(_) => Hello::Found(None),
    }
}

fn server_name(extensions: &[u8]) -> Option<HostName> {
    let (_, extensions) = parse_tls_extensions(extensions).ok()?;
    extensions.iter().find_map(|extension| match extension {
        TlsExtension::SNI(names) => names.first().map(|(_, name)| HostName::sanitise(name)),
        _ => None,
    })
}
