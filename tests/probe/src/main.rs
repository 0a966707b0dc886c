//! `probe.exe`: works the driver's sockets by bare NT calls, and where the client
//! library is what is looked at, by that. Each command prints a
//! line for what it has seen, and ends with an exit code other than 0, and why,
//! at the first thing that isn't as the contract says.

#[cfg(windows)]
mod asked;
#[cfg(windows)]
mod given_up;
#[cfg(windows)]
mod io;
#[cfg(windows)]
mod race;
#[cfg(windows)]
mod sends;
#[cfg(windows)]
mod smoke;
#[cfg(windows)]
mod socket;

#[cfg(windows)]
fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().expect("a number");
    match words.as_slice() {
        ["tcp"] => smoke::tcp(),
        ["udp"] => smoke::udp(),
        ["names"] => smoke::names(),
        ["bounds"] => smoke::bounds(),
        ["refused"] => smoke::refused(),
        ["asked"] => asked::asked(),
        ["survive"] => smoke::survive(),
        ["failed", how] => asked::failed(how),
        ["given-up", how] => given_up::given_up(how),
        ["passed-on"] => given_up::passed_on(),
        ["opens", what] => given_up::opens(what),
        ["late"] => given_up::late(),
        ["both-or-none"] => given_up::both_or_none(),
        ["service", name] => smoke::service(name),
        ["dual", address] => smoke::dual(address.parse().expect("an address")),
        ["judged", port, how] => {
            smoke::judged(port.parse().expect("a port"), *how == "asked");
        }
        ["count"] => println!("{}", socket::list(100).len()),
        ["cancel-reads", rounds] => race::cancel_reads(number(rounds)),
        ["asked-one-by-one", count] => asked::one_by_one(number(count)),
        ["cancel-accepts", rounds] => race::cancel_accepts(number(rounds), false),
        ["cancel-asked", rounds] => race::cancel_accepts(number(rounds), true),
        ["close-asked", rounds] => race::close_asked(number(rounds)),
        ["cancel-connects", rounds] => race::cancel_connects(number(rounds)),
        ["hold", count] => race::hold(number(count)),
        ["hold-asked", count] => race::hold_asked(number(count)),
        ["sends", address, count] => {
            sends::sends(address.parse().expect("an address"), number(count) as u32);
        }
        ["churn", address] => race::churn(address.parse().expect("an address")),
        _ => {
            eprintln!(
                "usage: probe tcp|udp|names|bounds|refused|asked|asked-one-by-one N|survive|failed HOW|given-up HOW|passed-on|opens WHAT|both-or-none|late|service NAME|dual ADDR|judged PORT HOW|count|cancel-… N|close-asked N|hold N|hold-asked N|sends ADDR N|churn ADDR"
            );
            return std::process::ExitCode::from(2);
        }
    }
    std::process::ExitCode::SUCCESS
}

#[cfg(not(windows))]
fn main() -> std::process::ExitCode {
    eprintln!("probe is a Windows program; build it for x86_64-pc-windows-gnu");
    std::process::ExitCode::from(2)
}
