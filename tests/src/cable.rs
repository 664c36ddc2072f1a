//! The test bed of most end-to-end tests: a client and a server, each in a namespace of its own.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    netns::{self, End, Netns},
    xdp::{self, Attached},
};

/// The interface of the server's end, inside [`Cable::server`].
pub const INTERFACE: &str = "server";

/// The client's addresses.
pub const CLIENT: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

/// The server's addresses.
pub const SERVER: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

/// Two namespaces and a veth pair, whose client end lets XDP_TX of the server's end arrive.
#[derive(Debug)]
pub struct Cable {
    pass: Option<Attached>,
    /// Where the client runs.
    pub client: Netns,
    /// Where the server runs, behind [`INTERFACE`].
    pub server: Netns,
}

impl Cable {
    /// Lays a cable between two namespaces of their own.
    ///
    /// # Errors
    ///
    /// Needs root and iproute2.
    pub fn new() -> Result<Self> {
        let client = Netns::new("client")?;
        let server = Netns::new("server")?;
        let pass = lay(&client, &server)?;
        Ok(Self {
            pass: Some(pass),
            client,
            server,
        })
    }

    /// The hardware addresses of client and server.
    ///
    /// # Errors
    ///
    /// `ip` does not tell them.
    pub fn macs(&self) -> Result<[[u8; 6]; 2]> {
        Ok([mac(&self.client)?, mac(&self.server)?])
    }

    /// Takes the client's XDP program away, for a client that attaches one of its own.
    pub fn make_room_for_a_program(&mut self) {
        self.pass = None;
    }

    /// Lays another cable in the place of one that was taken away. Ends with what this gives.
    ///
    /// # Errors
    ///
    /// As for [`Self::new`].
    pub fn lay_again(&self) -> Result<Attached> {
        lay(&self.client, &self.server)
    }
}

fn lay(client: &Netns, server: &Netns) -> Result<Attached> {
    netns::connect(
        End {
            namespace: Some(client),
            interface: "client",
            addresses: &["192.0.2.1/24", "2001:db8::1/64"],
        },
        End {
            namespace: Some(server),
            interface: INTERFACE,
            addresses: &["192.0.2.2/24", "2001:db8::2/64"],
        },
    )?;
    client.enter(|| xdp::pass().attach("client"))
}

/// The hardware address of a namespace's only Ethernet interface.
fn mac(end: &Netns) -> Result<[u8; 6]> {
    let interfaces: Vec<Value> = serde_json::from_str(&end.ip("-json link")?)?;
    let cable = interfaces.iter().find(|one| one["link_type"] == "ether");
    let text = cable.and_then(|one| one["address"].as_str());
    let octets: Vec<u8> = text
        .context("no Ethernet interface")?
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16))
        .collect::<Result<_, _>>()?;
    octets.as_slice().try_into().context("no hardware address")
}
