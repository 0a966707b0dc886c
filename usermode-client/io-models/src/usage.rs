//! What a process costs: processor time and memory.

use std::io;
use std::time::Duration;

/// What a process has used up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all its threads, in user mode and in the kernel.
    pub cpu: Duration,
    /// Bytes of memory that only it has: private pages on Windows (resident ones
    /// under Wine), resident ones not of a file on Linux.
    pub memory: u64,
}

impl Usage {
    /// What the process with this id has used.
    ///
    /// # Errors
    /// There is no such process, or it may not be asked.
    pub fn of(process: u32) -> io::Result<Usage> {
        system::usage(process)
    }

    /// What this process has used.
    ///
    /// # Errors
    /// The system doesn't tell.
    pub fn own() -> io::Result<Usage> {
        Usage::of(std::process::id())
    }
}

/// A process that others' costs are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its id.
    pub process: u32,
    /// Its program.
    pub name: String,
}

impl Named {
    /// Whether its memory has that of the drivers in it. Windows' own process has
    /// drivers' threads, but their memory is pool, which is no process's.
    #[must_use]
    pub fn has_drivers_memory(&self) -> bool {
        self.name != SYSTEM
    }
}

/// The name of the process of Windows' kernel, in which drivers' threads are.
pub const SYSTEM: &str = "System";
/// Its id on Windows.
pub const SYSTEM_ID: u32 = 4;

/// The processes where drivers run, as far as they can be found and asked: on
/// Windows the system's own; under Wine those that host drivers. On Linux those of
/// the Wine prefix that the environment names, and Wine's server, in which much of
/// what is Windows' kernel runs.
#[must_use]
pub fn of_drivers() -> Vec<Named> {
    let mut found = system::of_drivers();
    found.retain(|named| Usage::of(named.process).is_ok());
    found
}

/// Wine's program that hosts drivers.
const WINE_HOST: &str = "winedevice.exe";

#[cfg(windows)]
mod system {
    use super::{Named, SYSTEM, SYSTEM_ID, Usage, WINE_HOST, io};
    use crate::raw::process::{self, Process};

    pub(super) fn of_drivers() -> Vec<Named> {
        let all = process::all().unwrap_or_default();
        let hosts = all.into_iter();
        let hosts = hosts.filter(|(_, name)| name.eq_ignore_ascii_case(WINE_HOST));
        let mut found: Vec<Named> = hosts
            .map(|(process, name)| Named { process, name })
            .collect();
        if found.is_empty() {
            found.push(Named {
                process: SYSTEM_ID,
                name: SYSTEM.to_owned(),
            });
        }
        found
    }

    pub(super) fn usage(process: u32) -> io::Result<Usage> {
        let process = Process::open(process)?;
        Ok(Usage {
            cpu: process.cpu()?,
            memory: process.memory()?,
        })
    }
}

#[cfg(not(windows))]
mod system {
    use super::{Duration, Named, Usage, WINE_HOST, io};
    use std::env;
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::PathBuf;

    /// Wine's server.
    const WINE_SERVER: &str = "wineserver";

    /// The Wine prefix that the environment names.
    fn prefix() -> Option<PathBuf> {
        let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".wine"));
        env::var_os("WINEPREFIX").map(PathBuf::from).or_else(home)
    }

    pub(super) fn of_drivers() -> Vec<Named> {
        let Some(inode) = prefix().and_then(|path| fs::metadata(path).ok()) else {
            return Vec::new();
        };
        let inode = inode.ino();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let named = |entry: fs::DirEntry| {
            let process = entry.file_name().to_str()?.parse().ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let program = String::from_utf8_lossy(command.split(|byte| *byte == 0).next()?);
            let name = program.rsplit(['/', '\\']).next()?.to_owned();
            let mine = if name.eq_ignore_ascii_case(WINE_HOST) {
                let environment = fs::read(entry.path().join("environ")).ok()?;
                let mut variables = environment.split(|byte| *byte == 0);
                let own = variables.find_map(|v| v.strip_prefix(b"WINEPREFIX="));
                let own =
                    own.and_then(|own| fs::metadata(String::from_utf8_lossy(own).as_ref()).ok());
                own.is_some_and(|own| own.ino() == inode)
            } else if name.starts_with(WINE_SERVER) {
                // It is in a folder named after the prefix's device and inode.
                let folder = fs::read_link(entry.path().join("cwd")).ok()?;
                folder.to_string_lossy().ends_with(&format!("-{inode:x}"))
            } else {
                false
            };
            mine.then_some(Named { process, name })
        };
        processes.filter_map(named).collect()
    }

    /// proc(5): clock ticks are 1/100 s wherever Linux runs programs
    /// (USER_HZ).
    const TICK: Duration = Duration::from_millis(10);

    pub(super) fn usage(process: u32) -> io::Result<Usage> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let strange = || io::Error::new(io::ErrorKind::InvalidData, "proc is not as proc(5) says");
        Ok(Usage {
            cpu: cpu(&stat).ok_or_else(strange)?,
            memory: memory(&status).ok_or_else(strange)?,
        })
    }

    /// The 14th and 15th field, user and system time. The second, the name, is
    /// in parentheses and may have any character in it.
    fn cpu(stat: &str) -> Option<Duration> {
        let (_, after) = stat.rsplit_once(')')?;
        let mut fields = after.split_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u32>().ok();
        Some(TICK * (ticks()? + ticks()?))
    }

    /// `RssAnon`, in KiB.
    fn memory(status: &str) -> Option<u64> {
        let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_name_with_parentheses_hides_no_field() {
            let stat = "7 (a) (b)) S 1 7 7 0 -1 4 100 0 0 0 250 50 0 0 20 0 1 0 5 1 1";
            assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
            assert_eq!(memory("Name:\tx\nRssAnon:\t     12 kB\n"), Some(12 * 1024));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_memory_are_seen() {
        let before = Usage::own().expect("known");
        let mut held = vec![0_u8; 32 << 20];
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(100) {
            held.fill(start.elapsed().subsec_micros() as u8);
            std::hint::black_box(&mut held);
        }
        let after = Usage::own().expect("known");
        // Other tests run beside it, so it is at least that much.
        assert!(after.cpu > before.cpu, "{before:?} {after:?}");
        assert!(
            after.memory >= before.memory + (16 << 20),
            "{before:?} {after:?}"
        );
        drop(held);
    }
}
