//! The control device and its typed calls.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;

use weir_abi::{
    ABI_VERSION, AdapterInfo, AdapterListReply, AdapterListRequest, AdapterStats,
    AdapterStatsRequest, CaptureOptions, DivertOptions, Ioctl, OpenCaptureRequest,
    OpenDivertRequest, OpenInjectRequest, ReplyHeader, Request, RequestHeader, ServiceInfo,
    ServiceListReply, ServiceListRequest, ServiceSpec, ServiceStartRequest, ServiceStopRequest,
    StatusRequest, VersionRequest, limits,
};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::capture::{Capture, ReadAhead, Role};
use crate::channel::{Channel, Connector};
use crate::error::{Error, Failure};
use crate::model::{Adapter, DriverStatus, DriverVersion, Service, StartedService};
use crate::socket::Net;
use crate::write::{Divert, Injector};

/// Entries a list request leaves room for.
const ENTRIES: usize = 64;

/// Threads that take completions off the port and wake who waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// One for each core this process may use.
    #[default]
    PerCore,
    /// So many.
    Exactly(NonZeroUsize),
}

impl Workers {
    /// How many.
    #[must_use]
    pub fn number(self) -> NonZeroUsize {
        match self {
            Workers::PerCore => std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            Workers::Exactly(n) => n,
        }
    }
}

