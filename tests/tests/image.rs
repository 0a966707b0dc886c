//! The shipping image is one that Windows would load, and the check that says
//! so refuses images that are not: each test alters bytes of the real one.

use std::fs;
use std::path::PathBuf;

use xtask::driver;
use xtask::image::{self, Beside, Check, Facts, Map};

const DLL_CHARACTERISTICS: usize = 70;
const SUBSYSTEM: usize = 68;
const ENTRY: usize = 16;
const BASE_RELOCATIONS: usize = 112 + 5 * 8;
const TLS: usize = 112 + 9 * 8;

/// weir.sys with its symbols, and where things are in it.
struct Shipped {
    bytes: Vec<u8>,
    pdb: Vec<u8>,
    map: Map,
}

impl Shipped {
    fn read() -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        let sys = driver::sys_path(&root);
        let open = |extension: &str| {
            let path = sys.with_extension(extension);
            fs::read(&path)
                .unwrap_or_else(|error| panic!("{}: {error}; `cargo xtask driver`", path.display()))
        };
        let map = String::from_utf8(open("map")).unwrap();
        Self {
            bytes: open("sys"),
            pdb: open("pdb"),
            map: Map::read(&map).unwrap(),
        }
    }

    fn check(&self) -> Vec<Check> {
        let facts = Facts::read(&self.bytes).unwrap();
        image::check(
            &facts,
            Beside {
                pdb: Some(&self.pdb),
                map: Some(&self.map),
            },
        )
        .unwrap()
    }

    /// The names of the checks that fail.
    fn failures(&self) -> Vec<&'static str> {
        self.check()
            .into_iter()
            .filter(|c| c.problem.is_some())
            .map(|c| c.name)
            .collect()
    }

    fn u32(&self, at: usize) -> usize {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap()) as usize
    }

    fn set(&mut self, at: usize, value: &[u8]) {
        self.bytes[at..at + value.len()].copy_from_slice(value);
    }

    /// Where the optional header is in the file.
    fn optional(&self) -> usize {
        self.u32(0x3C) + 24
    }

    /// Where the header of the section `name` is in the file.
    fn section(&self, name: &[u8]) -> usize {
        let file_header = self.u32(0x3C) + 4;
        let sections = usize::from(self.bytes[file_header + 2]);
        let first = file_header + 20 + usize::from(self.bytes[file_header + 16]);
        (0..sections)
            .map(|index| first + index * 40)
            .find(|at| self.bytes[*at..].starts_with(name))
            .unwrap()
    }

    fn find(&self, text: &[u8]) -> usize {
        self.bytes
            .windows(text.len())
            .position(|window| window == text)
            .unwrap()
    }
}

#[test]
fn what_ships_passes_every_check() {
    let checks = Shipped::read().check();
    assert!(
        checks.iter().all(|check| check.problem.is_none()),
        "\n{}",
        image::table(&checks)
    );
    for name in [
        "machine",
        "subsystem",
        "nx",
        "aslr",
        "aslr-64",
        "relocations",
        "directories",
        "checksum",
        "modules",
        "imports",
        "kmdf",
        "sections",
        "entry",
        "pdb",
        "entry-symbol",
        "panics",
    ] {
        assert!(
            checks.iter().any(|check| check.name == name),
            "{name} was not looked at"
        );
    }
}

#[test]
fn any_altered_byte_breaks_the_checksum() {
    let mut image = Shipped::read();
    let last = image.bytes.len() - 1;
    for at in [2, 0x200, 0x401, last] {
        image.bytes[at] ^= 0x55;
        assert_eq!(image.failures(), ["checksum"], "byte {at}");
        image.bytes[at] ^= 0x55;
    }
    assert_eq!(image.failures(), [""; 0]);
}

#[test]
fn a_win32_subsystem_is_refused() {
    let mut image = Shipped::read();
    image.set(image.optional() + SUBSYSTEM, &[2, 0]);
    assert_eq!(image.failures(), ["subsystem", "checksum"]);
}

#[test]
fn another_machine_is_refused() {
    let mut image = Shipped::read();
    let machine = image.u32(0x3C) + 4;
    image.set(machine, &[0x64, 0xAA]);
    assert_eq!(image.failures(), ["machine", "checksum"]);
}

#[test]
fn an_image_without_nx_or_aslr_is_refused() {
    for (flag, name) in [(0x100u16, "nx"), (0x40, "aslr"), (0x20, "aslr-64")] {
        let mut image = Shipped::read();
        let at = image.optional() + DLL_CHARACTERISTICS;
        let was = u16::from_le_bytes([image.bytes[at], image.bytes[at + 1]]);
        image.set(at, &(was & !flag).to_le_bytes());
        assert_eq!(image.failures(), [name, "checksum"]);
    }
    let mut image = Shipped::read();
    image.set(image.optional() + BASE_RELOCATIONS, &[0; 8]);
    assert_eq!(image.failures(), ["relocations", "checksum"]);
}

