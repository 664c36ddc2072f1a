//! Answers while they change: ten thousand times a second, asked for all the while through
//! `BPF_PROG_TEST_RUN` on several threads and over a cable. Each record carries the name that it is
//! of and a generation, so that an answer of two generations, or of another name, shows.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use dns_userspace::dataplane::Settings;
use dns_userspace::zones::{Editor, Name, Rdata, Rrset, Rtype};
use tests::cable::{CLIENT, Cable, SERVER};
use tests::frame::Frame;
use tests::generate::{Ask, editor_with, name, query};
use tests::kernel::{Action, Kernel, Reader, SEED, settings};
use tests::{needs, needs_root, needs_tool};

/// Names; those with an odd number come and go.
const NAMES: u32 = 64;
const UPDATES: u64 = 40_000;
const UPDATES_PER_SECOND: u64 = 10_000;
/// Updates that become visible together.
const BATCH: u64 = 5;
const READERS: usize = 2;
/// Answers that each reader must have seen before the test may end.
const ANSWERS: u64 = 5_000;

fn owner(number: u32) -> Name {
    name(&format!("n{number}.mesos"))
}

/// From one to nine records, so that blobs of a name differ in size.
fn records(number: u32, generation: u32) -> u32 {
    1 + (generation * 7 + number) % 9
}

fn rrset(number: u32, generation: u32) -> Rrset {
    let generation = generation & 0xf_ffff;
    let address = |nth| Rdata::A(Ipv4Addr::from_bits(number << 24 | generation << 4 | nth));
    let data = (0..records(number, generation)).map(address);
    Rrset::new(Rtype::A, 60, data)
}

fn message(number: u32, id: u16) -> Vec<u8> {
    query(&Ask {
        owner: owner(number),
        upper: 0,
        id,
        flags: 0x0100,
        rtype: Rtype::A.0,
        opt: None,
        version: 0,
    })
}

/// Whether a response has addresses, after it was found to be whole and of one generation.
///
/// # Panics
/// If it is not.
fn check(number: u32, asked: &[u8], response: &[u8]) -> bool {
    const RECORD: usize = 16;
    let shown = || format!("n{number}: {response:02x?}");
    assert_eq!(response[..2], asked[..2], "{}", shown());
    assert_eq!(response[12..asked.len()], asked[12..], "{}", shown());
    let rcode = response[3] & 0xf;
    let answers = u16::from_be_bytes([response[6], response[7]]);
    if answers == 0 {
        // Nobody may say that a name which was there all the time does not exist.
        assert!(number % 2 == 1 && rcode == 3, "{}", shown());
        return false;
    }
    let (records, rest) = response[asked.len()..].as_chunks::<RECORD>();
    assert!(
        rest.is_empty() && records.len() == usize::from(answers),
        "{}",
        shown()
    );
    let mut seen: Vec<u32> = records
        .iter()
        .map(|record| {
            let (head, address) = record.split_at(RECORD - 4);
            let expected = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4];
            assert_eq!(head, expected, "{}", shown());
            u32::from_be_bytes(address.try_into().expect("four octets"))
        })
        .collect();
    seen.sort_unstable();
    let generation = seen[0] >> 4 & 0xf_ffff;
    let expected = rrset(number, generation);
    let expected = expected.data().iter().map(|data| match data {
        Rdata::A(ip) => ip.to_bits(),
        other => panic!("{other:?}"),
    });
    // In rotation, which sorting takes away.
    assert!(
        seen.into_iter().eq(expected),
        "mixed or foreign: {}",
        shown()
    );
    true
}

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as u32 % sides
    }
}

