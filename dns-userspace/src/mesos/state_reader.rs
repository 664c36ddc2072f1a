//! Reads a state document, lenient in content and strict in form.
//!
//! Form and content are judged apart. A body that is not one well-formed JSON object (truncated,
//! followed by text, an HTML error page), or whose `leader`, `slaves` or `frameworks` are of the
//! wrong type, says nothing reliable about the cluster: the whole refresh fails and the caller
//! keeps what it has. Anything wrong further inside harms only the smallest list element around
//! it, which is left out and counted in [`Defects`]: an agent, a task, a status, a label, an
//! address, a port.
//!
//! Keys match in any ASCII case, the last of several wins, `null` is as good as absent.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use super::defects::{Defect, Defects};
use super::json::{Kind, Reader, SyntaxError};
use super::pid::{Pid, parse_ip};
use super::state::{
    Agent, Discovery, DiscoveryPort, Framework, Scheduler, State, StatusSource, Task,
};

/// Ports of one task that are expanded at most; there are no more in TCP or UDP.
pub const MAX_PORTS_PER_TASK: u64 = 65_536;

/// Why a body is no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Not one well-formed JSON value.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// A member on which everything depends has the wrong type.
    #[error("state: {0}")]
    Shape(&'static str),
}

/// Reads a state document.
///
/// # Errors
/// When the body is malformed, or so misshapen that it says nothing; see the module.
pub fn parse(body: &[u8]) -> Result<(State, Defects), StateError> {
    let mut reader = Reader::new(body);
    let mut document = Document::default();
    if reader.kind()? != Kind::Object {
        reader.skip()?;
        return Err(StateError::Shape("the document is not an object"));
    }
    let mut state = State::default();
    let mut shape = None;
    reader.object(|reader, key| {
        match key_of(key, &["leader", "slaves", "frameworks"]) {
            Some("leader") => match reader.kind()? {
                Kind::String => state.leader = reader.string()?.into(),
                Kind::Null => return reader.skip(),
                _ => {
                    shape = Some("leader is not a string");
                    reader.skip()?;
                }
            },
            Some("slaves") => match reader.kind()? {
                Kind::Array => {
                    state.agents.clear();
                    reader.array(|reader| {
                        state.agents.extend(document.agent(reader)?);
                        Ok(())
                    })?;
                }
                Kind::Null => return reader.skip(),
                _ => {
                    shape = Some("slaves is not a list");
                    reader.skip()?;
                }
            },
            Some("frameworks") => match reader.kind()? {
                Kind::Array => {
                    state.frameworks.clear();
                    reader.array(|reader| {
                        state.frameworks.extend(document.framework(reader)?);
                        Ok(())
                    })?;
                }
                Kind::Null => return reader.skip(),
                _ => {
                    shape = Some("frameworks is not a list");
                    reader.skip()?;
                }
            },
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    reader.end()?;
    match shape {
        Some(shape) => Err(StateError::Shape(shape)),
        None => Ok((state, document.defects)),
    }
}

/// The one of `known` that `key` spells: exactly, or in another ASCII case.
fn key_of<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .find(|one| **one == key)
        .or_else(|| known.iter().find(|one| one.eq_ignore_ascii_case(key)))
        .copied()
}

type Read<T> = Result<T, SyntaxError>;

/// What reading a document gathers beside the state.
#[derive(Default)]
struct Document {
    defects: Defects,
}

/// A member read leniently.
enum Field<T> {
    /// Of the right type.
    Given(T),
    /// `null`.
    Null,
    /// Of a wrong type, and read past.
    Wrong,
}

fn text<'a>(reader: &mut Reader<'a>) -> Read<Field<Cow<'a, str>>> {
    match reader.kind()? {
        Kind::String => reader.string().map(Field::Given),
        Kind::Null => reader.skip().map(|()| Field::Null),
        _ => reader.skip().map(|()| Field::Wrong),
    }
}

