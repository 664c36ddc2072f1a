//! What a master writes about itself into its ZooKeeper node: a MasterInfo, as JSON since Mesos
//! 0.24, as protobuf before.

use serde::Deserialize;

use super::master::MasterAddress;

/// The port of a master that names none (default of the field in Mesos's protocol).
const DEFAULT_PORT: u16 = 5050;

/// Why a node's content gives no address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MasterInfoError {
    #[error("not a JSON MasterInfo: {0}")]
    Json(String),
    #[error("not a protobuf MasterInfo: {0}")]
    Protobuf(&'static str),
    #[error("a MasterInfo without an address")]
    NoAddress,
    #[error("a MasterInfo with port {0}")]
    Port(i64),
}

/// The fields that say where the master listens.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MasterInfo {
    /// IPv4 address: the four octets in memory order of the machine that wrote it.
    ip: Option<u32>,
    port: Option<i64>,
    address: Option<Address>,
    hostname: Option<String>,
}

/// Present since Mesos 0.24; the only place for an IPv6 address.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Address {
    hostname: Option<String>,
    ip: Option<String>,
    port: Option<i64>,
}

/// Reads the address from a `json.info_…` node.
pub(super) fn from_json(bytes: &[u8]) -> Result<MasterAddress, MasterInfoError> {
    let info: MasterInfo =
        serde_json::from_slice(bytes).map_err(|error| MasterInfoError::Json(error.to_string()))?;
    info.master_address()
}

/// Reads the address from an `info_…` node.
pub(super) fn from_protobuf(bytes: &[u8]) -> Result<MasterAddress, MasterInfoError> {
    let mut info = MasterInfo::default();
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (2, Value::Integer(ip)) => info.ip = u32::try_from(ip).ok(),
            (3, Value::Integer(port)) => info.port = i64::try_from(port).ok(),
            (5, Value::Octets(name)) => {
                info.hostname = Some(String::from_utf8_lossy(name).into_owned())
            }
            (7, Value::Octets(bytes)) => info.address = Some(address_from_protobuf(bytes)?),
            _ => {}
        }
    }
    info.master_address()
}

fn address_from_protobuf(bytes: &[u8]) -> Result<Address, MasterInfoError> {
    let mut address = Address::default();
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Octets(name)) => {
                address.hostname = Some(String::from_utf8_lossy(name).into_owned())
            }
            (2, Value::Octets(ip)) => address.ip = Some(String::from_utf8_lossy(ip).into_owned()),
            (3, Value::Integer(port)) => address.port = i64::try_from(port).ok(),
            _ => {}
        }
    }
    Ok(address)
}

impl MasterInfo {
    /// `address.ip` and `address.port` if there, else `ip` and `port`; a host name only when
    /// there is no IP address at all.
    fn master_address(self) -> Result<MasterAddress, MasterInfoError> {
        let address = self.address.unwrap_or_default();
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        let port = |port: Option<i64>| {
            let port = port.unwrap_or(i64::from(DEFAULT_PORT));
            u16::try_from(port)
                .ok()
                .filter(|&p| p != 0)
                .ok_or(MasterInfoError::Port(port))
        };
        if let Some(ip) = some(address.ip) {
            return Ok(MasterAddress::new(ip, port(address.port.or(self.port))?));
        }
        if let Some(ip) = self.ip {
            let ip = std::net::Ipv4Addr::from(ip.to_ne_bytes());
            return Ok(MasterAddress::new(ip.to_string(), port(self.port)?));
        }
        let name = some(address.hostname)
            .or(some(self.hostname))
            .ok_or(MasterInfoError::NoAddress)?;
        Ok(MasterAddress::new(name, port(address.port.or(self.port))?))
    }
}

/// The fields of one protobuf message, in order.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Integer(u64),
    Octets(&'a [u8]),
    Skipped,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, MasterInfoError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Integer(self.varint()?),
            1 => self.take(8).map(|_| Value::Skipped)?,
            2 => {
                let length = self.varint()?;
                let length =
                    usize::try_from(length).map_err(|_| MasterInfoError::Protobuf("length"))?;
                Value::Octets(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Skipped)?,
            _ => return Err(MasterInfoError::Protobuf("unknown wire type")),
        };
        Ok(Some((key >> 3, value)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], MasterInfoError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(MasterInfoError::Protobuf("cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// At most ten octets, seven bits each, the lowest first.
    fn varint(&mut self) -> Result<u64, MasterInfoError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&octet, rest) = self
                .0
                .split_first()
                .ok_or(MasterInfoError::Protobuf("cut short"))?;
            self.0 = rest;
            value |= u64::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(MasterInfoError::Protobuf("number too long"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The octets of 127.0.0.1 as Mesos stores them: network order read as a native integer.
    fn loopback() -> u32 {
        u32::from_ne_bytes([127, 0, 0, 1])
    }

    /// id "m", ip 127.0.0.1, port 5051 (0xbb 0x27), pid, hostname: written out by the encoding
    /// rules of protobuf, without our decoder.
    fn mesos_0_23() -> Vec<u8> {
        let mut bytes = vec![0x0a, 1, b'm', 0x10];
        let mut ip = loopback();
        while ip >= 0x80 {
            bytes.push((ip & 0x7f) as u8 | 0x80);
            ip >>= 7;
        }
        bytes.push(ip as u8);
        bytes.extend([0x18, 0xbb, 0x27, 0x22, 1, b'p', 0x2a, 1, b'h']);
        bytes
    }

    #[test]
    fn protobuf_without_address_uses_the_packed_ip() {
        assert_eq!(
            from_protobuf(&mesos_0_23()),
            Ok(MasterAddress::new("127.0.0.1", 5051))
        );
    }

    #[test]
    fn protobuf_address_wins_over_the_packed_ip() {
        let mut bytes = mesos_0_23();
        bytes.extend([0x3a, 8, 0x12, 3, b':', b':', b'1', 0x18, 0xba, 0x27]);
        assert_eq!(from_protobuf(&bytes), Ok(MasterAddress::new("::1", 5050)));
    }

    #[test]
    fn json_address_wins_and_port_defaults_to_5050() {
        let json = format!(
            r#"{{"ip":{},"port":1,"address":{{"ip":"10.0.0.9","port":5051}}}}"#,
            loopback()
        );
        assert_eq!(
            from_json(json.as_bytes()),
            Ok(MasterAddress::new("10.0.0.9", 5051))
        );
        let json = format!(r#"{{"id":"x","ip":{},"hostname":"h"}}"#, loopback());
        assert_eq!(
            from_json(json.as_bytes()),
            Ok(MasterAddress::new("127.0.0.1", 5050))
        );
        assert_eq!(from_json(br#"{"id":"x"}"#), Err(MasterInfoError::NoAddress));
        assert_eq!(
            from_json(br#"{"ip":1,"port":70000}"#),
            Err(MasterInfoError::Port(70000))
        );
    }

    #[test]
    fn every_cut_of_a_protobuf_message_is_an_error_or_an_address() {
        let mut bytes = mesos_0_23();
        bytes.extend([0x3a, 8, 0x12, 3, b':', b':', b'1', 0x18, 0xba, 0x27]);
        for end in 0..bytes.len() {
            let _ = from_protobuf(&bytes[..end]);
        }
        assert_eq!(
            from_protobuf(&[0x80; 11]),
            Err(MasterInfoError::Protobuf("number too long"))
        );
        assert_eq!(
            from_protobuf(&[0x0b]),
            Err(MasterInfoError::Protobuf("unknown wire type"))
        );
    }
}
