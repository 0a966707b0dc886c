//! What an image says of itself.

use anyhow::{Context, Result};
use object::LittleEndian as LE;
use object::pe;
use object::read::Object;
use object::read::pe::{ImageNtHeaders, ImageThunkData, Import as PeImport, PeFile64};

/// One imported function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The module's name, in lower case: Windows does not mind the case.
    pub module: String,
    /// The function's name, or `#n` for an import by ordinal.
    pub function: String,
}

/// One section of the image.
#[derive(Debug, Clone)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Its first address relative to the image base.
    pub address: u32,
    /// Its size in memory, in bytes.
    pub size: u32,
    /// `IMAGE_SCN_…` flags.
    pub characteristics: u32,
}

impl Section {
    /// Whether code in it may be executed.
    #[must_use]
    pub fn executable(&self) -> bool {
        self.characteristics & pe::IMAGE_SCN_MEM_EXECUTE != 0
    }

    /// Whether it may be written to.
    #[must_use]
    pub fn writable(&self) -> bool {
        self.characteristics & pe::IMAGE_SCN_MEM_WRITE != 0
    }

    pub(super) fn contains(&self, address: u32) -> bool {
        address >= self.address && address - self.address < self.size
    }
}

/// The debug symbols an image names as its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PdbIdentity {
    /// The GUID, in the byte order of the file.
    pub guid: [u8; 16],
    /// How often the pair was written since.
    pub age: u32,
    /// The file name.
    pub name: String,
}

/// What an image says of itself.
#[derive(Debug, Clone)]
pub struct Facts {
    /// `IMAGE_FILE_MACHINE_…`.
    pub machine: u16,
    /// `IMAGE_SUBSYSTEM_…`.
    pub subsystem: u16,
    /// `IMAGE_FILE_…`.
    pub file_characteristics: u16,
    /// `IMAGE_DLLCHARACTERISTICS_…`.
    pub dll_characteristics: u16,
    /// The entry point, relative to the image base.
    pub entry: u32,
    /// The sections, in order.
    pub sections: Vec<Section>,
    /// The imports, in order.
    pub imports: Vec<Import>,
    /// Sizes in bytes of the data directories, by index.
    pub directories: Vec<u32>,
    /// The checksum in the header.
    pub checksum: u32,
    /// The checksum of the bytes.
    pub computed_checksum: u32,
    /// The symbols that belong to it.
    pub pdb: Option<PdbIdentity>,
}

impl Facts {
    /// Reads an image.
    ///
    /// # Errors
    /// When the bytes are no 64-bit PE file, or a table of it is broken.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let file = PeFile64::parse(bytes).context("not a 64-bit PE image")?;
        let headers = file.nt_headers();
        let optional = headers.optional_header();
        let sections = file
            .section_table()
            .iter()
            .map(|section| Section {
                name: String::from_utf8_lossy(section.raw_name()).into_owned(),
                address: section.virtual_address.get(LE),
                size: section.virtual_size.get(LE),
                characteristics: section.characteristics.get(LE),
            })
            .collect();
        let pdb = file
            .pdb_info()
            .context("debug directory")?
            .map(|info| PdbIdentity {
                guid: info.guid(),
                age: info.age(),
                name: String::from_utf8_lossy(info.path()).into_owned(),
            });
        Ok(Self {
            machine: headers.file_header().machine.get(LE),
            subsystem: optional.subsystem.get(LE),
            file_characteristics: headers.file_header().characteristics.get(LE),
            dll_characteristics: optional.dll_characteristics.get(LE),
            entry: optional.address_of_entry_point.get(LE),
            sections,
            imports: imports(&file).context("import table")?,
            directories: file
                .data_directories()
                .iter()
                .map(|d| d.size.get(LE))
                .collect(),
            checksum: optional.check_sum.get(LE),
            computed_checksum: checksum(bytes, file.dos_header().nt_headers_offset()),
            pdb,
        })
    }

    pub(super) fn directory(&self, index: usize) -> u32 {
        self.directories.get(index).copied().unwrap_or(0)
    }
}

fn imports(file: &PeFile64<'_>) -> Result<Vec<Import>> {
    let mut found = Vec::new();
    let Some(table) = file.import_table()? else {
        return Ok(found);
    };
    let mut descriptors = table.descriptors()?;
    while let Some(descriptor) = descriptors.next()? {
        let module =
            String::from_utf8_lossy(table.name(descriptor.name.get(LE))?).to_ascii_lowercase();
        let mut thunks = table.thunks(descriptor.original_first_thunk.get(LE))?;
        while let Some(thunk) = thunks.next::<pe::ImageNtHeaders64>()? {
            let function = match table.import::<pe::ImageNtHeaders64>(thunk)? {
                PeImport::Ordinal(ordinal) => format!("#{ordinal}"),
                PeImport::Name(_, name) => String::from_utf8_lossy(name).into_owned(),
            };
            debug_assert_eq!(thunk.is_ordinal(), function.starts_with('#'));
            found.push(Import {
                module: module.clone(),
                function,
            });
        }
    }
    Ok(found)
}

/// The checksum of a PE file: 16-bit words added with the carry brought round,
/// the header's own field taken as zero, and the length added ("PE Format",
/// CheckSum; the algorithm is that of ImageHlp's CheckSumMappedFile).
fn checksum(bytes: &[u8], nt_headers: u32) -> u32 {
    // Signature (4), file header (20), and 64 bytes of the optional header.
    let field = nt_headers as usize + 4 + 20 + 64;
    let mut sum = 0u32;
    for (index, pair) in bytes.chunks(2).enumerate() {
        let at = index * 2;
        if at >= field && at < field + 4 {
            continue;
        }
        let word = u16::from_le_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        sum += u32::from(word);
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum.wrapping_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX))
}
