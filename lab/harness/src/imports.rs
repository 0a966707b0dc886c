//! Sends a driver's imports to the stand-ins.
//!
//! Only the DLL names in the import directory of a *copy* change, in place and
//! to a name no longer than they had; every other byte is the image that ships.

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, PeFile64};

use crate::{Error, Result};

/// The module that stands in for all that a driver imports from.
pub const STAND_IN: &str = "lab.sys";

/// A copy of `image` in which every imported DLL is [`STAND_IN`].
///
/// # Errors
/// The image is not a 64-bit PE file, or a DLL name in it is shorter than the
/// stand-in's.
pub fn redirect_imports(image: &[u8]) -> Result<Vec<u8>> {
    let bad = |e: object::Error| Error::Image(e.to_string());
    let pe = PeFile64::parse(image).map_err(bad)?;
    let sections = pe.section_table();
    let Some(directory) = pe.data_directories().get(pe::IMAGE_DIRECTORY_ENTRY_IMPORT) else {
        return Err(Error::Image("it has no import directory".into()));
    };
    let rva = directory.virtual_address.get(LE);
    let mut copy = image.to_vec();
    let file_offset = |rva: u32| {
        sections
            .pe_file_range_at(rva)
            .map(|(offset, _)| offset as usize)
            .ok_or_else(|| Error::Image(format!("RVA {rva:#x} lies in no section")))
    };
    let table = file_offset(rva)?;
    // IMAGE_IMPORT_DESCRIPTOR: 20 bytes, the name's RVA at 12; a zero one ends the table.
    for descriptor in image.get(table..).unwrap_or_default().chunks_exact(20) {
        let name_rva = u32::from_le_bytes([
            descriptor[12],
            descriptor[13],
            descriptor[14],
            descriptor[15],
        ]);
        if name_rva == 0 {
            break;
        }
        let at = file_offset(name_rva)?;
        let name = image.get(at..).unwrap_or_default();
        let length = name
            .iter()
            .position(|&b| b == 0)
            .ok_or_else(|| Error::Image("a DLL name does not end".into()))?;
        if length < STAND_IN.len() {
            let name = String::from_utf8_lossy(&name[..length]).into_owned();
            return Err(Error::Image(format!("{name} is shorter than {STAND_IN}")));
        }
        let place = &mut copy[at..at + length];
        place.fill(0);
        place[..STAND_IN.len()].copy_from_slice(STAND_IN.as_bytes());
    }
    debug_assert_eq!(
        pe.nt_headers().optional_header().magic(),
        pe::IMAGE_NT_OPTIONAL_HDR64_MAGIC
    );
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_image_is_refused() {
        assert!(matches!(redirect_imports(b"MZ"), Err(Error::Image(_))));
        assert!(matches!(redirect_imports(&[]), Err(Error::Image(_))));
    }
}
