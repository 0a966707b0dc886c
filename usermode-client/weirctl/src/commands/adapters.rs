//! `weirctl adapters`.

use std::io::{self, Write};

use serde::Serialize;
use weir_client::Device;

use crate::error::CtlError;
use crate::output::{Output, View, columns};

#[derive(Serialize)]
struct Adapters {
    adapters: Vec<Adapter>,
}

#[derive(Serialize)]
struct Adapter {
    id: u32,
    name: String,
    if_index: u32,
    mac: String,
    mtu: u32,
    media: String,
    state: String,
    link_speed_bps: Option<u64>,
}

impl View for Adapters {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.adapters.is_empty() {
            return writeln!(out, "no adapters");
        }
        let rows: Vec<Vec<String>> = self
            .adapters
            .iter()
            .map(|a| {
                vec![
                    a.id.to_string(),
                    a.name.clone(),
                    a.state.clone(),
                    a.mac.clone(),
                    a.mtu.to_string(),
                    a.link_speed_bps.map_or("-".to_owned(), speed),
                    a.media.clone(),
                    a.if_index.to_string(),
                ]
            })
            .collect();
        let header = [
            "id", "name", "state", "mac", "mtu", "speed", "media", "ifindex",
        ];
        columns(out, &header, &[1, 2, 3, 6], &rows)
    }
}

/// Bits per second with a unit; whole units only.
fn speed(bps: u64) -> String {
    for (unit, name) in [
        (1_000_000_000, "Gbit/s"),
        (1_000_000, "Mbit/s"),
        (1000, "kbit/s"),
    ] {
        if bps >= unit && bps.is_multiple_of(unit) {
            return format!("{} {name}", bps / unit);
        }
    }
    format!("{bps} bit/s")
}

/// The adapters the driver filters.
pub(crate) fn adapters(device: &Device, out: &mut Output<'_>) -> Result<(), CtlError> {
    let number = |n: u32| format!("unknown ({n})");
    let adapters = device
        .adapters()?
        .into_iter()
        .map(|a| Adapter {
            id: a.id,
            name: a.name,
            if_index: a.if_index,
            mac: mac(&a.mac),
            mtu: a.mtu,
            media: a.media.map_or_else(number, |m| m.to_string()),
            state: a.state.map_or_else(number, |s| s.to_string()),
            link_speed_bps: a.link_speed,
        })
        .collect();
    out.show(&Adapters { adapters })?;
    Ok(())
}

fn mac(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    pairs.join(":")
}

#[cfg(test)]
mod tests {
    #[test]
    fn speeds_have_units() {
        assert_eq!(super::speed(10_000_000_000), "10 Gbit/s");
        assert_eq!(super::speed(2_500_000_000), "2500 Mbit/s");
        assert_eq!(super::speed(54_321), "54321 bit/s");
    }
}
