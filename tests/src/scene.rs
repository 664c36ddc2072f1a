//! A whole scene for an end-to-end test: the daemon at one end of a [`Cable`], following a fake
//! master beside it, and its own account of what it did.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result, bail, ensure};
use dns_userspace::daemon::Status;
use serde_json::{Value, json};

use crate::{
    cable::{self, Cable},
    daemon,
    fake_master::FakeMaster,
    netns::Netns,
    process::Process,
};

/// How long anything that must happen may take: the machine may be busy with other tests.
const LIMIT: Duration = Duration::from_secs(30);

/// Returns from the test, loudly, unless a [`Scene`] with XDP can be made and asked.
#[macro_export]
macro_rules! needs_scene {
    () => {
        $crate::needs_root!();
        $crate::needs_tool!("ip", "nsenter", "dig");
        $crate::needs_daemon!();
        $crate::needs!(
            dns_userspace::dataplane::object().is_some(),
            "this build has no XDP program"
        );
    };
}

/// What the daemon is to be started with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The configuration, in mesos-dns's format.
    pub config: Value,
    /// Interfaces on the command line.
    pub interfaces: Vec<String>,
    /// Further arguments of the command line.
    pub arguments: Vec<String>,
    /// What runs the daemon in place of the shell, such as `setpriv` with its arguments.
    pub wrapper: Vec<String>,
}

/// A running daemon with its files; both go with this value.
pub struct Daemon {
    process: Process,
    folder: PathBuf,
    pins: PathBuf,
    namespace: PathBuf,
    plan: Plan,
}

impl Plan {
    /// Follows these masters every second and answers at [`cable::INTERFACE`] in the driver.
    pub fn following(masters: &[SocketAddr]) -> Self {
        let masters: Vec<String> = masters.iter().map(ToString::to_string).collect();
        Self {
            config: json!({
                "masters": masters,
                "refreshSeconds": 1,
                "stateTimeoutSeconds": 1,
                "externalOn": false,
                "httpListener": "127.0.0.1",
                "xdp": { "mode": "native", "max_names": 4096, "on_exit": "detach" },
            }),
            interfaces: vec![cable::INTERFACE.to_owned()],
            arguments: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    /// Starts the daemon in a namespace and waits until it serves.
    ///
    /// # Errors
    ///
    /// It ends, or does not come up in time.
    pub fn start(self, namespace: &Netns) -> Result<Daemon> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mesos-xdns-test-{}-{number}", std::process::id());
        let pins = Path::new("/sys/fs/bpf").join(&name);
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder)?;
        let mut plan = self;
        if let Some(xdp) = plan.config.get_mut("xdp").and_then(Value::as_object_mut) {
            xdp.entry("pin_path")
                .or_insert_with(|| pins.display().to_string().into());
        }
        fs::write(folder.join("config.json"), plan.config.to_string())?;
        let process = launch(&plan, &namespace.path(), &folder)?;
        let mut daemon = Daemon {
            process,
            folder,
            pins,
            namespace: namespace.path(),
            plan,
        };
        daemon.said(" ready")?;
        Ok(daemon)
    }
}

fn inside(namespace: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.display()));
    command.arg("--");
    command
}

fn launch(plan: &Plan, namespace: &Path, folder: &Path) -> Result<Process> {
    let mut command = inside(namespace);
    command
        .args(&plan.wrapper)
        .arg(daemon::binary().map_err(Error::msg)?);
    command.args(["run", "--config"]);
    command.arg(folder.join("config.json"));
    for interface in &plan.interfaces {
        command.args(["--interface", interface]);
    }
    command.args(&plan.arguments);
    // What is logged must not depend on who runs the test.
    command.env_remove("RUST_LOG");
    Process::start("the daemon", &mut command)
}

impl Daemon {
    /// What `mesos-xdns status --json` prints.
    ///
    /// # Errors
    ///
    /// It fails, or prints something else.
    pub fn status(&self) -> Result<Status> {
        let text = self.run_status(&["--json"])?;
        serde_json::from_str(&text).with_context(|| format!("reading the status {text}"))
    }

    /// What `mesos-xdns status` prints for people.
    ///
    /// # Errors
    ///
    /// It fails.
    pub fn status_text(&self) -> Result<String> {
        self.run_status(&[])
    }

