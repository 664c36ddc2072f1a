//! The two listings of the mesos-dns HTTP API, `/v1/axfr` and `/v1/enumerate`, as bodies.

use std::collections::HashSet;

use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};

use super::addresses::Address;
use super::set::{Builder, MesosRecords, NameId, Service};
use super::sink::{Rule, Sink, Subject};
use super::{Resolve, Settings, generate, go_json};
use crate::mesos::State;

/// The body of `/v1/axfr`: every record, by type and name. `serial` and `refresh_seconds` are
/// shown as they are.
///
/// # Errors
/// None that the types allow; the error is that of the JSON writer.
pub fn axfr_body(
    records: &MesosRecords,
    settings: &Settings,
    serial: u32,
    refresh_seconds: u32,
) -> serde_json::Result<Vec<u8>> {
    go_json::to_vec(&Axfr {
        records,
        settings,
        serial,
        refresh_seconds,
    })
}

/// The body of `/v1/enumerate`: of each task the records that it was the first to add. It is
/// generated anew from the state, so nothing is kept for it between requests.
///
/// # Errors
/// As [`axfr_body`].
pub fn enumerate_body(
    state: &State,
    candidates: &[String],
    settings: &Settings,
    resolve: Resolve<'_>,
) -> serde_json::Result<Vec<u8>> {
    let mut listing = Listing::default();
    generate(state, candidates, settings, resolve, &mut listing);
    go_json::to_vec(&listing)
}

struct Axfr<'a> {
    records: &'a MesosRecords,
    settings: &'a Settings,
    serial: u32,
    refresh_seconds: u32,
}

impl Serialize for Axfr<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut body = serializer.serialize_struct("Axfr", 7)?;
        body.serialize_field("TTL", &self.settings.ttl)?;
        body.serialize_field("Serial", &self.serial)?;
        body.serialize_field("RefreshSeconds", &self.refresh_seconds)?;
        body.serialize_field("Mname", &self.settings.name_server.name)?;
        body.serialize_field("Rname", &self.settings.soa.rname)?;
        body.serialize_field("Domain", &self.settings.domain)?;
        body.serialize_field("Records", &AllMaps(self.records))?;
        body.end()
    }
}

struct AllMaps<'a>(&'a MesosRecords);

impl Serialize for AllMaps<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let set = self.0;
        let address = |value: &Address| value.to_string();
        let mut maps = serializer.serialize_struct("Records", 3)?;
        let rows = || set.a();
        maps.serialize_field("As", &OneMap(set, rows, address))?;
        let rows = || set.aaaa();
        maps.serialize_field("AAAAs", &OneMap(set, rows, address))?;
        let rows = || set.srv();
        let service = |value: &Service| set.service_text(value);
        maps.serialize_field("SRVs", &OneMap(set, rows, service))?;
        maps.end()
    }
}

/// The set that resolves names, the rows, and the text of a value.
struct OneMap<'a, F, T>(&'a MesosRecords, F, T);

impl<'a, V: 'a, I, F, T> Serialize for OneMap<'a, F, T>
where
    I: Iterator<Item = (NameId, &'a [V])>,
    F: Fn() -> I,
    T: Fn(&V) -> String,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(set, rows, text) = self;
        let mut map = serializer.serialize_map(None)?;
        for (owner, values) in rows() {
            let mut values: Vec<String> = values.iter().map(text).collect();
            values.sort_unstable();
            map.serialize_entry(set.name(owner), &values)?;
        }
        map.end()
    }
}

/// A record value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Value {
    Address(Address),
    Service(Service),
}

/// Notes which task was the first to add which record.
#[derive(Default)]
struct Listing {
    names: Builder,
    seen: HashSet<(NameId, Value)>,
    frameworks: Vec<ListedFramework>,
    in_task: bool,
}

struct ListedFramework {
    name: Box<str>,
    tasks: Vec<ListedTask>,
}

struct ListedTask {
    name: Box<str>,
    id: Box<str>,
    records: Vec<(NameId, Value)>,
}

impl Listing {
    fn add(&mut self, owner: NameId, value: Value) {
        if !self.seen.insert((owner, value.clone())) || !self.in_task {
            return;
        }
        let tasks = self.frameworks.last_mut().map(|one| &mut one.tasks);
        if let Some(task) = tasks.and_then(|tasks| tasks.last_mut()) {
            task.records.push((owner, value));
        }
    }
}

impl Sink for Listing {
    type Name = NameId;

    fn enter(&mut self, subject: Subject<'_>) {
        match subject {
            Subject::TasksOf(framework) => self.frameworks.push(ListedFramework {
                name: framework.name.clone(),
                tasks: Vec::new(),
            }),
            Subject::Task(task) => {
                self.in_task = true;
                if let Some(framework) = self.frameworks.last_mut() {
                    framework.tasks.push(ListedTask {
                        name: task.name.clone(),
                        id: task.id.clone(),
                        records: Vec::new(),
                    });
                }
            }
            _ => {}
        }
    }

    fn name(&mut self, text: &str) -> NameId {
        self.names.name(text)
    }

    fn name_cut_for_dns(&mut self, text: &str, _: &str) -> NameId {
        self.names.name(text)
    }

    fn address(&mut self, owner: NameId, address: &Address, _: Rule) {
        self.add(owner, Value::Address(address.clone()));
    }

    fn service(&mut self, owner: NameId, target: NameId, port: i64, _: Rule) {
        self.add(owner, Value::Service(Service { target, port }));
    }

    fn service_in_dns_only(&mut self, _: NameId, _: NameId, _: i64, _: Rule) {}

    fn has_address(&self, owner: NameId, address: &Address) -> bool {
        self.seen
            .contains(&(owner, Value::Address(address.clone())))
    }
}

impl Serialize for Listing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let frameworks: Vec<FrameworkBody<'_>> = self
            .frameworks
            .iter()
            .map(|framework| FrameworkBody {
                tasks: framework
                    .tasks
                    .iter()
                    .map(|task| TaskBody(&self.names, task))
                    .collect(),
                name: &framework.name,
            })
            .collect();
        let mut body = serializer.serialize_struct("Enumerate", 1)?;
        // An empty list of frameworks is null there, one of tasks is not.
        body.serialize_field("frameworks", &some_if_filled(&frameworks))?;
        body.end()
    }
}

fn some_if_filled<T>(list: &[T]) -> Option<&[T]> {
    (!list.is_empty()).then_some(list)
}

#[derive(serde::Serialize)]
struct FrameworkBody<'a> {
    tasks: Vec<TaskBody<'a>>,
    name: &'a str,
}

struct TaskBody<'a>(&'a Builder, &'a ListedTask);

impl Serialize for TaskBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(names, task) = self;
        let records: Vec<RecordBody<'_>> = task
            .records
            .iter()
            .map(|(owner, value)| {
                let name = names.text(*owner);
                match value {
                    Value::Address(address) => RecordBody {
                        name,
                        host: address.to_string(),
                        rtype: if address.ip().is_ipv4() { "A" } else { "AAAA" },
                    },
                    Value::Service(Service { target, port }) => RecordBody {
                        name,
                        host: format!("{}:{port}", names.text(*target)),
                        rtype: "SRV",
                    },
                }
            })
            .collect();
        let mut body = serializer.serialize_struct("Task", 3)?;
        body.serialize_field("name", &task.name)?;
        body.serialize_field("id", &task.id)?;
        body.serialize_field("records", &some_if_filled(&records))?;
        body.end()
    }
}

#[derive(serde::Serialize)]
struct RecordBody<'a> {
    name: &'a str,
    host: String,
    rtype: &'static str,
}