/// Puts a text member into `slot`: empty for `null`. A wrong type is remembered in `wrong`.
fn text_into<'a>(
    reader: &mut Reader<'a>,
    slot: &mut Cow<'a, str>,
    wrong: &mut Option<&'static str>,
    member: &'static str,
) -> Read<()> {
    match text(reader)? {
        Field::Given(value) => *slot = value,
        Field::Null => *slot = Cow::Borrowed(""),
        Field::Wrong => *wrong = Some(member),
    }
    Ok(())
}

/// Addresses of a task, each with where it was found.
type Addresses = Vec<(StatusSource, IpAddr)>;

impl Document {
    fn wrong(&mut self, place: impl FnOnce() -> String) {
        self.defects.note(Defect::WrongType, place);
    }

    /// Reads the elements of a list; `null` is an empty one, anything else is counted and skipped.
    fn list<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        member: &'static str,
        mut element: impl FnMut(&mut Self, &mut Reader<'a>) -> Read<()>,
    ) -> Read<()> {
        match reader.kind()? {
            Kind::Array => reader.array(|reader| element(self, reader)),
            kind => {
                if kind != Kind::Null {
                    self.wrong(|| format!("{member} is not a list"));
                }
                reader.skip()
            }
        }
    }

    /// Reads the members of an object; `null` is an empty one, anything else is counted and
    /// skipped. Says whether it was an object or `null`.
    fn members<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        member: &'static str,
        mut each: impl FnMut(&mut Self, &mut Reader<'a>, &str) -> Read<()>,
    ) -> Read<bool> {
        match reader.kind()? {
            Kind::Object => {
                reader.object(|reader, key| each(self, reader, key))?;
                Ok(true)
            }
            kind => {
                if kind != Kind::Null {
                    self.wrong(|| format!("{member} is not an object"));
                }
                reader.skip()?;
                Ok(kind == Kind::Null)
            }
        }
    }

