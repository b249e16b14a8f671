//! Sets of few bits: what most decisions ask first, and what stays near.

use std::hash::BuildHasher;
use std::net::IpAddr;

use rustc_hash::FxBuildHasher;

/// A bit for each of some numbered objects.
#[derive(Debug, Default)]
pub(crate) struct Bits {
    words: Box<[u64]>,
    count: usize,
}

impl Bits {
    /// Of `count` objects, with these in it.
    pub(crate) fn new(count: usize, set: impl Iterator<Item = u32>) -> Self {
        let mut out = Self { words: vec![0; count.div_ceil(64)].into(), count };
        set.for_each(|n| out.set(n));
        out
    }

    fn set(&mut self, n: u32) {
        if let Some(word) = self.words.get_mut(n as usize / 64) {
            *word |= 1 << (n % 64);
        }
    }

    /// `None` for what is not one of them.
    pub(crate) fn get(&self, n: u32) -> Option<bool> {
        let word = self.words.get(n as usize / 64).filter(|_| (n as usize) < self.count)?;
        Some(word >> (n % 64) & 1 == 1)
    }

    pub(crate) fn has(&self, n: u32) -> bool {
        self.get(n).unwrap_or(false)
    }
}

/// Addresses, some of which may only look as if they were in it.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Bits);

/// Bits for each address: one of this many others looks as if it were in the set.
const SPARSE: usize = 16;

impl Addresses {
    pub(crate) fn new(addresses: impl Iterator<Item = IpAddr> + Clone) -> Self {
        let size = (addresses.clone().count() * SPARSE).next_power_of_two().clamp(64, 1 << 31);
        let mut out = Self(Bits::new(size, std::iter::empty()));
        addresses.for_each(|ip| out.0.set(out.place(ip)));
        out
    }

    fn place(&self, ip: IpAddr) -> u32 {
        // the upper bits of this hash are its best
        (FxBuildHasher.hash_one(ip) >> 32) as u32 & (self.0.count as u32).wrapping_sub(1)
    }

    /// `false`: it is not in the set.
    pub(crate) fn may_have(&self, ip: IpAddr) -> bool {
        self.0.has(self.place(ip))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_set_has_nothing() {
        assert!(!Bits::default().has(0));
        assert_eq!(Bits::new(3, [1].into_iter()).get(3), None);
        assert!(!Addresses::default().may_have(IpAddr::from([192, 0, 2, 1])));
    }

    #[test]
    fn few_addresses_only_look_as_if_they_were_in_the_set() {
        let set = Addresses::new((0..10_000u32).map(|n| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n))));
        let others = (0..10_000u32).filter(|n| set.may_have(IpAddr::V4(Ipv4Addr::from(0xc000_0200 + n * 7)))).count();
        assert!(others < 1_500, "{others} of 10 000");
    }

    proptest! {
        #[test]
        fn every_address_of_the_set_is_found(addresses in proptest::collection::vec(any::<IpAddr>(), 0..50)) {
            let set = Addresses::new(addresses.iter().copied());
            for ip in addresses {
                prop_assert!(set.may_have(ip));
            }
        }

        #[test]
        fn bits_are_those_that_were_set(set in proptest::collection::btree_set(0u32..300, 0..40)) {
            let bits = Bits::new(300, set.iter().copied());
            for n in 0..300 {
                prop_assert_eq!(bits.has(n), set.contains(&n));
            }
        }
    }
}
