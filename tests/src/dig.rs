//! A real client: runs `dig` and reads what it prints.

use std::{fmt, process::Command};

use anyhow::{Context, Result, bail, ensure};

use crate::netns::Netns;

/// How to ask: where, from which namespace, with which options.
#[derive(Clone, Debug)]
pub struct Dig<'a> {
    server: String,
    port: u16,
    namespace: Option<&'a Netns>,
    options: Vec<String>,
}

/// What `dig` printed, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The response code as dig names it, such as `NXDOMAIN`.
    pub status: String,
    /// Header flags in dig's order, such as `qr aa rd`.
    pub flags: Vec<String>,
    /// The EDNS line without its semicolon, if the response has an OPT record.
    pub edns: Option<String>,
    /// EDNS options as dig shows them, such as `NSID: 6e73 ("ns")`.
    pub edns_options: Vec<String>,
    /// The question as it came back, in its letter case.
    pub question: Option<(String, String)>,
    /// The answer section.
    pub answer: Vec<Record>,
    /// The authority section.
    pub authority: Vec<Record>,
    /// The additional section without OPT.
    pub additional: Vec<Record>,
    /// The size of the message in octets.
    pub octets: usize,
}

/// One resource record as dig prints it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Owner name with its trailing dot.
    pub name: String,
    /// TTL in seconds.
    pub ttl: u32,
    /// Type, such as `AAAA`.
    pub rtype: String,
    /// RDATA in presentation format.
    pub data: String,
}

impl<'a> Dig<'a> {
    /// Will ask this address at port 53, once, for at most two seconds.
    pub fn at(server: impl fmt::Display) -> Self {
        Self {
            server: server.to_string(),
            port: 53,
            namespace: None,
            options: Vec::new(),
        }
    }

    /// Asks another port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Asks from within a namespace.
    #[must_use]
    pub fn from(mut self, namespace: &'a Netns) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// Adds an option, such as `+noedns`.
    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// Asks for one name and type.
    ///
    /// # Errors
    ///
    /// No response, or one that dig complains about.
    pub fn ask(&self, name: &str, rtype: &str) -> Result<Response> {
        let mut command = match self.namespace {
            Some(namespace) => namespace.command("dig"),
            None => Command::new("dig"),
        };
        let output = command
            // A .digrc of the user must not change the question.
            .arg("-r")
            .arg(format!("@{}", self.server))
            .args([
                "-p",
                &self.port.to_string(),
                "+time=2",
                "+tries=1",
                "+nocookie",
            ])
            .args(&self.options)
            .args(["-q", name, "-t", rtype])
            .output()
            .context("running dig, of the package bind9-dnsutils")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "dig @{} {name} {rtype}: {}\n{text}",
            self.server,
            output.status
        );
        if let Some(warning) = text.lines().find(|line| line.contains("Warning:")) {
            bail!("dig @{} {name} {rtype} says {warning}\n{text}", self.server);
        }
        Response::parse(&text).with_context(|| format!("reading dig's output:\n{text}"))
    }
}

impl Response {
    /// Reads dig's default output.
    ///
    /// # Errors
    ///
    /// A line that should be a record is not one, or there is no header.
    pub fn parse(text: &str) -> Result<Self> {
        let mut response = Self::default();
        let mut section = "";
        for line in text.lines() {
            if let Some(header) = line.strip_prefix(";; ->>HEADER<<-") {
                response.status = after(header, "status: ").unwrap_or_default().to_owned();
            } else if let Some(flags) = line.strip_prefix(";; flags:") {
                let flags = flags.split(';').next().unwrap_or_default();
                response.flags = flags.split_whitespace().map(str::to_owned).collect();
            } else if let Some(edns) = line.strip_prefix("; EDNS: ") {
                response.edns = Some(edns.to_owned());
            } else if let ("OPT PSEUDOSECTION:", Some(option)) = (section, line.strip_prefix("; "))
            {
                response.edns_options.push(option.to_owned());
            } else if let Some(size) = line.strip_prefix(";; MSG SIZE  rcvd: ") {
                response.octets = size.trim().parse().context("message size")?;
            } else if line == ";; OPT PSEUDOSECTION:" {
                section = "OPT PSEUDOSECTION:";
            } else if let Some(name) = line.strip_suffix(" SECTION:") {
                section = name.trim_start_matches([';', ' ']);
            } else if line.is_empty() {
                section = "";
            } else if let ("QUESTION", Some(question)) = (section, line.strip_prefix(';')) {
                let mut words = question.split_whitespace();
                let name = words.next().context("a question without a name")?;
                let rtype = words.next_back().context("a question without a type")?;
                response.question = Some((name.to_owned(), rtype.to_owned()));
            } else if !line.starts_with(';') {
                match section {
                    "ANSWER" => response.answer.push(Record::parse(line)?),
                    "AUTHORITY" => response.authority.push(Record::parse(line)?),
                    "ADDITIONAL" => response.additional.push(Record::parse(line)?),
                    _ => {}
                }
            }
        }
        ensure!(!response.status.is_empty(), "no header");
        Ok(response)
    }