    fn agent(&mut self, reader: &mut Reader<'_>) -> Read<Option<Agent>> {
        let mut id = Cow::Borrowed("");
        let mut pid = Field::Null;
        let mut wrong = None;
        let given = self.members(reader, "slaves[]", |_, reader, key| {
            match key_of(key, &["id", "pid"]) {
                Some("id") => text_into(reader, &mut id, &mut wrong, "id")?,
                Some("pid") => pid = text(reader)?,
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        if let Some(member) = wrong {
            self.wrong(|| format!("{member} of an agent"));
            return Ok(None);
        }
        if !given {
            return Ok(None);
        }
        let pid = match pid {
            Field::Given(pid) => Pid::parse(&pid)
                .map_err(|error| {
                    self.defects
                        .note(Defect::AgentPid, || format!("agent {id}: {error}"));
                })
                .ok(),
            Field::Null | Field::Wrong => {
                self.defects
                    .note(Defect::AgentPid, || format!("agent {id}: no pid"));
                None
            }
        };
        let id = id.into();
        Ok(Some(Agent { id, pid }))
    }

    fn framework(&mut self, reader: &mut Reader<'_>) -> Read<Option<Framework>> {
        let [mut id, mut name, mut hostname] = [const { Cow::Borrowed("") }; 3];
        let mut pid = None;
        let mut tasks = Vec::new();
        let mut wrong = None;
        let given = self.members(reader, "frameworks[]", |document, reader, key| {
            match key_of(key, &["tasks", "id", "name", "hostname", "pid"]) {
                // Not read by mesos-dns, so a wrong one is nobody's trouble.
                Some("id") => {
                    if let Field::Given(value) = text(reader)? {
                        id = value;
                    }
                }
                Some("name") => text_into(reader, &mut name, &mut wrong, "name")?,
                Some("hostname") => match text(reader)? {
                    Field::Given(value) => hostname = value,
                    Field::Null => {}
                    Field::Wrong => document.wrong(|| "hostname of a framework".into()),
                },
                Some("pid") => pid = Some(text(reader)?),
                Some("tasks") => {
                    tasks.clear();
                    document.list(reader, "tasks", |document, reader| {
                        tasks.extend(document.task(reader)?.map(Arc::new));
                        Ok(())
                    })?;
                }
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        if let Some(member) = wrong {
            self.wrong(|| format!("{member} of a framework"));
            return Ok(None);
        }
        if !given {
            return Ok(None);
        }
        let scheduler = match pid {
            None => Scheduler::Hostname(hostname.into()),
            Some(Field::Given(pid)) => match Pid::parse(&pid) {
                Ok(pid) => Scheduler::Pid(pid),
                Err(error) => {
                    let place = || format!("framework {name}: {error}");
                    self.defects.note(Defect::FrameworkPid, place);
                    Scheduler::Unknown
                }
            },
            Some(Field::Null | Field::Wrong) => {
                let place = || format!("framework {name}: pid is not a string");
                self.defects.note(Defect::FrameworkPid, place);
                Scheduler::Unknown
            }
        };
        tasks.shrink_to_fit();
        Ok(Some(Framework {
            id: id.into(),
            name: name.into(),
            scheduler,
            tasks,
        }))
    }

    fn task(&mut self, reader: &mut Reader<'_>) -> Read<Option<Task>> {
        let [mut id, mut name, mut agent_id, mut state, mut ports] =
            [const { Cow::Borrowed("") }; 5];
        let mut newest = None;
        let mut discovery = None;
        let mut wrong = None;
        self.members(reader, "tasks[]", |document, reader, key| {
            match key_of(
                key,
                &[
                    "id",
                    "name",
                    "slave_id",
                    "state",
                    "resources",
                    "statuses",
                    "discovery",
                ],
            ) {
                Some("id") => text_into(reader, &mut id, &mut wrong, "id")?,
                Some("name") => text_into(reader, &mut name, &mut wrong, "name")?,
                Some("slave_id") => text_into(reader, &mut agent_id, &mut wrong, "slave_id")?,
                Some("state") => text_into(reader, &mut state, &mut wrong, "state")?,
                Some("resources") => ports = document.resources(reader)?,
                Some("statuses") => newest = document.statuses(reader)?,
                Some("discovery") => discovery = document.discovery(reader)?,
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        if let Some(member) = wrong {
            self.wrong(|| format!("{member} of task {id}"));
            return Ok(None);
        }
        if state != "TASK_RUNNING" {
            return Ok(None);
        }
        let ports = self.port_ranges(&ports, &id);
        let (status_time, mut addresses) = match newest {
            Some((time, addresses)) => (Some(time), addresses),
            None => (None, Vec::new()),
        };
        addresses.shrink_to_fit();
        Ok(Some(Task {
            id: id.into(),
            name: name.into(),
            agent_id: agent_id.into(),
            status_time,
            addresses,
            ports,
            discovery,
        }))
    }

    fn resources<'a>(&mut self, reader: &mut Reader<'a>) -> Read<Cow<'a, str>> {
        let mut ports = Cow::Borrowed("");
        let mut wrong = None;
        self.members(reader, "resources", |_, reader, key| {
            match key_of(key, &["ports"]) {
                Some(_) => text_into(reader, &mut ports, &mut wrong, "ports"),
                None => reader.skip(),
            }
        })?;
        if let Some(member) = wrong {
            self.wrong(|| format!("{member} of resources"));
        }
        Ok(ports)
    }

    /// Splits `[31000-31001, 31005-31005]`. A piece that is no range is counted and skipped.
    fn port_ranges(&mut self, text: &str, task: &str) -> Vec<(i64, i64)> {
        if text.is_empty() {
            return Vec::new();
        }
        let bad = |defects: &mut Defects| {
            defects.note(Defect::PortRange, || format!("task {task}: ports {text:?}"));
        };
        let Some((_, inner)) = text.split_once('[') else {
            bad(&mut self.defects);
            return Vec::new();
        };
        let inner = inner.split(['[', ']']).next().unwrap_or_default();
        if inner.trim().is_empty() {
            return Vec::new();
        }
        let mut ranges = Vec::new();
        let mut total = 0_u64;
        for piece in inner.split(',') {
            let mut ends = piece.trim().split('-').map(str::parse::<i64>);
            let (Some(Ok(low)), Some(Ok(high))) = (ends.next(), ends.next()) else {
                bad(&mut self.defects);
                continue;
            };
            if high < low {
                continue;
            }
            let count = high.abs_diff(low).saturating_add(1);
            if total.saturating_add(count) > MAX_PORTS_PER_TASK {
                self.defects
                    .note(Defect::TooManyPorts, || format!("task {task}: {piece:?}"));
                continue;
            }
            total += count;
            ranges.push((low, high));
        }
        ranges.shrink_to_fit();
        ranges
    }

    /// The newest running status: its time and its addresses. The earliest wins a tie.
    fn statuses(&mut self, reader: &mut Reader<'_>) -> Read<Option<(f64, Addresses)>> {
        let mut newest: Option<(f64, Addresses)> = None;
        self.list(reader, "statuses", |document, reader| {
            let mut addresses = Vec::new();
            let mut state = Cow::Borrowed("");
            let mut time = 0.0;
            let mut wrong = None;
            document.members(reader, "statuses[]", |document, reader, key| {
                match key_of(key, &["state", "timestamp", "labels", "container_status"]) {
                    Some("state") => text_into(reader, &mut state, &mut wrong, "state")?,
                    Some("timestamp") => match reader.kind()? {
                        Kind::Number => match reader.number()?.parse::<f64>() {
                            Ok(value) if value.is_finite() => time = value,
                            _ => wrong = Some("timestamp"),
                        },
                        Kind::Null => return reader.skip(),
                        _ => {
                            wrong = Some("timestamp");
                            reader.skip()?;
                        }
                    },
                    Some("labels") => document.status_labels(reader, &mut addresses)?,
                    Some("container_status") => {
                        document.container_status(reader, &mut addresses)?;
                    }
                    _ => reader.skip()?,
                }
                Ok(())
            })?;
            if let Some(member) = wrong {
                document.wrong(|| format!("{member} of a status"));
                return Ok(());
            }
            let newer = newest.as_ref().is_none_or(|(best, _)| time > *best);
            if state == "TASK_RUNNING" && time > -1.0 && newer {
                newest = Some((time, addresses));
            }
            Ok(())
        })?;
        Ok(newest)
    }

    fn status_labels(&mut self, reader: &mut Reader<'_>, addresses: &mut Addresses) -> Read<()> {
        addresses.retain(|(source, _)| *source == StatusSource::Netinfo);
        self.list(reader, "labels", |document, reader| {
            let [mut name, mut value] = [const { Cow::Borrowed("") }; 2];
            let mut wrong = None;
            document.members(reader, "labels[]", |_, reader, key| {
                match key_of(key, &["key", "value"]) {
                    Some("key") => text_into(reader, &mut name, &mut wrong, "key"),
                    Some("value") => text_into(reader, &mut value, &mut wrong, "value"),
                    _ => reader.skip(),
                }
            })?;
            if let Some(member) = wrong {
                document.wrong(|| format!("{member} of a status label"));
                return Ok(());
            }
            let source = match &*name {
                "MesosContainerizer.NetworkSettings.IPAddress" => StatusSource::Mesos,
                "Docker.NetworkSettings.IPAddress" => StatusSource::Docker,
                _ => return Ok(()),
            };
            addresses.extend(parse_ip(&value).map(|ip| (source, ip)));
            Ok(())
        })
    }

    fn container_status(&mut self, reader: &mut Reader<'_>, addresses: &mut Addresses) -> Read<()> {
        addresses.retain(|(source, _)| *source != StatusSource::Netinfo);
        self.members(reader, "container_status", |document, reader, key| {
            if key_of(key, &["network_infos"]).is_none() {
                return reader.skip();
            }
            addresses.retain(|(source, _)| *source != StatusSource::Netinfo);
            document.list(reader, "network_infos", |document, reader| {
                document.network_info(reader, addresses)
            })
        })?;
        Ok(())
    }

    /// `ip_addresses` if it has elements, else the old `ip_address`.
    fn network_info(&mut self, reader: &mut Reader<'_>, addresses: &mut Addresses) -> Read<()> {
        let start = addresses.len();
        let mut single = Cow::Borrowed("");
        let mut wrong = None;
        let mut listed = false;
        self.members(
            reader,
            "network_infos[]",
            |document, reader, key| match key_of(key, &["ip_addresses", "ip_address"]) {
                Some("ip_address") => text_into(reader, &mut single, &mut wrong, "ip_address"),
                Some(_) => {
                    addresses.truncate(start);
                    listed = false;
                    document.list(reader, "ip_addresses", |document, reader| {
                        listed = true;
                        addresses.extend(document.ip_address(reader)?);
                        Ok(())
                    })
                }
                None => reader.skip(),
            },
        )?;
        if let Some(member) = wrong {
            self.wrong(|| format!("{member} of a network info"));
        }
        if !listed {
            addresses.extend(parse_ip(&single).map(|ip| (StatusSource::Netinfo, ip)));
        }
        Ok(())
    }

    fn ip_address(&mut self, reader: &mut Reader<'_>) -> Read<Option<(StatusSource, IpAddr)>> {
        let mut address = Cow::Borrowed("");
        let mut wrong = None;
        self.members(reader, "ip_addresses[]", |_, reader, key| {
            match key_of(key, &["ip_address"]) {
                Some(_) => text_into(reader, &mut address, &mut wrong, "ip_address"),
                None => reader.skip(),
            }
        })?;
        if let Some(member) = wrong {
            self.wrong(|| format!("{member} of a network info"));
        }
        Ok(parse_ip(&address).map(|ip| (StatusSource::Netinfo, ip)))
    }

    fn discovery(&mut self, reader: &mut Reader<'_>) -> Read<Option<Box<Discovery>>> {
        let mut name = Cow::Borrowed("");
        let mut ports = Vec::new();
        let mut wrong = None;
        self.members(reader, "discovery", |document, reader, key| {
            match key_of(key, &["name", "ports"]) {
                Some("name") => text_into(reader, &mut name, &mut wrong, "name"),
                Some(_) => document
                    .members(reader, "discovery ports", |document, reader, key| {
                        if key_of(key, &["ports"]).is_none() {
                            return reader.skip();
                        }
                        ports.clear();
                        document.list(reader, "discovery ports", |document, reader| {
                            ports.extend(document.discovery_port(reader)?);
                            Ok(())
                        })
                    })
                    .map(|_| ()),
                None => reader.skip(),
            }
        })?;
        if let Some(member) = wrong {
            self.wrong(|| format!("{member} of a discovery"));
        }
        if name.is_empty() {
            return Ok(None);
        }
        ports.shrink_to_fit();
        let name = name.into();
        Ok(Some(Box::new(Discovery { name, ports })))
    }

    fn discovery_port(&mut self, reader: &mut Reader<'_>) -> Read<Option<DiscoveryPort>> {
        let [mut protocol, mut name] = [const { Cow::Borrowed("") }; 2];
        let mut number = Some(0);
        let mut wrong = None;
        let given = self.members(reader, "discovery ports[]", |_, reader, key| {
            match key_of(key, &["number", "protocol", "name"]) {
                Some("protocol") => text_into(reader, &mut protocol, &mut wrong, "protocol"),
                Some("name") => text_into(reader, &mut name, &mut wrong, "name"),
                Some(_) => {
                    match reader.kind()? {
                        Kind::Number => number = reader.number()?.parse().ok(),
                        Kind::Null => reader.skip()?,
                        _ => {
                            wrong = Some("number");
                            reader.skip()?;
                        }
                    }
                    Ok(())
                }
                None => reader.skip(),
            }
        })?;
        if let Some(member) = wrong {
            self.wrong(|| format!("{member} of a discovery port"));
            return Ok(None);
        }
        let Some(number) = number else {
            self.defects
                .note(Defect::Number, || "number of a discovery port".into());
            return Ok(None);
        };
        if !given {
            return Ok(None);
        }
        Ok(Some(DiscoveryPort {
            number,
            protocol: protocol.into(),
            name: name.into(),
        }))
    }
}
