//! `NTSTATUS` as a type, and the codes the driver returns.
//!
//! Values are those of `ntstatus.h` ([MS-ERREF] section 2.3.1). What each of
//! them means to a client of the contract is said in `weir_abi::status`.

/// An `NTSTATUS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
#[must_use]
pub(crate) struct NtStatus(pub(crate) i32);

/// What a fallible call of the driver returns.
pub(crate) type Result<T> = core::result::Result<T, NtStatus>;

/// A code as `ntstatus.h` writes it.
const fn code(value: u32) -> NtStatus {
    NtStatus(value.cast_signed())
}

impl NtStatus {
    pub(crate) const SUCCESS: Self = code(0x0000_0000);
    pub(crate) const PENDING: Self = code(0x0000_0103);
    pub(crate) const UNSUCCESSFUL: Self = code(0xC000_0001);
    pub(crate) const INVALID_PARAMETER: Self = code(0xC000_000D);
    pub(crate) const NO_SUCH_DEVICE: Self = code(0xC000_000E);
    pub(crate) const MORE_PROCESSING_REQUIRED: Self = code(0xC000_0016);
    pub(crate) const ACCESS_DENIED: Self = code(0xC000_0022);
    pub(crate) const BUFFER_TOO_SMALL: Self = code(0xC000_0023);
    pub(crate) const OBJECT_NAME_COLLISION: Self = code(0xC000_0035);
    pub(crate) const SHARING_VIOLATION: Self = code(0xC000_0043);
    pub(crate) const QUOTA_EXCEEDED: Self = code(0xC000_0044);
    pub(crate) const DELETE_PENDING: Self = code(0xC000_0056);
    pub(crate) const INSUFFICIENT_RESOURCES: Self = code(0xC000_009A);
    pub(crate) const DEVICE_NOT_READY: Self = code(0xC000_00A3);
    pub(crate) const FILE_FORCED_CLOSED: Self = code(0xC000_00B6);
    pub(crate) const NOT_SUPPORTED: Self = code(0xC000_00BB);
    pub(crate) const REQUEST_NOT_ACCEPTED: Self = code(0xC000_00D0);
    pub(crate) const IO_TIMEOUT: Self = code(0xC000_00B5);
    pub(crate) const CANCELLED: Self = code(0xC000_0120);
    pub(crate) const FILE_CLOSED: Self = code(0xC000_0128);
    pub(crate) const REMOTE_DISCONNECT: Self = code(0xC000_013C);
    pub(crate) const LINK_TIMEOUT: Self = code(0xC000_013F);
    pub(crate) const INVALID_ADDRESS_COMPONENT: Self = code(0xC000_0207);
    pub(crate) const INVALID_ADDRESS: Self = code(0xC000_0141);
    pub(crate) const INVALID_DEVICE_STATE: Self = code(0xC000_0184);
    pub(crate) const ADDRESS_ALREADY_EXISTS: Self = code(0xC000_020A);
    pub(crate) const CONNECTION_DISCONNECTED: Self = code(0xC000_020C);
    pub(crate) const CONNECTION_RESET: Self = code(0xC000_020D);
    pub(crate) const CONNECTION_REFUSED: Self = code(0xC000_0236);
    pub(crate) const NETWORK_UNREACHABLE: Self = code(0xC000_023C);
    pub(crate) const HOST_UNREACHABLE: Self = code(0xC000_023D);
    pub(crate) const PORT_UNREACHABLE: Self = code(0xC000_023F);
    pub(crate) const CONNECTION_ABORTED: Self = code(0xC000_0241);
    pub(crate) const DATA_NOT_ACCEPTED: Self = code(0xC000_021B);
    pub(crate) const NOT_FOUND: Self = code(0xC000_0225);
    pub(crate) const GRACEFUL_DISCONNECT: Self = code(0xC000_0237);
    pub(crate) const INVALID_CONNECTION: Self = code(0xC000_0140);
    pub(crate) const ADDRESS_ALREADY_ASSOCIATED: Self = code(0xC000_0238);

    /// `NT_SUCCESS`: success and informational codes, `STATUS_PENDING` too.
    pub(crate) const fn is_success(self) -> bool {
        self.0 >= 0
    }

    /// `Ok` for what [`Self::is_success`] accepts, the status itself otherwise.
    pub(crate) const fn into_result(self) -> Result<()> {
        if self.is_success() { Ok(()) } else { Err(self) }
    }
}
