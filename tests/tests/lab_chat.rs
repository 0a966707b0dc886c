//! `weirctl chat serve` on kernel sockets, with a thousand members.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use weir_tests::clients::{Background, PATIENCE, connect, reset, room_for};
use weir_tests::lab::Fixture;
use weir_tests::services::{sockets, until_no_socket};

/// Members, as long as the system lets one process have so many sockets.
const MANY: usize = 1000;

/// One who speaks the protocol of `weirctl chat`: lines.
struct Member {
    name: String,
    /// The room it came to.
    room: String,
    /// `None` when the server has ended it.
    stream: Option<TcpStream>,
    /// What came and is no whole line yet.
    rest: Vec<u8>,
    lines: Vec<String>,
    /// What it wants to say.
    to_say: Vec<u8>,
}

impl Member {
    /// Connects and says who it is.
    fn join(at: SocketAddr, name: &str, room: &str) -> Self {
        let mut stream = connect(at);
        writeln!(stream, "join {name} {room}").expect("it takes a line");
        stream.set_nonblocking(true).expect("a mode");
        Self {
            name: name.to_owned(),
            room: room.to_owned(),
            stream: Some(stream),
            rest: Vec::new(),
            lines: Vec::new(),
            to_say: Vec::new(),
        }
    }

    fn say(&mut self, line: &str) {
        self.to_say.extend_from_slice(line.as_bytes());
        self.to_say.push(b'\n');
    }

    fn has(&self, line: &str) -> bool {
        self.lines.iter().rev().any(|l| l == line)
    }

    /// Who came to its room and how many were there then, of a line that says so.
    fn there(&self, line: &str) -> Option<(String, usize)> {
        let (name, rest) = line.strip_prefix("* ")?.split_once(" joined ")?;
        let rest = rest.strip_prefix(&self.room)?.strip_prefix(" (")?;
        let count = rest.strip_suffix(" here)")?.parse().ok()?;
        Some((name.to_owned(), count))
    }

    /// How many were there when somebody came last.
    fn last_there(&self) -> Option<usize> {
        self.there(self.lines.last()?).map(|(_, count)| count)
    }

