//! A state from body to records, before anybody has to wait for it.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;

use super::{Outlet, look_up};
use crate::mesos::Defects;
use crate::mesos::follow::Observation;
use crate::mesos::state::{self, State};
use crate::records::to_zone::ZoneContent;
use crate::records::{self, MesosRecords, to_zone};
use crate::zones::Name;

/// A state that was fetched, read and made into records.
pub(in crate::daemon) struct Prepared {
    pub(super) begun: Instant,
    pub(super) state: Arc<State>,
    pub(super) candidates: Vec<String>,
    /// What reading it left out.
    pub(super) unread: Defects,
    /// `None` if it says what is served already, or nobody has use for it.
    pub(super) built: Option<Built>,
}

/// The records of a state.
pub(super) struct Built {
    pub(super) settings: Arc<records::Settings>,
    pub(super) records: MesosRecords,
    pub(super) content: ZoneContent,
}

impl Prepared {
    /// Reads a state and makes its records, unless `is_needed` says that only what events lack is
    /// taken of it. Blocks: names in the state may have to be looked up.
    ///
    /// # Errors
    /// The state cannot be read.
    pub(in crate::daemon) fn new(
        observation: &Observation,
        outlet: &Outlet,
        is_needed: bool,
    ) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let (state, unread) = state::parse(&observation.body)
            .with_context(|| format!("state of {}", observation.fetched_from))?;
        let listed = observation.candidates.listed();
        let candidates: Vec<String> = listed.map(ToString::to_string).collect();
        let published = outlet.published.load();
        let is_served = published
            .as_ref()
            .is_some_and(|one| *one.state == state && one.candidates == candidates);
        let settings = outlet.settings.load_full();
        let built = match is_needed && !is_served {
            true => {
                let apex = Name::from_text(&settings.domain)?;
                Some(Built::new(&state, &candidates, &settings, &apex))
            }
            false => None,
        };
        Ok(Self {
            begun,
            state: Arc::new(state),
            candidates,
            unread,
            built,
        })
    }
}

impl Built {
    pub(super) fn new(
        state: &State,
        candidates: &[String],
        settings: &Arc<records::Settings>,
        apex: &Name,
    ) -> Self {
        let records = records::build(state, candidates, settings, &look_up);
        let content = to_zone::zone_content(&records, settings, apex);
        Self {
            settings: Arc::clone(settings),
            records,
            content,
        }
    }
}
