//! A signature of dig as captured, and everything that must not pass.

use super::super::wire::{AXFR, query};
use super::*;

const NOW: u64 = 1_700_000_000;

fn name(text: &str) -> Name {
    Name::from_text(text).unwrap()
}

fn key(algorithm: Algorithm, secret: &str) -> Key {
    let secret = Secret::new(BASE64.encode(secret.as_bytes()));
    Key::new(name("transfer.key"), algorithm, &secret).unwrap()
}

fn keys() -> Keys {
    [key(Algorithm::Sha256, "a secret of some length, for tests")]
        .into_iter()
        .collect()
}

fn checked(keys: &Keys, octets: &[u8], now: u64) -> Checked {
    let message = Message::read(octets).unwrap();
    check(keys, octets, &message, 1232, 1232, now)
}

/// The code and the TSIG error of a refusal.
fn refusal(checked: &Checked) -> (u16, Option<u16>) {
    let Checked::Refused(response) = checked else {
        panic!("not refused")
    };
    let message = Message::read(response).unwrap();
    let record = strip(response, &message).unwrap().map(|one| one.record);
    (message.rcode(), record.map(|one| one.error))
}

fn signed_query(keys: &Keys, now: u64) -> (Vec<u8>, Exchange) {
    let mut octets = query(0x1234, &name("mesos"), AXFR, None);
    let key = keys.get(&name("transfer.key")).unwrap();
    let exchange = Exchange::begin(key, &mut octets, now);
    (octets, exchange)
}

#[test]
fn a_request_and_its_response_are_believed() {
    for (_, algorithm) in Algorithm::ALL {
        let keys: Keys = [key(algorithm, "a secret")].into_iter().collect();
        let (request, mut exchange) = signed_query(&keys, NOW);
        let Checked::Signed(octets, mut signer) = checked(&keys, &request, NOW + 299) else {
            panic!("{algorithm:?}")
        };
        assert_eq!(octets, query(0x1234, &name("mesos"), AXFR, None));
        for _ in 0..3 {
            let mut response = response_head(&octets, &Message::read(&octets).unwrap(), 0, 1232);
            signer.sign(&mut response, NOW);
            let message = Message::read(&response).unwrap();
            exchange.check(&response, &message, NOW).unwrap();
            assert!(exchange.is_settled());
        }
    }
}

#[test]
fn rfc8945_5_2_1_an_unknown_key_is_badkey() {
    let (request, _) = signed_query(&keys(), NOW);
    let none = Keys::default();
    let refused = checked(&none, &request, NOW);
    assert_eq!(refusal(&refused), (NOTAUTH, Some(error::BADKEY)));
    // The right name with another algorithm is another key.
    let other: Keys = [key(Algorithm::Sha512, "a secret")].into_iter().collect();
    let refused = checked(&other, &request, NOW);
    assert_eq!(refusal(&refused), (NOTAUTH, Some(error::BADKEY)));
}

#[test]
fn rfc8945_5_2_2_any_octet_that_differs_is_badsig() {
    let (request, _) = signed_query(&keys(), NOW);
    let other: Keys = [key(Algorithm::Sha256, "another secret")]
        .into_iter()
        .collect();
    let refused = checked(&other, &request, NOW);
    assert_eq!(refusal(&refused), (NOTAUTH, Some(error::BADSIG)));
    for at in 0..request.len() {
        let mut changed = request.clone();
        changed[at] ^= 0x20;
        let Ok(message) = Message::read(&changed) else {
            continue;
        };
        // The id is not covered, since forwarders change it, and letter case is folded.
        let is_id = at < 2;
        let is_case = changed.eq_ignore_ascii_case(&request);
        let is_believed = matches!(
            check(&keys(), &changed, &message, 1232, 1232, NOW),
            Checked::Signed(..)
        );
        assert!(!is_believed || is_id || is_case, "octet {at}");
    }
}

#[test]
fn rfc8945_5_2_3_another_time_is_badtime_and_says_ours() {
    let keys = keys();
    for now in [NOW + 301, NOW - 301] {
        let (request, mut exchange) = signed_query(&keys, NOW);
        let refused = checked(&keys, &request, now);
        assert_eq!(refusal(&refused), (NOTAUTH, Some(error::BADTIME)));
        let Checked::Refused(response) = refused else {
            panic!("not refused")
        };
        let message = Message::read(&response).unwrap();
        let record = strip(&response, &message).unwrap().unwrap().record;
        assert_eq!(record.time, NOW);
        assert_eq!(record.other, now.to_be_bytes()[2..]);
        assert!(!record.mac.is_empty());
        let told = exchange.check(&response, &message, NOW);
        assert_eq!(told, Err(Unbelieved::Told("BADTIME")));
    }
}

