//! A server in the test's own process, on loopback, with zones that the test writes down.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use dns_userspace::{
    answers::{Transport, encode::BlobEncoder},
    forwarder::{self, Forwarder},
    server::{
        self, EncryptedProtocol, FastPath, FinishedAnswers, Server, Settings, TcpLimits, Totals,
    },
    transfer::{Access, Responder, Versions},
    zones::{Editor, Name, Rdata, Rrset, Soa, Zone, snapshot::Served as Snapshots},
};
use tokio::runtime::Runtime;

use crate::{
    dig::Dig,
    kernel::SEED,
    wire::{self, Reply},
};

/// The serial of every zone before its content is known.
pub const SERIAL: u32 = 1_700_000_000;

/// What to serve, and how.
#[derive(Clone)]
pub struct Plan {
    /// Zones with their content as `owner type data`, one record each; names are absolute.
    pub zones: Vec<(Zone, Vec<String>)>,
    /// Settings; `listen` has port 0.
    pub settings: Settings,
    /// What is asked before the zones; finished answers unless told otherwise.
    pub fast_path: Option<Arc<dyn FastPath>>,
    /// Where other names go.
    pub upstreams: Option<forwarder::Settings>,
    /// Where the forwarder thinks that we listen.
    pub listening: Vec<SocketAddr>,
}

/// A running server; it ends with this value.
pub struct Served {
    server: Option<Server>,
    runtime: Runtime,
    /// Brings the zones forward.
    pub editor: Editor,
    /// What is served.
    pub snapshots: Arc<Snapshots>,
}

/// A zone with the SOA and NS that mesos-dns makes from its defaults.
pub fn zone(apex: &str) -> Zone {
    let name = |text: &str| Name::from_text(text).unwrap_or_else(|_| Name::root());
    let soa = Soa {
        mname: name("ns1.mesos"),
        rname: name("root.ns1.mesos"),
        serial: SERIAL,
        refresh: 60,
        retry: 600,
        expire: 86400,
        minimum: 60,
    };
    let mut zone = Zone::new(name(apex), soa, 60, vec![name("ns1.mesos")], 60);
    zone.recursion_available = true;
    zone.unknown_srv_is_nodata = true;
    zone.ignores_stars = true;
    zone.expands_wildcards = false;
    zone
}

/// Reads `owner type data` into a record with a TTL of 60 seconds.
///
/// # Errors
///
/// It is no record of a type that tests use.
pub fn record(line: &str) -> Result<(Name, Rrset)> {
    let mut words = line.split_whitespace();
    let mut word = || {
        words
            .next()
            .with_context(|| format!("a short record: {line}"))
    };
    let owner = Name::from_text(word()?)?;
    let rtype = word()?;
    let data = match rtype {
        "A" => Rdata::A(word()?.parse()?),
        "AAAA" => Rdata::Aaaa(word()?.parse()?),
        "CNAME" => Rdata::Cname(Name::from_text(word()?)?),
        "DNAME" => Rdata::Dname(Name::from_text(word()?)?),
        "NS" => Rdata::Ns(Name::from_text(word()?)?),
        "TXT" => Rdata::Txt(vec![word()?.as_bytes().to_vec()]),
        "SRV" => {
            let mut number = || -> Result<u16> { Ok(word()?.parse()?) };
            let (priority, weight, port) = (number()?, number()?, number()?);
            Rdata::Srv(priority, weight, port, Name::from_text(word()?)?)
        }
        other => anyhow::bail!("type {other} in {line}"),
    };
    Ok((owner, Rrset::new(data.rtype(), 60, vec![data])))
}

impl Plan {
    /// [`Self::mesos`] with `web.mesos` at 10.0.0.1, and with `huge.mesos` at three thousand addresses,
    /// which is nearly all that a message over a stream can hold.
    pub fn with_a_huge_name() -> Self {
        let mut content = vec!["web.mesos A 10.0.0.1".to_owned()];
        for n in 0..3000 {
            content.push(format!("huge.mesos A 10.2.{}.{}", n / 250, n % 250));
        }
        let lines: Vec<&str> = content.iter().map(String::as_str).collect();
        Self::mesos(&lines)
    }

    /// One zone `mesos` with this content, on IPv4 and IPv6 loopback, without forwarding.
    pub fn mesos(content: &[&str]) -> Self {
        let content = content.iter().map(|&line| line.to_owned()).collect();
        Self {
            zones: vec![(zone("mesos"), content)],
            settings: Settings {
                listen: ["127.0.0.1:0", "[::1]:0"]
                    .iter()
                    .filter_map(|text| text.parse().ok())
                    .collect(),
                udp_workers: 2,
                policy: Default::default(),
                terms: Default::default(),
                tcp: TcpLimits::default(),
                encrypted: Vec::new(),
                watch: Arc::default(),
            },
            fast_path: Some(Arc::new(FinishedAnswers)),
            upstreams: None,
            listening: Vec::new(),
        }
    }

