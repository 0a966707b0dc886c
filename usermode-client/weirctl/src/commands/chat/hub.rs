//! Who is in which room, and what goes to whom. Knows nothing of sockets.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use futures::Stream;
use futures::channel::mpsc::{Receiver, Sender, channel};
use futures::channel::oneshot;
use futures::future::{FutureExt as _, Shared};

/// A line to a member, its end included. Shared by all it goes to.
pub(super) type Line = Arc<str>;

/// Bytes that wait for a member, at most, however few lines they are: an answer
/// to `/who` is one line, and as long as there are members.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Why somebody can't come in. Each says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("somebody has this name already; choose another")]
    Taken,
    #[error("the server is full; try again later")]
    Full,
    #[error("the server is stopping; try again later")]
    Stopping,
}

/// The rooms and who is in them.
pub(super) struct Hub {
    state: Mutex<State>,
    /// Ready when the server stops.
    pub(super) stopping: Shared<oneshot::Receiver<()>>,
    most: usize,
    queue: usize,
}

#[derive(Default)]
struct State {
    /// By name, small letters.
    members: HashMap<String, Member>,
    /// Names of the members in each room; by name of the room, small letters.
    rooms: HashMap<String, BTreeMap<String, ()>>,
    /// Members that were let in so far.
    entered: u64,
    /// Dropped when the server stops.
    goes_on: Option<oneshot::Sender<()>>,
    thrown_out: u64,
}

struct Member {
    /// Which of those that were let in, as a name may be had again.
    serial: u64,
    name: String,
    room: String,
    to: Sender<Line>,
    /// Bytes that wait.
    waiting: Arc<AtomicUsize>,
    /// Dropped when the member is thrown out.
    stays: Option<oneshot::Sender<()>>,
}

impl Member {
    /// Gives it a line; whether there was room.
    fn give(&mut self, text: Line) -> bool {
        let len = text.len();
        let before = self.waiting.fetch_add(len, Ordering::Relaxed);
        let given = (before == 0 || before + len <= MOST_BYTES) && self.to.try_send(text).is_ok();
        if !given {
            self.waiting.fetch_sub(len, Ordering::Relaxed);
        }
        given
    }
}

/// Lines that wait for a member.
#[derive(Debug)]
pub(super) struct Queue {
    lines: Receiver<Line>,
    waiting: Arc<AtomicUsize>,
}

impl Stream for Queue {
    type Item = Line;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Line>> {
        let line = ready!(Pin::new(&mut self.lines).poll_next(cx));
        if let Some(line) = &line {
            self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
        }
        Poll::Ready(line)
    }
}

/// Whose seat it is: what is done by it is done by that member alone, and not by
/// one that has got its name since.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// Its name, small letters.
    pub(super) name: String,
    serial: u64,
}

/// A member's side of the hub.
#[derive(Debug)]
pub(super) struct Seat {
    key: Key,
    /// What is to be written to it. Ends when it has left.
    pub(super) lines: Queue,
    /// Ready when it is thrown out for not reading.
    pub(super) out: oneshot::Receiver<()>,
}

impl Seat {
    /// Who sits here.
    pub(super) fn key(&self) -> Key {
        self.key.clone()
    }
}

/// How many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) members: usize,
    pub(super) rooms: usize,
    /// Members thrown out for not reading.
    pub(super) thrown_out: u64,
}

fn fold(name: &str) -> String {
    name.to_lowercase()
}

fn line(text: impl std::fmt::Display) -> Line {
    format!("{text}\n").into()
}

impl State {
    fn member(&self, key: &Key) -> Option<&Member> {
        let member = self.members.get(&key.name)?;
        (member.serial == key.serial).then_some(member)
    }

    fn member_mut(&mut self, key: &Key) -> Option<&mut Member> {
        let member = self.members.get_mut(&key.name)?;
        (member.serial == key.serial).then_some(member)
    }