/// A signed query whose MAC is cut to, or filled up to, `octets`.
fn with_mac_of(octets: usize, keys: &Keys) -> (Vec<u8>, Record) {
    let (request, _) = signed_query(keys, NOW);
    let message = Message::read(&request).unwrap();
    let Stripped {
        octets: mut cut,
        mut record,
    } = strip(&request, &message).unwrap().unwrap();
    record.mac.resize(octets, 0);
    record.append_to(&mut cut);
    (cut, record)
}

#[test]
fn rfc8945_5_2_2_1_short_signatures_are_not_taken() {
    let with_mac = |octets| refusal(&checked(&keys(), &with_mac_of(octets, &keys()).0, NOW));
    assert_eq!(with_mac(16), (NOTAUTH, Some(error::BADTRUNC)));
    assert_eq!(with_mac(31), (NOTAUTH, Some(error::BADTRUNC)));
    assert_eq!(with_mac(15), (FORMERR, None));
    assert_eq!(with_mac(33), (FORMERR, None));
    // Less than half of the hash (RFC 8945, section 5.2.2.1).
    assert_eq!(with_mac(0), (FORMERR, None));
}

/// Section 5.3, and RFC 1035, section 4.2.1, where question and signature are too long together.
#[test]
fn rfc8945_5_3_long_names_do_not_pass_the_limit() {
    let long = |first: &str| {
        let label = "x".repeat(63);
        name(&format!("{}.{label}.{label}.{label}", first.repeat(61)))
    };
    let secret = Secret::new(BASE64.encode(b"a secret of some length, for tests"));
    let key = Key::new(long("k"), Algorithm::Sha256, &secret).unwrap();
    let keys: Keys = [key].into_iter().collect();
    let mut request = query(0x1234, &long("q"), Rtype::A, None);
    let mut exchange = Exchange::begin(keys.get(&long("k")).unwrap(), &mut request, NOW);
    let message = Message::read(&request).unwrap();
    for (limit, question) in [(512, 0), (1232, 259)] {
        let checked = check(&keys, &request, &message, 1232, limit, NOW);
        let Checked::Signed(octets, mut signer) = checked else {
            panic!("not signed")
        };
        let mut response = response_head(&octets, &message, 0, 1232);
        signer.sign_alone(&mut response, NOW);
        assert_eq!(response.len(), 12 + question + signer.octets());
        let read = Message::read(&response).unwrap();
        assert_eq!(read.flags & flags::TC != 0, question == 0);
        if question == 0 {
            exchange.check(&response, &read, NOW).unwrap();
        }
        // Who cannot have the key named, with an algorithm of any name, is told by the code alone.
        let stripped = strip(&request, &message).unwrap().unwrap();
        let (mut unknown, mut record) = (stripped.octets, stripped.record);
        record.algorithm = long("a").wire().to_vec();
        record.append_to(&mut unknown);
        let message = Message::read(&unknown).unwrap();
        let refused = check(&keys, &unknown, &message, 1232, limit, NOW);
        let error = (question != 0).then_some(error::BADKEY);
        assert_eq!(refusal(&refused), (NOTAUTH, error));
        let Checked::Refused(response) = refused else {
            panic!("not refused")
        };
        assert!(response.len() <= limit);
    }
}

#[test]
fn rfc8945_5_2_the_mac_is_checked_before_the_time_and_that_before_truncation() {
    let other: Keys = [key(Algorithm::Sha256, "another secret")]
        .into_iter()
        .collect();
    let (wrong, _) = with_mac_of(16, &other);
    let refused = checked(&keys(), &wrong, NOW + 301);
    assert_eq!(refusal(&refused), (NOTAUTH, Some(error::BADSIG)));
    let (right, _) = with_mac_of(16, &keys());
    let refused = checked(&keys(), &right, NOW + 301);
    assert_eq!(refusal(&refused), (NOTAUTH, Some(error::BADTIME)));
}

