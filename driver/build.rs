//! Link arguments and cfg settings of a KMDF driver, from the package's
//! `metadata.wdk`. The WDK is found through `WDKContentRoot` or the registry;
//! off Windows `cargo xtask driver` puts a kit in its place.

fn main() -> Result<(), wdk_build::ConfigError> {
    wdk_build::configure_wdk_binary_build()
}