    /// Sends a line to everybody in a room but one; who has no room for it.
    fn tell(&mut self, room: &str, but: Option<&str>, text: &Line) -> Vec<String> {
        let mut slow = Vec::new();
        let Some(here) = self.rooms.get(room) else {
            return slow;
        };
        for key in here.keys() {
            if but == Some(key) {
                continue;
            }
            if let Some(member) = self.members.get_mut(key)
                && !member.give(Arc::clone(text))
            {
                slow.push(key.clone());
            }
        }
        slow
    }

    /// Tells, and throws out who doesn't read, of which those who stay are told.
    fn tell_all(&mut self, room: &str, but: Option<&str>, text: &Line) {
        let mut slow = self.tell(room, but, text);
        while let Some(key) = slow.pop() {
            let Some(mut member) = self.remove(&key) else {
                continue;
            };
            tracing::info!(name = member.name, "thrown out: it doesn't read");
            member.stays.take();
            self.thrown_out += 1;
            let room = fold(&member.room);
            let text = line(format_args!(
                "* {} was thrown out: it reads too slowly",
                member.name
            ));
            slow.extend(self.tell(&room, None, &text));
        }
    }

    fn remove(&mut self, key: &str) -> Option<Member> {
        let member = self.members.remove(key)?;
        self.leave_room(key, &fold(&member.room));
        Some(member)
    }

    fn leave_room(&mut self, key: &str, room: &str) {
        if let Some(here) = self.rooms.get_mut(room) {
            here.remove(key);
            if here.is_empty() {
                self.rooms.remove(room);
            }
        }
    }

    fn enter_room(&mut self, key: &str, name: &str, room: &str) {
        let folded = fold(room);
        let here = self.rooms.entry(folded.clone()).or_default();
        here.insert(key.to_owned(), ());
        let count = here.len();
        let text = line(format_args!("* {name} joined {room} ({count} here)"));
        self.tell_all(&folded, None, &text);
    }
}