/// Ends the others when one of them panics.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn read_by_test_run(reader: &mut Reader, mut dice: Dice, stop: &AtomicBool, answers: &AtomicU64) {
    let _stop = StopAtEnd(stop);
    let [client, server] = [CLIENT[0], SERVER[0]].map(|text| text.parse().unwrap());
    let asked: Vec<(Vec<u8>, Vec<u8>)> = (0..NAMES)
        .map(|number| {
            let message = message(number, number as u16);
            let frame = Frame::query(client, server, message.clone()).octets();
            (message, frame)
        })
        .collect();
    while !stop.load(Relaxed) {
        let number = dice.roll(NAMES);
        let (message, frame) = &asked[number as usize];
        let (action, out) = reader.run(frame).unwrap();
        if action == Action::Tx {
            let reply = Frame::read(out).unwrap();
            answers.fetch_add(check(number, message, &reply.payload).into(), Relaxed);
        } else {
            assert_eq!(action, Action::Pass);
            assert_eq!(out, frame);
            assert_eq!(number % 2, 1, "n{number} was there all the time");
        }
    }
}

fn read_by_socket(socket: &UdpSocket, mut dice: Dice, stop: &AtomicBool, answers: &AtomicU64) {
    let _stop = StopAtEnd(stop);
    let mut buffer = [0; 2048];
    for id in (0..=u16::MAX).cycle() {
        if stop.load(Relaxed) {
            break;
        }
        // Of those that the kernel answers always: nobody answers there but the kernel.
        let number = dice.roll(NAMES / 2) * 2;
        let message = message(number, id);
        socket.send(&message).unwrap();
        let octets = socket.recv(&mut buffer).expect("an answer");
        answers.fetch_add(check(number, &message, &buffer[..octets]).into(), Relaxed);
    }
}

/// Changes one name after the other, as fast as promised, until enough was changed and seen.
fn change(kernel: &mut Kernel, editor: &mut Editor, seen: &[AtomicU64], stop: &AtomicBool) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (start, deadline) = (Instant::now(), Duration::from_secs(60));
    let mut updates = 0;
    let enough =
        |updates| updates >= UPDATES && seen.iter().all(|one| one.load(Relaxed) >= ANSWERS);
    while !enough(updates) && !stop.load(Relaxed) {
        assert!(
            start.elapsed() < deadline,
            "{updates} updates, {seen:?} answers"
        );
        for _ in 0..BATCH {
            updates += 1;
            let number = dice.roll(NAMES);
            let comes = number.is_multiple_of(2) || dice.roll(2) == 0;
            let rrsets = comes.then(|| rrset(number, updates as u32));
            editor
                .set(&owner(number), rrsets.into_iter().collect())
                .unwrap();
        }
        editor.commit(updates as u32);
        kernel.publish(editor.snapshot()).unwrap();
        // No faster than asked: readers are to see many generations each whole.
        let due = Duration::from_nanos(1_000_000_000 / UPDATES_PER_SECOND * updates);
        while start.elapsed() < due {
            thread::yield_now();
        }
    }
    let rate = updates as f64 / start.elapsed().as_secs_f64();
    println!("{updates} updates, {rate:.0} a second; answers by reader: {seen:?}");
}

#[test]
fn no_answer_is_torn_or_foreign_under_ten_thousand_updates_a_second() {
    needs_root!();
    needs_tool!("ip");
    needs!(
        dns_userspace::dataplane::object().is_some(),
        "this build has no XDP program"
    );
    let cable = Cable::new().unwrap();
    // Room for a few times as many blobs, so that places are used again all the time.
    let mut kernel = Kernel::load(&Settings {
        max_names: NAMES + 8,
        ..settings()
    })
    .unwrap();
    kernel.attach(&cable).unwrap();
    let mut editor = editor_with(SEED, kernel.encoder());
    let content = (0..NAMES).map(|number| (owner(number), rrset(number, 0)));
    editor.replace(&name("mesos"), content.collect()).unwrap();
    editor.commit(1);
    kernel.publish(editor.snapshot()).unwrap();

    let socket = cable.client.enter(|| {
        let socket = UdpSocket::bind((CLIENT[0], 0))?;
        socket.connect((SERVER[0], 53))?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(socket)
    });
    let socket = socket.unwrap();
    let mut readers: Vec<Reader> = (0..READERS).map(|_| kernel.reader().unwrap()).collect();
    let answers: Vec<AtomicU64> = (0..=READERS).map(|_| AtomicU64::new(0)).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        let (by_socket, by_test_run) = answers.split_last().unwrap();
        for ((reader, seed), count) in readers.iter_mut().zip(11..).zip(by_test_run) {
            let stop = &stop;
            scope.spawn(move || read_by_test_run(reader, Dice(seed), stop, count));
        }
        scope.spawn(|| read_by_socket(&socket, Dice(7), &stop, by_socket));
        change(&mut kernel, &mut editor, &answers, &stop);
    });
}

