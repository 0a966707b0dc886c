//! The NDIS stand-in: a lightweight-filter engine with virtual adapters.
//!
//! One filter driver registers; over each virtual adapter it gets a module.
//! Above and below the module is the lab: a host that sends, receives and asks
//! OIDs, and a miniport with a wire. The engine keeps the rules of "NDIS Filter
//! Drivers" and is as strict as Driver Verifier's NDIS/WIFI verification where
//! that has a rule, stricter where it has none (`LabNdis...`).
//!
//! | file | what |
//! |---|---|
//! | `types`, `consts` | the structures and numbers of ndis.h |
//! | `engine` | drivers, modules, handles |
//! | `register`, `lifecycle` | registration; attach, restart, pause, detach |
//! | `track` | who owns each NET_BUFFER_LIST |
//! | `frame`, `shape`, `prng` | the lab's own lists, in every shape |
//! | `data`, `ends`, `traffic` | the data path: the filter's calls, the two ends, offering |
//! | `oid`, `miniport`, `events` | requests, and indications |
//! | `pools`, `parts`, `buffer` | what a filter allocates; access to data |
//! | `adapter`, `replay`, `dump`, `commands` | virtual adapters and how to drive them |

mod adapter;
mod buffer;
mod commands;
mod consts;
mod data;
mod dump;
mod ends;
mod engine;
mod events;
mod frame;
mod lifecycle;
mod miniport;
mod oid;
mod parts;
mod pools;
mod prng;
mod register;
mod replay;
mod shape;
#[cfg(test)]
mod tests;
mod track;
mod traffic;
mod types;

use std::sync::Once;

use crate::core::Rule;

static COMMANDS: Once = Once::new();

/// Called when a driver has bound to the framework, before its `DriverEntry`.
pub fn session_begin() {
    COMMANDS.call_once(commands::register);
}

/// Called when the driver has unloaded, after the leaks were collected.
pub fn session_end() {
    let adapters = std::mem::take(&mut engine::tables().adapters);
    for adapter in &adapters {
        commands::take_down(adapter);
    }
    replay::clear();
    track::clear();
    oid::clear();
    pools::clear();
}

/// What the driver still holds. Where Driver Verifier has a rule for it, the
/// run ends here under that rule's name.
pub fn leaks() -> Vec<String> {
    let registered = engine::tables()
        .drivers
        .values()
        .next()
        .map(|d| d.service.clone());
    if let Some(service) = registered {
        violate!(
            Rule::NdisFDeregisterFilterDriver,
            "filter driver {service} unloaded without NdisFDeregisterFilterDriver"
        );
    }
    let pools::Left {
        pools,
        lists,
        buffers,
        mdls,
    } = pools::left();
    if mdls > 0 {
        violate!(
            Rule::NdisAllocateMdl,
            "{mdls} MDL(s) from NdisAllocateMdl are not freed"
        );
    }
    let mut left = Vec::new();
    if lists + buffers > 0 {
        violate!(
            Rule::NdisAllocateNetBuffer,
            "{lists} NET_BUFFER_LIST(s) and {buffers} NET_BUFFER(s) are not freed: {:?}",
            track::own_lists()
        );
    }
    if pools > 0 {
        left.push(format!("{pools} NET_BUFFER_LIST or NET_BUFFER pool(s)"));
    }
    left
}
