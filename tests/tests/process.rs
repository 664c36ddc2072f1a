//! The daemon as a process: what its parent leaves it, and how it ends.

use std::{env, fs, process::Command};

use serde_json::json;
use tests::{
    needs_daemon, needs_tool,
    port::free_ports,
    process::Process,
    running::{LIMIT, wait_for},
};

#[test]
fn it_ends_by_a_signal_that_its_parent_blocked() {
    needs_daemon!();
    needs_tool!("env");
    let ports = free_ports(3);
    let config = json!({
        "masters": [format!("127.0.0.1:{}", ports[2])], "listener": "127.0.0.1", "port": ports[0],
        "httpListener": "127.0.0.1", "httpPort": ports[1], "xdp": {"mode": "off"},
    });
    let file = env::temp_dir().join(format!("mesos-xdns-process-{}.json", ports[0]));
    fs::write(&file, config.to_string()).unwrap();
    let mut command = Command::new("env");
    command.arg("--block-signal=TERM,INT,HUP");
    command.arg(tests::daemon::binary().unwrap());
    command.args(["run", "--config"]).arg(&file);
    command.env_remove("RUST_LOG");
    let mut process = Process::start("mesos-xdns", &mut command).unwrap();
    // It waits for a master then, and hears signals.
    process.wait_for("XDP is off", LIMIT).unwrap();
    process.signal(libc::SIGTERM);
    let ended = wait_for("its end", || process.exited(), Option::is_some).unwrap();
    assert!(ended.unwrap().success(), "{ended:?}");
    fs::remove_file(file).unwrap();
}