/// Pairs of shortcuts grow with the names, and a few names in a hundred find no room in theirs.
#[test]
fn names_are_answered_as_they_are_now_with_shortcuts_and_without() {
    needs_root!();
    needs!(
        dns_userspace::dataplane::object().is_some(),
        "this build has no XDP program"
    );
    const MANY: u32 = 4_000;
    let mut kernel = Kernel::load(&settings()).unwrap();
    let mut editor = editor_with(SEED, kernel.encoder());
    let apex = name("mesos");
    let [client, server] = [CLIENT[0], SERVER[0]].map(|text| text.parse().unwrap());
    let mut shown: Vec<Option<u32>> = vec![None; MANY as usize];
    // Names from..to get this generation, or go.
    for (from, to, generation) in [
        (0, 100, Some(1)),
        (50, MANY, Some(2)),
        (0, 60, None),
        (1_000, 3_000, None),
        (2_000, MANY, Some(3)),
        (0, MANY, Some(4)),
        (100, MANY, None),
        (100, 2_100, Some(5)),
    ] {
        shown[from as usize..to as usize].fill(generation);
        let there = (0..).zip(&shown);
        let content = there.filter_map(|(number, generation)| {
            let generation = (*generation)?;
            let address = Rdata::A(Ipv4Addr::from_bits(generation << 16 | number));
            Some((owner(number), Rrset::new(Rtype::A, 60, vec![address])))
        });
        editor.replace(&apex, content.collect()).unwrap();
        editor.mark_complete(&apex, true).unwrap();
        editor.commit(generation.unwrap_or_default());
        kernel.publish(editor.snapshot()).unwrap();
        for (number, generation) in (0..).zip(&shown) {
            let asked = message(number, 1);
            let frame = Frame::query(client, server, asked.clone()).octets();
            let (action, out) = kernel.run(&frame).unwrap();
            assert_eq!(action, Action::Tx, "n{number}");
            let response = Frame::read(out).unwrap().payload;
            let records = &response[asked.len()..];
            match generation {
                Some(generation) => {
                    let address = (generation << 16 | number).to_be_bytes();
                    assert_eq!(records[12..], address, "n{number}");
                }
                None => assert_eq!(response[3] & 0xf, 3, "n{number}"),
            }
        }
    }
}

/// The response to `message(6, 1)` with these records.
fn response(records: &[(u32, u32)]) -> (Vec<u8>, Vec<u8>) {
    let asked = message(6, 1);
    let mut response = asked.clone();
    response[2] |= 0x80;
    response[7] = records.len() as u8;
    for (address, nth) in records {
        response.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        response.extend((address | nth).to_be_bytes());
    }
    (asked, response)
}

#[test]
fn what_is_whole_passes() {
    // Generation 2 of n6 has 1 + (14 + 6) % 9 records.
    let of = 6 << 24 | 2 << 4;
    let (asked, response) = response(&[(of, 2), (of, 0), (of, 1)]);
    assert!(check(6, &asked, &response));
}

#[test]
#[should_panic(expected = "mixed or foreign")]
fn an_answer_of_two_generations_is_noticed() {
    let of = |generation: u32| 6 << 24 | generation << 4;
    let (asked, response) = response(&[(of(2), 0), (of(2), 1), (of(3), 2)]);
    check(6, &asked, &response);
}

#[test]
#[should_panic(expected = "mixed or foreign")]
fn an_answer_of_another_name_is_noticed() {
    let of = 7 << 24 | 2 << 4;
    let (asked, response) = response(&[(of, 0), (of, 1), (of, 2)]);
    check(6, &asked, &response);
}