    /// Forwards what is not ours.
    #[must_use]
    pub fn forwarding_to(mut self, resolvers: &[SocketAddr]) -> Self {
        self.upstreams = Some(forwarder::Settings {
            resolvers: resolvers.to_vec(),
            zones: Vec::new(),
            timeout: Duration::from_millis(300),
            max_in_flight: 64,
            manner: Default::default(),
            cache: Default::default(),
            clock: Default::default(),
        });
        self
    }

    /// Starts to serve.
    ///
    /// # Errors
    ///
    /// The zones cannot be read or the sockets cannot be had.
    pub fn start(self) -> Result<Served> {
        let zones = self.zones.iter().map(|(zone, _)| zone.clone()).collect();
        let mut editor = Editor::new(SEED, zones, Arc::new(BlobEncoder), SERIAL)?;
        for (zone, content) in &self.zones {
            let content = content.iter().map(|line| record(line));
            editor.replace(&zone.apex, content.collect::<Result<_>>()?)?;
        }
        editor.commit(SERIAL);
        let snapshots = Arc::new(Snapshots::new(Arc::clone(editor.snapshot())));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let forwarder = match self.upstreams {
            Some(settings) => {
                let runtime = runtime.handle().clone();
                Some(Arc::new(Forwarder::new(
                    settings,
                    &self.listening,
                    runtime,
                )?))
            }
            None => None,
        };
        let guard = runtime.enter();
        let server = server::start(
            &self.settings,
            Arc::clone(&snapshots),
            self.fast_path,
            forwarder,
        )?;
        drop(guard);
        Ok(Served {
            server: Some(server),
            runtime,
            editor,
            snapshots,
        })
    }
}

impl Served {
    /// The IPv4 address it listens at.
    pub fn address(&self) -> SocketAddr {
        self.address_of(|ip| ip.is_ipv4())
    }

    /// The IPv6 address it listens at.
    pub fn address_v6(&self) -> SocketAddr {
        self.address_of(|ip| ip.is_ipv6())
    }

    fn address_of(&self, family: impl Fn(IpAddr) -> bool) -> SocketAddr {
        let listening = self.server.as_ref().map(Server::listening);
        listening
            .unwrap_or_default()
            .iter()
            .copied()
            .find(|address| family(address.ip()))
            .unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// What it counted over an encrypted transport.
    pub fn totals_encrypted(&self, protocol: EncryptedProtocol) -> Totals {
        let server = self.server.as_ref();
        server
            .and_then(|one| one.totals_encrypted(protocol))
            .unwrap_or_default()
    }

    /// Asks over IPv4.
    pub fn dig(&self) -> Dig<'static> {
        Dig::at(self.address().ip()).port(self.address().port())
    }

    /// Asks over UDP in raw octets, without EDNS.
    ///
    /// # Errors
    ///
    /// As [`wire::ask`].
    pub fn query(&self, name: &str, rtype: &str) -> Result<Reply> {
        wire::ask(self.address(), &wire::Query::new(7, name, rtype)?)
    }

    /// Has zones transferred by these rules.
    pub fn transfer(&self, access: Access, versions: &Arc<Versions>) {
        let responder = Responder::new(access, Arc::clone(versions), HashMap::new());
        if let Some(server) = &self.server {
            server.set_transfers(Some(Arc::new(responder)));
        }
    }

    /// Commits what the editor was given, and serves it.
    pub fn publish(&mut self) {
        self.editor.commit(SERIAL);
        self.snapshots.store(Arc::clone(self.editor.snapshot()));
    }

    /// What it counted.
    pub fn totals(&self, transport: Transport) -> Totals {
        self.server
            .as_ref()
            .map(|server| server.totals(transport))
            .unwrap_or_default()
    }

    /// What the forwarder did and has.
    pub fn forwarder(&self) -> forwarder::Readout {
        self.server
            .as_ref()
            .and_then(Server::forwarder)
            .unwrap_or_default()
    }

    /// Makes it end in order, and says how long that took.
    pub fn shut_down(&mut self) -> Duration {
        let start = std::time::Instant::now();
        if let Some(server) = self.server.take() {
            self.runtime
                .block_on(server.shut_down(Duration::from_secs(5)));
        }
        start.elapsed()
    }
}
