//! VIPs of which something is missing: counted, and told of once.

use std::collections::{BTreeMap, BTreeSet};

use tracing::warn;

use crate::records::dcos::vip_address::VipName;
use crate::records::dcos::vips::{Vips, vip_domain};

/// The keys of the ranges, in the order of [`Vips::without_address`].
const RANGES: [&str; 2] = ["dcos.vip_ipv4_range", "dcos.vip_ipv6_range"];

/// What is missing.
pub(super) struct Wanting {
    /// As [`Vips::without_address`].
    pub(super) addresses: BTreeMap<VipName, [bool; 2]>,
    /// As [`Vips::without_name`].
    pub(super) names: BTreeSet<VipName>,
}

impl Wanting {
    pub(super) fn of(vips: &Vips) -> Self {
        Self {
            addresses: vips.without_address().clone(),
            names: vips.without_name().clone(),
        }
    }

    /// Tells what was not missing before.
    pub(super) fn warn_since(&self, before: &Self) {
        for (vip, misses) in &self.addresses {
            let (label, framework) = (&vip.label, &vip.framework);
            let missed = before.addresses.get(vip).copied().unwrap_or_default();
            for ((range, misses), missed) in RANGES.into_iter().zip(misses).zip(missed) {
                if *misses && !missed {
                    warn!(label, framework, "no address for a VIP: {range} is used up");
                }
            }
        }
        for vip in self.names.difference(&before.names) {
            let (label, framework, name) = (&vip.label, &vip.framework, vip_domain(vip));
            warn!(
                label,
                framework, name, "no name for a VIP: DNS cannot carry it"
            );
        }
    }
}
