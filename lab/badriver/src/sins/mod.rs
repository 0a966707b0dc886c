//! The sins. Each file's `commit` runs the sin it knows by name at the moment
//! that sin wants, and says whether it took the request with it.

mod kmdf;
mod ndis;
mod nt;
mod wsk;

pub(crate) use kmdf::after_unbind;

use crate::Scene;

/// Commits this run's sin if this is its moment. True: the request is the sin's,
/// nobody else may complete it.
///
/// # Safety
/// The scene is real: a valid device, a request that is this driver's, and
/// `PASSIVE_LEVEL`.
pub(crate) unsafe fn commit(scene: Scene) -> bool {
    // SAFETY: as the caller's.
    unsafe { nt::commit(scene) };
    ndis::commit(&scene);
    // SAFETY: as the caller's.
    unsafe { wsk::commit(scene) };
    // SAFETY: as the caller's.
    unsafe { kmdf::commit(scene) }
}