    /// A command that asks this daemon, beside it.
    ///
    /// # Panics
    ///
    /// The daemon is not there, which has been started from it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = inside(&self.namespace);
        command.arg(daemon::binary().expect("the daemon's binary"));
        command.args(arguments).arg("--config");
        command.arg(self.folder.join("config.json"));
        command
    }

    fn run_status(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(&["status"]).args(arguments).output()?;
        ensure!(
            output.status.success(),
            "status: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Waits until a status is as it should be, and returns it.
    ///
    /// # Errors
    ///
    /// It does not become so; the error carries the last one.
    pub fn wait_until(&self, good: impl Fn(&Status) -> bool) -> Result<Status> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let status = self.status()?;
            if good(&status) {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("the status stays {status:#?}");
            }
            // The daemon offers nothing to wait on; it is asked again.
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for a line of the log.
    ///
    /// # Errors
    ///
    /// It does not come.
    pub fn said(&mut self, text: &str) -> Result<String> {
        self.process.wait_for(text, LIMIT)
    }

    /// The lines of the log so far.
    pub fn log(&self) -> Vec<String> {
        self.process.output()
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it at once, as a crash does, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// It cannot be ended.
    pub fn kill(&mut self) -> Result<()> {
        self.process.signal(libc::SIGKILL);
        self.process.stop()?;
        Ok(())
    }

    /// Ends it in order.
    ///
    /// # Errors
    ///
    /// It does not end, or not in order.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.process.stop()?;
        ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: libc::c_int) {
        self.process.signal(signal);
    }

    /// Its configuration file.
    pub fn configuration(&self) -> PathBuf {
        self.folder.join("config.json")
    }

    /// Changes the configuration, which takes effect with the next start or SIGHUP.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn configure(&mut self, change: impl FnOnce(&mut Value)) -> Result<()> {
        change(&mut self.plan.config);
        fs::write(self.configuration(), self.plan.config.to_string())?;
        Ok(())
    }

    /// Has it read its configuration again, and waits until it has taken it.
    ///
    /// # Errors
    ///
    /// It does not say so.
    pub fn reload(&mut self) -> Result<()> {
        const TAKEN: &str = "the configuration is taken";
        let count = |log: Vec<String>| log.iter().filter(|line| line.contains(TAKEN)).count();
        let before = count(self.log());
        self.signal(libc::SIGHUP);
        let deadline = Instant::now() + LIMIT;
        while count(self.log()) == before {
            ensure!(Instant::now() < deadline, "not taken: {:#?}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Starts another process with the same files after it has ended.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn launch(&self) -> Result<Process> {
        launch(&self.plan, &self.namespace, &self.folder)
    }

    /// Starts it again with the same files after it has ended, and waits until it serves.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.process = self.launch()?;
        self.said(" ready")?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.stop();
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_dir_all(&self.pins);
    }
}

/// A cable with a daemon at its server's end, which follows a fake master there.
pub struct Scene {
    /// The daemon; ends first.
    pub daemon: Daemon,
    /// `None` after it was killed.
    pub master: Option<FakeMaster>,
    /// Where all this is.
    pub cable: Cable,
}

impl Scene {
    /// Serves a state, whose leader becomes the fake master.
    ///
    /// # Errors
    ///
    /// Needs root, and the daemon must come up.
    pub fn with(state: &Value, change: impl FnOnce(&mut Plan)) -> Result<Self> {
        let cable = Cable::new()?;
        Self::on(cable, state, change)
    }

    /// As [`with`](Self::with), on a cable that was laid before.
    ///
    /// # Errors
    ///
    /// As for `with`.
    pub fn on(cable: Cable, state: &Value, change: impl FnOnce(&mut Plan)) -> Result<Self> {
        let master = cable.server.enter(FakeMaster::start)?;
        master.serve_state(state);
        master.set_leader(&format!("master@{}", master.address()))?;
        let mut plan = Plan::following(&[master.address()]);
        change(&mut plan);
        Ok(Self {
            daemon: plan.start(&cable.server)?,
            master: Some(master),
            cable,
        })
    }
}

/// The state of which mesos-dns's answers were captured.
///
/// # Panics
///
/// The fixture is not there.
pub fn fake_local() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/mesos-dns/fake-local.json"
    );
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Adds a task of marathon for each address, after the fixture's nginx, which has its own in a
/// label.
///
/// # Panics
///
/// The state is not that of [`fake_local`].
pub fn add_tasks(state: &mut Value, name: &str, addresses: &[String]) {
    let frameworks = state["frameworks"].as_array_mut().unwrap();
    let marathon = frameworks
        .iter_mut()
        .find(|one| one["name"] == "marathon")
        .unwrap();
    let tasks = marathon["tasks"].as_array_mut().unwrap();
    let nginx = tasks
        .iter()
        .find(|one| one["name"] == "nginx")
        .unwrap()
        .clone();
    for (number, address) in addresses.iter().enumerate() {
        let mut task = nginx.clone();
        task["name"] = name.into();
        task["id"] = format!("{name}.{number:08}-562f-11e4-a088-c20493233aa5").into();
        task["statuses"][0]["labels"][0]["value"] = address.as_str().into();
        tasks.push(task);
    }
}
