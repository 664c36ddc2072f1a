//! mesos-xdns.
fn main() {}
