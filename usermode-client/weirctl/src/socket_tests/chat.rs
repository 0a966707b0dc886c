//! The chat's server and client.

use super::*;
use crate::commands::chat::{self, ChatCommand};
use std::io::{BufRead as _, BufReader};

struct Server {
    at: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Result<(), CtlError>>>,
}

impl Server {
    fn start(driver: &FakeDriver, extra: &str) -> Server {
        let at = free();
        let line = format!("chat serve {at} {extra}");
        let Command::Chat(ChatCommand::Serve(args)) = command(&line) else {
            panic!("another command");
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (driver, stopped) = (driver.clone(), Arc::clone(&stop));
        let shown = Shown::default();
        let out = shown.clone();
        let thread = thread::spawn(move || {
            let mut out = Output::new(false, Box::new(out));
            chat::serve(&open(&driver), &args, &stopped, &mut out)
        });
        let until = Instant::now() + SOON;
        while shown.text().is_empty() {
            assert!(Instant::now() < until, "it doesn't listen");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(shown.text(), format!("chat on {at}\n"));
        let thread = Some(thread);
        Server { at, stop, thread }
    }

    /// A member over a socket of the host's, as `nc` is one.
    fn member(&self, hello: &str) -> Member {
        let stream = TcpStream::connect(self.at).expect("connects");
        stream.set_read_timeout(Some(SOON)).expect("set");
        (&stream)
            .write_all(format!("{hello}\n").as_bytes())
            .expect("writes");
        Member(BufReader::new(stream))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("ends").expect("serves");
        }
    }
}

struct Member(BufReader<TcpStream>);

impl Member {
    fn say(&self, text: &str) {
        self.0
            .get_ref()
            .write_all(format!("{text}\n").as_bytes())
            .expect("writes");
    }

