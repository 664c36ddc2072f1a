//! BIND, Knot DNS and NSD on addresses of loopback in a namespace, as what our zones go to or come
//! from. They share one key, and answer transfers to everybody.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{netns::Netns, process::Process};

/// The name of the key.
pub const KEY: &str = "transfer.key";
/// Its secret, for hmac-sha256.
pub const SECRET: &str = "dGhpcnR5LXR3byBvY3RldHMgZm9yIGEgdGVzdCBrZXk=";

/// How long a server may take to start, on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A running server with its files; both go with it.
pub struct Peer {
    /// Where it listens, at port 53.
    pub address: &'static str,
    process: Process,
    folder: PathBuf,
}

/// A zone of a server.
#[derive(Clone, Copy, Debug)]
pub enum Zone<'z> {
    /// Taken from this address, which may also say that it has changed.
    Secondary(&'z str, &'z str),
    /// Its own: name, content, and whom to tell of changes. It takes updates that are signed.
    Primary(&'z str, &'z str, &'z str),
}

impl Zone<'_> {
    const fn name(&self) -> &str {
        match self {
            Self::Secondary(name, _) | Self::Primary(name, ..) => name,
        }
    }
}

fn folder(server: &str) -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("mesos-xdns-{server}-{}-{number}", std::process::id());
    let folder = env::temp_dir().join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn write_zones(folder: &Path, zones: &[Zone<'_>]) -> Result<()> {
    for zone in zones {
        if let Zone::Primary(name, content, _) = zone {
            fs::write(folder.join(format!("{name}.zone")), content)?;
        }
    }
    Ok(())
}

/// Starts BIND. What it keeps is mounted where the package has it, so that its profile of AppArmor
/// holds.
///
/// # Errors
///
/// It does not start; the error carries its log.
pub fn bind(host: &Netns, address: &'static str, zones: &[Zone<'_>]) -> Result<Peer> {
    let folder = folder("bind")?;
    write_zones(&folder, zones)?;
    // Of the addresses of loopback it sees those that the interface lists.
    host.ip(&format!("address add {address}/32 dev lo"))?;
    let mut text = format!(
        "options {{ directory \"/var/cache/bind\"; listen-on {{ {address}; }}; \
         listen-on-v6 {{ none; }}; recursion no; allow-transfer {{ any; }}; notify no; \
         dnssec-validation no; min-refresh-time 1; min-retry-time 1; serial-query-rate 1000; \
         notify-rate 1000; transfer-source {address}; notify-source {address}; }};\n\
         controls {{ }};\n\
         key \"{KEY}\" {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n"
    );
    for zone in zones {
        let name = zone.name();
        text += &match zone {
            Zone::Secondary(_, primary) => format!(
                "zone \"{name}\" {{ type secondary; file \"{name}.zone\"; \
                 primaries {{ {primary} key \"{KEY}\"; }}; allow-notify {{ key \"{KEY}\"; }}; }};\n"
            ),
            Zone::Primary(_, _, told) => format!(
                "zone \"{name}\" {{ type primary; file \"{name}.zone\"; notify explicit; \
                 also-notify {{ {told} key \"{KEY}\"; }}; notify-delay 0; \
                 allow-transfer {{ key \"{KEY}\"; 127.0.0.1; }}; \
                 allow-update {{ key \"{KEY}\"; }}; }};\n"
            ),
        };
    }
    fs::create_dir_all(folder.join("etc"))?;
    fs::write(folder.join("etc/named.conf"), text)?;
    let script = "mount --bind \"$0/etc\" /etc/bind && mount --bind \"$0\" /var/cache/bind \
        && mount -t tmpfs tmpfs /run && mkdir /run/named \
        && exec named -g -n 1 -c /etc/bind/named.conf";
    let mut command = host.command("unshare");
    command.args(["--mount", "--", "sh", "-c", script]);
    command.arg(&folder);
    start("named", &mut command, "all zones loaded", address, folder)
}

/// Starts Knot DNS.
///
/// # Errors
///
/// As for [`bind`].
pub fn knot(host: &Netns, address: &'static str, zones: &[Zone<'_>]) -> Result<Peer> {
    let folder = folder("knot")?;
    write_zones(&folder, zones)?;
    let at = folder.display();
    let mut remotes = String::new();
    let mut list = String::new();
    for (number, zone) in zones.iter().enumerate() {
        let (Zone::Secondary(_, other) | Zone::Primary(_, _, other)) = zone;
        remotes += &format!(
            "  - id: remote{number}\n    address: {other}\n    via: {address}\n    key: {KEY}\n"
        );
        let name = zone.name();
        let role = match zone {
            Zone::Secondary(..) => "master",
            Zone::Primary(..) => "notify",
        };
        list += &format!(
            "  - domain: {name}\n    file: {name}.zone\n    {role}: remote{number}\n    \
             acl: [signed, everybody]\n    zonefile-load: whole\n    notify-delay: 0\n"
        );
    }
    let text = format!(
        "server:\n  listen: {address}\n  rundir: {at}\n  user: root:root\n  udp-workers: 1\n  \
         tcp-workers: 1\n  background-workers: 1\n\
         log:\n  - target: stderr\n    any: info\n\
         database:\n  storage: {at}\n\
         key:\n  - id: {KEY}\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
         remote:\n{remotes}\
         acl:\n  - id: signed\n    key: {KEY}\n    action: [notify, transfer, update]\n  \
         - id: everybody\n    address: 127.0.0.1\n    action: transfer\n\
         template:\n  - id: default\n    storage: {at}\n\
         zone:\n{list}"
    );
    let text = text.replace("    notify-delay: 0\n", "");
    let file = folder.join("knot.conf");
    fs::write(&file, text)?;
    let mut command = host.command("knotd");
    command.arg("-c").arg(file);
    start("knotd", &mut command, "server started", address, folder)
}

