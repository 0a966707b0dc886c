//! The KMDF stand-in.

/// What the driver still holds.
pub fn leaks() -> Vec<String> {
    Vec::new()
}
