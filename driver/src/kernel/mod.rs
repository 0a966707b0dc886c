//! The operating system made safe: one file for each facility, raw names in
//! [`sys`]. Nothing here knows what Weir does.

pub(crate) mod cpu;
pub(crate) mod event;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod pool;
pub(crate) mod process;
pub(crate) mod rundown;
pub(crate) mod status;
pub(crate) mod sys;
pub(crate) mod time;
pub(crate) mod timer;
pub(crate) mod wdf;
pub(crate) mod workitem;
