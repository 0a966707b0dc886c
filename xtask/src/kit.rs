//! The stand-in WDK: `lab/kit` and Debian's DDK headers, laid out under
//! `target/weir/kit` the way wdk-build expects a WDK's content root.
//!
//! Everything is written only when its content changes, so that a second build
//! finds nothing newer than itself.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Debian 12 packages the cross build needs beside the Rust toolchain.
pub const DEBIAN_PACKAGES: &[&str] = &[
    "clang",
    "clang-tools",
    "libclang-dev",
    "llvm",
    "mingw-w64-common",
];

/// Rust targets the cross build needs: the driver's, and the client's.
pub const RUST_TARGETS: &[&str] = &["x86_64-pc-windows-msvc", "x86_64-pc-windows-gnu"];

/// The version the kit's headers are filed under; wdk-build wants a number of
/// this form and takes the highest it finds.
const SDK_VERSION: &str = "10.0.26100.0";

/// The KMDF version the driver is bound to, and the size of its function table.
const KMDF_VERSION: &str = "1.31";
const KMDF_FUNCTIONS: usize = 458;

/// Where mingw-w64-common puts its headers.
const MINGW_INCLUDE: &str = "/usr/share/mingw-w64/include";

/// The programs of LLVM that the kit and the C parts of wdk-sys are made with.
pub struct Tools {
    /// The C compiler with gcc's command line.
    pub clang: PathBuf,
    /// The same with MSVC's command line, as the `cc` crate wants for this target.
    pub clang_cl: PathBuf,
    /// Archives objects into a `.lib`.
    pub llvm_lib: PathBuf,
    /// Makes import libraries from `.def` files.
    pub llvm_dlltool: PathBuf,
}

/// The assembled kit.
pub struct Kit {
    /// What `WDKContentRoot` is to be set to.
    pub content_root: PathBuf,
    /// Further folders to find headers in: bindgen and `cc` are told of them
    /// through the environment.
    pub include_dirs: Vec<PathBuf>,
    /// The libraries a driver is linked with. Cargo knows nothing of them.
    pub libraries: Vec<PathBuf>,
}

/// Finds the tools, adds missing Rust targets, and says which Debian packages
/// to install when something is not there.
///
/// # Errors
/// When a tool or header is missing, or rustup cannot add a target.
pub fn ensure_tools() -> Result<Tools> {
    let find = |name: &str| {
        find_tool(name).with_context(|| {
            format!(
                "`{name}` was not found. Run `cargo xtask setup`, or install the packages: {}",
                DEBIAN_PACKAGES.join(" ")
            )
        })
    };
    let tools = Tools {
        clang: find("clang")?,
        clang_cl: find("clang-cl")?,
        llvm_lib: find("llvm-lib")?,
        llvm_dlltool: find("llvm-dlltool")?,
    };
    ensure!(
        Path::new(MINGW_INCLUDE).join("ddk/ntddk.h").is_file(),
        "the DDK headers are missing from {MINGW_INCLUDE}/ddk: install mingw-w64-common \
         (`cargo xtask setup` does)"
    );
    ensure_rust_targets()?;
    Ok(tools)
}

fn ensure_rust_targets() -> Result<()> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let rustlib = Path::new(sysroot.trim()).join("lib/rustlib");
    for target in RUST_TARGETS {
        if !rustlib.join(target).join("lib").is_dir() {
            run(Command::new("rustup").args(["target", "add", target]))?;
        }
    }
    Ok(())
}

/// `name` on the PATH, or in one of LLVM's own folders, the newest first (Debian
/// keeps some tools there only).
fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut llvm: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry
                .file_name()
                .to_str()?
                .strip_prefix("llvm-")?
                .parse()
                .ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    llvm.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    std::env::split_paths(&path)
        .chain(llvm.into_iter().map(|(_, dir)| dir))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

