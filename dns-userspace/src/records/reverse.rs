//! From addresses back to names: the zones of the networks that an operator names, and in them a
//! PTR record for each address that belongs to one name.
//!
//! It is made of the Mesos domain as it is published, change by change: what the forward zone does
//! not say, no pointer says.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::net::IpAddr;

use super::Settings;
use super::to_zone::bare_zone;
use crate::zones::{Diff, Name, NameError, Node, Rdata, Rrset, Rtype, Zone};

/// Which addresses are ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reverse {
    /// Networks whose reverse zones are served.
    pub networks: Vec<Network>,
    /// Whether addresses have pointers. Without them the zones only deny.
    pub pointers: bool,
}

/// A network of addresses: those that share their first `bits` bits with `address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `10.0.0.0/8` or `fd00::/8`; `None` for anything else, bits behind the prefix
    /// included.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let network = Self {
            address,
            bits: bits.parse().ok()?,
        };
        let octets = octets_of(address);
        let is_within = usize::from(network.bits) <= octets.len() * 8;
        let masked =
            (0..octets.len()).all(|at| network.masked(&octets, at) == octets.get(at).copied());
        (is_within && masked).then_some(network)
    }

    /// The octet at `at` without the bits behind the prefix.
    fn masked(self, octets: &[u8], at: usize) -> Option<u8> {
        let octet = octets.get(at).copied()?;
        let left = usize::from(self.bits).saturating_sub(at * 8).min(8);
        Some(octet & !(0xff_u16 >> left) as u8)
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let (own, other) = (octets_of(self.address), octets_of(address));
        own.len() == other.len()
            && (0..own.len()).all(|at| self.masked(&other, at) == own.get(at).copied())
    }

    /// The zones that hold its addresses and, where the prefix ends within a label, no others:
    /// 172.16.0.0/12 has sixteen (RFC 1035, section 3.5; RFC 3596, section 2.5).
    ///
    /// # Errors
    /// Never for an address; names have limits.
    pub fn apexes(self) -> Result<Vec<Name>, NameError> {
        let label_bits = if self.address.is_ipv4() { 8 } else { 4 };
        let labels = self.bits.div_ceil(label_bits);
        let open = labels * label_bits - self.bits;
        let digits = digits_of(self.address);
        let mut apexes = Vec::new();
        for last in 0..1_u16 << open {
            let mut digits: Vec<u8> = digits.iter().copied().take(labels.into()).collect();
            if let Some(digit) = digits.last_mut() {
                *digit |= last as u8;
            }
            apexes.push(name_of(&digits, self.address.is_ipv4())?);
        }
        Ok(apexes)
    }
}

impl Reverse {
    /// The apexes of all networks, each once.
    ///
    /// # Errors
    /// A name breaks a limit of DNS.
    pub fn apexes(&self) -> Result<BTreeSet<Name>, NameError> {
        let mut apexes = BTreeSet::new();
        for network in &self.networks {
            apexes.extend(network.apexes()?);
        }
        Ok(apexes)
    }

    /// Their zones, with the authority records and the RA bit of the Mesos
    /// domain. Without pointers they are complete, and empty.
    ///
    /// # Errors
    /// A configured name breaks a limit of DNS.
    pub fn zones(
        &self,
        settings: &Settings,
        recursion_available: bool,
    ) -> Result<Vec<Zone>, NameError> {
        let zone = |apex| {
            let mut zone = bare_zone(apex, settings)?;
            zone.recursion_available = recursion_available;
            zone.complete = !self.pointers;
            Ok(zone)
        };
        self.apexes()?.into_iter().map(zone).collect()
    }
}

/// The pointers, kept up to date with what is published of the Mesos domain.
#[derive(Debug)]
pub struct Pointers {
    networks: Vec<Network>,
    /// Of the Mesos domain.
    apex: Name,
    ttl: u32,
    /// Names that have an address.
    names: HashMap<IpAddr, BTreeSet<Name>>,
    /// Addresses that a name has.
    addresses: HashMap<Name, Vec<IpAddr>>,
}

impl Pointers {
    /// Of a domain of which nothing is published; `None` if none are wanted.
    #[must_use]
    pub fn new(settings: &Settings, apex: Name) -> Option<Self> {
        let wanted = settings.reverse.pointers && !settings.reverse.networks.is_empty();
        wanted.then(|| Self {
            networks: settings.reverse.networks.clone(),
            apex,
            ttl: settings.ttl,
            names: HashMap::new(),
            addresses: HashMap::new(),
        })
    }

