//! libpcap, loaded while the tests run: its compiler and its machine, as judges.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr;

use libloading::{Library, Symbol};
use weir_engine::rule::format::Insn;

/// `struct bpf_insn` of `pcap/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct BpfInsn {
    pub(crate) code: u16,
    pub(crate) jt: u8,
    pub(crate) jf: u8,
    pub(crate) k: u32,
}

/// `struct bpf_program` of `pcap/bpf.h`.
#[repr(C)]
struct BpfProgram {
    len: c_uint,
    insns: *mut BpfInsn,
}

type OpenDead = unsafe extern "C" fn(c_int, c_int) -> *mut c_void;
type Close = unsafe extern "C" fn(*mut c_void);
type Compile =
    unsafe extern "C" fn(*mut c_void, *mut BpfProgram, *const c_char, c_int, u32) -> c_int;
type GetError = unsafe extern "C" fn(*mut c_void) -> *const c_char;
type FreeCode = unsafe extern "C" fn(*mut BpfProgram);
type Filter = unsafe extern "C" fn(*const BpfInsn, *const u8, c_uint, c_uint) -> c_uint;
type Validate = unsafe extern "C" fn(*const BpfInsn, c_int) -> c_int;

/// Ethernet.
const DLT_EN10MB: c_int = 1;
/// `PCAP_NETMASK_UNKNOWN`.
const NETMASK_UNKNOWN: u32 = u32::MAX;

pub(crate) struct Libpcap(Library);

impl Libpcap {
    pub(crate) fn load() -> Self {
        // SAFETY: libpcap's initialisers do nothing but what loading a library does.
        let library = unsafe { Library::new("libpcap.so.0.8") };
        Libpcap(library.expect("libpcap, which `cargo xtask setup` installs"))
    }

    fn get<T>(&self, name: &str) -> Symbol<'_, T> {
        // SAFETY: each caller gives the type that libpcap's headers declare for the name.
        let symbol = unsafe { self.0.get(name.as_bytes()) };
        symbol.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Compiles an expression for Ethernet.
    pub(crate) fn compile(&self, expression: &str, optimize: bool) -> Result<Vec<BpfInsn>, String> {
        let open: Symbol<'_, OpenDead> = self.get("pcap_open_dead");
        let close: Symbol<'_, Close> = self.get("pcap_close");
        let compile: Symbol<'_, Compile> = self.get("pcap_compile");
        let error: Symbol<'_, GetError> = self.get("pcap_geterr");
        let free: Symbol<'_, FreeCode> = self.get("pcap_freecode");
        let text = CString::new(expression).unwrap();
        let mut program = BpfProgram {
            len: 0,
            insns: ptr::null_mut(),
        };
        // SAFETY: any link type and snap length are accepted; null is checked for.
        let handle = unsafe { open(DLT_EN10MB, 262_144) };
        assert!(!handle.is_null());
        // SAFETY: the handle is open, the text ends with a NUL, and `program` is
        // written to before the call returns, if it succeeds.
        let status = unsafe {
            compile(
                handle,
                &raw mut program,
                text.as_ptr(),
                c_int::from(optimize),
                NETMASK_UNKNOWN,
            )
        };
        let result = if status == 0 {
            let len = usize::try_from(program.len).unwrap();
            // SAFETY: libpcap wrote `len` instructions there, which live until `free`.
            let insns = unsafe { std::slice::from_raw_parts(program.insns, len) }.to_vec();
            // SAFETY: compiled above, freed once.
            unsafe { free(&raw mut program) };
            Ok(insns)
        } else {
            // SAFETY: the handle is open.
            let message = unsafe { error(handle) };
            // SAFETY: the handle's message is a string that lives until it is closed.
            let message = unsafe { CStr::from_ptr(message) };
            Err(message.to_string_lossy().into_owned())
        };
        // SAFETY: opened above, closed once.
        unsafe { close(handle) };
        result
    }

    /// Code that libpcap's machine may run.
    pub(crate) fn valid(&self, code: Vec<BpfInsn>) -> Valid {
        let validate: Symbol<'_, Validate> = self.get("bpf_validate");
        let len = c_int::try_from(code.len()).unwrap();
        // SAFETY: it reads `len` instructions, which are there.
        let is_valid = unsafe { validate(code.as_ptr(), len) != 0 };
        assert!(is_valid, "bpf_validate refuses {code:?}");
        Valid(code)
    }

    /// The machine.
    pub(crate) fn machine(&self) -> Machine<'_> {
        Machine(self.get("bpf_filter"))
    }
}

/// Code that was found valid.
#[derive(Clone, Debug)]
pub(crate) struct Valid(Vec<BpfInsn>);

impl Valid {
    pub(crate) fn insns(&self) -> &[BpfInsn] {
        &self.0
    }
}

/// libpcap's interpreter.
pub(crate) struct Machine<'a>(Symbol<'a, Filter>);

impl Machine<'_> {
    /// What `bpf_filter` returns for a frame.
    #[inline]
    pub(crate) fn run(&self, code: &Valid, bytes: &[u8], wire_len: u32) -> u32 {
        let buflen = c_uint::try_from(bytes.len()).unwrap();
        // SAFETY: the code is valid, so that it ends, and reads no more of
        // `bytes` than the length that is given.
        unsafe { (self.0)(code.0.as_ptr(), bytes.as_ptr(), wire_len, buflen) }
    }
}

/// As this crate's instructions.
pub(crate) fn as_ours(code: &[BpfInsn]) -> Vec<Insn> {
    let ours = code.iter().map(|insn| Insn {
        code: insn.code,
        jt: insn.jt.into(),
        jf: insn.jf.into(),
        reserved: 0,
        k: insn.k,
    });
    ours.collect()
}
