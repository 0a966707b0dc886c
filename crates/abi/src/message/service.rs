//! Network services in the kernel.

use core::fmt;
use core::net::SocketAddr;

use super::{ReplyHeader, Request, RequestError, RequestHeader};
use crate::{
    Ioctl, ServiceFlags, ServiceKind, ServiceState, SocketAddress, Transport, UnknownValue, status,
};

message! {
    /// Starts a service.
    pub struct ServiceStartRequest [84] {
        /// Version and size.
        0 => header: RequestHeader,
        /// Field 1: [`ServiceKind`].
        8 => kind: u32,
        /// Field 2: [`Transport`].
        12 => transport: u32,
        /// Field 3: where to listen; port 0 lets the driver choose.
        16 => address: SocketAddress,
        /// Field 4: where a relay connects or sends to; of any other kind, no
        /// address.
        48 => target: SocketAddress,
        /// Field 5: [`ServiceFlags`].
        80 => flags: u32,
    }
}

message! {
    /// The service runs.
    pub struct ServiceStartReply [48] {
        /// Version and size.
        0 => header: ReplyHeader,
        /// Its id: from 1, never used again while the driver is loaded.
        8 => id: u32,
        /// 0.
        12 => reserved: u32,
        /// Where it listens, the port as it was chosen.
        16 => address: SocketAddress,
    }
}

impl Request for ServiceStartRequest {
    const IOCTL: Ioctl = Ioctl::ServiceStart;
    type Reply = ServiceStartReply;
}

/// A service to start, checked: a [`ServiceStartRequest`] that makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// What it does.
    pub kind: ServiceKind,
    /// Over which transport.
    pub transport: Transport,
    /// Where it listens: unicast or unspecified. Whether the address is this
    /// machine's is not known here.
    pub address: SocketAddr,
    /// Where a relay connects or sends to: unicast, with a port. `None` for any
    /// other kind.
    pub target: Option<SocketAddr>,
    /// How it is to be started.
    pub flags: ServiceFlags,
}

/// The target in `target` of a service of this kind.
fn target_of(
    kind: ServiceKind,
    target: &SocketAddress,
) -> Result<Option<SocketAddr>, RequestError> {
    let given = target.optional()?;
    if given.is_some() != (kind == ServiceKind::Relay) {
        return Err(RequestError::Field {
            n: 4,
            name: "target",
            value: target.family,
        });
    }
    match given {
        Some(_) => Ok(Some(target.connect_addr()?)),
        None => Ok(None),
    }
}

/// The flags in `bits` of a service over this transport.
fn flags_of(transport: Transport, bits: u32) -> Result<ServiceFlags, RequestError> {
    let allowed = match transport {
        Transport::Tcp => ServiceFlags::CONDITIONAL_ACCEPT,
        Transport::Udp => ServiceFlags::empty(),
    };
    match ServiceFlags::from_bits(bits) {
        Some(flags) if allowed.contains(flags) => Ok(flags),
        _ => Err(RequestError::Field {
            n: 5,
            name: "service flags",
            value: bits,
        }),
    }
}

impl TryFrom<&ServiceStartRequest> for ServiceSpec {
    type Error = RequestError;

    fn try_from(request: &ServiceStartRequest) -> Result<Self, RequestError> {
        let kind = ServiceKind::try_from(request.kind).map_err(|e| RequestError::Field {
            n: 1,
            name: "service kind",
            value: e.value,
        })?;
        let transport =
            Transport::try_from(request.transport).map_err(|e| RequestError::Field {
                n: 2,
                name: "transport",
                value: e.value,
            })?;
        Ok(ServiceSpec {
            kind,
            transport,
            address: request.address.listen_addr()?,
            target: target_of(kind, &request.target)?,
            flags: flags_of(transport, request.flags)?,
        })
    }
}

impl From<&ServiceSpec> for ServiceStartRequest {
    fn from(spec: &ServiceSpec) -> Self {
        ServiceStartRequest {
            header: RequestHeader::of::<Self>(),
            kind: spec.kind.into(),
            transport: spec.transport.into(),
            address: spec.address.into(),
            target: spec.target.into(),
            flags: spec.flags.bits(),
        }
    }
}

message! {
    /// Asks for the services.
    pub struct ServiceListRequest [16] {
        /// Version and size.
        0 => header: RequestHeader,
        /// How many services to pass over.
        8 => start: u32,
        /// 0.
        12 => reserved: u32,
    }
}

