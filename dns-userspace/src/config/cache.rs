//! The object `cache`: what is kept of the answers of upstreams.

use serde_json::Value;

use super::found::Found;
use crate::forwarder::CacheSettings;

/// Below this, large answers find no room.
const LEAST_OCTETS: u64 = 1 << 20;
/// Longest time that data serves after its TTL: a week, as for a TTL itself.
const MOST_STALE: u32 = 604_800;
const MOST_PERCENT: u8 = 90;

/// Reads `cache`; gives the keys it does not know.
pub(super) fn read(found: &mut Found<'_>, value: &Value, slot: &mut CacheSettings) -> Vec<String> {
    let mut unknown = Vec::new();
    let Some(members) = found.members(value) else {
        return unknown;
    };
    let mut bounds_at = None;
    for (key, value) in members {
        let lower = key.to_ascii_lowercase();
        let full = format!("cache.{lower}");
        let mut member = found.member(&full);
        match lower.as_str() {
            "max_bytes" => {
                let mut octets = slot.max_octets;
                member.number(value, "uint64", &mut octets);
                if (1..LEAST_OCTETS).contains(&octets) {
                    member.too_far(value, "is too small", "0, or octets from 1048576");
                } else {
                    slot.max_octets = octets;
                }
            }
            "min_ttl" => {
                member.ttl(value, &mut slot.ttl.min);
                bounds_at = Some((full, value));
            }
            "max_ttl" => {
                member.ttl(value, &mut slot.ttl.max);
                bounds_at = Some((full, value));
            }
            "negative_max_ttl" => member.ttl(value, &mut slot.ttl.negative_max),
            "serve_stale" => {
                let mut seconds = slot.serve_stale;
                member.number(value, "uint32", &mut seconds);
                if seconds > MOST_STALE {
                    member.too_far(value, "is too large", "seconds, 0 to 604800");
                } else {
                    slot.serve_stale = seconds;
                }
            }
            "prefetch" => {
                let mut percent = u32::from(slot.prefetch);
                member.number(value, "uint32", &mut percent);
                match u8::try_from(percent) {
                    Ok(percent) if percent <= MOST_PERCENT => slot.prefetch = percent,
                    _ => member.too_far(value, "is too large", "percent, 0 to 90"),
                }
            }
            _ => unknown.push(key.clone()),
        }
    }
    if let Some((key, value)) = bounds_at
        && slot.ttl.min > slot.ttl.max
    {
        let message = "leaves no TTL: min_ttl passes max_ttl";
        let accepted = "min_ttl at most max_ttl";
        found.member(&key).too_far(value, message, accepted);
    }
    unknown
}
