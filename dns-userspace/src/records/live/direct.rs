//! What one contributor adds to the records: generated names and values turned into DNS records at
//! once, by the rules of [`to_zone`](crate::records::to_zone).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::mesos::{Defect, Defects};
use crate::records::Settings;
use crate::records::addresses::Address;
use crate::records::label::hashed_labels;
use crate::records::sink::{Rule, Sink};
use crate::records::to_zone::{has_readable_port, reachable_cut_name, reachable_name, wire_port};
use crate::zones::{Name, Rdata};

/// What one contributor, or several, have.
#[derive(Default)]
pub(super) struct Contribution {
    /// Of each contributor each record once.
    pub(super) records: Vec<(Name, Rdata)>,
    /// Texts that were cut, each with the form it was cut to.
    pub(super) cuts: Vec<(Name, Box<str>)>,
    /// What DNS cannot carry.
    pub(super) defects: Defects,
}

impl Contribution {
    pub(super) fn add(&mut self, other: Self) {
        self.records.extend(other.records);
        self.cuts.extend(other.cuts);
        self.defects.merge(&other.defects);
    }
}

/// Names that DNS carries in a shorter form, by that form: which texts were cut to it, and how
/// many contributors have each. The first text has the form, the others a hash.
#[derive(Default)]
pub(super) struct Cuts(pub(super) HashMap<Name, BTreeMap<Box<str>, u32>>);

impl Cuts {
    /// Whether `text` has the form for itself, or comes first.
    fn is_first(&self, form: &Name, text: &str) -> bool {
        self.first(form).is_none_or(|first| text <= first)
    }

    fn first(&self, form: &Name) -> Option<&str> {
        let (first, _) = self.0.get(form)?.first_key_value()?;
        Some(first)
    }

    /// Counts texts that come and go. Says whether a form that had a first text has another.
    pub(super) fn count(&mut self, old: &[(Name, Box<str>)], new: &[(Name, Box<str>)]) -> bool {
        let forms: BTreeSet<&Name> = old.iter().chain(new).map(|(form, _)| form).collect();
        let firsts = |cuts: &Self| -> Vec<Option<Box<str>>> {
            let forms = forms.iter();
            forms.map(|form| cuts.first(form).map(Box::from)).collect()
        };
        let before = firsts(self);
        for (form, text) in new {
            let texts = self.0.entry(form.clone()).or_default();
            *texts.entry(text.clone()).or_insert(0) += 1;
        }
        for (form, text) in old {
            let Some(texts) = self.0.get_mut(form) else {
                continue;
            };
            if let Some(count) = texts.get_mut(text) {
                *count -= 1;
                if *count == 0 {
                    texts.remove(text);
                }
            }
            if texts.is_empty() {
                self.0.remove(form);
            }
        }
        let mut firsts = before.into_iter().zip(firsts(self));
        firsts.any(|(before, after)| before.is_some() && after.is_some() && before != after)
    }
}

/// Turns generated records into DNS records at once, by the rules of [`super::to_zone`].
pub(super) struct Direct<'a> {
    apex: &'a Name,
    settings: &'a Settings,
    cuts: &'a Cuts,
    names: Vec<DirectName>,
    /// Addresses as they are shown, by which masters are told apart.
    addresses: Vec<(usize, Address)>,
    pub(super) made: Contribution,
}

struct DirectName {
    text: Box<str>,
    name: Option<Name>,
}

impl<'a> Direct<'a> {
    pub(super) fn new(apex: &'a Name, settings: &'a Settings, cuts: &'a Cuts) -> Self {
        Self {
            apex,
            settings,
            cuts,
            names: Vec::new(),
            addresses: Vec::new(),
            made: Contribution::default(),
        }
    }

    /// The records made, each once.
    pub(super) fn finish(mut self) -> Contribution {
        let Contribution { records, cuts, .. } = &mut self.made;
        records.sort_unstable();
        records.dedup();
        cuts.sort_unstable();
        cuts.dedup();
        self.made
    }

    fn push(&mut self, text: &str, name: Option<Name>) -> usize {
        if name.is_none() {
            let place = || text.to_owned();
            self.made.defects.note(Defect::UnreachableName, place);
        }
        self.names.push(DirectName {
            text: text.into(),
            name,
        });
        self.names.len() - 1
    }

    fn owner(&self, id: usize) -> Option<Name> {
        let name = self.names.get(id)?.name.as_ref()?;
        name.is_at_or_below(self.apex).then(|| name.clone())
    }
}

impl Sink for Direct<'_> {
    type Name = usize;

    fn name(&mut self, text: &str) -> usize {
        if let Some(at) = self.names.iter().position(|one| *one.text == *text) {
            return at;
        }
        let name = if text == self.settings.name_server.name {
            Name::from_text(text).ok()
        } else {
            reachable_name(text)
        };
        self.push(text, name)
    }

    fn name_cut_for_dns(&mut self, text: &str, dns: &str) -> usize {
        if let Some(at) = self.names.iter().position(|one| *one.text == *text) {
            return at;
        }
        let name = reachable_cut_name(text, dns).and_then(|form| {
            self.made.cuts.push((form.clone(), text.into()));
            if self.cuts.is_first(&form, text) {
                Some(form)
            } else {
                reachable_name(&hashed_labels(text))
            }
        });
        self.push(text, name)
    }

    fn address(&mut self, owner: usize, address: &Address, _: Rule) {
        self.addresses.push((owner, address.clone()));
        let Some(owner) = self.owner(owner) else {
            return;
        };
        self.made.records.push((owner, address.rdata()));
    }

    fn service(&mut self, owner: usize, target: usize, port: i64, _: Rule) {
        let (Some(owner), Some(target)) = (self.owner(owner), self.names.get(target)) else {
            return;
        };
        let readable = has_readable_port(&target.text);
        let Some(name) = target.name.as_ref().filter(|_| readable) else {
            let place = || format!("{}:{port}", target.text);
            self.made.defects.note(Defect::ServiceTarget, place);
            return;
        };
        let weight = self.settings.srv_weight;
        let data = Rdata::Srv(0, weight, wire_port(port), name.clone());
        self.made.records.push((owner, data));
    }

    fn service_in_dns_only(&mut self, owner: usize, target: usize, port: i64, rule: Rule) {
        self.service(owner, target, port, rule);
    }

    fn has_address(&self, owner: usize, address: &Address) -> bool {
        let mut all = self.addresses.iter();
        all.any(|(id, value)| *id == owner && value == address)
    }
}
