//! `C:\lab\lab.json`, read at each driver load. Every field has a default.

use std::sync::atomic::{AtomicPtr, Ordering};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::event::{FOLDER, event_log};

/// The lab's configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Virtual network adapters, in the order they are attached.
    pub adapters: Vec<Adapter>,
    /// Failures to inject from the start.
    pub faults: Faults,
    /// How virtual adapters shape traffic (seeded); read by the NDIS stand-in.
    pub shape: Map<String, Value>,
    /// Writes an event for each allocation (with its number and caller).
    pub alloc_log: bool,
    /// Anything else; a stand-in may read its own section.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One virtual adapter.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Adapter {
    /// Friendly name.
    pub name: String,
    /// MAC address, `02:00:00:00:00:01`.
    pub mac: String,
    /// Maximum transmission unit, bytes behind the Ethernet header.
    pub mtu: u32,
    /// Where frames sent by the host go, `address:port` (UDP).
    pub wire: Option<String>,
    /// UDP port on 127.0.0.1 where frames for the host arrive; 0 = any.
    pub wire_listen: Option<u16>,
    /// Replay of a capture; read by the NDIS stand-in.
    pub replay: Option<Value>,
    /// Anything else.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Default for Adapter {
    fn default() -> Self {
        Self {
            name: "lab0".to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
            mtu: 1500,
            wire: None,
            wire_listen: None,
            replay: None,
            extra: Map::new(),
        }
    }
}

/// Failures to inject.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Faults {
    /// The allocation with this number (from 1) fails.
    pub alloc: Option<u64>,
    /// Named points that fail.
    pub points: Vec<Point>,
}

/// One failing point.
#[derive(Clone, Debug, Deserialize)]
pub struct Point {
    /// Its name, such as `ndis.attach`.
    pub point: String,
    /// Which passage fails, from 1.
    #[serde(default = "one")]
    pub nth: u64,
    /// NTSTATUS to fail with.
    pub status: i32,
}

const fn one() -> u64 {
    1
}

static CURRENT: AtomicPtr<Config> = AtomicPtr::new(std::ptr::null_mut());

/// The configuration of the running session.
pub fn get() -> &'static Config {
    let now = CURRENT.load(Ordering::Acquire);
    if now.is_null() {
        return reload();
    }
    // SAFETY: only `reload` stores here, and what it stores is never freed.
    unsafe { &*now }
}

/// Reads the file again. A missing file is the default; a wrong one is
/// reported as an event and ignored. The few bytes of the old one stay, since
/// references to it may be anywhere.
pub fn reload() -> &'static Config {
    let path = format!("{FOLDER}\\lab.json");
    let config = match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).unwrap_or_else(|error| {
            event_log(serde_json::json!({
                "event": "config", "error": format!("{path}: {error}")
            }));
            Config::default()
        }),
        Err(_) => Config::default(),
    };
    let config: &'static mut Config = Box::leak(Box::new(config));
    CURRENT.store(std::ptr::from_mut(config), Ordering::Release);
    get()
}
