//! `weirctl`: the command line of Weir.

mod bench;
mod cli;
mod commands;
mod error;
mod file;
mod offline;
mod output;
mod pcapng;
#[cfg(test)]
mod socket_tests;
#[cfg(test)]
mod steer_tests;
#[cfg(test)]
mod tests;
mod views;
mod wire;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::filter::LevelFilter;

use cli::Cli;
use output::{Lossy, Output};

fn main() -> ExitCode {
    let cli = Cli::parse();
    log(cli.verbose);
    let stdout = io::stdout().lock();
    let stdout: Box<dyn io::Write> = if cfg!(windows) && stdout.is_terminal() {
        Box::new(Lossy::new(stdout))
    } else {
        Box::new(stdout)
    };
    let mut out = Output::new(cli.json, stdout);
    match commands::run(&cli.command, &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        // `weirctl … | head` has seen enough.
        Err(error) if error.is_unread() => ExitCode::SUCCESS,
        Err(error) => {
            output::tell(&error);
            if let Err(lost) = out.error(&error)
                && !error::is_unread(&lost)
            {
                output::tell(&format_args!("writing the error failed too: {lost}"));
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Logs to standard error: warnings, with `-v` all but what comes with each
/// read, with `-vv` that too.
fn log(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level)
        .with_ansi(false)
        // Where standard error is closed, saying so there would panic.
        .log_internal_errors(false)
        .init();
}