    /// The next line; empty at the end.
    fn hears(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }
}

#[test]
fn rooms_names_and_what_is_wrong_with_them() {
    let driver = FakeDriver::default();
    let server = Server::start(&driver, "");
    let mut ann = server.member("join Ann lobby");
    assert_eq!(ann.hears(), "* Ann joined lobby (1 here)");
    let mut bob = server.member("join bob");
    assert_eq!(bob.hears(), "* bob joined lobby (2 here)");
    assert_eq!(ann.hears(), "* bob joined lobby (2 here)");
    for (hello, why) in [
        (
            "join ANN lobby",
            "! somebody has this name already; choose another",
        ),
        ("join a/b lobby", "! a name has 1 to 32 letters"),
        ("join x bad/room", "! a name has 1 to 32 letters"),
        ("hello", "! say `join NAME ROOM` first"),
        (&"x".repeat(5000), "! say `join NAME ROOM` first"),
    ] {
        let mut refused = server.member(hello);
        assert!(refused.hears().starts_with(why), "{hello}");
        assert_eq!(refused.hears(), "", "it is over");
    }
    bob.say("hello, Ann");
    assert_eq!(ann.hears(), "<bob> hello, Ann");
    ann.say(&"y".repeat(1025));
    assert!(
        ann.hears()
            .starts_with("! that line has more than 1024 bytes")
    );
    ann.say("/who");
    assert_eq!(ann.hears(), "= 2 here: Ann bob");
    ann.say("/dance");
    assert!(ann.hears().starts_with("! there is /room"));
    ann.say("/room kitchen");
    assert_eq!(bob.hears(), "* Ann left lobby: to kitchen");
    assert_eq!(ann.hears(), "* Ann joined kitchen (1 here)");
    ann.say("/room lobby");
    assert_eq!(bob.hears(), "* Ann joined lobby (2 here)");
    bob.say("/quit");
    assert_eq!(bob.hears(), "");
    assert_eq!(ann.hears(), "* Ann joined lobby (2 here)");
    assert_eq!(ann.hears(), "* bob left lobby: left");
    // Who has not said its name is told, too, and keeps nobody waiting.
    let mut stranger = Member(BufReader::new(
        TcpStream::connect(server.at).expect("connects"),
    ));
    thread::sleep(Duration::from_millis(300));
    let before = Instant::now();
    drop(server);
    assert!(before.elapsed() < Duration::from_secs(3));
    assert_eq!(ann.hears(), "! the server stops");
    assert_eq!(ann.hears(), "");
    assert_eq!(stranger.hears(), "! the server stops");
}

#[test]
fn the_client_shows_what_is_said_and_is_told_why_it_may_not_come_in() {
    let driver = FakeDriver::default();
    let server = Server::start(&driver, "");
    let mut ann = server.member("join ann");
    assert_eq!(ann.hears(), "* ann joined lobby (1 here)");
    let join = |name: &str, input: Held| {
        let line = format!("chat join {} --name {name}", server.at);
        let Command::Chat(ChatCommand::Join(args)) = command(&line) else {
            panic!("another command");
        };
        let (driver, shown) = (driver.clone(), Shown::default());
        let out = shown.clone();
        let thread = thread::spawn(move || {
            let mut out = Output::new(false, Box::new(out));
            chat::join(&open(&driver), &args, input, false, &never, &mut out)
        });
        (thread, shown)
    };
    let (typing, input) = held();
    let (client, shown) = join("bob", input);
    assert_eq!(ann.hears(), "* bob joined lobby (2 here)");
    typing.send(b"hi\n".to_vec()).expect("open");
    assert_eq!(ann.hears(), "<bob> hi");
    ann.say("hello \x07bob");
    let until = Instant::now() + SOON;
    while !shown.text().contains("<ann>") {
        assert!(Instant::now() < until, "{}", shown.text());
        thread::sleep(Duration::from_millis(5));
    }
    drop(typing);
    assert_eq!(ann.hears(), "* bob left lobby: left");
    client.join().expect("ends").expect("good");
    assert_eq!(
        shown.text(),
        "* bob joined lobby (2 here)\n<ann> hello bob\n"
    );

    let (_typing, input) = held();
    let (client, _) = join("ANN", input);
    let error = client.join().expect("ends").expect_err("taken").to_string();
    assert_eq!(
        error,
        "not let in: somebody has this name already; choose another"
    );
}

#[test]
fn who_speaks_too_fast_is_told_and_waits_and_nobody_else_does() {
    let driver = FakeDriver::default();
    let server = Server::start(&driver, "--rate 20");
    let mut ann = server.member("join ann");
    assert_eq!(ann.hears(), "* ann joined lobby (1 here)");
    let mut flood = server.member("join flood");
    assert_eq!(flood.hears(), "* flood joined lobby (2 here)");
    let before = Instant::now();
    // Five seconds' worth at once, and one more second's.
    let text: String = (0..120).map(|n| format!("{n}\n")).collect();
    flood
        .0
        .get_ref()
        .write_all(text.as_bytes())
        .expect("writes");
    let told = "! you speak too fast, so what you say waits: slow down to 20 lines and 16384 \
                bytes a second";
    assert_eq!(flood.hears(), told);
    let mut eve = server.member("join eve");
    assert_eq!(eve.hears(), "* eve joined lobby (3 here)");
    assert_eq!(flood.hears(), "* eve joined lobby (3 here)");
    eve.say("soon");
    assert_eq!(flood.hears(), "<eve> soon");
    assert!(
        before.elapsed() < Duration::from_millis(900),
        "eve doesn't wait"
    );
    assert_eq!(ann.hears(), "* flood joined lobby (2 here)");
    let mut next = 0;
    while next < 120 {
        let line = ann.hears();
        if let Some(said) = line.strip_prefix("<flood> ") {
            assert_eq!(said, next.to_string(), "all of it, in order");
            next += 1;
        }
    }
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(900), "{took:?}");
    assert!(took < SOON, "{took:?}");
}

#[test]
fn a_line_without_an_end_is_the_end() {
    let driver = FakeDriver::default();
    let server = Server::start(&driver, "");
    let mut ann = server.member("join ann");
    assert_eq!(ann.hears(), "* ann joined lobby (1 here)");
    let endless = server.member("join endless");
    assert_eq!(ann.hears(), "* endless joined lobby (2 here)");
    let chunk = [b'z'; 4096];
    let mut sent = 0;
    // Its connection is closed, so at some time nothing more is taken.
    while endless.0.get_ref().write_all(&chunk).is_ok() {
        sent += chunk.len();
        assert!(sent < 1 << 30, "there is no end to what is taken");
    }
    assert_eq!(
        ann.hears(),
        "* endless left lobby: a line of its has no end"
    );
}

