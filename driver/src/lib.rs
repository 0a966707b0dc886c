//! `weir.sys`: a KMDF driver with an NDIS 6 lightweight filter and Winsock
//! Kernel services.
//!
//! # Panics
//! None are meant to be reachable: the lints below keep the usual sources out,
//! and the panic handler that the language demands is a bugcheck.
//!
//! # Memory
//! The global allocator is there because a linked crate may name it; the driver
//! itself allocates through [`kernel::pool`] only, where every failure is a
//! status.
#![no_std]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

mod capture;
mod control;
mod device;
mod driver;
mod error;
mod flows;
mod handle;
mod inject;
mod kernel;
mod ndis;
mod queue;
mod rules;
mod service;
mod socket;
mod wsk;

use wdk_alloc::WdkAllocator;
use wdk_panic as _;

#[global_allocator]
static GLOBAL_ALLOCATOR: WdkAllocator = WdkAllocator;
