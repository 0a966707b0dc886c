//! The KMDF stand-in.

/// What the driver still holds.
pub fn leaks() -> Vec<String> {
    Vec::new()
}

/// Whether the framework owns an IRP.
pub fn owns_irp(_irp: *mut crate::nt::types::IRP) -> bool {
    false
}
