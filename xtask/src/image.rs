//! Is this image one that Windows would load into its kernel, and ours?
//!
//! [`Facts`] is what the file says of itself; [`check`] holds it against what a
//! driver must be. Both read bytes and nothing else, so that a test can alter
//! the bytes and see the check refuse them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use object::LittleEndian as LE;
use object::pe;
use object::read::pe::PeFile64;

mod facts;
mod symbols;

pub use facts::{Facts, Import, PdbIdentity, Section};
use symbols::PdbOwner;
pub use symbols::{Map, PanicCall};

/// `MODULE FUNCTION` lines: what the driver may import.
const IMPORTS: &str = include_str!("image/imports.txt");

/// The modules a driver of this kind has any business with. Asked apart from
/// [`IMPORTS`], so that a line added there by mistake is not enough.
const MODULES: &[&str] = &[
    "ntoskrnl.exe",
    "hal.dll",
    "wdfldr.sys",
    "ndis.sys",
    "netio.sys",
];

/// One thing that was looked at.
#[derive(Debug, Clone)]
pub struct Check {
    /// What it is about; stable, for tests to name.
    pub name: &'static str,
    /// What was found.
    pub found: String,
    /// What is wrong with that, and what to do.
    pub problem: Option<String>,
}

/// What a build leaves beside the image, as far as it is there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'a> {
    /// The PDB's bytes.
    pub pdb: Option<&'a [u8]>,
    /// The linker's map.
    pub map: Option<&'a Map>,
}

/// Holds an image, and what is beside it, against what the driver must be.
///
/// # Errors
/// When the PDB cannot be read at all.
pub fn check(facts: &Facts, beside: Beside<'_>) -> Result<Vec<Check>> {
    let mut checks = header_checks(facts);
    checks.extend(import_checks(facts));
    checks.extend(section_checks(facts));
    checks.push(pdb_check(facts, beside.pdb)?);
    checks.extend(map_checks(facts, beside.map));
    Ok(checks)
}

fn verdict(name: &'static str, found: String, problem: Option<String>) -> Check {
    Check {
        name,
        found,
        problem,
    }
}

fn header_checks(facts: &Facts) -> Vec<Check> {
    let machine = (facts.machine != pe::IMAGE_FILE_MACHINE_AMD64)
        .then(|| "the driver is for x86-64 (0x8664)".to_owned());
    let subsystem = (facts.subsystem != pe::IMAGE_SUBSYSTEM_NATIVE)
        .then(|| "kernel images are of the native subsystem (1)".to_owned());
    let flag = |name, mask: u16, why: &str| {
        let set = facts.dll_characteristics & mask != 0;
        verdict(
            name,
            if set { "set" } else { "not set" }.into(),
            (!set).then(|| why.to_owned()),
        )
    };
    let relocatable = facts.file_characteristics & pe::IMAGE_FILE_RELOCS_STRIPPED == 0
        && facts.directory(pe::IMAGE_DIRECTORY_ENTRY_BASERELOC) != 0;
    let foreign = [
        (pe::IMAGE_DIRECTORY_ENTRY_TLS, "thread-local storage"),
        (pe::IMAGE_DIRECTORY_ENTRY_DELAY_IMPORT, "delayed imports"),
        (pe::IMAGE_DIRECTORY_ENTRY_BOUND_IMPORT, "bound imports"),
        (pe::IMAGE_DIRECTORY_ENTRY_COM_DESCRIPTOR, "a CLR header"),
    ]
    .into_iter()
    .filter(|(index, _)| facts.directory(*index) != 0)
    .map(|(_, what)| what)
    .collect::<Vec<_>>();
    vec![
        verdict("machine", format!("{:#06x}", facts.machine), machine),
        verdict("subsystem", facts.subsystem.to_string(), subsystem),
        flag(
            "nx",
            pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT,
            "link with /NXCOMPAT",
        ),
        flag(
            "aslr",
            pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE,
            "link with /DYNAMICBASE",
        ),
        flag(
            "aslr-64",
            pe::IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA,
            "link with /HIGHENTROPYVA",
        ),
        verdict(
            "relocations",
            format!(
                "{} bytes",
                facts.directory(pe::IMAGE_DIRECTORY_ENTRY_BASERELOC)
            ),
            (!relocatable).then(|| "an image without relocations loads at one address only".into()),
        ),
        verdict(
            "directories",
            if foreign.is_empty() {
                "none foreign".into()
            } else {
                foreign.join(", ")
            },
            (!foreign.is_empty()).then(|| "the kernel's loader does not know these".into()),
        ),
        verdict(
            "checksum",
            format!("{:#x}", facts.checksum),
            (facts.checksum != facts.computed_checksum).then(|| {
                format!(
                    "the bytes sum to {:#x}: the kernel's loader refuses an image that was altered \
                     after linking, or linked without /RELEASE",
                    facts.computed_checksum
                )
            }),
        ),
    ]
}

