// SPDX-License-Identifier: Apache-2.0
//! Clocks, and times as RFC 3339 writes them (always UTC): for `created`, and for the log.

/// A time since 1970 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// Seconds.
    pub secs: i64,
    /// Nanoseconds, below a thousand million.
    pub nanos: u32,
}

/// The time now; clock_gettime(2), by a system call: a command asks once, and to find the kernel's function for it in the vDSO first takes
/// two page faults and some more.
pub fn now() -> Time {
    let now = clock(libc::CLOCK_REALTIME);
    Time { secs: now.tv_sec, nanos: now.tv_nsec as u32 }
}

/// Nanoseconds since the machine was started, with those in which it slept; CLOCK_BOOTTIME of clock_gettime(2), by a system call as well.
pub fn since_boot() -> u64 {
    let now = clock(libc::CLOCK_BOOTTIME);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn clock(id: libc::clockid_t) -> libc::timespec {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure lives until the call returns. It fails for no clock that every kernel has.
    unsafe { libc::syscall(libc::SYS_clock_gettime, id, &raw mut now) };
    now
}

/// Nanoseconds of a clock tick, as /proc counts time: USER_HZ is 100 on every machine of 64 bits that berth is built for.
const TICK: u64 = 10_000_000;

/// The clock tick in which both moments are ([`since_boot`]), where that is one: then what has happened between them has happened in it.
pub fn tick_of(begin: u64, end: u64) -> Option<u64> {
    (begin <= end && begin / TICK == end / TICK).then_some(begin / TICK)
}

impl Time {
    /// `2026-11-21T00:27:47.817517998Z`
    pub fn rfc3339(self) -> String {
        let seconds = self.rfc3339_seconds();
        format!("{}.{:09}Z", &seconds[..seconds.len() - 1], self.nanos)
    }

    /// `2026-11-21T00:27:47Z`
    pub fn rfc3339_seconds(self) -> String {
        let (days, second) = (self.secs.div_euclid(86_400), self.secs.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
    }
}

/// The date of a day counted from 1970-01-01, in the Gregorian calendar: years begin in March, so that the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_the_systems() {
        let seconds = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
        let (before, found) = (seconds(), now());
        assert!((before..=seconds()).contains(&found.secs) && found.nanos < 1_000_000_000, "{found:?}");
    }

    #[test]
    fn a_tick_is_told_where_it_is_certain() {
        assert_eq!(tick_of(20_000_000, 29_999_999), Some(2));
        for (begin, end) in [(19_999_999, 20_000_000), (29_999_999, 30_000_000), (25_000_000, 24_000_000)] {
            assert_eq!(tick_of(begin, end), None, "{begin} {end}");
        }
        assert!(since_boot() > 0 && since_boot() <= since_boot());
    }

    #[test]
    fn dates_of_known_days() {
        let show = |secs| Time { secs, nanos: 5 }.rfc3339();
        assert_eq!(show(0), "1970-01-01T00:00:00.000000005Z");
        assert_eq!(show(951_782_400), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(show(1_795_221_467), "2026-11-21T00:37:47.000000005Z");
        assert_eq!(show(4_107_542_400), "2100-03-01T00:00:00.000000005Z");
    }
}
