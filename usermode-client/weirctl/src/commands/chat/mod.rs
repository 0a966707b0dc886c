//! `weirctl chat`: a server and a client.
//!
//! The protocol is lines of UTF-8, so that `nc` is a client too. The first line
//! of a client is `join NAME ROOM`; after that a line is said to the room, and
//! one that starts with `/` is a command: `/room NAME`, `/who`, `/quit` (`//`
//! says a line that starts with `/`). Lines of the server start with `<NAME>`
//! for what somebody says, `*` for what happens, `=` for answers and `!` for
//! what is wrong. Who speaks faster than it may is told so, and its lines wait.

mod client;
mod hub;
mod line;
mod rate;
mod server;

use std::net::SocketAddr;

use clap::{Args, Subcommand};
use weir_client::Device;

pub(crate) use client::join;
pub(crate) use server::serve;

use crate::error::CtlError;
use crate::output::Output;
use crate::wire::place::PlaceArgs;

/// Bytes of a line, its end left out.
pub(crate) const MAX_LINE: usize = 1024;
/// Characters of a name, of a member or a room.
const MAX_NAME: usize = 32;

#[derive(Debug, Subcommand)]
pub(crate) enum ChatCommand {
    /// Serve rooms until Ctrl-C, of which the members are told
    ///
    /// Rooms come with their first member and go with their last. A line has at
    /// most 1024 bytes, a name at most 32 characters. Where it can't take anybody
    /// in for the moment it tries again, ever more slowly, and says so on standard
    /// error.
    Serve(ServeArgs),
    /// Join a room: what is typed is said, what is said is shown
    ///
    /// `/room NAME` goes to another room, `/who` asks who is there, `/quit`,
    /// the end of standard input or Ctrl-C leaves.
    Join(JoinArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ServeArgs {
    /// Where to listen, as 127.0.0.1:7 or [::1]:7; port 0 lets the driver choose
    #[arg(value_name = "ADDR:PORT", value_parser = crate::cli::address)]
    pub(crate) at: SocketAddr,
    /// Members at most
    #[arg(long, value_name = "N", default_value_t = 4096,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) members: u32,
    /// Lines that wait for a member that doesn't read, at most, and at most 4 MiB
    /// of them; one more, and it is thrown out
    #[arg(long, value_name = "LINES", default_value_t = 4096,
          value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub(crate) queue: u32,
    /// Lines a member may say a second, commands included, and five seconds' worth
    /// at once; what is more waits, and the member is told
    #[arg(long, value_name = "LINES", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// Bytes a member may say a second, likewise
    #[arg(long, value_name = "BYTES", default_value_t = 16_384,
          value_parser = clap::value_parser!(u32).range(1024..=1_000_000_000))]
    pub(crate) byte_rate: u32,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct JoinArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Your name: 1 to 32 letters, digits, '-', '_' or '.'
    #[arg(short, long, value_parser = name)]
    pub(crate) name: String,
    /// The room, named likewise
    #[arg(short, long, value_name = "NAME", default_value = "lobby", value_parser = name)]
    pub(crate) room: String,
}

/// A name that members and rooms can have, or what is wrong with it.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let long = text.chars().count() > MAX_NAME;
    if text.is_empty() || long || !text.chars().all(allowed) {
        return Err(format!(
            "a name has 1 to {MAX_NAME} letters, digits, '-', '_' or '.'; choose another"
        ));
    }
    Ok(text.to_owned())
}

/// Runs a `chat` command.
pub(crate) fn run(
    device: &Device,
    command: &ChatCommand,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    match command {
        ChatCommand::Serve(args) => serve(device, args, &*super::ctrl_c()?, out),
        ChatCommand::Join(args) => {
            let input = std::io::stdin();
            let terminal = std::io::IsTerminal::is_terminal(&input);
            join(device, args, input, terminal, &super::ctrl_c, out)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn names_are_words() {
        for good in ["a", "Zoë", "名前", "x-1_2.3", &"x".repeat(32)] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            " ",
            "a b",
            "a\n",
            "<a>",
            "/who",
            "a\u{202e}b",
            &"x".repeat(33),
        ] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }
}
