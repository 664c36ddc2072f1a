//! The object `reverse`: networks whose addresses are led back to names.

use serde_json::Value;

use super::found::Found;
use crate::records::reverse::{Network, Reverse};

/// Reads `reverse`; gives the keys it does not know.
pub(super) fn read(found: &mut Found<'_>, value: &Value, slot: &mut Reverse) -> Vec<String> {
    let mut unknown = Vec::new();
    let Some(members) = found.members(value) else {
        return unknown;
    };
    for (key, value) in members {
        let lower = key.to_ascii_lowercase();
        let full = format!("reverse.{lower}");
        let mut member = found.member(&full);
        match lower.as_str() {
            "networks" => {
                let mut texts = Vec::new();
                member.texts(value, &mut texts);
                slot.networks.clear();
                for text in texts {
                    match Network::parse(&text) {
                        Some(network) => slot.networks.push(network),
                        None => member.too_far(
                            &text.into(),
                            "is no network",
                            "an address and its prefix length, as 10.0.0.0/8",
                        ),
                    }
                }
            }
            "pointers" => member.flag(value, &mut slot.pointers),
            _ => unknown.push(key.clone()),
        }
    }
    unknown
}
