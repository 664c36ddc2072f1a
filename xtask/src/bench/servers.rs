//! The competitors, each configured to answer the zone `mesos` from its file, as fast as it can:
//! a worker per processor, minimal responses, no rate limit, no log of queries.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result};

use super::{Bed, INTERFACE, SERVER, zone::Dataset};
use crate::toolchain::find_program;

/// Port of NSD where it stands behind another server.
pub(super) const BACKEND_PORT: u16 = 5_300;

/// A folder of its own for a server's files, empty.
pub(super) fn folder(bed: &Bed, server: &str) -> Result<PathBuf> {
    let folder = bed.folder.join(server);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("emptying {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn program(bed: &Bed, name: &str) -> Result<Command> {
    let path = find_program(name).with_context(|| format!("{name} is not installed"))?;
    Ok(bed.server.command(path))
}

fn processors() -> Result<usize> {
    Ok(thread::available_parallelism()?.get())
}

/// NSD at an address.
pub(super) fn nsd(bed: &Bed, dataset: Dataset, address: &str, port: u16) -> Result<Command> {
    let folder = folder(bed, &format!("nsd-{port}"))?;
    let place = folder.display();
    let zone = dataset.file(&bed.folder);
    let config = format!(
        "server:\n  ip-address: {address}\n  port: {port}\n  server-count: {processors}\n  \
         reuseport: yes\n  minimal-responses: yes\n  rrl-ratelimit: 0\n  \
         username: \"\"\n  chroot: \"\"\n  zonesdir: \"{place}\"\n  database: \"\"\n  \
         pidfile: \"{place}/pid\"\n  xfrdfile: \"{place}/xfrd\"\n  \
         zonelistfile: \"{place}/zones\"\n\
         remote-control:\n  control-enable: no\n\
         zone:\n  name: mesos\n  zonefile: \"{zone}\"\n  provide-xfr: 0.0.0.0/0 NOKEY\n",
        processors = processors()?,
        zone = zone.display(),
    );
    let path = folder.join("nsd.conf");
    write(&path, &config)?;
    let mut command = program(bed, "nsd")?;
    command.args(["-d", "-c"]).arg(path);
    Ok(command)
}

/// Knot DNS on sockets, or on AF_XDP.
pub(super) fn knot(bed: &Bed, dataset: Dataset, xdp: bool) -> Result<Command> {
    let folder = folder(bed, "knot")?;
    let place = folder.display();
    let xdp = match xdp {
        true => format!("xdp:\n    listen: {INTERFACE}\n"),
        false => String::new(),
    };
    let config = format!(
        "server:\n    rundir: \"{place}\"\n    user: root:root\n    listen: {SERVER}@53\n    \
         udp-workers: {processors}\n\
         {xdp}\
         database:\n    storage: \"{place}\"\n\
         zone:\n  - domain: mesos\n    file: \"{zone}\"\n    zonefile-sync: -1\n    \
         journal-content: none\n",
        processors = processors()?,
        zone = dataset.file(&bed.folder).display(),
    );
    let path = folder.join("knot.conf");
    write(&path, &config)?;
    let mut command = program(bed, "knotd")?;
    command.arg("--config").arg(path);
    Ok(command)
}

/// BIND.
pub(super) fn bind(bed: &Bed, dataset: Dataset) -> Result<Command> {
    let folder = folder(bed, "bind")?;
    let place = folder.display();
    let config = format!(
        "options {{\n  directory \"{place}\";\n  pid-file \"{place}/pid\";\n  \
         session-keyfile \"{place}/session.key\";\n  listen-on {{ {SERVER}; }};\n  \
         listen-on-v6 {{ none; }};\n  recursion no;\n  minimal-responses yes;\n  \
         querylog no;\n}};\n\
         controls {{ }};\n\
         zone \"mesos\" {{ type primary; file \"{zone}\"; notify no; }};\n",
        zone = dataset.file(&bed.folder).display(),
    );
    let path = folder.join("named.conf");
    write(&path, &config)?;
    let mut command = program(bed, "named")?;
    command
        .args(["-g", "-n", &processors()?.to_string(), "-c"])
        .arg(path);
    Ok(command)
}

/// Unbound with the zone as its own.
pub(super) fn unbound(bed: &Bed, dataset: Dataset) -> Result<Command> {
    let folder = folder(bed, "unbound")?;
    let place = folder.display();
    let config = format!(
        "server:\n  interface: {SERVER}\n  num-threads: {processors}\n  so-reuseport: yes\n  \
         access-control: 0.0.0.0/0 allow\n  username: \"\"\n  chroot: \"\"\n  \
         directory: \"{place}\"\n  pidfile: \"{place}/pid\"\n  use-syslog: no\n  verbosity: 0\n  \
         module-config: \"iterator\"\n  minimal-responses: yes\n\
         auth-zone:\n  name: mesos\n  zonefile: \"{zone}\"\n  for-downstream: yes\n  \
         for-upstream: no\n",
        processors = processors()?,
        zone = dataset.file(&bed.folder).display(),
    );
    let path = folder.join("unbound.conf");
    write(&path, &config)?;
    let mut command = program(bed, "unbound")?;
    command.args(["-d", "-p", "-c"]).arg(path);
    Ok(command)
}

/// dnsdist with a packet cache; it asks a backend at [`BACKEND_PORT`] of loopback.
pub(super) fn dnsdist(bed: &Bed, dataset: Dataset) -> Result<Command> {
    let folder = folder(bed, "dnsdist")?;
    let mut config =
        format!("setSecurityPollSuffix(\"\")\nsetLocal(\"{SERVER}:53\", {{reusePort=true}})\n");
    for _ in 1..processors()? {
        config.push_str(&format!("addLocal(\"{SERVER}:53\", {{reusePort=true}})\n"));
    }
    config.push_str(&format!(
        "setACL(\"0.0.0.0/0\")\n\
         newServer({{address=\"127.0.0.1:{BACKEND_PORT}\", healthCheckMode=\"up\"}})\n\
         getPool(\"\"):setCache(newPacketCache({entries}, {{numberOfShards=16}}))\n",
        entries = dataset.names() * 2,
    ));
    let path = folder.join("dnsdist.conf");
    write(&path, &config)?;
    let mut command = program(bed, "dnsdist")?;
    command
        .args(["--supervised", "--disable-syslog", "-C"])
        .arg(path);
    Ok(command)
}
