//! The service manager, as much of it as loading a kernel driver takes.

use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{
    ERROR_SERVICE_EXISTS, ERROR_SERVICE_NOT_ACTIVE, ERROR_SERVICE_REQUEST_TIMEOUT, WAIT_TIMEOUT,
};
use windows_sys::Win32::System::Services::{
    CloseServiceHandle, ControlService, CreateServiceW, DeleteService, OpenSCManagerW,
    OpenServiceW, QueryServiceStatus, SC_HANDLE, SC_MANAGER_ALL_ACCESS, SERVICE_ALL_ACCESS,
    SERVICE_CONTROL_STOP, SERVICE_DEMAND_START, SERVICE_ERROR_NORMAL, SERVICE_KERNEL_DRIVER,
    SERVICE_RUNNING, SERVICE_START_PENDING, SERVICE_STATUS, SERVICE_STOP_PENDING, SERVICE_STOPPED,
    StartServiceW,
};

use crate::error::CallError;

/// How long a driver may take to start or to stop before that is an error.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open service manager or service handle.
struct Handle(SC_HANDLE);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle came from OpenSCManagerW, OpenServiceW or CreateServiceW
        // and is closed nowhere else.
        unsafe { CloseServiceHandle(self.0) };
    }
}

/// What `query` says of a service.
pub(crate) struct State {
    pub(crate) name: &'static str,
    pub(crate) exit_code: u32,
}

fn wide(s: &str) -> Vec<u16> {
    s.encode_utf16().chain([0]).collect()
}

fn manager() -> Result<Handle, CallError> {
    // SAFETY: both names may be null: the local machine, the active database.
    let h = unsafe { OpenSCManagerW(std::ptr::null(), std::ptr::null(), SC_MANAGER_ALL_ACCESS) };
    if h.is_null() {
        return Err(CallError::last("OpenSCManager"));
    }
    Ok(Handle(h))
}

fn open(service: &str) -> Result<Handle, CallError> {
    let manager = manager()?;
    let name = wide(service);
    // SAFETY: the manager's handle is open and the name ends with a NUL.
    let h = unsafe { OpenServiceW(manager.0, name.as_ptr(), SERVICE_ALL_ACCESS) };
    if h.is_null() {
        return Err(CallError::last("OpenService"));
    }
    Ok(Handle(h))
}

fn status(service: &Handle) -> Result<SERVICE_STATUS, CallError> {
    let mut status = SERVICE_STATUS::default();
    // SAFETY: the handle is open, and the structure is writable and outlives the call.
    let ok = unsafe { QueryServiceStatus(service.0, &raw mut status) };
    if ok == 0 {
        return Err(CallError::last("QueryServiceStatus"));
    }
    Ok(status)
}

/// Waits until the service leaves `pending`.
fn settle(service: &Handle, pending: u32) -> Result<SERVICE_STATUS, CallError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = status(service)?;
        if now.dwCurrentState != pending {
            return Ok(now);
        }
        if Instant::now() > deadline {
            return Err(CallError {
                what: "waiting for the service",
                code: WAIT_TIMEOUT,
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Creates a kernel driver service that is started on demand; one that exists
/// already is left as it is.
pub(crate) fn create(service: &str, path: &str) -> Result<(), CallError> {
    let manager = manager()?;
    let name = wide(service);
    let path = wide(path);
    // SAFETY: the manager's handle is open, the strings end with a NUL, and every
    // optional argument is null.
    let h = unsafe {
        CreateServiceW(
            manager.0,
            name.as_ptr(),
            name.as_ptr(),
            SERVICE_ALL_ACCESS,
            SERVICE_KERNEL_DRIVER,
            SERVICE_DEMAND_START,
            SERVICE_ERROR_NORMAL,
            path.as_ptr(),
            std::ptr::null(),
            std::ptr::null_mut(),
            std::ptr::null(),
            std::ptr::null(),
            std::ptr::null(),
        )
    };
    if h.is_null() {
        let e = CallError::last("CreateService");
        return if e.code == ERROR_SERVICE_EXISTS {
            Ok(())
        } else {
            Err(e)
        };
    }
    drop(Handle(h));
    Ok(())
}

/// Starts a service and waits until it runs; a driver whose `DriverEntry`
/// fails gives that failure's Win32 code.
pub(crate) fn start(service: &str) -> Result<(), CallError> {
    let service = open(service)?;
    // SAFETY: the handle is open; no arguments are passed.
    let ok = unsafe { StartServiceW(service.0, 0, std::ptr::null()) };
    if ok == 0 {
        return Err(CallError::last("StartService"));
    }
    let now = settle(&service, SERVICE_START_PENDING)?;
    if now.dwCurrentState != SERVICE_RUNNING {
        return Err(CallError {
            what: "the driver did not start",
            code: now.dwWin32ExitCode,
        });
    }
    Ok(())
}

/// Stops a service and waits until it has stopped.
pub(crate) fn stop(service: &str) -> Result<(), CallError> {
    let service = open(service)?;
    let mut now = SERVICE_STATUS::default();
    // SAFETY: the handle is open, and the structure is writable and outlives the call.
    let ok = unsafe { ControlService(service.0, SERVICE_CONTROL_STOP, &raw mut now) };
    if ok == 0 {
        let e = CallError::last("ControlService");
        match e.code {
            ERROR_SERVICE_NOT_ACTIVE => return Ok(()),
            // A driver waits for open handles; the service manager does not wait
            // so long, but the request stands.
            ERROR_SERVICE_REQUEST_TIMEOUT => {}
            _ => return Err(e),
        }
    }
    // A driver passes through STOP_PENDING; Wine may also say RUNNING for a moment.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = settle(&service, SERVICE_STOP_PENDING)?;
        if now.dwCurrentState == SERVICE_STOPPED {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(CallError {
                what: "waiting for the service",
                code: WAIT_TIMEOUT,
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The state of a service and its last exit code.
pub(crate) fn query(service: &str) -> Result<State, CallError> {
    let now = status(&open(service)?)?;
    let name = match now.dwCurrentState {
        SERVICE_STOPPED => "stopped",
        SERVICE_START_PENDING => "start pending",
        SERVICE_STOP_PENDING => "stop pending",
        SERVICE_RUNNING => "running",
        _ => "other",
    };
    Ok(State {
        name,
        exit_code: now.dwWin32ExitCode,
    })
}

/// Takes the service out of the database.
pub(crate) fn delete(service: &str) -> Result<(), CallError> {
    let service = open(service)?;
    // SAFETY: the handle is open.
    let ok = unsafe { DeleteService(service.0) };
    if ok == 0 {
        return Err(CallError::last("DeleteService"));
    }
    Ok(())
}
