//! The command line of mesos-dns: what it is called with today starts the daemon.
//!
//! Read as Go's `flag` package reads it: one dash or two, `-flag value` or `-flag=value`, the end
//! at the first word that is no flag.

use std::path::PathBuf;

use super::run::{self, LogFormat};

/// The name under which every command line is one of mesos-dns.
const NAME: &str = "mesos-dns";

const USAGE: &str = "Usage of mesos-dns:
  -config string
    \tpath to config file (json) (default \"config.json\")
  -v int
    \tverbosity level: 0, 1, or 2
  -version
    \toutput the version
  -logtostderr, -alsologtostderr, -stderrthreshold, -vmodule, -log_dir, -log_backtrace_at
    \taccepted for compatibility; the log goes to stderr, see RUST_LOG
";

/// Flags of the original's log library that take a value; they steer nothing here.
const IGNORED: [&str; 4] = ["stderrthreshold", "vmodule", "log_dir", "log_backtrace_at"];
/// The same without a value.
const IGNORED_SWITCHES: [&str; 2] = ["logtostderr", "alsologtostderr"];

/// What such a command line asks for.
#[derive(Debug)]
pub enum Request {
    /// The daemon.
    Run(run::Arguments),
    /// The version.
    Version,
    /// The usage, as help.
    Help,
    /// The usage, for this mistake.
    Mistake(String),
}

impl Request {
    /// Does it. Gives the exit status.
    ///
    /// # Errors
    /// What kept the daemon from serving.
    pub fn run(self) -> anyhow::Result<u8> {
        match self {
            Self::Run(arguments) => run::run(&arguments),
            Self::Version => {
                println!("{}", env!("CARGO_PKG_VERSION"));
                Ok(0)
            }
            Self::Help => {
                eprint!("{USAGE}");
                Ok(0)
            }
            Self::Mistake(mistake) => {
                eprint!("{mistake}\n{USAGE}");
                Ok(2)
            }
        }
    }
}

/// Reads a command line, program name first. `None` if it is not one of mesos-dns: it is when the
/// program is called by that name, and when it begins with a flag that has one dash.
#[must_use]
pub fn parse(words: &[String]) -> Option<Request> {
    let (program, words) = words.split_first()?;
    let is_named = program.ends_with(NAME);
    let has_one_dash = words.first().is_some_and(|word| {
        word.starts_with('-') && !word.starts_with("--") && !["-", "-h", "-V"].contains(&&**word)
    });
    (is_named || has_one_dash).then(|| read(words).unwrap_or_else(Request::Mistake))
}

fn read(words: &[String]) -> Result<Request, String> {
    let mut arguments = run::Arguments {
        config: PathBuf::from("config.json"),
        interfaces: Vec::new(),
        xdp_mode: None,
        xdp_trace: false,
        log_format: LogFormat::Text,
        verbosity: 0,
    };
    let mut version = false;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            break;
        };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        if flag.is_empty() {
            break;
        }
        if flag.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: {word}"));
        }
        let (name, attached) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        let mut value = || {
            let next = attached.or_else(|| words.next().map(String::as_str));
            next.ok_or_else(|| format!("flag needs an argument: -{name}"))
        };
        match name {
            "config" => arguments.config = PathBuf::from(value()?),
            "v" => {
                let text = value()?;
                let level = text.parse::<i64>();
                let level = level
                    .map_err(|_| format!("invalid value {text:?} for flag -v: parse error"))?;
                arguments.verbosity = u8::try_from(level.clamp(0, 2)).unwrap_or_default();
            }
            "version" => version = switch(name, attached)?,
            "help" | "h" => return Ok(Request::Help),
            name if IGNORED.contains(&name) => drop(value()?),
            name if IGNORED_SWITCHES.contains(&name) => {
                switch(name, attached)?;
            }
            name => return Err(format!("flag provided but not defined: -{name}")),
        }
    }
    Ok(if version {
        Request::Version
    } else {
        Request::Run(arguments)
    })
}

fn switch(name: &str, value: Option<&str>) -> Result<bool, String> {
    match value.unwrap_or("true") {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        value => Err(format!(
            "invalid boolean value {value:?} for -{name}: parse error"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Option<Request> {
        parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    fn run(line: &str) -> (String, u8) {
        match request(line) {
            Some(Request::Run(arguments)) => {
                (arguments.config.display().to_string(), arguments.verbosity)
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn flags_have_one_dash_or_two_and_their_value_in_two_ways() {
        for line in [
            "/usr/bin/mesos-dns -config=/c.json -v=1",
            "mesos-dns -config /c.json -v 1",
            "mesos-dns --config /c.json --v=1",
            "mesos-xdns -v=1 -logtostderr -config=/c.json",
            "mesos-xdns -stderrthreshold INFO -alsologtostderr=false -v 1 -config /c.json",
            "mesos-dns -v=1 -config=/c.json run -unknown",
            "mesos-dns -v=1 -config=/c.json -- -unknown",
        ] {
            assert_eq!(run(line), ("/c.json".to_owned(), 1), "{line}");
        }
        assert_eq!(run("mesos-dns"), ("config.json".to_owned(), 0));
        assert_eq!(run("mesos-dns -v=9").1, 2);
    }

    #[test]
    fn other_command_lines_are_left_alone() {
        for line in [
            "mesos-xdns",
            "mesos-xdns run",
            "mesos-xdns --version",
            "mesos-xdns -V",
            "mesos-xdns -h",
        ] {
            assert!(request(line).is_none(), "{line}");
        }
    }

    #[test]
    fn version_and_help_are_asked_for_by_flags() {
        assert!(matches!(
            request("mesos-xdns -version"),
            Some(Request::Version)
        ));
        assert!(matches!(
            request("mesos-dns --version"),
            Some(Request::Version)
        ));
        assert!(matches!(
            request("mesos-dns -version=false"),
            Some(Request::Run(_))
        ));
        assert!(matches!(request("mesos-xdns -help"), Some(Request::Help)));
        assert!(matches!(request("mesos-dns -h"), Some(Request::Help)));
    }

    /// The words of Go's `flag` package.
    #[test]
    fn mistakes_are_named() {
        for (line, expected) in [
            ("mesos-dns -frob", "flag provided but not defined: -frob"),
            ("mesos-dns -config", "flag needs an argument: -config"),
            (
                "mesos-dns -v=x",
                "invalid value \"x\" for flag -v: parse error",
            ),
            ("mesos-dns ---v", "bad flag syntax: ---v"),
            (
                "mesos-dns -version=x",
                "invalid boolean value \"x\" for -version: parse error",
            ),
        ] {
            match request(line) {
                Some(Request::Mistake(mistake)) => assert_eq!(mistake, expected),
                other => panic!("{line}: {other:?}"),
            }
        }
    }
}
