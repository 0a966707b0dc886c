//! The overlapped layer against named pipes: real kernel objects that any
//! Windows, and Wine, has.

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::{FromRawHandle as _, OwnedHandle};
use std::ptr::null;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use weir_abi::status;
use windows_sys::Win32::Foundation::INVALID_HANDLE_VALUE;
use windows_sys::Win32::Storage::FileSystem::{FILE_FLAG_OVERLAPPED, PIPE_ACCESS_DUPLEX};
use windows_sys::Win32::System::Pipes::{CreateNamedPipeW, PIPE_TYPE_BYTE};

use super::handle::DeviceHandle;
use super::port::Port;
use crate::channel::{Channel, Completion, Pending};
use crate::error::NtStatus;

/// The two ends of a new pipe: one as a device handle, one to write to.
fn pipe(port: &Arc<Port>) -> (DeviceHandle, std::fs::File) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!(r"\\.\pipe\weir-client-test-{}-{number}", std::process::id());
    let wide: Vec<u16> = name.encode_utf16().chain([0]).collect();
    // SAFETY: the name is NUL-terminated and outlives the call; no security
    // attributes are given.
    let raw = unsafe {
        CreateNamedPipeW(
            wide.as_ptr(),
            PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED,
            PIPE_TYPE_BYTE,
            1,
            4096,
            4096,
            0,
            null(),
        )
    };
    assert_ne!(
        raw,
        INVALID_HANDLE_VALUE,
        "{}",
        std::io::Error::last_os_error()
    );
    // SAFETY: the call succeeded: the handle is open and nobody else's.
    let server = unsafe { OwnedHandle::from_raw_handle(raw) };
    let client = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(0)
        .open(&name)
        .expect("the pipe opens");
    let device = DeviceHandle::new(server, Arc::clone(port)).expect("associates");
    (device, client)
}

fn port() -> Arc<Port> {
    Arc::new(Port::new(NonZeroUsize::new(3).expect("three")).expect("a port"))
}

fn start(device: &DeviceHandle, len: usize) -> Box<dyn Pending> {
    device.read(vec![0; len]).expect("starts")
}

#[track_caller]
fn bytes(completion: Option<Completion>) -> Vec<u8> {
    let Completion { result, mut buffer } = completion.expect("a completion");
    buffer.truncate(result.expect("bytes"));
    buffer
}

const SOON: Option<Duration> = Some(Duration::from_secs(10));

#[test]
fn reads_complete_in_the_order_they_were_started() {
    let (device, mut client) = pipe(&port());
    let mut reads: Vec<_> = (0..3).map(|_| start(&device, 4)).collect();
    assert!(reads[0].wait(Some(Duration::from_millis(20))).is_none());
    client.write_all(b"onetwothree!").expect("writes");
    let got: Vec<u8> = reads.iter_mut().flat_map(|r| bytes(r.wait(SOON))).collect();
    assert_eq!(got, b"onetwothree!");
}

#[test]
fn a_cancelled_read_completes_as_cancelled() {
    let (device, _client) = pipe(&port());
    let mut reads = [start(&device, 4), start(&device, 4)];
    device.cancel();
    for read in &mut reads {
        let completion = read.wait(SOON).expect("a completion");
        let failure = completion.result.expect_err("cancelled");
        assert_eq!(failure.status, NtStatus(status::CANCELLED));
        // ERROR_OPERATION_ABORTED.
        assert_eq!(failure.win32, 995);
        assert_eq!(completion.buffer.len(), 4);
    }
}

#[test]
fn closing_a_handle_ends_its_reads() {
    let port = port();
    let (device, client) = pipe(&port);
    let mut read = start(&device, 4);
    drop(device);
    let completion = read.wait(Some(Duration::ZERO)).expect("it is over already");
    assert!(completion.result.is_err());
    drop(client);
    drop(port);
}

#[test]
fn one_read_is_cancelled_and_the_others_go_on() {
    let (device, mut client) = pipe(&port());
    let mut reads: Vec<_> = (0..3).map(|_| start(&device, 3)).collect();
    reads[1].cancel();
    let completion = reads[1].wait(SOON).expect("a completion");
    let failure = completion.result.expect_err("cancelled");
    assert_eq!(failure.status, NtStatus(status::CANCELLED));
    // It is over: this must find nothing, whatever has its address now.
    reads[1].cancel();
    client.write_all(b"onetwo").expect("writes");
    assert_eq!(bytes(reads[0].wait(SOON)), b"one");
    assert_eq!(bytes(reads[2].wait(SOON)), b"two");
}

