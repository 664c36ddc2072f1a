//! What the kernel says of this process, under the names that every Prometheus client uses.

use std::fs;

/// Measures of this process; what cannot be read is left out.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// User and system time, in seconds.
    pub(super) cpu_seconds: Option<f64>,
    /// Memory that is in RAM, in octets.
    pub(super) resident_octets: Option<u64>,
    /// Descriptors in use.
    pub(super) open_descriptors: Option<u64>,
    /// Unix time of the start, in seconds.
    pub(super) start_seconds: Option<f64>,
}

impl Process {
    pub(super) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime "));
        let boot: Option<f64> = boot.and_then(|text| text.trim().parse().ok());
        let started = field(&stat, 22).zip(boot);
        Self {
            cpu_seconds: field(&stat, 14)
                .zip(field(&stat, 15))
                .map(|(user, system)| seconds(user + system)),
            resident_octets: resident_octets(),
            open_descriptors: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|entries| entries.count() as u64),
            start_seconds: started.map(|(ticks, boot)| boot + seconds(ticks)),
        }
    }
}

/// `USER_HZ`, which Linux keeps at 100 for user space whatever its own tick.
const TICKS_PER_SECOND: u32 = 100;

fn resident_octets() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibioctets: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibioctets.checked_mul(1024)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "2^53 ticks are three million years"
)]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / f64::from(TICKS_PER_SECOND)
}

/// A field by its number in proc(5). Those up to the second are not looked for: the name of the
/// program, in parentheses, may hold anything.
fn field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace()
        .nth(number.checked_sub(3)?)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_the_name() {
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 140 150 16 17 18 19 20 21 220 23 24";
        assert_eq!(field(stat, 14), Some(140));
        assert_eq!(field(stat, 15), Some(150));
        assert_eq!(field(stat, 22), Some(220));
        assert_eq!(field(stat, 99), None);
        assert_eq!(field("", 14), None);
    }

    #[test]
    fn this_process_has_all_of_them() {
        let process = Process::read();
        assert!(process.resident_octets.unwrap() > 1 << 20);
        assert!(process.open_descriptors.unwrap() > 2);
        assert!(process.start_seconds.unwrap() > 1e9);
        assert!(process.cpu_seconds.is_some());
    }
}
