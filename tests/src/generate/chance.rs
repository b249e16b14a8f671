//! A small generator of numbers: the same seed gives the same mesh on every machine and with every release of every crate.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone, Default)]
pub struct Chance(u64);

impl Chance {
    /// Seeds that differ in one bit give unrelated sequences.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    /// A number from `low` to `high`, both possible.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }

    /// One of a list that is not empty.
    pub fn of<T: Clone>(&mut self, list: &[T]) -> T {
        let at = self.below(list.len());
        list[at].clone()
    }

    /// One of a list, if it has any.
    pub fn any<T: Clone>(&mut self, list: &[T]) -> Option<T> {
        if list.is_empty() { None } else { Some(self.of(list)) }
    }

    /// Between `low` and `high` different places of a list, in any order.
    pub fn some<T: Clone>(&mut self, list: &[T], low: usize, high: usize) -> Vec<T> {
        let mut all = list.to_vec();
        self.shuffle(&mut all);
        let count = self.between(low, high);
        all.truncate(count);
        all
    }

    /// Fisher and Yates.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let at = self.below(last + 1);
            list.swap(at, last);
        }
    }
}