fn import_checks(facts: &Facts) -> Vec<Check> {
    let mut modules: Vec<&str> = facts.imports.iter().map(|i| i.module.as_str()).collect();
    modules.dedup();
    let strange: Vec<&str> = modules
        .iter()
        .copied()
        .filter(|module| !MODULES.contains(module))
        .collect();
    let known = |import: &&Import| {
        IMPORTS
            .lines()
            .filter_map(|line| line.split_once(' '))
            .any(|(module, function)| module == import.module && function == import.function)
    };
    let unknown: Vec<String> = facts
        .imports
        .iter()
        .filter(|import| !known(import))
        .map(|import| format!("{}!{}", import.module, import.function))
        .collect();
    let bound = ["WdfVersionBind", "WdfVersionUnbind"].iter().all(|name| {
        facts
            .imports
            .iter()
            .any(|i| i.module == "wdfldr.sys" && i.function == *name)
    });
    vec![
        verdict(
            "modules",
            modules.join(", "),
            (!strange.is_empty())
                .then(|| format!("a kernel driver cannot import from {}", strange.join(", "))),
        ),
        verdict(
            "imports",
            format!("{} functions", facts.imports.len()),
            (!unknown.is_empty()).then(|| {
                format!(
                    "not in xtask/src/image/imports.txt, so neither agreed on nor in the lab: {}",
                    unknown.join(", ")
                )
            }),
        ),
        verdict(
            "kmdf",
            if bound {
                "binds and unbinds"
            } else {
                "not bound"
            }
            .into(),
            (!bound).then(|| "FxDriverEntry of WdfDriverEntry.lib is not in the image".into()),
        ),
    ]
}

fn section_checks(facts: &Facts) -> Vec<Check> {
    let listing = facts
        .sections
        .iter()
        .map(|section| {
            let access = match (section.writable(), section.executable()) {
                (true, true) => "wx",
                (true, false) => "w",
                (false, true) => "x",
                (false, false) => "r",
            };
            format!("{}:{access}", section.name.trim_end_matches('\0'))
        })
        .collect::<Vec<_>>()
        .join(" ");
    let both = facts
        .sections
        .iter()
        .any(|section| section.writable() && section.executable());
    let home = facts
        .sections
        .iter()
        .find(|section| section.contains(facts.entry));
    let entry_ok = facts.entry != 0 && home.is_some_and(Section::executable);
    vec![
        verdict(
            "sections",
            listing,
            both.then(|| "a section is writable and executable: HVCI refuses the image".into()),
        ),
        verdict(
            "entry",
            format!(
                "{:#x} in {}",
                facts.entry,
                home.map_or("no section", |section| section.name.trim_end_matches('\0'))
            ),
            (!entry_ok).then(|| "the entry point is not in code".into()),
        ),
    ]
}