#[test]
fn rfc8945_5_3_2_badtrunc_is_signed_and_badsig_is_not() {
    let keys = keys();
    let signed = |octets: &[u8]| {
        let Checked::Refused(response) = checked(&keys, octets, NOW) else {
            panic!("not refused")
        };
        let message = Message::read(&response).unwrap();
        strip(&response, &message).unwrap().unwrap()
    };
    let (request, sent) = with_mac_of(16, &keys);
    let Stripped { octets, record } = signed(&request);
    assert_eq!(record.error, error::BADTRUNC);
    // Of the MAC of the request as it was sent, the response, and the variables (section 4.3).
    let covered = [&[0, 16], &sent.mac[..], &octets, &record.variables()].concat();
    let key = keys.get(&name("transfer.key")).unwrap();
    hmac::verify(&key.hmac, &covered, &record.mac).unwrap();
    let mut wrong = request;
    wrong[13] ^= 1;
    let Stripped { record, .. } = signed(&wrong);
    assert_eq!((record.error, record.mac.len()), (error::BADSIG, 0));
}

#[test]
fn rfc8945_5_2_a_signature_that_is_not_the_last_record_is_formerr() {
    let (request, _) = signed_query(&keys(), NOW);
    let message = Message::read(&request).unwrap();
    let record = strip(&request, &message).unwrap().unwrap().record;
    let mut twice = request.clone();
    record.append_to(&mut twice);
    assert_eq!(refusal(&checked(&keys(), &twice, NOW)), (FORMERR, None));
    let mut before_opt = request;
    before_opt.extend_from_slice(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
    set_u16(&mut before_opt, ARCOUNT_AT, 2);
    assert_eq!(
        refusal(&checked(&keys(), &before_opt, NOW)),
        (FORMERR, None)
    );
}

#[test]
fn rfc8945_5_3_1_unsigned_messages_count_when_a_later_signature_covers_them() {
    let keys = keys();
    let (request, mut exchange) = signed_query(&keys, NOW);
    let Checked::Signed(octets, mut signer) = checked(&keys, &request, NOW) else {
        panic!("not signed")
    };
    let head = response_head(&octets, &Message::read(&octets).unwrap(), 0, 1232);
    let read = |octets: &[u8]| Message::read(octets).unwrap();
    let unsigned = exchange.check(&head, &read(&head), NOW);
    assert_eq!(
        unsigned,
        Err(Unbelieved::Unsigned),
        "the first must be signed"
    );
    let mut first = head.clone();
    signer.sign(&mut first, NOW);
    exchange.check(&first, &read(&first), NOW).unwrap();
    exchange.check(&head, &read(&head), NOW).unwrap();
    assert!(!exchange.is_settled());
    // The signature that follows covers both; one that was made without the first does not.
    let mut without = head.clone();
    signer.clone().sign(&mut without, NOW);
    let mut covered = head.clone();
    let mut both = [head.clone(), head.clone()].concat();
    let end = both.len();
    let mut covering = signer.clone();
    // Signs both as one, then moves the record to where it belongs.
    covering.sign(&mut both, NOW);
    covered.extend_from_slice(&both[end..]);
    set_u16(&mut covered, ARCOUNT_AT, 1);
    let mut other = Exchange {
        key: Arc::clone(&exchange.key),
        mac: exchange.mac.clone(),
        is_first: false,
        unsigned: exchange.unsigned.clone(),
    };
    let result = other.check(&without, &read(&without), NOW);
    assert_eq!(result, Err(Unbelieved::BadSignature));
    exchange.check(&covered, &read(&covered), NOW).unwrap();
    assert!(exchange.is_settled());
    for _ in 0..MAX_UNSIGNED {
        exchange.check(&head, &read(&head), NOW).unwrap();
    }
    let one_more = exchange.check(&head, &read(&head), NOW);
    assert_eq!(one_more, Err(Unbelieved::Unsigned));
}

/// What dig 9.18 sent for `-y hmac-sha256:transfer.key:… mesos SOA` at that time.
#[test]
fn the_signature_of_dig_is_believed() {
    const SENT: &str = "123400200001000000000001056d65736f730000060001087472616e73666572036b6579\
        0000fa00ff00000000003d0b686d61632d7368613235360000006b0622af012c00208e24c99f26f1aba79309b9\
        4b2da8ba0a44779922ee907651157d87973d42dc80123400000000";
    let octets = data_encoding::HEXLOWER.decode(SENT.as_bytes()).unwrap();
    let Checked::Signed(stripped, _) = checked(&keys(), &octets, 0x6b06_22af) else {
        panic!("not believed")
    };
    assert_eq!(stripped[..12], *b"\x12\x34\0\x20\0\x01\0\0\0\0\0\0");
}

#[test]
fn a_secret_that_is_none_is_no_key() {
    for text in ["", "not base64!", "YQ"] {
        let secret = Secret::new(text.to_owned());
        assert!(
            Key::new(name("k"), Algorithm::Sha256, &secret).is_none(),
            "{text}"
        );
    }
}