    /// Takes in what was published. Gives the reverse names that changed, with their RRsets.
    ///
    /// # Errors
    /// Never for an address; names have limits.
    pub fn update(&mut self, diff: &Diff) -> Result<Vec<(Name, Vec<Rrset>)>, NameError> {
        let mut touched = BTreeSet::new();
        for node in diff.written() {
            self.note(node, addresses_of(node), &mut touched);
        }
        for node in &diff.removed {
            self.note(node, Vec::new(), &mut touched);
        }
        touched
            .into_iter()
            .filter(|address| self.networks.iter().any(|one| one.contains(*address)))
            .map(|address| {
                let digits = digits_of(address);
                let owner = name_of(&digits, address.is_ipv4())?;
                let target = self.target(address);
                let rrsets = target
                    .map(|name| Rrset::new(Rtype::PTR, self.ttl, vec![Rdata::Ptr(name)]))
                    .into_iter()
                    .collect();
                Ok((owner, rrsets))
            })
            .collect()
    }

    fn note(&mut self, node: &Node, now: Vec<IpAddr>, touched: &mut BTreeSet<IpAddr>) {
        let name = node.owner();
        if !name.is_at_or_below(&self.apex) {
            return;
        }
        let before = match now.is_empty() {
            true => self.addresses.remove(name),
            false => self.addresses.insert(name.clone(), now.clone()),
        };
        let before = before.unwrap_or_default();
        for address in before.iter().filter(|one| !now.contains(one)) {
            touched.insert(*address);
            if let Some(names) = self.names.get_mut(address) {
                names.remove(name);
                if names.is_empty() {
                    self.names.remove(address);
                }
            }
        }
        for address in now.iter().filter(|one| !before.contains(one)) {
            touched.insert(*address);
            let names = self.names.entry(*address).or_default();
            names.insert(name.clone());
        }
    }

    /// The name that an address belongs to: of a task that has it alone; of the agents, if it is
    /// one of theirs, whatever tasks share it; of a master; of a framework that has it alone.
    fn target(&self, address: IpAddr) -> Option<Name> {
        let names = self.names.get(&address)?;
        let depth = self.apex.labels().count();
        let own_label = |name: &Name| -> Option<Vec<u8>> {
            let is_child = name.labels().count() == depth + 1;
            let first = name.labels().next().filter(|_| is_child);
            first.map(<[u8]>::to_vec)
        };
        let single = |label: &[u8]| {
            let mut of = names.iter();
            of.find(|name| own_label(name).as_deref() == Some(label))
                .cloned()
        };
        if let Some(agents) = single(b"slave") {
            return Some(agents);
        }
        let of_tasks: Vec<&Name> = names
            .iter()
            .filter(|name| is_of_task(name, depth))
            .collect();
        let is_canonical = |name: &&&Name| {
            let mut others = of_tasks.iter();
            others.any(|other| is_canonical_of(name, other))
        };
        let canonical = of_tasks.iter().filter(is_canonical).count();
        let tasks: Vec<&&Name> = of_tasks.iter().filter(|name| !is_canonical(name)).collect();
        match (tasks.as_slice(), canonical) {
            ([task], ..=1) => return Some((**task).clone()),
            ([], 0) => {}
            _ => return None,
        }
        let numbered = |name: &&Name| {
            own_label(name).is_some_and(|label| {
                label.strip_prefix(b"master").is_some_and(|digits| {
                    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
                })
            })
        };
        if let Some(master) = names.iter().find(numbered) {
            return Some(master.clone());
        }
        let general: [&[u8]; 2] = [b"leader", b"master"];
        let mut frameworks = names.iter().filter(|name| {
            own_label(name).is_some_and(|label| !general.contains(&label.as_slice()))
        });
        let first = frameworks.next()?;
        frameworks.next().is_none().then(|| first.clone())
    }
}

/// Whether a name is that of a task seen from its own side: not `_service`, and not below
/// `slave.DOMAIN`, where agents stand for their tasks.
fn is_of_task(name: &Name, depth: usize) -> bool {
    let labels: Vec<&[u8]> = name.labels().collect();
    let below = labels.len().saturating_sub(depth);
    let seen_by_agent = below > 0
        && labels
            .get(below - 1)
            .is_some_and(|label| *label == b"slave");
    below >= 2 && !seen_by_agent && !labels.iter().any(|label| label.starts_with(b"_"))
}

