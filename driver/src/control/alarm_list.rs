//! ALARM_LIST: the alarms of all adapters.

use weir_abi::{AlarmInfo, AlarmListReply};

use super::reply::Reply;
use crate::error::Error;
use crate::flows::alarms;

pub(super) fn handle(since: u64, reply: Reply<'_>) -> Result<usize, Error> {
    let mut list = reply.list::<AlarmListReply, AlarmInfo>();
    let mut next = since;
    let mut more = false;
    // One at a time: alarms may come meanwhile, and the list of them is bounded
    // by the room there is.
    while let Some(alarm) = alarms::from(next) {
        if list.is_full() {
            more = true;
            break;
        }
        list.push(&alarm);
        next = alarm.number.saturating_add(1);
    }
    // Asked for alarms that are not yet: they are asked for again.
    // (Not clamp, which panics where its bounds cross.)
    let next = next.min(alarms::next()).max(1);
    list.finish(|header, count| AlarmListReply {
        header,
        next,
        count,
        more: more.into(),
    })
}