#[test]
fn a_handle_let_go_of_closes_with_its_last_operation() {
    let port = port();
    let (device, mut client) = pipe(&port);
    let mut read = start(&device, 2);
    let forgotten = start(&device, 2);
    drop(forgotten);
    let device: Box<dyn Channel> = Box::new(device);
    device.close_soon();
    client
        .write_all(b"ok")
        .expect("writes: the other end is open");
    assert_eq!(bytes(read.wait(SOON)), b"ok");
    client
        .write_all(b"so")
        .expect("writes: a read is outstanding yet");
    // The last completion closes the pipe; a worker does that.
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while client.write_all(b"no").is_ok() {
        assert!(std::time::Instant::now() < end, "the pipe stays open");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(port);
}

#[test]
fn a_worker_may_close_the_last_handle() {
    for _ in 0..20 {
        let port = port();
        let (device, mut client) = pipe(&port);
        let mut read = start(&device, 2);
        drop(port);
        (Box::new(device) as Box<dyn Channel>).close_soon();
        client.write_all(b"ok").expect("writes");
        assert_eq!(bytes(read.wait(SOON)), b"ok");
    }
}

#[test]
fn tasks_are_woken() {
    let (device, mut client) = pipe(&port());
    let (tell, told) = std::sync::mpsc::channel();
    struct Tell(std::sync::mpsc::Sender<()>);
    impl std::task::Wake for Tell {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }
    let waker = std::task::Waker::from(Arc::new(Tell(tell)));
    let mut cx = std::task::Context::from_waker(&waker);
    let mut read = start(&device, 4);
    assert!(read.poll(&mut cx).is_pending());
    client.write_all(b"wake").expect("writes");
    told.recv_timeout(Duration::from_secs(10)).expect("woken");
    let std::task::Poll::Ready(completion) = read.poll(&mut cx) else {
        panic!("woken too early");
    };
    assert_eq!(bytes(Some(completion)), b"wake");
}

/// A waker that does something on the worker that wakes.
struct Runs(std::sync::Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl std::task::Wake for Runs {
    fn wake(self: Arc<Self>) {
        let run = self.0.lock().expect("whole").take();
        run.expect("woken once")();
    }
}

#[test]
fn a_worker_may_drop_a_handle_with_operations_it_would_have_to_take_itself() {
    let one = Arc::new(Port::new(NonZeroUsize::MIN).expect("a port"));
    let (device, mut client) = pipe(&one);
    let (other, _other_client) = pipe(&one);
    let mut outstanding = start(&other, 4);
    let mut read = start(&device, 4);
    let (tell, told) = std::sync::mpsc::channel();
    let run = move || {
        // Its read is cancelled, and this thread is to take the completion.
        drop(other);
        tell.send(()).expect("it is waited for");
    };
    let waker = Arc::new(Runs(std::sync::Mutex::new(Some(Box::new(run))))).into();
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(read.poll(&mut cx).is_pending());
    client.write_all(b"wake").expect("writes");
    told.recv_timeout(Duration::from_secs(10))
        .expect("the worker doesn't wait for itself");
    let completion = outstanding.wait(SOON).expect("a completion");
    assert!(completion.result.expect_err("cancelled").is_cancelled());
}

#[test]
fn a_refused_request_keeps_its_status() {
    let (device, _client) = pipe(&port());
    // A device control code of ours means nothing to a pipe.
    let code = weir_abi::Ioctl::GetVersion.code();
    let failure = device.control(code, &[1, 2, 3], 16).expect_err("refused");
    assert!(
        weir_abi::status::is_error(failure.status.0),
        "{}",
        failure.status
    );
    assert_ne!(failure.win32, 0);
}

#[test]
fn a_closed_far_end_is_told_at_once() {
    let (device, client) = pipe(&port());
    drop(client);
    // Whether the read fails when it starts or when it completes is the
    // system's choice; either way STATUS_PIPE_BROKEN arrives.
    let failure = match device.read(vec![0; 4]) {
        Err(failure) => failure,
        Ok(mut read) => read
            .wait(SOON)
            .expect("a completion")
            .result
            .expect_err("broken"),
    };
    assert_eq!(failure.status, NtStatus(0xC000_014B_u32.cast_signed()));
    assert_eq!(failure.win32, 109);
}

#[test]
fn many_handles_share_a_port() {
    let port = port();
    let pipes: Vec<_> = (0..20).map(|_| pipe(&port)).collect();
    let mut reads: Vec<_> = pipes.iter().map(|(device, _)| start(device, 8)).collect();
    for (i, (_, client)) in pipes.iter().enumerate() {
        (&*client).write_all(&[i as u8; 8]).expect("writes");
    }
    for (i, read) in reads.iter_mut().enumerate() {
        assert_eq!(bytes(read.wait(SOON)), [i as u8; 8]);
    }
}

#[test]
fn ports_come_and_go() {
    for _ in 0..50 {
        let port = port();
        let (device, mut client) = pipe(&port);
        let mut read = start(&device, 2);
        client.write_all(b"ok").expect("writes");
        assert_eq!(bytes(read.wait(SOON)), b"ok");
    }
}
