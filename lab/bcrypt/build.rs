//! No C runtime: the DLL has one import and wants no start-up code.

fn main() {
    if std::env::var("TARGET").is_ok_and(|t| t == "x86_64-pc-windows-gnu") {
        println!("cargo::rustc-link-arg-cdylib=-nostartfiles");
        println!("cargo::rustc-link-arg-cdylib=-Wl,--entry=DllMainCRTStartup");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