/// An open control device.
pub struct Device {
    connector: Arc<dyn Connector>,
    net: Net,
    channel: Box<dyn Channel>,
    version: DriverVersion,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Device {
    /// Opens the device and checks that the driver speaks this version of the
    /// contract. Its handles share a completion port with a worker for each core.
    pub fn open() -> Result<Device, Error> {
        Self::open_with(Workers::PerCore)
    }

    /// As [`Device::open`], with so many workers at the completion port.
    pub fn open_with(workers: Workers) -> Result<Device, Error> {
        Self::connect_any_version(platform_connector(workers)?)?.require_version()
    }

    /// Opens the device whatever version the driver speaks. Then only
    /// [`Device::version`] and [`Device::channel`] are sure to work.
    pub fn open_any_version() -> Result<Device, Error> {
        Self::connect_any_version(platform_connector(Workers::default())?)
    }

    /// As [`Device::open`], over a way of the caller's.
    pub fn connect(connector: Arc<dyn Connector>) -> Result<Device, Error> {
        Self::connect_any_version(connector)?.require_version()
    }

    /// As [`Device::open_any_version`], over a way of the caller's.
    pub fn connect_any_version(connector: Arc<dyn Connector>) -> Result<Device, Error> {
        let channel = connector.connect()?;
        let request = VersionRequest {
            header: RequestHeader::of::<VersionRequest>(),
        };
        let operation = Ioctl::GetVersion.name();
        let bytes = raw_call(
            &*channel,
            &request,
            size_of::<<VersionRequest as Request>::Reply>(),
        )?;
        // The header may state another version here; the sizes must agree.
        let version = weir_abi::VersionReply::read_from_bytes(&bytes)
            .map_err(|_| bad_reply(operation, format!("{} bytes", bytes.len())))?
            .into();
        tracing::debug!(%version, "device opened");
        Ok(Device {
            net: Net::new(Arc::clone(&connector)),
            connector,
            channel,
            version,
        })
    }

    fn require_version(self) -> Result<Device, Error> {
        if self.version.abi == ABI_VERSION {
            Ok(self)
        } else {
            Err(Error::Version {
                driver: self.version,
            })
        }
    }

    /// What the driver is.
    #[must_use]
    pub const fn version(&self) -> DriverVersion {
        self.version
    }

    /// The handle itself, for requests no typed call makes.
    #[must_use]
    pub fn channel(&self) -> &dyn Channel {
        &*self.channel
    }

    /// Where its sockets come from.
    pub(crate) const fn net(&self) -> &Net {
        &self.net
    }

    /// How the driver is.
    pub fn status(&self) -> Result<DriverStatus, Error> {
        let request = StatusRequest {
            header: RequestHeader::of::<StatusRequest>(),
        };
        Ok(call(&*self.channel, &request)?.into())
    }

    /// The adapters the filter is attached to.
    pub fn adapters(&self) -> Result<Vec<Adapter>, Error> {
        let entries: Vec<AdapterInfo> = self
            .list(AdapterListRequest::new, |r: &AdapterListReply| {
                (r.header, r.total, r.count)
            })?;
        Ok(entries.iter().map(Adapter::from).collect())
    }

    /// The balance and the protocol counters of one adapter.
    pub fn adapter_stats(&self, id: u32) -> Result<AdapterStats, Error> {
        let reply = call(&*self.channel, &AdapterStatsRequest::new(id))?;
        if reply.adapter != id {
            let problem = format!("adapter {} in place of {id}", reply.adapter);
            return Err(bad_reply(Ioctl::GetAdapterStats.name(), problem));
        }
        Ok(reply.stats)
    }

    /// Starts a service.
    pub fn start_service(&self, spec: &ServiceSpec) -> Result<StartedService, Error> {
        let reply = call(&*self.channel, &ServiceStartRequest::from(spec))?;
        let address = reply
            .address
            .socket_addr()
            .map_err(|e| bad_reply(Ioctl::ServiceStart.name(), e.to_string()))?;
        tracing::info!(id = reply.id, %address, "service started");
        Ok(StartedService {
            id: reply.id,
            address,
        })
    }

    /// The services that run.
    pub fn services(&self) -> Result<Vec<Service>, Error> {
        let entries: Vec<ServiceInfo> = self
            .list(ServiceListRequest::new, |r: &ServiceListReply| {
                (r.header, r.total, r.count)
            })?;
        entries
            .iter()
            .map(Service::from_info)
            .collect::<Result<_, _>>()
            .map_err(|e| bad_reply(Ioctl::ServiceList.name(), e.to_string()))
    }

    /// Stops a service; its connections are gone when this returns.
    pub fn stop_service(&self, id: u32) -> Result<(), Error> {
        call(&*self.channel, &ServiceStopRequest::new(id))?;
        tracing::info!(id, "service stopped");
        Ok(())
    }

    /// Captures on a handle of its own, with `ahead` reads outstanding.
    pub fn open_capture(
        &self,
        options: &CaptureOptions,
        ahead: ReadAhead,
    ) -> Result<Capture, Error> {
        let channel = self.connector.connect()?;
        let reply = call(&*channel, &OpenCaptureRequest::from(options))?;
        let role = Role {
            reader: reply.reader,
            snaplen: reply.snaplen,
            min_read: reply.min_read,
        };
        Capture::start(channel, role, ahead)
    }

    /// Takes the frames of `divert` rules on a handle of its own, with `ahead`
    /// reads outstanding.
    pub fn open_divert(&self, options: &DivertOptions, ahead: ReadAhead) -> Result<Divert, Error> {
        let channel = self.connector.connect()?;
        let reply = call(&*channel, &OpenDivertRequest::from(options))?;
        let role = Role {
            reader: reply.reader,
            snaplen: limits::MAX_SNAPLEN,
            min_read: reply.min_read,
        };
        Ok(Divert::new(Capture::start(channel, role, ahead)?))
    }

    /// Injects frames on a handle of its own: on one adapter, or on any.
    pub fn open_inject(&self, adapter: Option<NonZeroU32>) -> Result<Injector, Error> {
        let channel = self.connector.connect()?;
        let reply = call(&*channel, &OpenInjectRequest::new(adapter))?;
        Ok(Injector::new(channel, reply.writer))
    }

    /// A whole list, page by page.
    fn list<R, E>(
        &self,
        request: impl Fn(u32) -> R,
        head: impl Fn(&R::Reply) -> (ReplyHeader, u32, u32),
    ) -> Result<Vec<E>, Error>
    where
        R: Request,
        E: FromBytes + Immutable + KnownLayout,
    {
        let operation = R::IOCTL.name();
        let fixed = size_of::<R::Reply>();
        let room = fixed + ENTRIES * size_of::<E>();
        let mut entries = Vec::new();
        loop {
            let start = u32::try_from(entries.len())
                .map_err(|_| bad_reply(operation, "the list doesn't end".to_owned()))?;
            let bytes = raw_call(&*self.channel, &request(start), room)?;
            let (reply, mut part) = list_part(operation, &bytes, |reply| {
                let (header, _, count) = head(reply);
                (header, count)
            })?;
            let (_, total, count) = head(&reply);
            entries.append(&mut part);
            // The list may shrink between two pages, so what counts is whether
            // there is more, not whether `total` came together.
            if count == 0 || entries.len() >= total as usize {
                return Ok(entries);
            }
        }
    }
}

#[cfg(windows)]
fn platform_connector(workers: Workers) -> Result<Arc<dyn Connector>, Error> {
    let connector = crate::windows::WindowsConnector::new(workers.number())?;
    Ok(Arc::new(connector))
}

#[cfg(not(windows))]
fn platform_connector(_: Workers) -> Result<Arc<dyn Connector>, Error> {
    Err(Error::Unsupported)
}

pub(crate) fn bad_reply(operation: &'static str, problem: String) -> Error {
    Error::Reply { operation, problem }
}

pub(crate) fn check_header(
    operation: &'static str,
    header: ReplyHeader,
    len: usize,
) -> Result<(), Error> {
    if header.version != ABI_VERSION {
        return Err(bad_reply(operation, format!("version {}", header.version)));
    }
    if header.size as usize != len {
        let problem = format!("size field {} on {len} bytes", header.size);
        return Err(bad_reply(operation, problem));
    }
    Ok(())
}

/// Sends `request`; the reply's bytes, unchecked but for their number.
pub(crate) fn raw_call<R: Request>(
    channel: &dyn Channel,
    request: &R,
    room: usize,
) -> Result<Vec<u8>, Error> {
    raw_bytes::<R>(channel, request.as_bytes(), room)
}

/// As [`raw_call`], for a request with something behind it.
pub(crate) fn raw_bytes<R: Request>(
    channel: &dyn Channel,
    request: &[u8],
    room: usize,
) -> Result<Vec<u8>, Error> {
    let operation = R::IOCTL.name();
    let result = channel.control(R::IOCTL.code(), request, room);
    match &result {
        Ok(bytes) => tracing::trace!(operation, bytes = bytes.len(), "done"),
        Err(failure) => tracing::debug!(operation, status = %failure.status, "refused"),
    }
    result.map_err(|failure: Failure| Error::Refused { operation, failure })
}

/// Sends `request` and checks the reply.
pub(crate) fn call<R: Request>(channel: &dyn Channel, request: &R) -> Result<R::Reply, Error> {
    let bytes = raw_call(channel, request, size_of::<R::Reply>())?;
    checked_reply::<R>(&bytes)
}

/// The reply in `bytes`.
pub(crate) fn checked_reply<R: Request>(bytes: &[u8]) -> Result<R::Reply, Error> {
    let operation = R::IOCTL.name();
    let wrong_size = || bad_reply(operation, format!("{} bytes", bytes.len()));
    let reply = R::Reply::read_from_bytes(bytes).map_err(|_| wrong_size())?;
    let (header, _) = ReplyHeader::read_from_prefix(bytes).map_err(|_| wrong_size())?;
    check_header(operation, header, bytes.len())?;
    Ok(reply)
}

/// One part of a list: its head, of which `head` gives header and number of
/// entries, and the entries.
pub(crate) fn list_part<H, E>(
    operation: &'static str,
    bytes: &[u8],
    head: impl Fn(&H) -> (ReplyHeader, u32),
) -> Result<(H, Vec<E>), Error>
where
    H: FromBytes,
    E: FromBytes,
{
    let (reply, rest) = H::read_from_prefix(bytes)
        .map_err(|_| bad_reply(operation, format!("{} bytes", bytes.len())))?;
    let (header, count) = head(&reply);
    check_header(operation, header, bytes.len())?;
    if rest.len() != count as usize * size_of::<E>() {
        let problem = format!("{count} entries in {} bytes", rest.len());
        return Err(bad_reply(operation, problem));
    }
    let entries = rest
        .chunks_exact(size_of::<E>())
        .map(|entry| {
            E::read_from_bytes(entry)
                .map_err(|_| bad_reply(operation, "an entry of another size".to_owned()))
        })
        .collect::<Result<_, _>>()?;
    Ok((reply, entries))
}
