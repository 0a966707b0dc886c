//! The symbols of an image: the linker's map says what was linked in, the PDB
//! says which build it belongs to.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

/// Who a PDB belongs to.
pub(super) struct PdbOwner {
    /// The GUID, in the byte order an image has it in.
    pub(super) guid: [u8; 16],
    /// The age that an image is to name.
    pub(super) age: u32,
}

impl PdbOwner {
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut pdb = pdb::PDB::open(std::io::Cursor::new(bytes)).context("not a PDB file")?;
        let information = pdb.pdb_information().context("PDB information stream")?;
        let (first, second, third, rest) = information.guid.as_fields();
        let mut guid = [0; 16];
        guid[0..4].copy_from_slice(&first.to_le_bytes());
        guid[4..6].copy_from_slice(&second.to_le_bytes());
        guid[6..8].copy_from_slice(&third.to_le_bytes());
        guid[8..16].copy_from_slice(rest);
        let age = pdb
            .debug_information()
            .context("PDB debug information stream")?
            .age()
            .unwrap_or(information.age);
        Ok(Self { guid, age })
    }
}

/// Every symbol of an image by its address relative to the image base.
#[derive(Debug, Default)]
pub struct Map {
    symbols: BTreeMap<u32, Vec<String>>,
}

/// A call from a function of the image into one that panics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PanicCall {
    /// The function that panics.
    pub panic: String,
    /// The function that calls it, or jumps to it at its end.
    pub caller: String,
}

impl Map {
    /// Reads what a linker wrote for `/MAP`.
    ///
    /// # Errors
    /// When the text has no load address, or no symbol.
    pub fn read(text: &str) -> Result<Self> {
        let base = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("Preferred load address is "))
            .context("the map has no preferred load address")?;
        let base = u64::from_str_radix(base.trim(), 16).context("preferred load address")?;
        let mut symbols: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            // ` 0001:000000b0       FxDriverEntry       00000001800010b0     library:object`
            let mut words = line.split_whitespace();
            let (Some(place), Some(name), Some(address)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let is_place = place.len() == 13 && place.as_bytes().get(4) == Some(&b':');
            if !is_place || address.len() != 16 {
                continue;
            }
            let Ok(address) = u64::from_str_radix(address, 16) else {
                continue;
            };
            let Some(relative) = address
                .checked_sub(base)
                .and_then(|a| u32::try_from(a).ok())
            else {
                continue;
            };
            // v0 names end in the crate's hash, the alternate form leaves it out.
            let name = format!("{:#}", rustc_demangle::demangle(name));
            symbols.entry(relative).or_default().push(name);
        }
        ensure!(!symbols.is_empty(), "the map has no symbols");
        Ok(Self { symbols })
    }

    /// The symbols at an address.
    pub fn names_at(&self, address: u32) -> impl Iterator<Item = &str> {
        self.symbols
            .get(&address)
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// The functions in the image that exist for panics only.
    #[must_use]
    pub fn panics(&self) -> Vec<&str> {
        self.symbols
            .values()
            .flatten()
            .map(String::as_str)
            .filter(|name| is_panic(name))
            .collect()
    }

    /// Who calls them: every `call` and `jmp` with a 32-bit displacement in
    /// `code`, which lies at `address`, that ends at one of them.
    ///
    /// Code is not disassembled: each byte that could be such an instruction is
    /// taken for one. That it leads by accident to the first byte of just these
    /// functions is unlikely enough for a report.
    #[must_use]
    pub fn panic_calls(&self, code: &[u8], address: u32) -> Vec<PanicCall> {
        const CALL: u8 = 0xE8;
        const JMP: u8 = 0xE9;
        let mut calls = Vec::new();
        for (offset, bytes) in code.windows(5).enumerate() {
            let (CALL | JMP, [a, b, c, d]) = (bytes[0], [bytes[1], bytes[2], bytes[3], bytes[4]])
            else {
                continue;
            };
            let Ok(offset) = u32::try_from(offset) else {
                break;
            };
            let at = address.wrapping_add(offset);
            let target = at
                .wrapping_add(5)
                .wrapping_add_signed(i32::from_le_bytes([a, b, c, d]));
            let caller = self
                .symbols
                .range(..=at)
                .next_back()
                .and_then(|(_, names)| names.first())
                .map_or("?", String::as_str);
            calls.extend(
                self.names_at(target)
                    .filter(|name| is_panic(name))
                    .map(|panic| PanicCall {
                        panic: panic.to_owned(),
                        caller: caller.to_owned(),
                    }),
            );
        }
        calls.sort();
        calls.dedup();
        calls
    }
}

/// Whether a function (by its demangled name) is on the way to a panic: what
/// `core` and `alloc` call when something is wrong, and the handler itself.
fn is_panic(name: &str) -> bool {
    // Unwind tables have symbols of their own, named after their function.
    if name.starts_with(['$', '?']) || name.starts_with("anon.") {
        return false;
    }
    [
        "core::panicking::",
        "core::option::unwrap_failed",
        "core::option::expect_failed",
        "core::result::unwrap_failed",
        "core::slice::index::slice_",
        "core::slice::copy_from_slice_impl::len_mismatch_fail",
        "core::str::slice_error_fail",
        "core::cell::panic_already",
        "alloc::raw_vec::capacity_overflow",
        "alloc::raw_vec::handle_error",
        "alloc::alloc::handle_alloc_error",
        "rust_begin_unwind",
    ]
    .iter()
    .any(|start| name.starts_with(start))
        || name.ends_with("::rust_begin_unwind")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "\
 weir

 Preferred load address is 0000000180000000

 Start         Length     Name                   Class
 0001:00000000 00000190H .text                   CODE

  Address         Publics by Value              Rva+Base               Lib:Object

 0001:00000000       DriverEntry                0000000180001000     weir.o
 0001:00000010       _RNvNtCs8icZUrvfcq9_4core9panicking18panic_bounds_check 0000000180001010     core.o
 0001:00000020       FxDriverEntry              0000000180001020     WdfDriverEntry:fxdriverentry.obj
 0002:000008a8       $cppxdata$_RNvNtCs8icZUrvfcq9_4core9panicking18panic_nounwind_fmt 00000001800038a8     core.o

 entry point at         0001:00000020
";

    #[test]
    fn a_map_gives_names_by_address() {
        let map = Map::read(MAP).unwrap();
        assert_eq!(map.names_at(0x1020).collect::<Vec<_>>(), ["FxDriverEntry"]);
        assert_eq!(map.names_at(0x1021).count(), 0);
    }

    #[test]
    fn panics_are_found_and_their_tables_are_not() {
        let map = Map::read(MAP).unwrap();
        assert_eq!(map.panics(), ["core::panicking::panic_bounds_check"]);
    }

    #[test]
    fn a_call_is_put_to_the_function_it_is_in() {
        let map = Map::read(MAP).unwrap();
        // At 0x1004: call 0x1010, that is 0x1009 + 7.
        let code = [0x90, 0x90, 0x90, 0x90, 0xE8, 7, 0, 0, 0, 0xC3];
        let call = PanicCall {
            panic: "core::panicking::panic_bounds_check".into(),
            caller: "DriverEntry".into(),
        };
        assert_eq!(map.panic_calls(&code, 0x1000), [call]);
        assert_eq!(
            map.panic_calls(&code[1..], 0x1000),
            [],
            "another displacement"
        );
    }

    #[test]
    fn a_map_without_symbols_is_refused() {
        assert!(Map::read(" Preferred load address is 0000000180000000\n").is_err());
        assert!(Map::read("").is_err());
    }
}
