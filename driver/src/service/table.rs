//! Which services there are. Knows nothing of sockets or the kernel, so that it
//! runs in tests on any host.

use core::net::SocketAddr;

use weir_abi::ServiceSpec;
use weir_abi::limits::MAX_SERVICES;

/// Why there is no place for a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// This very service is starting, running or stopping.
    Exists,
    /// All places are taken.
    Full,
    /// All ids have been used.
    OutOfIds,
}

/// A place in the table.
enum Place<T> {
    Free,
    /// Starting or stopping: its address is taken, and it isn't listed.
    Reserved {
        id: u32,
        spec: ServiceSpec,
    },
    Running {
        id: u32,
        spec: ServiceSpec,
        service: T,
    },
}

/// The services, each with its id: from 1, never used again.
pub(super) struct Table<T> {
    places: [Place<T>; MAX_SERVICES],
    last_id: u32,
}

impl<T> Table<T> {
    pub(super) const fn new() -> Self {
        Self {
            places: [const { Place::Free }; MAX_SERVICES],
            last_id: 0,
        }
    }

    /// A place and an id for a service that is about to start. Port 0 stands
    /// for a port nobody has yet, so it is never taken.
    pub(super) fn reserve(&mut self, spec: ServiceSpec) -> Result<u32, NoPlace> {
        let exists = self.places.iter().any(|place| match place {
            Place::Free => false,
            Place::Reserved { spec: other, .. } | Place::Running { spec: other, .. } => {
                spec.address.port() != 0
                    && (other.transport, other.address) == (spec.transport, spec.address)
            }
        });
        if exists {
            return Err(NoPlace::Exists);
        }
        let place = self
            .places
            .iter_mut()
            .find(|place| matches!(place, Place::Free))
            .ok_or(NoPlace::Full)?;
        let id = self.last_id.checked_add(1).ok_or(NoPlace::OutOfIds)?;
        self.last_id = id;
        *place = Place::Reserved { id, spec };
        Ok(id)
    }

    /// The reserved service runs, on `address`. Gives it back if its place is
    /// gone, which doesn't happen to whoever reserved it.
    pub(super) fn run(&mut self, id: u32, address: SocketAddr, service: T) -> Result<(), T> {
        match self.reserved(id) {
            Some(place) => {
                if let Place::Reserved { id, mut spec } = *place {
                    spec.address = address;
                    *place = Place::Running { id, spec, service };
                }
                Ok(())
            }
            None => Err(service),
        }
    }

    /// The service with this id, to be stopped; its place stays reserved.
    pub(super) fn take(&mut self, id: u32) -> Option<T> {
        let place = self
            .places
            .iter_mut()
            .find(|place| matches!(place, Place::Running { id: other, .. } if *other == id))?;
        match core::mem::replace(place, Place::Free) {
            Place::Running { id, spec, service } => {
                *place = Place::Reserved { id, spec };
                Some(service)
            }
            other => {
                *place = other;
                None
            }
        }
    }

    /// Frees a reserved place: its service hasn't started, or has stopped.
    pub(super) fn release(&mut self, id: u32) {
        if let Some(place) = self.reserved(id) {
            *place = Place::Free;
        }
    }

    /// The running service with the lowest id above `id`.
    pub(super) fn after(&self, id: u32) -> Option<(u32, &ServiceSpec, &T)> {
        self.places
            .iter()
            .filter_map(|place| match place {
                Place::Running { id, spec, service } => Some((*id, spec, service)),
                _ => None,
            })
            .filter(|(other, ..)| *other > id)
            .min_by_key(|(other, ..)| *other)
    }

    fn reserved(&mut self, id: u32) -> Option<&mut Place<T>> {
        self.places
            .iter_mut()
            .find(|place| matches!(place, Place::Reserved { id: other, .. } if *other == id))
    }
}
