//! Numbers for people: three significant digits and one letter, in cells that never change their width.

use egress_core::id::{Nanos, WallTime};

/// `0`, `999`, `1.2K`, `18M`: at most four cells up to 999 T. Units are decimal.
pub fn short(n: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if n < 1000 {
        return n.to_string();
    }
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    // What would be rounded to 1000 belongs to the next unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 9.95 { format!("{value:.1}{}", UNITS[unit]) } else { format!("{value:.0}{}", UNITS[unit]) }
}

/// `41s`, `14m`, `3h`, `30d`, `2y`: at most four cells.
pub fn age(nanos: u64) -> String {
    let seconds = nanos / Nanos::SECOND;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        86_400..31_536_000 => format!("{}d", seconds / 86_400),
        _ => format!("{}y", (seconds / 31_536_000).min(999)),
    }
}

/// Time from `earlier` to `now`, zero if that lies in the future.
pub fn between(earlier: WallTime, now: WallTime) -> u64 {
    u64::try_from(now.0.saturating_sub(earlier.0)).unwrap_or(0)
}

/// `14:02:31`, UTC.
pub fn clock(at: WallTime) -> String {
    let seconds = at.0.div_euclid(Nanos::SECOND.cast_signed()).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// `1 flow`, `2 flows`.
pub fn plural(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {one}s", short(n)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_four_cells() {
        let shown: Vec<_> = [0, 999, 1000, 1234, 9949, 9950, 99_499, 999_499, 999_500, 18_400_000, 999_999_999_999]
            .into_iter()
            .map(short)
            .collect();
        assert_eq!(shown, ["0", "999", "1.0K", "1.2K", "9.9K", "10K", "99K", "999K", "1.0M", "18M", "1.0T"]);
        assert!(shown.iter().all(|s| s.len() <= 4));
        assert_eq!(short(u64::MAX), "18E");
    }

    #[test]
    fn ages_fit_four_cells() {
        let shown: Vec<_> = [0, 59, 60, 3_599, 3_600, 86_399, 86_400, 31_536_000, u64::MAX / Nanos::SECOND]
            .into_iter()
            .map(|s| age(s * Nanos::SECOND))
            .collect();
        assert_eq!(shown, ["0s", "59s", "1m", "59m", "1h", "23h", "1d", "1y", "584y"]);
    }

    #[test]
    fn clocks_are_utc_and_survive_the_past() {
        assert_eq!(clock(WallTime(0)), "00:00:00");
        assert_eq!(clock(WallTime(50_551 * 1_000_000_000)), "14:02:31");
        assert_eq!(clock(WallTime(-1)), "23:59:59");
    }
}
