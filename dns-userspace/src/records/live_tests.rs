use super::*;
use crate::mesos::pid::Pid;
use crate::records::addresses::Address;
use crate::records::{build, to_zone};

fn live() -> LiveRecords {
    let apex = Name::from_text("mesos").unwrap();
    let leader = "master@10.0.0.1:5050".to_owned();
    LiveRecords::new(
        Arc::new(to_zone::tests::settings()),
        apex,
        leader,
        Vec::new(),
    )
}

fn framework(id: &str, name: &str, hostname: &str) -> StateChange {
    let facts = FrameworkFacts {
        name: name.into(),
        hostname: hostname.into(),
    };
    StateChange::Framework(id.into(), Some(Arc::new(facts)))
}

fn agent(id: &str, host: &str) -> StateChange {
    let pid = Some(Pid {
        host: host.into(),
        port: 5051,
    });
    let agent = Agent { id: id.into(), pid };
    StateChange::Agent(id.into(), Some(Arc::new(agent)))
}

fn task(framework: &str, name: Option<&str>) -> StateChange {
    let key = TaskKey {
        framework_id: framework.into(),
        task_id: "t".into(),
    };
    let task = |name: &str| Task {
        id: "t".into(),
        name: name.into(),
        agent_id: "S".into(),
        ports: vec![(80, 80)],
        ..Task::default()
    };
    StateChange::Task(key, name.map(|name| Arc::new(task(name))))
}

fn apply(live: &mut LiveRecords, list: Vec<StateChange>) -> HashSet<Name> {
    live.apply(&StateChanges {
        resync: false,
        list,
    })
}

fn sorted(content: Vec<(Name, Rrset)>) -> Vec<(Name, Rrset)> {
    let mut content = content;
    content.sort_unstable_by(|a, b| (&a.0, a.1.rtype()).cmp(&(&b.0, b.1.rtype())));
    content
}

fn assert_as_built(live: &LiveRecords) {
    let built = build(&live.state(), &[], &live.settings, &|host| {
        live.resolve(host)
    });
    let content = to_zone::zone_content(&built, &live.settings, &live.apex);
    let have = sorted(live.content());
    // A full build has A and AAAA, and ports, in lists of their own.
    let mut wanted: Vec<(Name, Rrset)> = Vec::new();
    for (name, rrset) in sorted(content.rrsets) {
        match wanted.last_mut() {
            Some((last, before)) if *last == name && before.rtype() == rrset.rtype() => {
                let data = before.data().iter().chain(rrset.data()).cloned();
                *before = Rrset::new(rrset.rtype(), rrset.ttl(), data);
            }
            _ => wanted.push((name, rrset)),
        }
    }
    assert_eq!(have, wanted);
}

/// Two frameworks of one name have a task with one id on one agent, so the hashes are the same;
/// their long names are cut to the same, and the second that comes has the first text.
#[test]
fn the_first_text_has_the_cut_name_whoever_comes_first() {
    let long = |last: &str| format!("{}{last}", "n".repeat(60));
    let mut live = live();
    let list = vec![
        agent("S", "10.1.0.1"),
        framework("F0", "fw", ""),
        framework("F1", "fw", ""),
        task("F0", Some(&long("b"))),
    ];
    apply(&mut live, list);
    assert_as_built(&live);
    let names = live.records.names();
    let changed = apply(&mut live, vec![task("F1", Some(&long("a")))]);
    assert_as_built(&live);
    // The one that was there has another name now, and its services lead there.
    assert!(live.records.names() > names);
    let service = Name::from_text(&format!("_{}._tcp.fw.mesos", long("b"))).unwrap();
    assert!(changed.contains(&service));
    apply(&mut live, vec![task("F1", None)]);
    assert_as_built(&live);
    assert_eq!(live.records.names(), names);
    apply(&mut live, vec![task("F0", None)]);
    assert_as_built(&live);
    assert!(live.cuts.0.is_empty());
}

#[test]
fn host_names_are_asked_for_and_their_addresses_taken() {
    let mut live = live();
    let list = vec![
        agent("S", "node.example"),
        framework("F0", "fw", "scheduler.example"),
        task("F0", Some("web")),
    ];
    apply(&mut live, list);
    let hosts = |live: &mut LiveRecords| -> Option<Vec<String>> {
        Some(live.take_hosts()?.into_iter().collect())
    };
    let both = vec!["node.example".to_owned(), "scheduler.example".to_owned()];
    assert_eq!(hosts(&mut live), Some(both.clone()));
    assert_eq!(hosts(&mut live), None, "as before");
    let name = |text: &str| Name::from_text(text).unwrap();
    for (host, address, of) in [
        ("scheduler.example", "10.2.0.1", "fw.mesos"),
        ("node.example", "10.1.0.1", "web.fw.mesos"),
        ("node.example", "10.1.0.2", "web.fw.slave.mesos"),
    ] {
        let address: IpAddr = address.parse().unwrap();
        let changed = live.set_host(host, &[address]);
        assert!(changed.contains(&name(of)));
        let rrsets = live.rrsets(&name(of));
        assert_eq!(rrsets[0].data(), [Address::from(address).rdata()]);
        assert_as_built(&live);
    }
    assert!(
        live.set_host("node.example", &["10.1.0.2".parse().unwrap()])
            .is_empty()
    );
    assert_eq!(hosts(&mut live), Some(both));
    // Of hosts that nobody has nothing is left.
    apply(&mut live, vec![StateChange::Framework("F0".into(), None)]);
    assert_eq!(hosts(&mut live), Some(vec!["node.example".to_owned()]));
    let known: Vec<&str> = live.known_hosts().map(|(host, _)| host).collect();
    assert_eq!(known, ["node.example"]);
    live.set_masters(
        "master@leader.example:5050",
        &["m1.example:5050".to_owned()],
    );
    let masters = ["leader.example", "m1.example", "node.example"].map(str::to_owned);
    assert_eq!(hosts(&mut live), Some(masters.to_vec()));
    assert_as_built(&live);
}

#[test]
fn what_is_left_out_is_counted_while_it_is_there() {
    let mut live = live();
    let list = vec![
        agent("S", "10.1.0.1"),
        framework("F0", "fw", ""),
        task("F0", Some("..")),
    ];
    apply(&mut live, list);
    assert!(live.defects().count(Defect::UnreachableName) > 0);
    apply(&mut live, vec![task("F0", Some("web"))]);
    assert!(live.defects().is_empty(), "{}", live.defects());
}