/// Lays out the kit from `source` (the repository's `lab/kit`) in `root`.
///
/// # Errors
/// When the sources disagree with themselves (the function table's size or
/// order), or a tool fails.
pub fn assemble(source: &Path, root: &Path, tools: &Tools) -> Result<Kit> {
    let km = root.join("Include").join(SDK_VERSION).join("km");
    let wdf = root.join("Include/wdf/kmdf").join(KMDF_VERSION);
    let km_lib = root.join("Lib").join(SDK_VERSION).join("km/x64");
    let wdf_lib = root.join("Lib/wdf/kmdf/x64").join(KMDF_VERSION);
    // wdk-build insists on these even when nothing is in them.
    let shared = root.join("Include").join(SDK_VERSION).join("shared");
    for dir in [
        &km.join("crt"),
        &km.join("ufx/1.1"),
        &shared,
        &wdf,
        &km_lib,
        &wdf_lib,
    ] {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    }

    copy_headers(&source.join("include/km"), &km)?;
    copy_headers(&source.join("include/wdf"), &wdf)?;
    // Ahead of clang's own, as wdk-build puts the CRT's folder first.
    copy_headers(&source.join("include/crt"), &km.join("crt"))?;
    let table = fs::read_to_string(source.join("kmdf-1.31.csv"))?;
    write_if_changed(&wdf.join("wdffunctions.h"), &function_table_header(&table)?)?;

    let mut kit = Kit {
        content_root: root.to_owned(),
        include_dirs: vec![
            PathBuf::from(MINGW_INCLUDE),
            Path::new(MINGW_INCLUDE).join("ddk"),
        ],
        libraries: Vec::new(),
    };

    for (def, dir, lib) in [
        ("ntoskrnl", &km_lib, "ntoskrnl.lib"),
        ("hal", &km_lib, "hal.lib"),
        ("wmilib", &km_lib, "wmilib.lib"),
        (
            "BufferOverflowFastFailK",
            &km_lib,
            "BufferOverflowFastFailK.lib",
        ),
        ("wdfldr", &wdf_lib, "WdfLdr.lib"),
    ] {
        let def = source.join("def").join(format!("{def}.def"));
        let lib = dir.join(lib);
        kit.libraries.push(lib.clone());
        if newer(&lib, &[&def])? {
            continue;
        }
        run(Command::new(&tools.llvm_dlltool)
            .args(["-m", "i386:x86-64", "-d"])
            .arg(&def)
            .arg("-l")
            .arg(&lib))?;
    }
    let stub = wdf_lib.join("WdfDriverEntry.lib");
    build_entry_stub(source, root, &km, &wdf, &stub, &kit, tools)?;
    kit.libraries.push(stub);
    Ok(kit)
}

/// `lib`, WdfDriverEntry.lib: the image's entry point, and the owner of the table.
fn build_entry_stub(
    source: &Path,
    root: &Path,
    km: &Path,
    wdf: &Path,
    lib: &Path,
    kit: &Kit,
    tools: &Tools,
) -> Result<()> {
    let c = source.join("stub/fxdriverentry.c");
    let mut inputs = vec![c.clone()];
    for dir in [km, wdf] {
        inputs.extend(fs::read_dir(dir)?.flatten().map(|entry| entry.path()));
    }
    inputs.retain(|path| path.is_file());
    if newer(
        lib,
        &inputs.iter().map(PathBuf::as_path).collect::<Vec<_>>(),
    )? {
        return Ok(());
    }
    let object = root.join("fxdriverentry.obj");
    let (major, minor) = KMDF_VERSION.split_once('.').context("KMDF version")?;
    let mut clang = Command::new(&tools.clang);
    clang
        .args([
            "--target=x86_64-pc-windows-msvc",
            "-c",
            "-O2",
            "-g",
            "-gcodeview",
        ])
        .args([
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-ignored-attributes",
            "-Wno-ignored-pragma-intrinsic",
        ])
        // No folder of the build machine in the symbols.
        .arg(format!("-ffile-prefix-map={}=lab/kit", source.display()))
        .arg("-fdebug-compilation-dir=.")
        .args([
            "-fms-compatibility",
            "-fms-extensions",
            "-fno-stack-protector",
        ])
        .args(["-D_WIN64", "-D_AMD64_", "-DAMD64", "-D_KERNEL_MODE"])
        .arg(format!("-DKMDF_VERSION_MAJOR={major}"))
        .arg(format!("-DKMDF_VERSION_MINOR={minor}"));
    for dir in &kit.include_dirs {
        clang.arg("-isystem").arg(dir);
    }
    clang
        .arg("-I")
        .arg(km.join("crt"))
        .arg("-I")
        .arg(km)
        .arg("-I")
        .arg(wdf)
        .arg(&c)
        .arg("-o")
        .arg(&object);
    run(&mut clang)?;
    run(Command::new(&tools.llvm_lib)
        .arg(format!("/out:{}", lib.display()))
        .arg(&object))
}

