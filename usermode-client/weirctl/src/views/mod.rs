//! How flows, alarms and rules are shown, wherever they come from: a capture
//! file or the driver. What is serialised here is documented in README.md.

mod alarm;
mod flow;
mod rule;
mod time;
mod units;

pub(crate) use alarm::AlarmView;
pub(crate) use flow::{FlowView, TagMap, flow_table};
pub(crate) use rule::{DefaultView, RulesView};
pub(crate) use time::{Timestamp, seconds_between};
pub(crate) use units::{bytes, duration_us};