/// Whether `name` is the canonical name of a task that `task` names: with a hash of five letters and
/// the last part of the agent's id behind, `web-czq4v-s1.marathon` of `web.marathon`.
fn is_canonical_of(name: &Name, task: &Name) -> bool {
    let (mut own, mut others) = (name.labels(), task.labels());
    let behind = own.next().zip(others.next());
    let behind = behind.and_then(|(own, other)| own.strip_prefix(other)?.strip_prefix(b"-"));
    let Some((hash, agent)) = behind.and_then(|behind| behind.split_at_checked(5)) else {
        return false;
    };
    let agent = agent.strip_prefix(b"-");
    hash.iter().all(u8::is_ascii_alphanumeric)
        && agent.is_some_and(|agent| !agent.is_empty() && !agent.contains(&b'-'))
        && own.eq(others)
}

fn addresses_of(node: &Node) -> Vec<IpAddr> {
    if node.is_occluded() {
        return Vec::new();
    }
    let data = [Rtype::A, Rtype::AAAA]
        .into_iter()
        .filter_map(|rtype| node.rrset(rtype))
        .flat_map(Rrset::data);
    data.filter_map(|data| match data {
        Rdata::A(address) => Some(IpAddr::from(*address)),
        Rdata::Aaaa(address) => Some(IpAddr::from(*address)),
        _ => None,
    })
    .collect()
}

fn octets_of(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// What a label of a reverse name stands for, the most significant first: octets or nibbles.
fn digits_of(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => {
            let octets = address.octets();
            octets
                .iter()
                .flat_map(|one| [one >> 4, one & 0xf])
                .collect()
        }
    }
}

