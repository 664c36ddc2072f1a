//! Which ZooKeeper and which directory in it: the `Zk` key of the configuration.

use std::fmt;
use std::str::FromStr;

/// The port of a server that names none.
const DEFAULT_PORT: u16 = 2181;

/// `zk://host:port,host:port/path`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZooKeeperTarget {
    /// The ensemble; never empty. IPv6 without brackets.
    pub servers: Vec<(String, u16)>,
    /// The directory the masters register in: absolute, without a slash at the end.
    pub path: String,
}

/// A text that is no ZooKeeper URL. The text is not shown, as it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the form zk://host:port,host:port/path: {0}")]
pub struct TargetError(String);

impl FromStr for ZooKeeperTarget {
    type Err = TargetError;

    /// Reads a `zk://[user:password@]host[:port],…/path` URL. User and password are ignored, as
    /// in mesos-dns; a slash at the end of the path too, which mesos-dns stumbles over.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let error = |what: &str| TargetError(what.to_owned());
        let rest = text
            .trim()
            .strip_prefix("zk://")
            .ok_or_else(|| error("zk:// is missing"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts = authority
            .rsplit_once('@')
            .map_or(authority, |(_, hosts)| hosts);
        let servers = hosts
            .split(',')
            .map(|host| {
                server(host.trim()).ok_or_else(|| TargetError(format!("bad server \"{host}\"")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let path = path.trim_matches('/');
        let bad_part =
            |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
        if !path.is_empty() && path.split('/').any(bad_part) {
            return Err(error("empty or relative part in the path"));
        }
        Ok(Self {
            servers,
            path: format!("/{path}"),
        })
    }
}

fn server(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (
                host,
                if port.is_empty() {
                    None
                } else {
                    Some(port.strip_prefix(':')?)
                },
            )
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|&port| port != 0)?,
        None => DEFAULT_PORT,
    };
    (!host.is_empty() && !host.contains(char::is_whitespace)).then(|| (host.to_owned(), port))
}

impl ZooKeeperTarget {
    /// Reads the `Zk` key: a URL as [`from_str`](Self::from_str) takes it, or `file:///path` of a
    /// file that holds one.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or the text is no such URL.
    pub fn load(text: &str) -> Result<Self, TargetError> {
        match text.trim().strip_prefix("file://") {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| TargetError(format!("{path}: {error}")))?
                .parse(),
            None => text.parse(),
        }
    }

    /// The full path of a node in the directory.
    pub(super) fn child(&self, name: &str) -> String {
        format!("{}/{name}", self.path.trim_end_matches('/'))
    }
}

impl fmt::Display for ZooKeeperTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("zk://")?;
        for (index, (host, port)) in self.servers.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if host.contains(':') {
                write!(f, "{comma}[{host}]:{port}")?;
            } else {
                write!(f, "{comma}{host}:{port}")?;
            }
        }
        f.write_str(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        text.parse::<ZooKeeperTarget>().unwrap().to_string()
    }

    #[test]
    fn slash_at_the_end_and_user_are_dropped_and_the_port_defaults() {
        assert_eq!(
            normal("zk://a:1,b,[::1]:3,[::1]/mesos/"),
            "zk://a:1,b:2181,[::1]:3,[::1]:2181/mesos"
        );
        assert_eq!(normal("zk://user:p@ss@a/x"), "zk://a:2181/x");
    }

    #[test]
    fn root_is_a_directory_too() {
        for text in ["zk://a", "zk://a/", "zk://a//"] {
            assert_eq!(normal(text), "zk://a:2181/");
        }
        assert_eq!(text_child("zk://a", "n"), "/n");
        assert_eq!(text_child("zk://a/m/", "n"), "/m/n");
    }

    fn text_child(text: &str, name: &str) -> String {
        text.parse::<ZooKeeperTarget>().unwrap().child(name)
    }

    #[test]
    fn malformed_urls_are_refused_without_showing_the_password() {
        for text in [
            "",
            "a:1/m",
            "zk://",
            "zk://a:0/m",
            "zk://a:x/m",
            "zk://a,,b/m",
            "zk://a/m//n",
            "zk://a/../m",
        ] {
            assert!(text.parse::<ZooKeeperTarget>().is_err(), "{text}");
        }
        let error = "zk://user:hunter2@a:x/m"
            .parse::<ZooKeeperTarget>()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("a:x") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