#[test]
fn thread_local_storage_is_refused() {
    let mut image = Shipped::read();
    image.set(image.optional() + TLS, &[0, 0x20, 0, 0, 40, 0, 0, 0]);
    assert_eq!(image.failures(), ["directories", "checksum"]);
}

#[test]
fn an_import_from_a_win32_module_is_refused() {
    for module in [&b"ntdll.dll\0\0\0"[..], b"kernel32.dll", b"ntoskrnl.dll"] {
        let mut image = Shipped::read();
        let at = image.find(b"ntoskrnl.exe\0");
        image.set(at, module);
        assert_eq!(image.failures(), ["checksum", "modules", "imports"]);
    }
}

#[test]
fn a_function_nobody_agreed_on_is_refused() {
    let mut image = Shipped::read();
    let at = image.find(b"ExAllocatePool2\0");
    image.set(at, b"ExAllocatePool3");
    assert_eq!(image.failures(), ["checksum", "imports"]);
    let checks = image.check();
    let imports = checks.iter().find(|check| check.name == "imports").unwrap();
    let problem = imports.problem.as_deref().unwrap();
    assert!(
        problem.contains("ntoskrnl.exe!ExAllocatePool3"),
        "{problem}"
    );
}

#[test]
fn an_image_that_does_not_unbind_is_refused() {
    let mut image = Shipped::read();
    let at = image.find(b"WdfVersionUnbind\0");
    image.set(at, b"WdfVersionUnbond");
    assert_eq!(image.failures(), ["checksum", "imports", "kmdf"]);
}

#[test]
fn writable_code_is_refused() {
    const WRITE: u8 = 0x80;
    let mut image = Shipped::read();
    let characteristics = image.section(b".text") + 36;
    image.bytes[characteristics + 3] |= WRITE;
    assert_eq!(image.failures(), ["checksum", "sections"]);
}

#[test]
fn an_entry_point_outside_of_code_is_refused() {
    let mut image = Shipped::read();
    let data = image.u32(image.section(b".data") + 12) as u32;
    image.set(image.optional() + ENTRY, &data.to_le_bytes());
    assert_eq!(image.failures(), ["checksum", "entry", "entry-symbol"]);
}

#[test]
fn the_symbols_of_another_build_are_refused() {
    let mut image = Shipped::read();
    let guid = image.find(b"RSDS") + 4;
    image.bytes[guid] ^= 1;
    assert_eq!(image.failures(), ["checksum", "pdb"]);
    image.bytes[guid] ^= 1;
    let age = guid + 16;
    image.bytes[age] += 1;
    assert_eq!(image.failures(), ["checksum", "pdb"]);
}

#[test]
fn an_image_alone_is_refused() {
    let image = Shipped::read();
    let facts = Facts::read(&image.bytes).unwrap();
    let checks = image::check(&facts, Beside::default()).unwrap();
    let failures: Vec<&str> = checks
        .iter()
        .filter(|check| check.problem.is_some())
        .map(|check| check.name)
        .collect();
    assert_eq!(failures, ["pdb", "panics"]);
}

#[test]
fn a_linked_panic_is_refused() {
    let image = Shipped::read();
    let text = " Preferred load address is 0000000140000000\n \
                0001:00000000       _ZN4core9panicking9panic_fmt17h0123456789abcdefE \
                0000000140001000     core.o\n";
    let map = Map::read(text).unwrap();
    let facts = Facts::read(&image.bytes).unwrap();
    let checks = image::check(
        &facts,
        Beside {
            pdb: Some(&image.pdb),
            map: Some(&map),
        },
    )
    .unwrap();
    let panics = checks.iter().find(|check| check.name == "panics").unwrap();
    assert!(
        panics
            .problem
            .as_deref()
            .unwrap()
            .contains("core::panicking::panic_fmt")
    );
}

#[test]
fn a_truncated_image_is_an_error_or_refused_and_never_a_fault() {
    let mut image = Shipped::read();
    let whole = image.bytes.clone();
    // Every length within the headers, and some in what follows.
    for length in (0..0x600).chain((0x600..whole.len()).step_by(509)) {
        image.bytes.truncate(0);
        image.bytes.extend_from_slice(&whole[..length]);
        if Facts::read(&image.bytes).is_ok() {
            assert!(!image.failures().is_empty(), "{length} bytes pass");
        }
    }
}

/// Who may open the device is in the image, and says SYSTEM and Administrators,
/// protected from what else would be inherited (MSDN "SDDL for Device Objects").
#[test]
fn the_device_is_for_system_and_administrators_only() {
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let bytes = Shipped::read().bytes;
    let at = |text: &str| -> Vec<usize> {
        let text = wide(text);
        bytes
            .windows(text.len())
            .enumerate()
            .filter_map(|(at, found)| (found == text).then_some(at))
            .collect()
    };
    let descriptor = "D:P(A;;GA;;;SY)(A;;GA;;;BA)";
    assert_eq!(at("D:").len(), 1, "one descriptor");
    assert_eq!(at(descriptor).len(), 1, "{descriptor}");
    assert_eq!(at(&format!("{descriptor}(")).len(), 0, "nobody else");
}
