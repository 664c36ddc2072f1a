//! What the kernel has counted.

use dns_common::tally::COUNTERS;
use dns_common::{Response, Verdict};

/// Packets by verdict, and responses by type, read at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally(Vec<u64>);

impl Tally {
    /// Adds up the counters of all CPUs.
    pub(super) fn of(cpus: &[[u64; COUNTERS]]) -> Self {
        let sum = |number| cpus.iter().filter_map(|cpu| cpu.get(number)).sum();
        Self((0..COUNTERS).map(sum).collect())
    }

    fn count(&self, number: u32) -> u64 {
        self.0.get(number as usize).copied().unwrap_or_default()
    }

    /// Packets by verdict: each packet has one. None if nothing could be read.
    #[must_use]
    pub fn verdicts(&self) -> Vec<(Verdict, u64)> {
        let all = Verdict::ALL.iter().filter(|_| !self.0.is_empty());
        all.map(|&verdict| {
            let counters = verdict.counters().map(|(_, number)| self.count(number));
            (verdict, counters.sum())
        })
        .collect()
    }

    /// Packets whose verdict is one that is counted.
    #[must_use]
    pub fn sum(&self, is_counted: impl Fn(Verdict) -> bool) -> u64 {
        let verdicts = self.verdicts().into_iter();
        let counted = verdicts.filter(|(one, _)| is_counted(*one));
        counted.map(|(_, count)| count).sum()
    }

    /// Responses by verdict and type, those that there were; type 0 stands for those that are not told
    /// apart.
    #[must_use]
    pub fn responses(&self) -> Vec<(Response, u64)> {
        let verdicts = Verdict::ALL.iter().filter(|one| one.is_response());
        let all = verdicts.flat_map(|&verdict| {
            verdict.counters().map(move |(rtype, number)| {
                let response = Response { verdict, rtype };
                (response, self.count(number))
            })
        });
        all.filter(|(_, count)| *count != 0).collect()
    }
}
