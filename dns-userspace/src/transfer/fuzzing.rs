//! What must hold whatever octets another server sends: for the fuzz target of the same name.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken invariant ends the run"
)]

use std::sync::LazyLock;

use super::Incoming;
use super::incoming::Assembly;
use super::tsig::{Algorithm, Checked, Exchange, Key, Keys, check};
use super::wire::{AXFR, Envelope, Line, Message, Pack, flags, query, question};
use crate::config::Secret;
use crate::zones::{Name, Rdata};

const NOW: u64 = 1_700_000_000;
const ID: u16 = 0x1234;
/// Octets that a response may have.
const LIMIT: usize = 512;

static ZONE: LazyLock<Name> = LazyLock::new(|| Name::from_text("mesos").unwrap());

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let name = Name::from_text("transfer.key").unwrap();
    let secret = Secret::new("dGhpcnR5LXR3byBvY3RldHMgZm9yIGEgdGVzdCBrZXk=".to_owned());
    let key = Key::new(name, Algorithm::Sha256, &secret);
    key.into_iter().collect()
});

/// A request that the key signs.
static SIGNED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut message = query(ID, &ZONE, AXFR, None);
    let _ = exchange(&mut message);
    message
});

fn exchange(message: &mut Vec<u8>) -> Exchange {
    let name = Name::from_text("transfer.key").unwrap();
    Exchange::begin(KEYS.get(&name).unwrap(), message, NOW)
}

/// Checks one input.
///
/// # Panics
/// An invariant does not hold.
pub fn run(octets: &[u8]) {
    forged(octets);
    let Ok(message) = Message::read(octets) else {
        return;
    };
    whole(octets);
    read_back(&message);
    unsigned(octets, &message);
    assembled(message);
}

/// Nothing but the whole of a message is a message.
fn whole(octets: &[u8]) {
    assert!(Message::read(&octets[..octets.len() - 1]).is_err());
    assert!(Message::read(&[octets, &[0]].concat()).is_err());
}

/// Records that were read are read again from the messages that they are packed into.
fn read_back(message: &Message) {
    let records = || message.answer.iter().chain(&message.authority);
    let lines = records().map(|one| Line::new(&one.owner, one.ttl, &one.data));
    let envelope = Envelope {
        id: message.id,
        flags: flags::QR,
        question: question(&ZONE, AXFR),
    };
    let mut found = Vec::new();
    for (nth, packed) in Pack::new(envelope, lines).enumerate() {
        let packed = Message::read(&packed).unwrap();
        assert_eq!(packed.question.is_some(), nth == 0);
        found.extend(packed.answer);
    }
    let known = |one: &super::wire::Record| (one.owner.clone(), one.ttl, one.data.clone());
    let found: Vec<_> = found.iter().map(known).collect();
    assert_eq!(found, records().map(known).collect::<Vec<_>>());
}

/// Who has no key signs nothing, as a client and as a server.
fn unsigned(octets: &[u8], message: &Message) {
    match check(&KEYS, octets, message, 1232, LIMIT, NOW) {
        Checked::Unsigned => {}
        Checked::Signed(..) => assert!(octets.ends_with(&SIGNED[SIGNED.len() - 32..])),
        Checked::Refused(refusal) => {
            assert!(refusal.len() <= LIMIT);
            let refusal = Message::read(&refusal).unwrap();
            assert_eq!(refusal.id, message.id);
            assert!(refusal.flags & flags::QR != 0 && refusal.rcode() != 0);
        }
    }
    let mut request = query(ID, &ZONE, AXFR, None);
    let mut exchange = exchange(&mut request);
    assert!(exchange.check(octets, message, NOW).is_err());
    assert!(!exchange.is_settled());
}

/// A signed request in which octets were changed, each by its place and a mask, is not believed.
fn forged(changes: &[u8]) {
    let mut forged = SIGNED.clone();
    for change in changes.chunks_exact(2).take(16) {
        let place = usize::from(change[0]) % forged.len();
        forged[place] ^= change[1];
    }
    let Ok(message) = Message::read(&forged) else {
        return;
    };
    let is_believed = matches!(
        check(&KEYS, &forged, &message, 1232, LIMIT, NOW),
        Checked::Signed(..)
    );
    // Forwarders change the id, which is not covered, and names have no letter case.
    let is_the_same = forged[2..].eq_ignore_ascii_case(&SIGNED[2..]);
    assert!(!is_believed || is_the_same, "forged: {forged:02x?}");
    assert!(is_believed || forged[2..] != SIGNED[2..]);
}

/// What a transfer comes to belongs to the zone, and has its SOA apart.
fn assembled(message: Message) {
    for held in [None, Some(7)] {
        let mut assembly = Assembly::new(&ZONE, held);
        let Ok(true) = assembly.take(message.answer.clone()) else {
            continue;
        };
        match assembly.finish().unwrap() {
            Incoming::Whole(whole) => {
                for (owner, rrset) in &whole.records {
                    assert!(owner.is_at_or_below(&ZONE));
                    assert!(!rrset.data().iter().any(|one| matches!(one, Rdata::Soa(_))));
                }
            }
            Incoming::Changes(changes) => {
                assert_eq!(Some(changes.from), held);
                assert!(crate::zones::serial::is_after(
                    changes.soa.serial,
                    changes.from
                ));
            }
            Incoming::Nothing => assert!(held.is_some()),
        }
    }
}