    /// The RDATA of the answer section's records of one type, in the order received.
    pub fn data(&self, rtype: &str) -> Vec<&str> {
        self.answer
            .iter()
            .filter(|record| record.rtype == rtype)
            .map(|record| record.data.as_str())
            .collect()
    }

    /// Whether a header flag is set.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|set| set == flag)
    }
}

impl Record {
    fn parse(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let mut next = || {
            words
                .next()
                .with_context(|| format!("a short record: {line}"))
        };
        let name = next()?.to_owned();
        let ttl = next()?.parse().with_context(|| format!("TTL of {line}"))?;
        let class = next()?;
        ensure!(["IN", "CH"].contains(&class), "class {class} in {line}");
        let rtype = next()?.to_owned();
        let data = words.collect::<Vec<_>>().join(" ");
        Ok(Self {
            name,
            ttl,
            rtype,
            data,
        })
    }
}

/// The word that follows a marker, without its comma.
fn after<'t>(text: &'t str, marker: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(marker)?;
    rest.split([',', ' ']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Output of dig 9.18 from NSD 4.6 for a name with two addresses.
    const TWO_ADDRESSES: &str = "\
; <<>> DiG 9.18.49 <<>> @127.0.0.1 -q Web.marathon.mesos -t A
;; global options: +cmd
;; Got answer:
;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 53391
;; flags: qr aa rd; QUERY: 1, ANSWER: 2, AUTHORITY: 1, ADDITIONAL: 1

;; OPT PSEUDOSECTION:
; EDNS: version: 0, flags:; udp: 1232
;; QUESTION SECTION:
;Web.marathon.mesos.\t\tIN\tA

;; ANSWER SECTION:
web.marathon.mesos.\t60\tIN\tA\t10.0.0.1
web.marathon.mesos.\t60\tIN\tA\t10.0.0.2

;; AUTHORITY SECTION:
mesos.\t60\tIN\tSOA\tns1.mesos. root.ns1.mesos. 1 60 600 86400 60

;; Query time: 0 msec
;; SERVER: 127.0.0.1#53(127.0.0.1) (UDP)
;; MSG SIZE  rcvd: 103
";

    #[test]
    fn every_part_of_the_output_is_read() {
        let response = Response::parse(TWO_ADDRESSES).unwrap();
        assert_eq!(response.status, "NOERROR");
        assert_eq!(response.flags, ["qr", "aa", "rd"]);
        assert_eq!(
            response.edns.as_deref(),
            Some("version: 0, flags:; udp: 1232")
        );
        let question = ("Web.marathon.mesos.".to_owned(), "A".to_owned());
        assert_eq!(response.question, Some(question));
        assert_eq!(response.data("A"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(
            response.authority[0].data,
            "ns1.mesos. root.ns1.mesos. 1 60 600 86400 60"
        );
        assert_eq!(response.additional, []);
        assert_eq!(response.octets, 103);
    }

    #[test]
    fn output_without_a_header_is_an_error() {
        assert!(Response::parse(";; connection timed out; no servers could be reached\n").is_err());
    }
}