/// The enum of table indexes and one `PFN_` type a function.
///
/// The columns are `index,name,since,returns,parameters`, parameters separated
/// by `;` and without the driver globals, which every function takes first. A
/// function without a return type is a private slot: it has an index and no type.
fn function_table_header(csv: &str) -> Result<String> {
    let mut indexes = String::new();
    let mut types = String::new();
    let mut count = 0usize;
    for line in csv.lines().skip(1) {
        let mut fields = line.splitn(5, ',');
        let mut field = |what: &str| {
            fields
                .next()
                .with_context(|| format!("kmdf-1.31.csv, `{line}`: no {what}"))
        };
        let index: usize = field("index")?.parse().context("kmdf-1.31.csv: index")?;
        let name = field("name")?;
        let _since = field("version")?;
        let returns = field("return type")?;
        let parameters = field("parameters")?;
        ensure!(
            index == count,
            "kmdf-1.31.csv: {name} has index {index}, but it is entry {count}"
        );
        count += 1;
        writeln!(indexes, "    {name}TableIndex = {index},")?;
        if returns.is_empty() {
            continue;
        }
        write!(
            types,
            "typedef {returns} (NTAPI *PFN_{})(PWDF_DRIVER_GLOBALS DriverGlobals",
            name.to_uppercase()
        )?;
        for parameter in parameters
            .split(';')
            .map(str::trim)
            .filter(|p| !p.is_empty())
        {
            write!(types, ", {parameter}")?;
        }
        types.push_str(");\n");
    }
    ensure!(
        count == KMDF_FUNCTIONS,
        "kmdf-1.31.csv has {count} functions; KMDF {KMDF_VERSION} has {KMDF_FUNCTIONS}, and the \
         loader refuses any other number"
    );
    Ok(format!(
        "/* Made from lab/kit/kmdf-1.31.csv. */\n\
         #ifndef KIT_WDFFUNCTIONS_H\n#define KIT_WDFFUNCTIONS_H\n\n\
         typedef enum _WDFFUNCENUM {{\n{indexes}    WdfFunctionTableNumEntries = {count},\n\
         }} WDFFUNCENUM;\n\n{types}\n#endif\n"
    ))
}

fn copy_headers(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let text = fs::read_to_string(entry.path())?;
        write_if_changed(&to.join(entry.file_name()), &text)?;
    }
    Ok(())
}

/// Writes `text` unless the file already says just that, so that its time of
/// change means something to cargo.
///
/// # Errors
/// When the file cannot be written.
pub fn write_if_changed(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Whether `output` exists and none of `inputs` was changed after it.
pub(crate) fn newer(output: &Path, inputs: &[&Path]) -> Result<bool> {
    let Ok(made) = fs::metadata(output).and_then(|meta| meta.modified()) else {
        return Ok(false);
    };
    for input in inputs {
        let changed = fs::metadata(input)
            .and_then(|meta| meta.modified())
            .with_context(|| format!("reading {}", input.display()))?;
        if changed > made {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

/// Runs a command and returns what it printed.
///
/// # Errors
/// When it cannot be started, fails, or prints what is not UTF-8.
pub fn output(command: &mut Command) -> Result<String> {
    let out = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    if !out.status.success() {
        bail!(
            "{command:?} failed: {}\n{}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        );
    }
    String::from_utf8(out.stdout).with_context(|| format!("{command:?} printed no UTF-8"))
}