fn pdb_check(facts: &Facts, pdb: Option<&[u8]>) -> Result<Check> {
    let Some(identity) = &facts.pdb else {
        let problem = "the image names no PDB: build it with debug information";
        return Ok(verdict("pdb", "none named".into(), Some(problem.into())));
    };
    let Some(pdb) = pdb else {
        let problem = "there is no such file beside the image";
        return Ok(verdict("pdb", identity.name.clone(), Some(problem.into())));
    };
    let owner = PdbOwner::read(pdb)?;
    let problem = if owner.guid != identity.guid || owner.age != identity.age {
        Some("it belongs to another build: its GUID or age differ")
    } else if identity.name.contains(['/', '\\']) {
        Some("the image names it with a folder of the build machine")
    } else {
        None
    };
    let guid: String = identity
        .guid
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let found = format!("{} {guid} age {}", identity.name, identity.age);
    Ok(verdict("pdb", found, problem.map(str::to_owned)))
}

fn map_checks(facts: &Facts, map: Option<&Map>) -> Vec<Check> {
    let Some(map) = map else {
        let problem = "there is no map beside the image: which functions are in it is not known";
        return vec![verdict("panics", "unknown".into(), Some(problem.into()))];
    };
    let entry = map.names_at(facts.entry).collect::<Vec<_>>().join(", ");
    let entry_problem = (entry != "FxDriverEntry")
        .then(|| "the entry point is to be the framework's FxDriverEntry".to_owned());
    let panics = map.panics();
    let panics_problem = (!panics.is_empty()).then(|| {
        format!(
            "a panic in the kernel stops the machine; linked in: {}",
            panics.join(", ")
        )
    });
    vec![
        verdict("entry-symbol", entry, entry_problem),
        verdict(
            "panics",
            format!("{} functions that panic", panics.len()),
            panics_problem,
        ),
    ]
}

/// Who in the image calls functions that panic.
///
/// # Errors
/// When the bytes are no image.
pub fn panic_calls(bytes: &[u8], map: &Map) -> Result<Vec<PanicCall>> {
    let file = PeFile64::parse(bytes).context("not a 64-bit PE image")?;
    let mut calls = Vec::new();
    for section in file.section_table().iter() {
        if section.characteristics.get(LE) & pe::IMAGE_SCN_MEM_EXECUTE != 0 {
            let code = section
                .pe_data(bytes)
                .context("section outside of the file")?;
            calls.extend(map.panic_calls(code, section.virtual_address.get(LE)));
        }
    }
    Ok(calls)
}

/// Reads an image and what lies beside it under the same name, and checks it.
///
/// # Errors
/// When the image cannot be read.
pub fn check_file(path: &Path) -> Result<(Vec<Check>, Vec<PanicCall>)> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let facts = Facts::read(&bytes).with_context(|| path.display().to_string())?;
    let pdb = fs::read(path.with_extension("pdb")).ok();
    let map = match fs::read_to_string(path.with_extension("map")) {
        Ok(text) => Some(Map::read(&text)?),
        Err(_) => None,
    };
    let checks = check(
        &facts,
        Beside {
            pdb: pdb.as_deref(),
            map: map.as_ref(),
        },
    )?;
    let calls = map
        .map(|map| panic_calls(&bytes, &map))
        .transpose()?
        .unwrap_or_default();
    Ok((checks, calls))
}

/// Prints the table for `path`, and who calls what panics.
///
/// # Errors
/// When the image cannot be read, or is not what it must be.
pub fn run(path: &Path) -> Result<()> {
    let (checks, calls) = check_file(path)?;
    print!("{}", table(&checks));
    for call in &calls {
        println!("  {} calls {}", call.caller, call.panic);
    }
    let failed = checks
        .iter()
        .filter(|check| check.problem.is_some())
        .count();
    ensure!(failed == 0, "{}: {failed} checks failed", path.display());
    Ok(())
}

/// A table of the checks; lines of what is wrong after it.
#[must_use]
pub fn table(checks: &[Check]) -> String {
    let width = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let mark = if check.problem.is_some() {
            "FAIL"
        } else {
            "ok"
        };
        text.push_str(&format!(
            "{mark:<5} {:<width$}  {}\n",
            check.name, check.found
        ));
    }
    for check in checks {
        if let Some(problem) = &check.problem {
            text.push_str(&format!("\n{}: {problem}\n", check.name));
        }
    }
    text
}