message! {
    /// Start of the list of services; `count` times [`ServiceInfo`] follow.
    pub struct ServiceListReply [16] {
        /// Version and size, the entries included.
        0 => header: ReplyHeader,
        /// How many services there are, those passed over included.
        8 => total: u32,
        /// How many entries follow: as many as there are, or as fit.
        12 => count: u32,
    }
}

message! {
    /// One service.
    pub struct ServiceInfo [184] {
        /// Its id.
        0 => id: u32,
        /// [`ServiceKind`].
        4 => kind: u32,
        /// [`Transport`].
        8 => transport: u32,
        /// Connections now; 0 for UDP.
        12 => connections: u32,
        /// Where it listens.
        16 => address: SocketAddress,
        /// TCP: connections accepted; UDP: datagrams received.
        48 => accepted: u64,
        /// Bytes of payload received.
        56 => bytes_in: u64,
        /// Bytes of payload sent.
        64 => bytes_out: u64,
        /// Operations of its sockets that failed.
        72 => errors: u64,
        /// Connections refused or datagrams not answered for want of room, and
        /// connections refused by a rule.
        80 => dropped: u64,
        /// [`ServiceState`].
        88 => state: u32,
        /// The NTSTATUS it failed with; 0 while it runs.
        92 => status: i32,
        /// Where a relay connects or sends to; else no address.
        96 => target: SocketAddress,
        /// Connections that ended in order: both sides sent all they had.
        128 => finished: u64,
        /// Relay: connections ended because the target refused or could not be
        /// reached.
        136 => target_refused: u64,
        /// Connections the client reset.
        144 => reset_by_client: u64,
        /// Relay: connections the target reset.
        152 => reset_by_target: u64,
        /// TCP: connections that ended because one side didn't answer any more;
        /// UDP: clients forgotten because nothing came for long.
        160 => timed_out: u64,
        /// Connections that ended for any other reason, a stop of the service
        /// left out.
        168 => failed: u64,
        /// [`ServiceFlags`].
        176 => flags: u32,
        /// 0.
        180 => reserved: u32,
    }
}

/// Why the condition of a service makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionError {
    /// The state is none this contract knows.
    State(UnknownValue),
    /// A service that runs has a status, or one that failed has none that is an
    /// error.
    Status {
        /// The state.
        state: ServiceState,
        /// The NTSTATUS beside it.
        status: i32,
    },
}

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConditionError::State(e) => e.fmt(f),
            ConditionError::Status { state, status } => {
                write!(f, "a service can't be {state} with status {status:#010x}")
            }
        }
    }
}

impl core::error::Error for ConditionError {}

impl ServiceInfo {
    /// The NTSTATUS the service failed with, none while it runs.
    pub fn failure(&self) -> Result<Option<i32>, ConditionError> {
        let state = ServiceState::try_from(self.state).map_err(ConditionError::State)?;
        match state {
            ServiceState::Running if self.status == status::SUCCESS => Ok(None),
            ServiceState::Failed if status::is_error(self.status) => Ok(Some(self.status)),
            _ => Err(ConditionError::Status {
                state,
                status: self.status,
            }),
        }
    }
}

impl ServiceListRequest {
    /// A request for the services after the first `start`.
    #[must_use]
    pub const fn new(start: u32) -> Self {
        ServiceListRequest {
            header: RequestHeader::of::<Self>(),
            start,
            reserved: 0,
        }
    }

    /// Its start index.
    pub const fn start(&self) -> Result<u32, RequestError> {
        if self.reserved != 0 {
            return Err(RequestError::Reserved);
        }
        Ok(self.start)
    }
}

impl Request for ServiceListRequest {
    const IOCTL: Ioctl = Ioctl::ServiceList;
    type Reply = ServiceListReply;
}

message! {
    /// Stops a service.
    pub struct ServiceStopRequest [16] {
        /// Version and size.
        0 => header: RequestHeader,
        /// The service's id.
        8 => id: u32,
        /// 0.
        12 => reserved: u32,
    }
}

message! {
    /// The service and its connections are gone.
    pub struct ServiceStopReply [8] {
        /// Version and size.
        0 => header: ReplyHeader,
    }
}