impl Hub {
    /// A hub for at most so many members, each with so many lines that wait.
    pub(super) fn new(most: usize, queue: usize) -> Hub {
        let (goes_on, stopping) = oneshot::channel();
        let state = State {
            goes_on: Some(goes_on),
            ..State::default()
        };
        Hub {
            state: Mutex::new(state),
            stopping: stopping.shared(),
            most,
            queue,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets somebody in, with names that are good. The room sees it.
    pub(super) fn enter(&self, name: &str, room: &str) -> Result<Seat, Refusal> {
        let mut state = self.lock();
        let key = fold(name);
        if state.goes_on.is_none() {
            return Err(Refusal::Stopping);
        }
        if state.members.contains_key(&key) {
            return Err(Refusal::Taken);
        }
        if state.members.len() >= self.most {
            return Err(Refusal::Full);
        }
        let (to, lines) = channel(self.queue);
        let waiting = Arc::<AtomicUsize>::default();
        let (stays, out) = oneshot::channel();
        state.entered += 1;
        let serial = state.entered;
        let member = Member {
            serial,
            name: name.to_owned(),
            room: room.to_owned(),
            to,
            waiting: Arc::clone(&waiting),
            stays: Some(stays),
        };
        let lines = Queue { lines, waiting };
        state.members.insert(key.clone(), member);
        state.enter_room(&key, name, room);
        let key = Key { name: key, serial };
        Ok(Seat { key, lines, out })
    }

    /// Says something to a member's room. The member itself isn't told.
    pub(super) fn say(&self, key: &Key, text: &str) {
        let mut state = self.lock();
        let Some(member) = state.member(key) else {
            return;
        };
        // What would move a terminal's cursor is not passed on.
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        let room = fold(&member.room);
        let text = line(format_args!("<{}> {text}", member.name));
        state.tell_all(&room, Some(&key.name), &text);
    }

    /// Goes to another room. Both rooms see it.
    pub(super) fn go(&self, key: &Key, room: &str) {
        let mut state = self.lock();
        let Some(member) = state.member_mut(key) else {
            return;
        };
        let (name, from) = (member.name.clone(), member.room.clone());
        if fold(&from) == fold(room) {
            drop(state);
            return self.answer(key, format_args!("! you are in {from} already"));
        }
        member.room = room.to_owned();
        state.leave_room(&key.name, &fold(&from));
        let text = line(format_args!("* {name} left {from}: to {room}"));
        state.tell_all(&fold(&from), None, &text);
        state.enter_room(&key.name, &name, room);
    }

    /// Tells a member who is in its room.
    pub(super) fn who(&self, key: &Key) {
        let state = self.lock();
        let Some(member) = state.member(key) else {
            return;
        };
        let here = state.rooms.get(&fold(&member.room));
        let names: Vec<&str> = here
            .into_iter()
            .flat_map(BTreeMap::keys)
            .filter_map(|key| state.members.get(key))
            .map(|member| member.name.as_str())
            .collect();
        let text = format!("= {} here: {}", names.len(), names.join(" "));
        drop(state);
        self.answer(key, text);
    }

    /// Tells one member something.
    pub(super) fn answer(&self, key: &Key, text: impl std::fmt::Display) {
        let mut state = self.lock();
        if let Some(member) = state.member_mut(key) {
            // With no room for it, the next line to the room throws it out.
            let _ = member.give(line(text));
        }
    }

    /// Lets a member go. The room sees it; a member that was thrown out is gone
    /// already, and its name may be another's.
    pub(super) fn leave(&self, key: &Key, why: &str) {
        let mut state = self.lock();
        if state.member(key).is_none() {
            return;
        }
        let Some(mut member) = state.remove(&key.name) else {
            return;
        };
        // Not thrown out: what waits is written yet.
        if let Some(stays) = member.stays.take() {
            let _ = stays.send(());
        }
        let text = line(format_args!(
            "* {} left {}: {why}",
            member.name, member.room
        ));
        state.tell_all(&fold(&member.room), None, &text);
    }

    /// Lets everybody go, and nobody in.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.goes_on = None;
        state.rooms.clear();
        for (_, mut member) in state.members.drain() {
            let _ = member.give(line("! the server stops"));
            // Not thrown out: what waits is written yet.
            if let Some(stays) = member.stays.take() {
                let _ = stays.send(());
            }
        }
    }

    /// How many there are.
    pub(super) fn counts(&self) -> Counts {
        let state = self.lock();
        Counts {
            members: state.members.len(),
            rooms: state.rooms.len(),
            thrown_out: state.thrown_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    fn hub() -> Hub {
        Hub::new(10, 16)
    }

    /// What waits for a member.
    fn read(seat: &mut Seat) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(Some(line)) = seat.lines.next().now_or_never() {
            lines.push(line.trim_end().to_owned());
        }
        lines
    }

    #[test]
    fn all_in_a_room_see_who_comes_speaks_and_goes() {
        let hub = hub();
        let mut ann = hub.enter("Ann", "Lobby").expect("in");
        let mut bob = hub.enter("bob", "lobby").expect("in");
        let mut eve = hub.enter("eve", "other").expect("in");
        hub.say(&bob.key(), "hi \x1b[2Jthere");
        hub.who(&ann.key());
        hub.leave(&bob.key(), "left");
        assert_eq!(
            read(&mut ann),
            [
                "* Ann joined Lobby (1 here)",
                "* bob joined lobby (2 here)",
                "<bob> hi [2Jthere",
                "= 2 here: Ann bob",
                "* bob left lobby: left",
            ]
        );
        assert_eq!(read(&mut bob), ["* bob joined lobby (2 here)"]);
        assert_eq!(read(&mut eve), ["* eve joined other (1 here)"]);
        // Its lines have ended, and it was not thrown out.
        assert_eq!(bob.lines.next().now_or_never(), Some(None));
        assert_eq!(hub.counts().thrown_out, 0);
    }

    #[test]
    fn names_are_taken_whatever_their_case_and_free_again_later() {
        let hub = hub();
        let ann = hub.enter("Ann", "a").expect("in");
        assert_eq!(hub.enter("aNN", "b").expect_err("taken"), Refusal::Taken);
        hub.leave(&ann.key(), "left");
        assert!(hub.enter("aNN", "b").is_ok());
        assert_eq!(hub.counts().rooms, 1);
    }

    #[test]
    fn who_has_left_does_nothing_in_the_name_of_who_came_after() {
        let hub = hub();
        let old = hub.enter("ann", "r").expect("in");
        hub.leave(&old.key(), "left");
        let mut new = hub.enter("ann", "r").expect("in again");
        let mut bob = hub.enter("bob", "r").expect("in");
        hub.say(&old.key(), "it is not ann");
        hub.answer(&old.key(), "! not for ann");
        hub.who(&old.key());
        hub.go(&old.key(), "elsewhere");
        hub.leave(&old.key(), "connection lost");
        assert_eq!(read(&mut bob), ["* bob joined r (2 here)"]);
        assert_eq!(
            read(&mut new),
            ["* ann joined r (1 here)", "* bob joined r (2 here)"]
        );
        assert!((&mut new.out).now_or_never().is_none());
        hub.leave(&new.key(), "left");
        assert_eq!(read(&mut bob), ["* ann left r: left"]);
    }

    #[test]
    fn no_more_come_in_than_there_is_room_for() {
        let hub = hub();
        let seats: Vec<_> = (0..10)
            .map(|i| hub.enter(&i.to_string(), "r").expect("in"))
            .collect();
        assert_eq!(hub.enter("x", "r").expect_err("full"), Refusal::Full);
        drop(seats);
        hub.stop();
        assert_eq!(hub.enter("x", "r").expect_err("stops"), Refusal::Stopping);
    }

    #[test]
    fn rooms_are_changed_and_both_see_it() {
        let hub = hub();
        let mut ann = hub.enter("ann", "one").expect("in");
        let mut bob = hub.enter("bob", "two").expect("in");
        hub.go(&bob.key(), "One");
        hub.go(&bob.key(), "one");
        hub.say(&ann.key(), "here");
        assert_eq!(
            read(&mut ann),
            ["* ann joined one (1 here)", "* bob joined One (2 here)"]
        );
        assert_eq!(
            read(&mut bob),
            [
                "* bob joined two (1 here)",
                "* bob joined One (2 here)",
                "! you are in One already",
                "<ann> here",
            ]
        );
        assert_eq!(hub.counts().rooms, 1);
    }

    #[test]
    fn who_does_not_read_is_thrown_out_and_the_others_hear_all() {
        let hub = hub();
        let mut fast = hub.enter("fast", "r").expect("in");
        let mut slow = hub.enter("slow", "r").expect("in");
        let mut heard = read(&mut fast);
        let speaker = hub.enter("speaker", "r").expect("in");
        for i in 0..100 {
            hub.say(&speaker.key(), &i.to_string());
            heard.extend(read(&mut fast));
        }
        assert!((&mut slow.out).now_or_never().is_some_and(|r| r.is_err()));
        assert!((&mut fast.out).now_or_never().is_none());
        let said = heard.iter().filter(|l| l.starts_with("<speaker>")).count();
        assert_eq!(said, 100);
        let gone = "* slow was thrown out: it reads too slowly";
        assert_eq!(heard.iter().filter(|l| *l == gone).count(), 1);
        assert!(read(&mut slow).len() <= 17);
        // It does no harm that it says it leaves.
        hub.leave(&slow.key(), "left");
        // The speaker didn't read either.
        assert_eq!(hub.counts().thrown_out, 1);
        assert_eq!(hub.counts().members, 2);
    }

    #[test]
    fn few_lines_that_are_long_are_too_many_as_well() {
        let hub = Hub::new(10, 65_536);
        let mut slow = hub.enter("slow", "r").expect("in");
        let mut fast = hub.enter("fast", "r").expect("in");
        let speaker = hub.enter("speaker", "r").expect("in");
        let long = "z".repeat(MOST_BYTES / 8);
        for _ in 0..16 {
            hub.say(&speaker.key(), &long);
            read(&mut fast);
        }
        assert!((&mut slow.out).now_or_never().is_some_and(|r| r.is_err()));
        assert!((&mut fast.out).now_or_never().is_none());
        let kept: usize = read(&mut slow).iter().map(String::len).sum();
        assert!((MOST_BYTES / 2..=MOST_BYTES).contains(&kept), "{kept}");
        // Room comes back as lines are read.
        assert_eq!(fast.lines.waiting.load(Ordering::Relaxed), 0);
    }
}
