//! Names of hosts, and how we know them.

use std::fmt;
use std::fmt::Write as _;

use arcstr::ArcStr;

/// A host name that is safe to print: lower-case letters, digits and `-._*:`; anything else was escaped as `\xNN`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(ArcStr);

/// DNS allows 255 octets; what is longer is cut and marked.
const LONGEST: usize = 255;

impl HostName {
    /// Takes hostile bytes. Never fails: what is no host name is kept, escaped and cut, and [`HostName::is_malformed`].
    pub fn sanitise(bytes: &[u8]) -> Self {
        let bytes = bytes.strip_suffix(b".").filter(|b| !b.is_empty()).unwrap_or(bytes);
        let mut text = String::with_capacity(bytes.len().min(LONGEST));
        for byte in bytes {
            if text.len() >= LONGEST {
                text.push('…');
                break;
            }
            match byte {
                b'A'..=b'Z' => text.push(byte.to_ascii_lowercase() as char),
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' | b':' | b'[' | b']' => text.push(*byte as char),
                _ => {
                    let _ = write!(text, "\\x{byte:02x}");
                }
            }
        }
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared.
    pub fn shared(&self) -> ArcStr {
        self.0.clone()
    }

    /// It held bytes that no host name has, or was too long, or is empty.
    pub fn is_malformed(&self) -> bool {
        self.0.is_empty() || self.0.contains('\\') || self.0.ends_with('…')
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for HostName {
    fn from(text: &str) -> Self {
        Self::sanitise(text.as_bytes())
    }
}

/// How a name is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NameSource {
    /// Server name of the TLS ClientHello.
    Sni,
    /// Host header or `:authority` of the first request.
    Http,
    /// A DNS answer that this pod got held the address.
    Dns,
    /// A ServiceEntry owns the address (its own, or an auto-allocated VIP).
    Entry,
    /// No name is known. Reverse DNS is never asked.
    None,
}

impl NameSource {
    /// The spelling in JSON and filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sni => "sni",
            Self::Http => "http",
            Self::Dns => "dns",
            Self::Entry => "entry",
            Self::None => "none",
        }
    }
}

/// A name and its provenance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameEvidence {
    /// The name, if one is known.
    pub host: Option<HostName>,
    /// Where it comes from.
    pub source: NameSource,
    /// For `dns`: how old the answer was when the flow began.
    pub age_nanos: Option<u64>,
    /// For `dns`: every name whose answer held the address, newest first (the chosen one included).
    pub candidates: Vec<HostName>,
}

impl NameEvidence {
    /// Nothing known.
    pub fn none() -> Self {
        Self { host: None, source: NameSource::None, age_nanos: None, candidates: Vec::new() }
    }

    /// `high` for bytes of the flow itself, `medium` for one fresh name, `low` for a shared address, `none`.
    pub fn confidence(&self) -> &'static str {
        match self.source {
            NameSource::Sni | NameSource::Http | NameSource::Entry => "high",
            NameSource::Dns if self.candidates.len() <= 1 => "medium",
            NameSource::Dns => "low",
            NameSource::None => "none",
        }
    }
}

/// The same as [`printable`], cut after `most` characters: for names that have no such length where they are what they say.
pub fn brief(text: &str, most: usize) -> String {
    let mut out = printable(text);
    if let Some((end, _)) = out.char_indices().nth(most) {
        out.truncate(end);
        out.push('…');
    }
    out
}

/// Bytes from outside, made printable: control characters, bidi and zero-width characters are escaped, the rest kept.
pub fn printable(text: &str) -> String {
    if text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fffd}');
        if hidden {
            let _ = write!(out, "\\u{{{:x}}}", c as u32);
        } else {
            out.push(c);
        }
    }
    out
}
