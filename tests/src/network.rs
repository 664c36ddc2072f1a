//! A small network: hosts in namespaces of their own, all at one switch.

use anyhow::Result;

use crate::netns::{End, Netns, connect};

/// The interface of every host.
pub const INTERFACE: &str = "eth0";

/// A switch with hosts at it. What is asked from [`client`](Self::client) comes from an address of
/// its own in 192.0.2.0/24 (RFC 5737).
#[derive(Debug)]
pub struct Network {
    hosts: usize,
    client: Netns,
}

impl Network {
    /// A switch without hosts; the client is at 192.0.2.254.
    ///
    /// # Errors
    ///
    /// Needs root and iproute2.
    pub fn new() -> Result<Self> {
        let client = Netns::new("switch")?;
        client.ip("link add switch type bridge")?;
        client.ip("address add 192.0.2.254/24 dev switch")?;
        client.ip("link set switch up")?;
        Ok(Self { hosts: 0, client })
    }

    /// Adds a host with this address in 192.0.2.0/24.
    ///
    /// # Errors
    ///
    /// The namespace or its link cannot be made.
    pub fn host(&mut self, name: &str, address: &str) -> Result<Netns> {
        let host = Netns::new(name)?;
        let port = format!("port{}", self.hosts);
        self.hosts += 1;
        connect(
            End {
                namespace: Some(&self.client),
                interface: &port,
                addresses: &[],
            },
            End {
                namespace: Some(&host),
                interface: INTERFACE,
                addresses: &[&format!("{address}/24")],
            },
        )?;
        self.client.ip(&format!("link set {port} master switch"))?;
        Ok(host)
    }

    /// Where questions come from.
    pub fn client(&self) -> &Netns {
        &self.client
    }
}
