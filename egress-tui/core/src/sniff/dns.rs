//! DNS answers (RFC 1035): which name was asked for, and which addresses came back.

use std::net::IpAddr;

use simple_dns::rdata::RData;
use simple_dns::{Packet, PacketFlag, RCODE};

use crate::name::HostName;

/// One answered question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The name that was asked for (aliases lead from it to the addresses).
    pub host: HostName,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
}

/// Reads a message; `None` for queries, errors and what is no DNS. Addresses of CNAME targets count for the question.
pub fn answers(message: &[u8]) -> Option<Answer> {
    let packet = Packet::parse(message).ok()?;
    if !packet.has_flags(PacketFlag::RESPONSE) || packet.rcode() != RCODE::NoError {
        return None;
    }
    let host = HostName::sanitise(packet.questions.first()?.qname.to_string().as_bytes());
    let addresses: Vec<IpAddr> = packet
        .answers
        .iter()
        .filter_map(|record| match &record.rdata {
            RData::A(a) => Some(IpAddr::V4(a.address.into())),
            RData::AAAA(a) => Some(IpAddr::V6(a.address.into())),
            _ => None,
        })
        .collect();
    (!addresses.is_empty()).then_some(Answer { host, addresses })
}
