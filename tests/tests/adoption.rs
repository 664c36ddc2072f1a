//! What a daemon makes of the maps that another has left, while it knows some zones and not others:
//! a name that may exist is never denied.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::fs;

use aya::maps::{Array, Map, MapData};
use dns_userspace::{
    dataplane::{DataPlane, Lease, Life, Mode, Settings},
    zones::{Editor, Rdata, Rrset, Rtype, Zone},
};
use tests::{
    cable::{Cable, INTERFACE, SERVER},
    dig::Dig,
    generate::{name, zone},
    kernel::settings,
    needs_scene,
    pins::Pins,
};

const FIRST: &str = "a.example";
const SECOND: &str = "b.example";

/// The server's end of a cable, of which the kernel alone answers: no socket is open.
struct Scene {
    pins: Pins,
    cable: Cable,
}

/// A data plane and the zones that it shows.
struct Daemon {
    dataplane: DataPlane,
    editor: Editor,
    _lease: Lease,
}

impl Scene {
    fn new() -> Self {
        Self {
            pins: Pins::mount().unwrap(),
            cable: Cable::new().unwrap(),
        }
    }

    /// Starts with these zones, and what an earlier daemon has left.
    fn start(&self, apexes: &[&str]) -> Daemon {
        let settings = Settings {
            interfaces: vec![INTERFACE.to_owned()],
            mode: Mode::Native,
            ..settings()
        };
        let life = Life {
            pin_path: self.pins.path(),
            stays: true,
            lease_seconds: 0,
            allows_generic: false,
            traces: false,
        };
        let lease = Lease::default();
        let start = || {
            let dataplane = DataPlane::start(&settings, &life, &lease, true);
            Ok((dataplane.reason(), dataplane))
        };
        let (reason, dataplane) = self.cable.server.enter(start).unwrap();
        assert_eq!(reason, None);
        let zones: Vec<Zone> = apexes.iter().map(|apex| zone(apex)).collect();
        let seed = dataplane.seed().unwrap();
        let editor = Editor::new(seed, zones, dataplane.encoder(), 1).unwrap();
        Daemon {
            dataplane,
            editor,
            _lease: lease,
        }
    }

    /// What the kernel says, as status and addresses; `None` if it says nothing.
    fn ask(&self, name: &str) -> Option<(String, Vec<String>)> {
        let dig = Dig::at(SERVER[0]).from(&self.cable.client);
        let response = dig.ask(name, "A").ok()?;
        let data = response.data("A").into_iter().map(str::to_owned).collect();
        Some((response.status, data))
    }

    /// Shortcuts of the one set of maps.
    fn shortcuts(&self) -> usize {
        let sets = fs::read_dir(self.pins.path()).unwrap();
        let sets = sets.map(|one| one.unwrap().path().join("SHORTCUTS"));
        let pins: Vec<_> = sets.filter(|one| one.exists()).collect();
        assert_eq!(pins.len(), 1, "{pins:?}");
        let map = Map::from_map_data(MapData::from_pin(&pins[0]).unwrap()).unwrap();
        let pairs = Array::<_, [u64; 2]>::try_from(map).unwrap();
        let pairs = pairs.iter().map(|pair| pair.unwrap());
        pairs.flatten().filter(|word| *word != 0).count()
    }

    fn assert_denied(&self, name: &str) {
        assert_eq!(
            self.ask(name),
            Some(("NXDOMAIN".to_owned(), vec![])),
            "{name}"
        );
    }

    fn assert_given(&self, name: &str, address: &str) {
        let expected = ("NOERROR".to_owned(), vec![address.to_owned()]);
        assert_eq!(self.ask(name), Some(expected), "{name}");
    }
}

impl Daemon {
    /// Makes names with their last octets the whole content of a zone, and shows it.
    fn publish(&mut self, apex: &str, content: &[(&str, u8)]) {
        let records = content.iter().map(|&(label, last)| {
            let data = vec![Rdata::A([10, 0, 0, last].into())];
            let owner = name(&format!("{label}.{apex}"));
            (owner, Rrset::new(Rtype::A, 60, data))
        });
        self.editor.replace(&name(apex), records.collect()).unwrap();
        self.editor.commit(2);
        self.dataplane.publish(self.editor.snapshot()).unwrap();
    }

    fn end(mut self) {
        self.dataplane.end();
    }
}