fn name_of(digits: &[u8], is_ipv4: bool) -> Result<Name, NameError> {
    let mut text = String::new();
    for digit in digits.iter().rev() {
        let _ = match is_ipv4 {
            true => write!(text, "{digit}."),
            false => write!(text, "{digit:x}."),
        };
    }
    text.push_str(if is_ipv4 {
        "in-addr.arpa."
    } else {
        "ip6.arpa."
    });
    Name::from_text(&text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::answers::encode::BlobEncoder;
    use crate::zones::{Editor, Soa};

    fn name(text: &str) -> Name {
        Name::from_text(text).unwrap()
    }

    fn apexes(network: &str) -> Vec<String> {
        let network = Network::parse(network).unwrap();
        let apexes = network.apexes().unwrap();
        apexes.iter().map(ToString::to_string).collect()
    }

    /// RFC 6303, sections 4.1 and 4.4, and RFC 3596, section 2.5.
    #[test]
    fn a_network_has_the_zones_of_its_prefix() {
        assert_eq!(apexes("10.0.0.0/8"), ["10.in-addr.arpa."]);
        assert_eq!(apexes("192.168.0.0/16"), ["168.192.in-addr.arpa."]);
        let many = apexes("172.16.0.0/12");
        assert_eq!(many.len(), 16);
        assert_eq!(many[0], "16.172.in-addr.arpa.");
        assert_eq!(many[15], "31.172.in-addr.arpa.");
        assert_eq!(apexes("fd00::/8"), ["d.f.ip6.arpa."]);
        assert_eq!(apexes("fc00::/7"), ["c.f.ip6.arpa.", "d.f.ip6.arpa."]);
    }

    /// They are served as the Mesos domain is, RecurseOn included.
    #[test]
    fn the_zones_have_the_ra_bit_of_the_mesos_domain() {
        let settings = crate::records::to_zone::tests::settings();
        let reverse = Reverse {
            networks: vec![Network::parse("10.0.0.0/8").unwrap()],
            pointers: true,
        };
        for recursion_available in [true, false] {
            let zones = reverse.zones(&settings, recursion_available).unwrap();
            let bits: Vec<bool> = zones.iter().map(|zone| zone.recursion_available).collect();
            assert_eq!(bits, [recursion_available]);
        }
    }

    #[test]
    fn a_network_is_a_prefix_and_nothing_else() {
        for text in [
            "10.0.0.1/8",
            "10.0.0.0",
            "10.0.0.0/33",
            "::1/0",
            "x/8",
            "10.0.0.0/-1",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
        let network = Network::parse("172.16.0.0/12").unwrap();
        assert!(network.contains([172, 31, 255, 255].into()));
        assert!(!network.contains([172, 32, 0, 0].into()));
        assert!(!network.contains("fd00::1".parse().unwrap()));
    }

    struct Scene {
        editor: Editor,
        pointers: Pointers,
    }

    fn scene() -> Scene {
        let apex = name("mesos");
        let soa = Soa {
            mname: apex.clone(),
            rname: apex.clone(),
            serial: 1,
            refresh: 1,
            retry: 1,
            expire: 1,
            minimum: 1,
        };
        let zone = Zone::new(apex.clone(), soa, 60, Vec::new(), 60);
        Scene {
            editor: Editor::new(1, vec![zone], Arc::new(BlobEncoder), 1).unwrap(),
            pointers: Pointers {
                networks: vec![Network::parse("10.0.0.0/8").unwrap()],
                apex,
                ttl: 60,
                names: HashMap::new(),
                addresses: HashMap::new(),
            },
        }
    }

    impl Scene {
        /// Sets the addresses of a name and gives the pointers that changed.
        fn set(&mut self, owner: &str, addresses: &[[u8; 4]]) -> Vec<(String, Option<String>)> {
            let data: Vec<Rdata> = addresses
                .iter()
                .map(|one| Rdata::A((*one).into()))
                .collect();
            let rrsets = match data.is_empty() {
                true => Vec::new(),
                false => vec![Rrset::new(Rtype::A, 60, data)],
            };
            self.editor.set(&name(owner), rrsets).unwrap();
            let diff = self.editor.commit(2);
            let changes = self.pointers.update(&diff).unwrap();
            let text = |rrset: &Rrset| match rrset.data().first() {
                Some(Rdata::Ptr(name)) => name.to_string(),
                other => panic!("{other:?}"),
            };
            changes
                .iter()
                .map(|(owner, rrsets)| (owner.to_string(), rrsets.first().map(text)))
                .collect()
        }
    }

    const OWNER: &str = "5.0.0.10.in-addr.arpa.";

    fn change(target: Option<&str>) -> Vec<(String, Option<String>)> {
        vec![(OWNER.to_owned(), target.map(str::to_owned))]
    }

    #[test]
    fn an_address_of_one_task_points_to_its_name() {
        let mut scene = scene();
        let address = [[10, 0, 0, 5]];
        let web = "web.marathon.mesos.";
        assert_eq!(scene.set(web, &address), change(Some(web)));
        assert_eq!(
            scene.set("web-czq4v-s1.marathon.mesos", &address),
            change(Some(web))
        );
        assert_eq!(
            scene.set("db-a1b2c-s0.marathon.mesos", &address),
            change(None)
        );
        assert_eq!(
            scene.set("db-a1b2c-s0.marathon.mesos", &[]),
            change(Some(web))
        );
        let canonical = "web-czq4v-s1.marathon.mesos.";
        assert_eq!(scene.set(web, &[]), change(Some(canonical)));
    }

    #[test]
    fn an_address_that_tasks_share_with_their_agent_is_the_agents() {
        let mut scene = scene();
        let address = [[10, 0, 0, 5]];
        scene.set("slave.mesos", &address);
        scene.set("web.marathon.mesos", &address);
        assert_eq!(
            scene.pointers.target([10, 0, 0, 5].into()),
            Some(name("slave.mesos"))
        );
    }

    #[test]
    fn a_master_is_told_by_its_number() {
        let mut scene = scene();
        let address = [[10, 0, 0, 5]];
        for owner in [
            "master.mesos",
            "leader.mesos",
            "master0.mesos",
            "marathon.mesos",
        ] {
            scene.set(owner, &address);
        }
        assert_eq!(
            scene.pointers.target([10, 0, 0, 5].into()),
            Some(name("master0.mesos"))
        );
    }

    #[test]
    fn what_is_seen_by_agents_or_elsewhere_has_no_pointer() {
        let mut scene = scene();
        assert_eq!(
            scene.set("web.marathon.slave.mesos", &[[10, 0, 0, 5]]),
            change(None)
        );
        assert_eq!(scene.set("web.marathon.mesos", &[[11, 0, 0, 5]]), []);
    }
}
