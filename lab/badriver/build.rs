//! Link arguments of a kernel image: native, an entry of its own, no libraries.

fn main() {
    let target = std::env::var("TARGET").unwrap_or_default();
    if target != "x86_64-pc-windows-msvc" {
        return;
    }
    for argument in [
        "/SUBSYSTEM:NATIVE",
        "/DRIVER",
        "/ENTRY:DriverMain",
        "/NODEFAULTLIB",
        "/NXCOMPAT",
        "/DYNAMICBASE",
        "/MAP",
    ] {
        println!("cargo::rustc-link-arg-cdylib={argument}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
