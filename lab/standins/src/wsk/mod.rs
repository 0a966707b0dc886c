//! Stand-in, filled in by its own files.

/// Called when a driver has bound to the framework, before its `DriverEntry`.
pub fn session_begin() {}

/// Called when the driver has unloaded, after the leaks were collected.
pub fn session_end() {}

/// What the driver still holds: one line for each object, with its maker.
pub fn leaks() -> Vec<String> {
    Vec::new()
}
