//! Names for addresses, from the linker's map file beside an image.

use std::path::Path;

use crate::{Error, Result};

/// The public symbols of an image by relative virtual address.
#[derive(Debug, Default)]
pub struct SymbolMap {
    /// Sorted by address.
    symbols: Vec<(u64, String)>,
}

impl SymbolMap {
    /// Reads a map file as `link.exe` and `lld-link` write it.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::file(path))?;
        Ok(Self::parse(&text))
    }

    /// Reads the text of a map file. Lines it doesn't know are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let base = text
            .lines()
            .find_map(|l| l.trim().strip_prefix("Preferred load address is"))
            .and_then(|v| u64::from_str_radix(v.trim(), 16).ok())
            .unwrap_or(0);
        let mut symbols: Vec<(u64, String)> = text
            .lines()
            .filter_map(|line| {
                // " 0001:00000010       name       0000000140001010     object"
                let mut words = line.split_whitespace();
                let place = words.next()?;
                let name = words.next()?;
                let address = words.next()?;
                if place.len() != 13
                    || place.as_bytes().get(4) != Some(&b':')
                    || address.len() != 16
                {
                    return None;
                }
                let address = u64::from_str_radix(address, 16).ok()?;
                Some((address.checked_sub(base)?, name.to_owned()))
            })
            .collect();
        symbols.sort();
        Self { symbols }
    }

    /// `name+0xOFFSET` for a relative virtual address, if a symbol precedes it.
    #[must_use]
    pub fn name(&self, rva: u64) -> Option<String> {
        let after = self.symbols.partition_point(|(at, _)| *at <= rva);
        let (at, name) = self.symbols.get(after.checked_sub(1)?)?;
        Some(format!("{name}+{:#x}", rva - at))
    }

    /// `module+0xRVA` with the symbol's name in front where it is known.
    #[must_use]
    pub fn describe(&self, caller: &str) -> String {
        caller
            .rsplit_once("+0x")
            .and_then(|(_, rva)| u64::from_str_radix(rva, 16).ok())
            .and_then(|rva| self.name(rva))
            .map_or_else(|| caller.to_owned(), |name| format!("{name} ({caller})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = " weir\n Preferred load address is 0000000140000000\n\n  Address         Publics by Value              Rva+Base               Lib:Object\n\n 0001:00000000       DriverEntry                0000000140001000     weir.o\n 0001:00000040       frame_in                   0000000140001040     weir.o\n";

    #[test]
    fn addresses_get_the_symbol_before_them() {
        let map = SymbolMap::parse(MAP);
        assert_eq!(map.name(0x1000).as_deref(), Some("DriverEntry+0x0"));
        assert_eq!(map.name(0x1044).as_deref(), Some("frame_in+0x4"));
        assert_eq!(map.name(0x10), None);
        assert_eq!(
            map.describe("weir.sys+0x1044"),
            "frame_in+0x4 (weir.sys+0x1044)"
        );
        assert_eq!(map.describe("elsewhere"), "elsewhere");
    }
}
