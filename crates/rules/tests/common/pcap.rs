//! libpcap in this process: the judge of expressions.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use libloading::Library;

#[repr(C)]
struct Program {
    len: u32,
    insns: *mut c_void,
}

#[repr(C)]
struct Header {
    seconds: i64,
    micros: i64,
    caplen: u32,
    len: u32,
}

type OpenDead = unsafe extern "C" fn(c_int, c_int) -> *mut c_void;
type Compile = unsafe extern "C" fn(*mut c_void, *mut Program, *const c_char, c_int, u32) -> c_int;
type GetError = unsafe extern "C" fn(*mut c_void) -> *const c_char;
type FreeCode = unsafe extern "C" fn(*mut Program);
type Filter = unsafe extern "C" fn(*const Program, *const Header, *const u8) -> c_int;
type Version = unsafe extern "C" fn() -> *const c_char;

/// libpcap, and a handle for Ethernet.
pub(crate) struct Pcap {
    handle: *mut c_void,
    compile: Compile,
    get_error: GetError,
    free_code: FreeCode,
    filter: Filter,
    /// What the library calls itself.
    pub(crate) version: String,
    // Behind the functions: they are gone with it.
    _library: Library,
}

/// An expression, compiled by libpcap.
pub(crate) struct Compiled<'a> {
    pcap: &'a Pcap,
    program: Program,
}

const DLT_EN10MB: c_int = 1;

impl Pcap {
    /// Opens the library that tcpdump uses.
    pub(crate) fn open() -> Self {
        // SAFETY: libpcap's initialisers do nothing that this program relies on.
        let library = unsafe { Library::new("libpcap.so.0.8") }
            .expect("libpcap.so.0.8: install libpcap0.8, which tcpdump and tshark bring");
        fn symbol<T: Copy>(library: &Library, name: &str) -> T {
            // SAFETY: the caller's type is the function's in libpcap's pcap.h.
            let symbol = unsafe { library.get::<T>(name.as_bytes()) };
            *symbol.unwrap_or_else(|error| panic!("{name}: {error}"))
        }
        let open_dead: OpenDead = symbol(&library, "pcap_open_dead");
        let version: Version = symbol(&library, "pcap_lib_version");
        // SAFETY: takes two integers.
        let handle = unsafe { open_dead(DLT_EN10MB, 262_144) };
        assert!(!handle.is_null(), "pcap_open_dead has no memory");
        // SAFETY: takes nothing.
        let version = unsafe { version() };
        // SAFETY: it returns a string that lives as long as the library.
        let version = unsafe { CStr::from_ptr(version) };
        Self {
            handle,
            compile: symbol(&library, "pcap_compile"),
            get_error: symbol(&library, "pcap_geterr"),
            free_code: symbol(&library, "pcap_freecode"),
            filter: symbol(&library, "pcap_offline_filter"),
            version: version.to_string_lossy().into_owned(),
            _library: library,
        }
    }

    /// Compiles an expression, with or without libpcap's optimizer.
    pub(crate) fn compile(&self, text: &str, optimize: bool) -> Result<Compiled<'_>, String> {
        let text = CString::new(text).map_err(|error| error.to_string())?;
        let mut program = Program {
            len: 0,
            insns: ptr::null_mut(),
        };
        // The netmask is 0, as tcpdump gives it for files.
        let compile = self.compile;
        // SAFETY: the handle is open, the text ends with 0, the program is ours
        // to be written.
        let result = unsafe {
            compile(
                self.handle,
                &raw mut program,
                text.as_ptr(),
                optimize.into(),
                0,
            )
        };
        if result == 0 {
            return Ok(Compiled {
                pcap: self,
                program,
            });
        }
        // SAFETY: the handle is open.
        let error = unsafe { (self.get_error)(self.handle) };
        // SAFETY: it is a string in the handle, until the next call.
        let error = unsafe { CStr::from_ptr(error) };
        Err(error.to_string_lossy().into_owned())
    }
}

impl Compiled<'_> {
    /// Whether a frame matches.
    pub(crate) fn matches(&self, bytes: &[u8], len: u32) -> bool {
        let caplen = u32::try_from(bytes.len()).expect("a frame");
        let header = Header {
            seconds: 0,
            micros: 0,
            caplen,
            len,
        };
        // SAFETY: the program is one that pcap_compile made; caplen bytes are
        // there.
        unsafe {
            (self.pcap.filter)(&raw const self.program, &raw const header, bytes.as_ptr()) != 0
        }
    }

    /// How many instructions it has.
    pub(crate) fn len(&self) -> usize {
        self.program.len as usize
    }
}

impl Drop for Compiled<'_> {
    fn drop(&mut self) {
        // SAFETY: pcap_compile made it, and it is freed once.
        unsafe { (self.pcap.free_code)(&raw mut self.program) };
    }
}