#[test]
fn accepts_that_fail_are_tried_again_unless_they_always_will() {
    let driver = FakeDriver::default();
    let mut server = Server::start(&driver, "");
    let mut ann = server.member("join ann");
    assert_eq!(ann.hears(), "* ann joined lobby (1 here)");
    driver.fail_accepts(Some(weir_client::abi::status::QUOTA_EXCEEDED));
    // Some get in with the accepts under way; the next fail for now.
    let mut rest: Vec<Member> = (0..8)
        .map(|n| server.member(&format!("join m{n}")))
        .collect();
    thread::sleep(Duration::from_millis(400));
    ann.say("still here");
    driver.fail_accepts(None);
    for (n, member) in rest.iter_mut().enumerate() {
        let line = member.hears();
        assert!(line.starts_with(&format!("* m{n} joined")), "{line}");
    }
    // The driver unloads.
    driver.fail_accepts(Some(weir_client::abi::status::DEVICE_NOT_READY));
    for n in 0..8 {
        let Ok(stream) = TcpStream::connect(server.at) else {
            break;
        };
        let _ = (&stream).write_all(format!("join late{n}\n").as_bytes());
    }
    let ended = server.thread.take().expect("runs").join().expect("ends");
    let error = ended.expect_err("nobody can come in any more").to_string();
    assert!(error.starts_with("accepting a connection: "), "{error}");
}

#[test]
fn a_thousand_members_hear_each_other_and_one_that_does_not_read_holds_up_nobody() {
    // Each that joins is told to all who are there: half a million lines, with a
    // round trip to Wine's server for each of their reads and writes.
    const MEMBERS: usize = if cfg!(windows) { 200 } else { 1000 };
    let driver = FakeDriver::default();
    let server = Server::start(&driver, "--queue 2048 --byte-rate 1000000 --rate 1000");
    // Reads nothing from now on.
    let deaf = server.member("join deaf big");
    let ready = Arc::new(std::sync::Barrier::new(5));
    let at = server.at;
    let readers: Vec<_> = (0..4_usize)
        .map(|part| {
            let ready = Arc::clone(&ready);
            thread::spawn(move || {
                let mut members: Vec<Member> = (0..MEMBERS / 4)
                    .map(|i| {
                        let stream = TcpStream::connect(at).expect("connects");
                        stream
                            .set_read_timeout(Some(Duration::from_secs(60)))
                            .expect("set");
                        let hello = format!("join m{part}-{i} big\n");
                        (&stream).write_all(hello.as_bytes()).expect("writes");
                        Member(BufReader::new(stream))
                    })
                    .collect();
                ready.wait();
                // The speaker's last words end it.
                for member in &mut members {
                    let mut said = 0;
                    loop {
                        let line = member.hears();
                        assert!(!line.is_empty(), "thrown out");
                        said += usize::from(line.starts_with("<speaker> "));
                        if line == "<speaker> done" {
                            break;
                        }
                    }
                    assert_eq!(said, 51);
                }
            })
        })
        .collect();
    ready.wait();
    let mut speaker = server.member("join speaker big");
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        speaker.say("/who");
        let line = loop {
            let line = speaker.hears();
            if line.starts_with('=') {
                break line;
            }
        };
        // By name: who doesn't read may be there yet, or not any more.
        let names = line.split_once(": ").expect("names").1;
        let here = names.split(' ').filter(|name| name.starts_with('m'));
        let here = here.count();
        if here == MEMBERS {
            break;
        }
        assert!(Instant::now() < until, "{here} of {MEMBERS}");
        thread::sleep(Duration::from_millis(50));
    }
    for _ in 0..50 {
        speaker.say(&"z".repeat(1000));
    }
    speaker.say("done");
    for reader in readers {
        reader.join().expect("heard all of it");
    }
    drop(deaf);
}
