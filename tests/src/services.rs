//! The driver's services, as weirctl shows them.

use std::net::SocketAddr;
use std::time::Instant;

use serde_json::Value;

use crate::clients::PATIENCE;
use crate::lab::Fixture;

/// Starts a service: its id, and where it listens.
///
/// # Panics
/// When it doesn't start.
#[must_use]
pub fn start(fixture: &Fixture, arguments: &[&str]) -> (u64, SocketAddr) {
    let started = fixture.json(&[&["service", "start"], arguments].concat());
    let id = started["id"].as_u64().expect("an id");
    let at = started["address"].as_str().expect("an address");
    (id, at.parse().expect("an address"))
}

/// Starts a relay to a port of this host.
#[must_use]
pub fn relay(fixture: &Fixture, transport: &str, at: &str, to: u16) -> (u64, SocketAddr) {
    let to = format!("127.0.0.1:{to}");
    start(fixture, &["relay", transport, at, "--to", &to])
}

/// What `weirctl service list` says of one.
///
/// # Panics
/// When it isn't listed.
#[must_use]
pub fn service(fixture: &Fixture, id: u64) -> Value {
    let list = fixture.json(&["service", "list"]);
    let services = list["services"].as_array().expect("a list");
    let found = services.iter().find(|s| s["id"].as_u64() == Some(id));
    found.expect("the service is listed").clone()
}

/// Waits for a number of a service.
///
/// # Panics
/// When it doesn't come.
pub fn until(fixture: &Fixture, id: u64, pointer: &str, wanted: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = service(fixture, id);
        if now.pointer(pointer).and_then(Value::as_u64) == Some(wanted) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{pointer} is not {wanted} in {now}"
        );
    }
}

/// The kernel sockets that `weirctl sockets` lists.
///
/// # Panics
/// When it lists none.
#[must_use]
pub fn sockets(fixture: &Fixture) -> Vec<Value> {
    let list = fixture.json(&["sockets"]);
    list["sockets"].as_array().expect("a list").clone()
}

/// Waits until the driver has no socket left.
///
/// # Panics
/// When some are left.
pub fn until_no_socket(fixture: &Fixture) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = sockets(fixture);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{left:?}");
    }
}