impl ServiceStopRequest {
    /// A request to stop the service with this id.
    #[must_use]
    pub const fn new(id: u32) -> Self {
        ServiceStopRequest {
            header: RequestHeader::of::<Self>(),
            id,
            reserved: 0,
        }
    }

    /// Its service id.
    pub const fn id(&self) -> Result<u32, RequestError> {
        if self.reserved != 0 {
            return Err(RequestError::Reserved);
        }
        Ok(self.id)
    }
}

impl Request for ServiceStopRequest {
    const IOCTL: Ioctl = Ioctl::ServiceStop;
    type Reply = ServiceStopReply;
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    fn info(state: u32, status: i32) -> ServiceInfo {
        ServiceInfo {
            state,
            status,
            ..ServiceInfo::new_zeroed()
        }
    }

    #[test]
    fn a_relay_has_a_target_and_nothing_else_has() {
        let address = "127.0.0.1:7".parse().expect("an address");
        let request = |kind, target: &str| {
            let target = (!target.is_empty()).then(|| target.parse().expect("an address"));
            let spec = ServiceSpec {
                kind,
                transport: Transport::Tcp,
                address,
                target,
                flags: ServiceFlags::empty(),
            };
            let got = ServiceSpec::try_from(&ServiceStartRequest::from(&spec));
            got.map(|got| assert_eq!(got, spec)).map_err(|e| e.status())
        };
        use ServiceKind::*;
        assert_eq!(request(Relay, "[::1]:80"), Ok(()));
        assert_eq!(request(Echo, ""), Ok(()));
        assert_eq!(request(Discard, ""), Ok(()));
        assert_eq!(request(Relay, ""), Err(status::INVALID_PARAMETER_4));
        for kind in [Echo, Discard] {
            assert_eq!(request(kind, "[::1]:80"), Err(status::INVALID_PARAMETER_4));
        }
        for nowhere in ["[::1]:0", "0.0.0.0:80", "224.0.0.1:80"] {
            let want = Err(status::INVALID_ADDRESS_COMPONENT);
            assert_eq!(request(Relay, nowhere), want, "{nowhere}");
        }
    }

    #[test]
    fn only_tcp_asks_about_peers() {
        let request = |transport, flags| {
            let mut request = ServiceStartRequest::from(&ServiceSpec {
                kind: ServiceKind::Echo,
                transport,
                address: "127.0.0.1:7".parse().expect("an address"),
                target: None,
                flags: ServiceFlags::empty(),
            });
            request.flags = flags;
            let spec = ServiceSpec::try_from(&request).map_err(|e| e.status())?;
            assert_eq!(ServiceStartRequest::from(&spec), request);
            Ok(spec.flags)
        };
        use Transport::*;
        let ask = ServiceFlags::CONDITIONAL_ACCEPT;
        assert_eq!(request(Tcp, 0), Ok(ServiceFlags::empty()));
        assert_eq!(request(Tcp, 1), Ok(ask));
        assert_eq!(request(Udp, 0), Ok(ServiceFlags::empty()));
        for (transport, flags) in [(Udp, 1), (Tcp, 2), (Tcp, 3), (Udp, 2), (Tcp, u32::MAX)] {
            let want = Err(status::INVALID_PARAMETER_5);
            assert_eq!(request(transport, flags), want, "{transport} {flags:#x}");
        }
    }

    #[test]
    fn a_condition_is_checked() {
        assert_eq!(info(1, 0).failure(), Ok(None));
        let failed = status::FILE_FORCED_CLOSED;
        assert_eq!(info(2, failed).failure(), Ok(Some(failed)));
        // A code the contract has no name for is an error all the same.
        assert_eq!(info(2, -1).failure(), Ok(Some(-1)));
        for (state, status) in [
            (ServiceState::Running, failed),
            (ServiceState::Running, 1),
            (ServiceState::Failed, 0),
            (ServiceState::Failed, status::PENDING),
            (ServiceState::Failed, status::BUFFER_OVERFLOW),
        ] {
            assert_eq!(
                info(state.into(), status).failure(),
                Err(ConditionError::Status { state, status })
            );
        }
        for value in [0, 3, u32::MAX] {
            let unknown = UnknownValue {
                of: "ServiceState",
                value,
            };
            assert_eq!(
                info(value, 0).failure(),
                Err(ConditionError::State(unknown))
            );
        }
    }
}
