//! The zones of other servers.

use tracing::warn;

use super::Pipeline;
use crate::transfer::{Take, Taken, Unusable};
use crate::zones::Name;

impl Pipeline {
    /// Takes in what came of a zone of another server, and publishes it.
    pub(in crate::daemon) fn take(&mut self, taken: Taken) {
        let result = self.edit_transferred(&taken.zone, taken.take);
        if result.is_ok() {
            self.publish();
        }
        // Who asked may have ended meanwhile.
        let _ = taken.done.send(result);
    }

    fn edit_transferred(&mut self, zone: &Name, take: Take) -> Result<(), Unusable> {
        let editor = &mut self.editor;
        let names = match &take {
            Take::Changes(changes) => changes.names(zone, editor.snapshot())?,
            Take::Whole(_) | Take::Withdraw => Vec::new(),
        };
        let edited = match take {
            Take::Withdraw => editor.withdraw(zone),
            Take::Whole(whole) => editor
                .replace(zone, whole.records)
                .and_then(|_| editor.set_soa(zone, whole.soa, whole.soa_ttl)),
            Take::Changes(changes) => names
                .into_iter()
                .try_for_each(|(name, rrsets)| editor.set(&name, rrsets))
                .and_then(|()| editor.set_soa(zone, changes.soa, changes.soa_ttl)),
        };
        edited.map_err(|error| {
            warn!(%zone, %error, "a transfer is left out");
            Unusable::Mismatch
        })
    }
}
