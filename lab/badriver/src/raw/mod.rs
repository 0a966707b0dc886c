//! What the driver imports, declared from Microsoft's documentation.

pub(crate) mod kmdf;
pub(crate) mod ndis;
pub(crate) mod nt;
pub(crate) mod wsk;