/// A scene that an earlier daemon has left, which knew both zones.
fn left_behind() -> Scene {
    let scene = Scene::new();
    let mut daemon = scene.start(&[FIRST, SECOND]);
    daemon.publish(FIRST, &[("stays", 1), ("goes", 2)]);
    daemon.publish(SECOND, &[("stays", 3), ("goes", 4)]);
    daemon.end();
    scene.assert_given("stays.a.example", "10.0.0.1");
    scene.assert_given("goes.b.example", "10.0.0.4");
    scene.assert_denied("absent.a.example");
    scene.assert_denied("absent.b.example");
    scene
}

#[test]
fn names_of_a_zone_that_is_not_known_yet_are_kept_and_none_is_denied() {
    needs_scene!();
    let scene = left_behind();
    let shortcuts = scene.shortcuts();
    assert!(shortcuts >= 4, "{shortcuts}");
    let mut daemon = scene.start(&[FIRST, SECOND]);
    assert_eq!(scene.shortcuts(), shortcuts);
    // Before anything is known all is as it was.
    scene.assert_given("goes.a.example", "10.0.0.2");
    scene.assert_denied("absent.a.example");
    daemon.publish(SECOND, &[("stays", 3), ("comes", 5)]);
    scene.assert_given("stays.b.example", "10.0.0.3");
    scene.assert_given("comes.b.example", "10.0.0.5");
    scene.assert_denied("goes.b.example");
    scene.assert_given("goes.a.example", "10.0.0.2");
    assert_eq!(scene.ask("absent.a.example"), None);
    daemon.publish(FIRST, &[("stays", 1), ("comes", 6)]);
    scene.assert_given("stays.a.example", "10.0.0.1");
    scene.assert_given("comes.a.example", "10.0.0.6");
    scene.assert_denied("goes.a.example");
    scene.assert_denied("absent.a.example");
    let shown = daemon.dataplane.occupancy();
    assert_eq!(shown.names, daemon.editor.snapshot().len());
    daemon.end();
}

#[test]
fn zones_in_another_order_are_never_mistaken_for_each_other() {
    needs_scene!();
    let scene = left_behind();
    // Finished answers refer to zones by number.
    let mut daemon = scene.start(&[SECOND, FIRST]);
    daemon.publish(SECOND, &[("stays", 3)]);
    scene.assert_given("stays.b.example", "10.0.0.3");
    scene.assert_denied("goes.b.example");
    for name in ["stays.a.example", "goes.a.example", "absent.a.example"] {
        assert_eq!(scene.ask(name), None, "{name}");
    }
    daemon.publish(FIRST, &[("stays", 1)]);
    scene.assert_given("stays.a.example", "10.0.0.1");
    scene.assert_denied("goes.a.example");
    daemon.end();
}

#[test]
fn the_same_again_writes_nothing() {
    needs_scene!();
    let scene = left_behind();
    let mut daemon = scene.start(&[FIRST, SECOND]);
    daemon.publish(FIRST, &[("stays", 1), ("goes", 2)]);
    daemon.publish(SECOND, &[("stays", 3), ("goes", 4)]);
    // Apex and denial of each zone, as its serial starts again; those of the second zone also when
    // only the first is known. No other name is among them.
    let updates = daemon.dataplane.occupancy().updates;
    assert!(updates <= 6, "{updates}");
    // Places are shared with what was found, and given back when nobody holds them.
    for last in 5..250 {
        daemon.publish(FIRST, &[("stays", last), ("goes", 2)]);
    }
    scene.assert_given("stays.a.example", "10.0.0.249");
    scene.assert_given("goes.a.example", "10.0.0.2");
    daemon.end();
    let daemon = scene.start(&[FIRST, SECOND]);
    assert_eq!(
        daemon.dataplane.occupancy().names,
        daemon.editor.snapshot().len() + 4
    );
    scene.assert_given("goes.a.example", "10.0.0.2");
    daemon.end();
}

#[test]
fn a_name_outside_all_zones_goes() {
    needs_scene!();
    let scene = left_behind();
    let mut daemon = scene.start(&[SECOND]);
    daemon.publish(SECOND, &[("stays", 3), ("goes", 4)]);
    assert_eq!(scene.ask("stays.a.example"), None);
    scene.assert_given("goes.b.example", "10.0.0.4");
    assert_eq!(
        daemon.dataplane.occupancy().names,
        daemon.editor.snapshot().len()
    );
    daemon.end();
}
