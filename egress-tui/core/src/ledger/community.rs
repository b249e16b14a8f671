//! Community ID v1 (Corelight's specification): one id for a connection in every tool that saw it.

use std::net::{IpAddr, SocketAddr};

use arcstr::ArcStr;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

use crate::input::Transport;

/// Seed 0. The smaller endpoint goes first, so that both directions give the same id.
pub(super) fn community_id(transport: Transport, a: SocketAddr, b: SocketAddr) -> ArcStr {
    let (low, high) = if (a.ip(), a.port()) <= (b.ip(), b.port()) { (a, b) } else { (b, a) };
    let mut hash = Sha1::new();
    hash.update(0u16.to_be_bytes());
    for end in [low, high] {
        match end.ip() {
            IpAddr::V4(ip) => hash.update(ip.octets()),
            IpAddr::V6(ip) => hash.update(ip.octets()),
        }
    }
    hash.update([transport.number(), 0]);
    hash.update(low.port().to_be_bytes());
    hash.update(high.port().to_be_bytes());
    arcstr::format!("1:{}", STANDARD.encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors() {
        // From the specification's baseline: tcp 128.232.110.120:34855 > 66.35.250.204:80, udp 192.168.1.52:54585 > 8.8.8.8:53.
        let tcp =
            community_id(Transport::Tcp, "128.232.110.120:34855".parse().unwrap(), "66.35.250.204:80".parse().unwrap());
        assert_eq!(tcp, "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        let udp = community_id(Transport::Udp, "192.168.1.52:54585".parse().unwrap(), "8.8.8.8:53".parse().unwrap());
        assert_eq!(udp, "1:d/FP5EW3wiY1vCndhwleRRKHowQ=");
    }
}
