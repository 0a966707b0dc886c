//! `select`, and sets of sockets that grow.

use std::io;
use std::mem::offset_of;
use std::os::windows::io::AsRawSocket;
use std::time::Duration;

use windows_sys::Win32::Networking::WinSock::{FD_SET, FD_SETSIZE, SOCKET, TIMEVAL, select};

use super::{last_error, number};

/// Sockets in a set as the headers have it.
pub(crate) const SET: usize = FD_SETSIZE as usize;

/// A set of sockets. Winsock's is a count and an array, and `select` heeds the
/// count alone: 64 is how long the headers make the array, and a program may
/// define `FD_SETSIZE` to be more (MSDN "Maximum Number of Sockets Supported").
/// This one begins with 64 and grows by as many.
pub(crate) struct FdSet {
    /// The count, then the sockets.
    words: Vec<SOCKET>,
}

// The array begins one word after the count, padding included.
const _: () = assert!(offset_of!(FD_SET, fd_count) == 0);
const _: () = assert!(offset_of!(FD_SET, fd_array) == size_of::<SOCKET>());
const _: () = assert!(align_of::<FD_SET>() == align_of::<SOCKET>());
const _: () = assert!(cfg!(target_endian = "little"));

impl FdSet {
    /// A set with nothing in it, and room for 64.
    pub(crate) fn new() -> FdSet {
        FdSet {
            words: vec![0; 1 + SET],
        }
    }

    /// Takes all sockets out. The room stays.
    pub(crate) fn clear(&mut self) {
        if let Some(count) = self.words.first_mut() {
            *count = 0;
        }
    }

    /// Puts a socket in; it must not be in.
    pub(crate) fn insert(&mut self, socket: &impl AsRawSocket) {
        let at = 1 + self.len();
        if at == self.words.len() {
            self.words.resize(at + SET, 0);
        }
        if let Some(slot) = self.words.get_mut(at) {
            *slot = number(socket);
        }
        if let Some(count) = self.words.first_mut() {
            *count += 1;
        }
    }

    /// How many are in it.
    pub(crate) fn len(&self) -> usize {
        self.words.first().map_or(0, |count| *count)
    }

    /// How many it has room for.
    pub(crate) fn room(&self) -> usize {
        self.words.len() - 1
    }

    /// The sockets in it.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = u64> + '_ {
        let in_it = self.words.get(1..=self.len()).unwrap_or(&[]);
        in_it.iter().map(|socket| *socket as u64)
    }
}

/// Waits until a socket of `read` can be read (has a connection, for a listener)
/// or one of `write` written, or this time has passed, and leaves in the sets
/// those that can. `read` must not be empty: `select` refuses to wait for nothing.
pub(crate) fn wait(read: &mut FdSet, write: &mut FdSet, most: Option<Duration>) -> io::Result<()> {
    let (read, write) = (read.words.as_mut_ptr(), write.words.as_mut_ptr());
    let most = most.map(|most| TIMEVAL {
        tv_sec: i32::try_from(most.as_secs()).unwrap_or(i32::MAX),
        tv_usec: most.subsec_micros().cast_signed(),
    });
    let most = most.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both are laid out as FD_SET is (asserted above), with an array of
    // at least as many sockets as the count says, live and ours through the
    // call, as is the time; a set and a time that are null are left out.
    let ready = unsafe { select(0, read.cast(), write.cast(), std::ptr::null_mut(), most) };
    if ready < 0 { Err(last_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_set_grows_past_64_and_select_sees_all_of_it() {
        let sockets: Vec<UdpSocket> = (0..130)
            .map(|_| UdpSocket::bind("127.0.0.1:0").expect("binds"))
            .collect();
        let last = sockets.last().expect("there is one");
        let to = last.local_addr().expect("has an address");
        last.send_to(&[1], to).expect("sends to itself");
        let (mut read, mut write) = (FdSet::new(), FdSet::new());
        for socket in &sockets {
            read.insert(socket);
        }
        assert_eq!((read.len(), read.room()), (130, 192));
        wait(&mut read, &mut write, None).expect("waits");
        let ready: Vec<u64> = read.sockets().collect();
        assert_eq!(ready, [last.as_raw_socket()]);

        read.clear();
        read.insert(sockets.first().expect("there is one"));
        let soon = Some(Duration::from_millis(20));
        wait(&mut read, &mut write, soon).expect("waits no longer");
        assert_eq!(read.len(), 0);
    }
}
