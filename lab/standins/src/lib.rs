//! `lab.sys`: one module that stands in for `ntoskrnl.exe`, `WDFLDR.SYS`,
//! `ndis.sys` and `netio.sys` while a kernel driver runs under Wine.
//!
//! A copy of the driver has its import names changed to `lab.sys`, so every
//! call it makes arrives here. Each function is as strict as Driver Verifier:
//! a broken contract ends the process and names the rule and the caller
//! (see [`core::rules`]). The lab knows nothing of any particular driver.
//!
//! The stand-ins run inside Wine's `winedevice.exe`. Only what must be Wine's
//! (devices, symbolic links, the IRPs that user mode sends) is passed on to
//! Wine's own `ntoskrnl.exe`, through [`nt::wine`].
#![cfg(windows)]
// The public surface of a cdylib is its export table; `pub` inside the crate
// only says which module offers what to which.
#![allow(unreachable_pub)]
// Windows names, spelled as its documentation spells them, make the exported
// functions and structures searchable.
#![allow(non_snake_case, non_camel_case_types)]
// Pointers inside the lab are the driver's: one that points nowhere is the
// driver's fault, and the exception it raises is caught and named as such
// (`nt::exception`). Marking every helper on the way `unsafe` would say nothing.
#![allow(clippy::not_unsafe_ptr_arg_deref)]

#[macro_use]
pub mod core;
pub mod kmdf;
pub mod ndis;
pub mod nt;
pub mod wsk;
