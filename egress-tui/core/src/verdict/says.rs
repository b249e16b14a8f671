//! Sentences for people, put together when somebody reads them: every decision has several, and most are never read.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arcstr::ArcStr;

use crate::id::{NamespacedName, ObjectRef};

/// A sentence. Never holds raw bytes from outside.
#[derive(Clone, PartialEq, Eq)]
pub struct Says(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    Fixed(&'static str),
    Whole(ArcStr),
    Parts(Arc<[Part]>),
}

/// A part of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Words of the program.
    Words(&'static str),
    /// A name from an object.
    Name(ArcStr),
    /// An object, with its kind.
    Object(ObjectRef),
    /// `namespace/name`.
    Place(NamespacedName),
    /// An address.
    Address(IpAddr),
    /// An address with a port; an IPv6 one stands in brackets.
    Socket(SocketAddr),
    /// A port, a count, a weight.
    Number(u32),
}

impl Says {
    /// From parts, which follow one another as they are.
    pub fn of<const N: usize>(parts: [Part; N]) -> Self {
        Self(Form::Parts(Arc::new(parts)))
    }

    /// The whole sentence.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Form::Fixed(text) => Cow::Borrowed(text),
            Form::Whole(text) => Cow::Borrowed(text),
            Form::Parts(_) => Cow::Owned(self.to_string()),
        }
    }
}

impl fmt::Display for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Fixed(text) => f.write_str(text),
            Form::Whole(text) => f.write_str(text),
            Form::Parts(parts) => parts.iter().try_for_each(|part| match part {
                Part::Words(text) => f.write_str(text),
                Part::Name(text) => f.write_str(text),
                Part::Object(object) => write!(f, "{object}"),
                Part::Place(name) => write!(f, "{name}"),
                Part::Address(ip) => write!(f, "{ip}"),
                Part::Socket(socket) => write!(f, "{socket}"),
                Part::Number(number) => write!(f, "{number}"),
            }),
        }
    }
}

impl fmt::Debug for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

impl From<&'static str> for Says {
    fn from(text: &'static str) -> Self {
        Self(Form::Fixed(text))
    }
}

impl From<String> for Says {
    fn from(text: String) -> Self {
        Self(Form::Whole(text.into()))
    }
}

impl From<&'static str> for Part {
    fn from(words: &'static str) -> Self {
        Self::Words(words)
    }
}

impl From<&ArcStr> for Part {
    fn from(name: &ArcStr) -> Self {
        Self::Name(name.clone())
    }
}

impl From<&ObjectRef> for Part {
    fn from(object: &ObjectRef) -> Self {
        Self::Object(object.clone())
    }
}

impl From<&NamespacedName> for Part {
    fn from(name: &NamespacedName) -> Self {
        Self::Place(name.clone())
    }
}

impl From<IpAddr> for Part {
    fn from(ip: IpAddr) -> Self {
        Self::Address(ip)
    }
}

impl From<SocketAddr> for Part {
    fn from(socket: SocketAddr) -> Self {
        Self::Socket(socket)
    }
}

impl From<u16> for Part {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Part {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

/// `says!["port ", port, " of ", &host]`: a sentence of these parts.
macro_rules! says {
    ($($part:expr),+ $(,)?) => {
        $crate::verdict::Says::of([$($crate::verdict::says::Part::from($part)),+])
    };
}
pub(crate) use says;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_one_another() {
        let object = ObjectRef::new("VirtualService", "pay", "stripe");
        let ip = IpAddr::from([192, 0, 2, 1]);
        let says = says![&object, " has ", ip, ":", 443u16, " before ", &object.name, ", ", &object.kind];
        assert_eq!(says.to_string(), "VirtualService pay/stripe has 192.0.2.1:443 before pay/stripe, VirtualService");
        assert_eq!(says.text(), says.to_string());
        assert_eq!(Says::from("as it is").text(), "as it is");
        assert_eq!(Says::from("as it is".to_owned()).text(), "as it is");
    }
}