/// Starts NSD, as a secondary.
///
/// # Errors
///
/// As for [`bind`].
pub fn nsd(host: &Netns, address: &'static str, zones: &[Zone<'_>]) -> Result<Peer> {
    let folder = folder("nsd")?;
    write_zones(&folder, zones)?;
    let at = folder.display();
    let mut text = format!(
        "server:\n  ip-address: {address}\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{at}\"\n  database: \"\"\n  \
         pidfile: \"{at}/nsd.pid\"\n  xfrdfile: \"{at}/xfrd\"\n  xfrdir: \"{at}\"\n  \
         zonelistfile: \"{at}/zones\"\n  server-count: 1\n  verbosity: 2\n  \
         xfrd-reload-timeout: 0\n\
         remote-control:\n  control-enable: no\n\
         key:\n  name: {KEY}\n  algorithm: hmac-sha256\n  secret: \"{SECRET}\"\n"
    );
    for zone in zones {
        if let Zone::Secondary(name, primary) = zone {
            text += &format!(
                "zone:\n  name: {name}\n  zonefile: {name}.zone\n  request-xfr: {primary} {KEY}\n  \
                 allow-notify: {primary} {KEY}\n  outgoing-interface: {address}\n  \
                 provide-xfr: 127.0.0.1 NOKEY\n"
            );
        }
    }
    let file = folder.join("nsd.conf");
    fs::write(&file, text)?;
    let mut command = host.command("nsd");
    command.arg("-d").arg("-c").arg(file);
    start("nsd", &mut command, "nsd started", address, folder)
}

fn start(
    name: &str,
    command: &mut Command,
    ready: &str,
    address: &'static str,
    folder: PathBuf,
) -> Result<Peer> {
    let mut process = Process::start(name, command)?;
    process.wait_for(ready, START)?;
    Ok(Peer {
        address,
        process,
        folder,
    })
}

impl Peer {
    /// What it has logged.
    pub fn log(&self) -> Vec<String> {
        self.process.output()
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// It cannot be ended.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop().map(drop)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The option that has dig, kdig and nsupdate sign.
pub fn signed() -> [String; 2] {
    ["-y".to_owned(), format!("hmac-sha256:{KEY}:{SECRET}")]
}

/// The records of a zone as a server transfers it, sorted; the SOA once. Names are in lower case.
///
/// # Errors
///
/// The transfer is refused or breaks off; the error carries what dig said.
pub fn transferred(
    host: &Netns,
    server: &str,
    zone: &str,
    options: &[String],
) -> Result<Vec<String>> {
    let mut command = host.command("dig");
    command.args(["-r", &format!("@{server}"), "+time=5", "+tries=1"]);
    command.args([
        "+noall",
        "+answer",
        "+nocomments",
        "+onesoa",
        "+noidnout",
        "+unknownformat",
    ]);
    command.args(options).args(["-q", zone, "-t", "AXFR"]);
    let output = command.output().context("running dig")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let is_record = |line: &&str| !line.is_empty() && !line.starts_with(';');
    let mut lines: Vec<String> = text
        .lines()
        .filter(is_record)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.contains(" ANY TSIG "))
        .collect();
    ensure!(
        !text.contains("failed") && !lines.is_empty(),
        "dig @{server} {zone} AXFR:\n{text}"
    );
    lines.sort();
    Ok(lines)
}

/// Has a primary change a zone, by commands of nsupdate such as `update add`.
///
/// # Errors
///
/// It refuses; the error carries what nsupdate said.
pub fn update(host: &Netns, server: &str, zone: &str, commands: &str) -> Result<()> {
    let text = format!("server {server}\nzone {zone}\n{commands}\nsend\n");
    let file = folder("update")?;
    fs::write(file.join("commands"), text)?;
    let mut command = host.command("nsupdate");
    command.args(signed()).arg(file.join("commands"));
    let output = command.output().context("running nsupdate")?;
    fs::remove_dir_all(file)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nsupdate: {said}");
    Ok(())
}
