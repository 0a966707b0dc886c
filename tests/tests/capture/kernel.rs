//! The driver's own `kernel/` files, but the framework and the log; below them
//! lies the stand-in of `ntoskrnl`.

#[path = "../../../driver/src/kernel/cpu.rs"]
pub(crate) mod cpu;
#[path = "../../../driver/src/kernel/lock.rs"]
pub(crate) mod lock;
#[path = "../../../driver/src/kernel/pool.rs"]
pub(crate) mod pool;
#[path = "../../../driver/src/kernel/rundown.rs"]
pub(crate) mod rundown;
#[path = "../../../driver/src/kernel/status.rs"]
pub(crate) mod status;
#[path = "../../../driver/src/kernel/sys.rs"]
pub(crate) mod sys;
#[path = "../../../driver/src/kernel/time.rs"]
pub(crate) mod time;
#[path = "../../../driver/src/kernel/timer.rs"]
pub(crate) mod timer;
#[path = "wdf.rs"]
pub(crate) mod wdf;

pub(crate) mod log {
    use std::ffi::CStr;

    pub(crate) fn number(text: &'static CStr, value: u64) {
        println!("weir: {text:?} {value}");
    }
}
