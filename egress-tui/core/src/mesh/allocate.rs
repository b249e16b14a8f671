//! Addresses that istiod gave to entries before there was `status.addresses` (`PILOT_ENABLE_IP_AUTOALLOCATE` off), derived from
//! their names (`serviceregistry/serviceentry/auto_allocation.go:autoAllocateIPs`).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::mesh::object::istio::Resolution;
use crate::mesh::registry::{Address, Upstream};

/// How many places there are (`maxIPs`).
const PLACES: u32 = 256 * 254;
/// Of the second hash (`prime`).
const STEP: u32 = 65_011;

/// Gives an address to each entry without one that names a host and does not pass connections through.
///
/// Istio lists entries in any order; where two names fall on one place, theirs is taken here.
pub(crate) fn addresses(upstreams: &mut [Upstream]) {
    let mut wanting: Vec<usize> = (0..upstreams.len())
        .filter(|n| {
            let u = &upstreams[*n];
            !u.kubernetes
                && u.address == Address::Any
                && u.resolution != Resolution::Passthrough
                && !u.host.starts_with('*')
        })
        .collect();
    wanting.sort_by(|a, b| key(&upstreams[*a]).cmp(&key(&upstreams[*b])));
    let mut places: BTreeMap<u32, usize> = BTreeMap::new();
    for n in wanting.into_iter().take(PLACES as usize) {
        let hash = fnv(&upstreams[n].namespace, &upstreams[n].host);
        let again = STEP - hash % STEP;
        let mut place = hash % PLACES;
        let mut tries = 0u32;
        while places.contains_key(&place) && tries < PLACES {
            tries += 1;
            place = hash.wrapping_add(tries.wrapping_mul(again)) % (PLACES - 1);
        }
        places.entry(place).or_insert(n);
    }
    let mut given: BTreeMap<(String, String), IpAddr> = BTreeMap::new();
    let mut skipped = 0;
    for (place, n) in places {
        let mut count = place + 1 + skipped;
        if count.is_multiple_of(255) {
            count += 1;
            skipped += 1;
        }
        let upstream = &mut upstreams[n];
        let address = Ipv4Addr::new(240, 240, (count / 255) as u8, (count % 255) as u8);
        let name = (upstream.namespace.to_string(), upstream.host.to_string());
        // A name that has several entries keeps its first address.
        upstream.allocated = [(0, *given.entry(name).or_insert(address.into()))].into();
    }
}

fn key(upstream: &Upstream) -> (&str, &str) {
    (&upstream.namespace, &upstream.host)
}

/// FNV-1a of 32 bits over `namespace/host`.
fn fnv(namespace: &str, host: &str) -> u32 {
    let bytes = namespace.bytes().chain([b'/']).chain(host.bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::fnv;

    #[test]
    fn the_hash_is_the_one_of_gos_standard_library() {
        // fnv.New32a over "shop/api.example.com"
        assert_eq!(fnv("shop", "api.example.com"), 0xf962_c585);
    }
}
