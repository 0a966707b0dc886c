//! GET_STATUS: how the driver is.

use weir_abi::{ReplyHeader, RuleAction, StatusFlags, StatusReply};

use super::reply::Reply;
use crate::error::Error;
use crate::{capture, driver, flows, handle, inject, ndis, rules, service, socket, wsk};

pub(super) fn handle(reply: Reply<'_>) -> Result<usize, Error> {
    let mut flags = StatusFlags::empty();
    flags.set(StatusFlags::FILTER_REGISTERED, ndis::is_registered());
    flags.set(StatusFlags::WSK_READY, wsk::is_ready());
    flags.set(StatusFlags::STOPPING, driver::is_stopping());
    let service::Totals {
        services,
        connections,
    } = service::totals();
    let current = rules::current();
    let version = rules::version_of(current.as_ref(), None)?;
    let (mut rules, mut rules_memory) = (0, 0);
    let mut default_action = RuleAction::Pass.into();
    if let Some(current) = &current {
        let program = current.rules().program();
        rules = program.rule_count();
        rules_memory = current.memory();
        default_action = program.default_action().to_format();
    }
    let flows::Totals { active, memory } = flows::totals();
    reply.one(&StatusReply {
        header: ReplyHeader::of::<StatusReply>(),
        uptime_100ns: driver::uptime_100ns(),
        started_100ns: driver::started_100ns(),
        adapters: ndis::adapter_count(),
        handles: handle::count(),
        readers: capture::count(),
        services,
        connections,
        flags: flags.bits(),
        ndis_version: ndis::version(),
        diverters: capture::diverters(),
        writers: inject::count(),
        rules,
        rules_generation: version.generation,
        rules_memory,
        backlog_memory: capture::backlog_memory(),
        flows: active,
        flow_memory: memory,
        alarms: flows::alarms::next().saturating_sub(1),
        default_action,
        sockets: socket::count(),
    })
}