    /// Reads what is there and writes what can be; whether anything moved.
    fn step(&mut self, block: &mut [u8]) -> bool {
        let Some(stream) = &mut self.stream else {
            return false;
        };
        let mut moved = false;
        match stream.write(&self.to_say) {
            Ok(count) => {
                moved |= count > 0;
                self.to_say.drain(..count);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.to_say.clear(),
        }
        match stream.read(block) {
            Ok(0) => self.stream = None,
            Ok(count) => {
                moved = true;
                for byte in &block[..count] {
                    if *byte == b'\n' {
                        let line = std::mem::take(&mut self.rest);
                        self.lines
                            .push(String::from_utf8(line).expect("UTF-8 text"));
                    } else {
                        self.rest.push(*byte);
                    }
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{}: {error}", self.name),
        }
        moved
    }
}

/// Members who all read.
struct Crowd(Vec<Member>);

impl Crowd {
    /// Has everybody read and speak until `done`.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut [Member]) -> bool) -> Duration {
        let start = Instant::now();
        let mut block = vec![0; 65_536];
        loop {
            let mut moved = false;
            for member in &mut self.0 {
                moved |= member.step(&mut block);
            }
            if done(&mut self.0) {
                return start.elapsed();
            }
            if !moved {
                assert!(start.elapsed() < 2 * PATIENCE, "{what}: not in time");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Until all but those without a place in `who` have this line.
    fn until_all_have(&mut self, line: &str, who: impl Fn(&Member) -> bool) -> Duration {
        self.until(line, |members| {
            members.iter().all(|m| !who(m) || m.has(line))
        })
    }

    /// Has everybody read and speak while something else waits for them.
    fn waiting_for<T: Send>(&mut self, what: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(what);
            self.until("somebody beside them", |_| waiting.is_finished());
            waiting.join().expect("no panic")
        })
    }

    fn forget(&mut self) {
        for member in &mut self.0 {
            member.lines.clear();
        }
    }

    fn named(&mut self, name: &str) -> &mut Member {
        let found = self.0.iter_mut().find(|m| m.name == name);
        found.unwrap_or_else(|| panic!("no {name}"))
    }
}

/// Everybody saw itself come, and everybody who came later, in one order, and
/// nobody twice.
fn all_saw_all(members: &[Member]) {
    let mut order = BTreeMap::new();
    for member in members {
        let seen: Vec<_> = member.lines.iter().map(|l| member.there(l)).collect();
        let mut here = 0;
        for (at, seen) in seen.into_iter().enumerate() {
            let (name, count) = seen.unwrap_or_else(|| panic!("{}", member.lines[at]));
            if at == 0 {
                assert_eq!(name, member.name);
            } else {
                assert_eq!(count, here + 1, "{} missed somebody", member.name);
            }
            here = count;
            let number = (member.room.clone(), count);
            let known = order.entry(number).or_insert_with(|| name.clone());
            assert_eq!(known, &name, "two were number {count} of {}", member.room);
        }
    }
    assert_eq!(order.len(), members.len());
}

fn size(members: &[Member], room: &str) -> usize {
    members.iter().filter(|m| m.room == room).count()
}

/// All join, each told of all who come after it.
///
/// What is told grows with the square of a room: one large room, and six others.
fn all_come(at: SocketAddr, many: usize) -> Crowd {
    let room = |n: usize| match n * 10 / many {
        0..4 => "hall".to_owned(),
        other => format!("room{other}"),
    };
    let mut crowd = Crowd(Vec::new());
    for n in 0..many {
        crowd.0.push(Member::join(at, &format!("m{n}"), &room(n)));
        if n % 50 == 49 {
            crowd.until("they are in", |members| {
                members.iter().all(|m| !m.lines.is_empty())
            });
        }
    }
    crowd.until("all are told of all", |members| {
        members
            .iter()
            .all(|m| m.last_there() == Some(size(members, &m.room)))
    });
    all_saw_all(&crowd.0);
    crowd
}

/// What one says all others of its room hear, once, and nobody else.
fn all_are_heard(crowd: &mut Crowd, speakers: &[&str]) {
    crowd.forget();
    let mut rooms = Vec::new();
    for name in speakers {
        let speaker = crowd.named(name);
        speaker.say("hello, all");
        rooms.push((speaker.room.clone(), *name, format!("<{name}> hello, all")));
    }
    let hears =
        |m: &Member, (room, name, _): &(String, &str, String)| m.room == *room && m.name != *name;
    for heard in &rooms {
        crowd.until_all_have(&heard.2, |m| hears(m, heard));
    }
    for member in &crowd.0 {
        let wanted = rooms.iter().filter(|heard| hears(member, heard)).count();
        assert_eq!(member.lines.len(), wanted, "{}", member.name);
    }
}

/// Ten go to another room: both rooms see it.
fn ten_go_aside(crowd: &mut Crowd) {
    crowd.forget();
    for n in 0..10 {
        let member = crowd.named(&format!("m{n}"));
        member.say("/room side");
        member.room = "side".to_owned();
    }
    for n in 0..10 {
        let left = format!("* m{n} left hall: to side");
        crowd.until_all_have(&left, |m| m.room == "hall");
    }
    crowd.until("all ten are there", |members| {
        let full = |line: &String| line.ends_with(" joined side (10 here)");
        members
            .iter()
            .all(|m| m.room != "side" || m.lines.iter().any(full))
    });
    crowd.named("m3").say("/who");
    let names: Vec<_> = (0..10).map(|n| format!("m{n}")).collect();
    let all = format!("= 10 here: {}", names.join(" "));
    crowd.until_all_have(&all, |m| m.name == "m3");
}

/// weirctl's own client is a member like others.
fn weirctl_joins(fixture: &Fixture, at: SocketAddr, crowd: &mut Crowd) {
    let at = at.to_string();
    let arguments = ["chat", "join", &at, "-n", "windows", "-r", "hall"];
    let mut windows = Background::weirctl(fixture, &arguments);
    let here = size(&crowd.0, "hall") + 1;
    let joined = format!("* windows joined hall ({here} here)");
    assert_eq!(windows.first_line(), joined);
    let hall = |m: &Member| m.room == "hall";
    crowd.until_all_have(&joined, hall);
    crowd.named("m20").say("to the windows");
    assert_eq!(
        crowd.waiting_for(|| windows.first_line()),
        "<m20> to the windows"
    );
    windows.tell(b"from a kernel socket\n");
    crowd.until_all_have("<windows> from a kernel socket", |m| hall(m));
    crowd.until_all_have("* windows left hall: left", |m| hall(m));
    let _shown = windows.output();
}

/// One of the side room reads nothing, while another there talks much: the others
/// there hear all of it, and the hall goes on talking, until the slow one is
/// thrown out.
fn one_is_slow(crowd: &mut Crowd) {
    crowd.forget();
    let at = crowd.0.iter().position(|m| m.name == "m0").expect("m0");
    let slow = crowd.0.swap_remove(at).stream.expect("connected");
    // What the host's sockets hold for it waits for nobody.
    let small = socket2::SockRef::from(&slow).set_recv_buffer_size(4096);
    small.expect("a smaller buffer");
    let long = "x".repeat(1000);
    let said = |n: usize| format!("<m1> {n} {long}");
    let side = |m: &Member| m.room == "side" && m.name != "m1";
    let hall = |m: &Member| m.room == "hall" && m.name != "m20";
    let thrown_out = "* m0 was thrown out: it reads too slowly";
    let (mut spoken, mut heard, mut longest) = (0_usize, 0_usize, Duration::ZERO);
    let (mut asked, mut next) = (None, Instant::now());
    let took = crowd.until("the slow one is thrown out", |members| {
        let gone = members
            .iter()
            .all(|m| m.room != "side" || m.has(thrown_out));
        // Not faster than the others hear it.
        let last = spoken.checked_sub(1).map(said);
        let told = last.is_none_or(|l| members.iter().all(|m| !side(m) || m.has(&l)));
        if told && !gone {
            let talker = members.iter_mut().find(|m| m.name == "m1").expect("m1");
            for _ in 0..100 {
                talker.say(&format!("{spoken} {long}"));
                spoken += 1;
            }
        }
        // In the hall, one question after the other.
        let question = format!("question {heard}");
        match asked {
            None if next > Instant::now() => {}
            None => {
                let asker = members.iter_mut().find(|m| m.name == "m20").expect("m20");
                asker.say(&question);
                asked = Some(Instant::now());
            }
            Some(since) => {
                let line = format!("<m20> {question}");
                if members.iter().all(|m| !hall(m) || m.has(&line)) {
                    longest = longest.max(since.elapsed());
                    next = since + Duration::from_millis(300);
                    heard += 1;
                    asked = None;
                }
            }
        }
        gone && asked.is_none()
    });
    println!(
        "thrown out after {spoken} lines and {:.1} s; {heard} lines to the hall meanwhile, \
         the slowest heard by all after {:.3} s",
        took.as_secs_f64(),
        longest.as_secs_f64()
    );
    assert!(heard >= 3, "the hall was held up");
    crowd.until_all_have(&said(spoken - 1), side);
    for member in crowd.0.iter().filter(|m| side(m)) {
        let lines = member.lines.iter().filter(|l| l.starts_with("<m1> "));
        assert_eq!(lines.count(), spoken, "{} heard not all", member.name);
    }
}

/// The last come leave, by a word, by the end of what they say, or by a reset,
/// and those who stay see it.
fn some_leave(crowd: &mut Crowd) {
    crowd.forget();
    let mut leaving = crowd.0.split_off(crowd.0.len() - 30);
    let mut left = Vec::new();
    for (number, member) in leaving.iter_mut().enumerate() {
        let mut stream = member.stream.as_ref().expect("connected");
        let why = match number % 3 {
            0 => {
                stream.write_all(b"/quit\n").expect("it takes a line");
                "left"
            }
            1 => {
                stream.shutdown(Shutdown::Write).expect("connected");
                "left"
            }
            _ => {
                reset(member.stream.take().expect("connected"));
                "connection lost"
            }
        };
        let line = format!("* {} left {}: {why}", member.name, member.room);
        left.push((member.room.clone(), line));
    }
    for (room, line) in &left {
        crowd.until_all_have(line, |m| m.room == *room);
    }
}

#[test]
fn a_thousand_members_talk_and_a_slow_one_holds_nobody_up() {
    let many = if room_for(3 * MANY as u64) { MANY } else { 200 };
    let fixture = Fixture::weir("chat-many");
    let arguments = ["chat", "serve", "127.0.0.1:0", "--queue", "500"];
    // One of them is to speak faster than people do.
    let rate = ["--rate", "1000000", "--byte-rate", "1000000000"];
    let arguments = [&arguments[..], &rate[..]].concat();
    let mut server = Background::weirctl(&fixture, &arguments);
    let first = server.first_line();
    let at = first.strip_prefix("chat on ").expect("it says where");
    let at: SocketAddr = at.parse().expect("an address");

    let start = Instant::now();
    let mut crowd = all_come(at, many);
    println!("{many} in after {:.1} s", start.elapsed().as_secs_f64());
    let list = sockets(&fixture);
    let connected = list.iter().filter(|s| s["remote"].is_string());
    assert_eq!(connected.count(), many);
    all_are_heard(&mut crowd, &["m7"]);
    // A name is one member's, whatever its case.
    let mut second = connect(at);
    writeln!(second, "join M7 elsewhere").expect("it takes a line");
    let mut said = String::new();
    second.read_to_string(&mut said).expect("text, and the end");
    let taken = "! somebody has this name already";
    assert!(said.starts_with(taken), "{said}");

    ten_go_aside(&mut crowd);
    all_are_heard(&mut crowd, &["m3", "m20"]);
    weirctl_joins(&fixture, at, &mut crowd);
    one_is_slow(&mut crowd);
    some_leave(&mut crowd);

    // All others are there to the end, and told of it.
    let there = crowd.0.iter().filter(|m| m.stream.is_some());
    assert_eq!(there.count(), many - 31);
    server.interrupt();
    crowd.until("the server's end", |members| {
        members.iter().all(|m| m.stream.is_none())
    });
    for member in &crowd.0 {
        assert!(member.has("! the server stops"), "{}", member.name);
    }
    let _rest = server.output();
    until_no_socket(&fixture);
    fixture.unload();
}
