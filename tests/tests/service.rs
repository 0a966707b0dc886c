//! The parts of the driver's services that know nothing of the kernel, on any
//! host: the table of services, their health, the list of connections, and every
//! reachable state of the machines behind connections and datagrams against a
//! model of sockets.

use std::collections::HashSet;

#[path = "../../driver/src/service/health.rs"]
mod health;
#[path = "../../driver/src/service/list.rs"]
#[allow(dead_code, reason = "the driver uses more of it than the test")]
mod list;
#[path = "../../driver/src/service/tcp/state/mod.rs"]
#[allow(dead_code, reason = "the driver uses more of it than the test")]
mod tcp;
#[path = "../../driver/src/service/udp/state.rs"]
mod udp;

#[path = "service/by_hand.rs"]
mod by_hand;
#[path = "service/datagrams.rs"]
mod datagrams;
#[path = "service/model.rs"]
mod model;
#[path = "service/rules.rs"]
mod rules;
#[path = "service/sessions.rs"]
mod sessions;
#[path = "../../driver/src/service/sockets.rs"]
mod sockets;
#[path = "../../driver/src/service/table.rs"]
mod table;

use health::Health;
use list::{Linked, Links, List};
use table::{NoPlace, Table};
use weir_abi::{
    ServiceFlags, ServiceKind, ServiceSpec, SocketKind, SocketState, Transport, status,
};

fn spec(transport: Transport, address: &str) -> ServiceSpec {
    ServiceSpec {
        kind: ServiceKind::Echo,
        transport,
        address: address.parse().expect("an address"),
        target: None,
        flags: ServiceFlags::empty(),
    }
}

#[test]
fn a_service_is_there_once_and_its_id_never_again() {
    let mut table = Table::<&str>::new();
    let tcp = spec(Transport::Tcp, "127.0.0.1:7");
    let id = table.reserve(tcp).expect("a place");
    assert_eq!(id, 1);
    // While it starts, while it runs, while it stops.
    assert_eq!(table.reserve(tcp), Err(NoPlace::Exists));
    assert!(table.take(id).is_none(), "it doesn't run yet");
    assert_eq!(table.run(id, tcp.address, "tcp"), Ok(()));
    assert_eq!(table.reserve(tcp), Err(NoPlace::Exists));
    assert_eq!(table.take(id), Some("tcp"));
    assert_eq!(table.take(id), None, "stopped by one caller only");
    assert_eq!(table.reserve(tcp), Err(NoPlace::Exists));
    table.release(id);
    assert_eq!(table.reserve(tcp), Ok(2));
    // However it would differ otherwise.
    let conditional = ServiceSpec {
        flags: ServiceFlags::CONDITIONAL_ACCEPT,
        ..tcp
    };
    assert_eq!(table.reserve(conditional), Err(NoPlace::Exists));
    // The same address over another transport, or another address, is another.
    assert_eq!(table.reserve(spec(Transport::Udp, "127.0.0.1:7")), Ok(3));
    assert_eq!(table.reserve(spec(Transport::Tcp, "[::1]:7")), Ok(4));
}

#[test]
fn port_0_is_as_many_services_as_are_asked_for_until_they_have_ports() {
    let mut table = Table::<u8>::new();
    let any = spec(Transport::Udp, "0.0.0.0:0");
    let first = table.reserve(any).expect("a place");
    let second = table.reserve(any).expect("a place");
    let bound = spec(Transport::Udp, "0.0.0.0:4000");
    assert_eq!(table.run(first, bound.address, 1), Ok(()));
    assert_eq!(table.reserve(bound), Err(NoPlace::Exists));
    assert_eq!(table.after(0), Some((first, &bound, &1)));
    assert_eq!(table.after(first), None, "the second doesn't run yet");
    table.release(second);
}

#[test]
fn a_full_table_refuses_and_lists_by_id() {
    let mut table = Table::<u32>::new();
    for n in 0..64 {
        let each = spec(Transport::Tcp, &format!("127.0.0.1:{}", 1000 + n));
        let id = table.reserve(each).expect("a place");
        assert_eq!(table.run(id, each.address, id), Ok(()));
    }
    let more = spec(Transport::Tcp, "127.0.0.1:9");
    assert_eq!(table.reserve(more), Err(NoPlace::Full));
    assert_eq!(table.take(10), Some(10));
    table.release(10);
    let id = table.reserve(more).expect("the place that is free again");
    assert_eq!(id, 65, "ids of services that couldn't start aren't used up");
    assert_eq!(table.run(id, more.address, id), Ok(()));
    let mut ids = Vec::new();
    while let Some((id, ..)) = table.after(ids.last().copied().unwrap_or(0)) {
        ids.push(id);
    }
    assert_eq!(ids.len(), 64);
    assert!(ids.is_sorted() && !ids.contains(&10));
}

#[test]
fn a_service_fails_with_the_last_of_its_parts_and_only_once() {
    let health = Health::new(3);
    assert!(!health.part_failed(status::CANCELLED));
    assert!(!health.part_failed(status::CANCELLED));
    assert_eq!(health.failure(), None, "one part still works");
    assert!(health.part_failed(status::FILE_FORCED_CLOSED));
    assert_eq!(health.failure(), Some(status::FILE_FORCED_CLOSED));
    // A listener that says so again changes nothing.
    assert!(!health.part_failed(status::CANCELLED));
    assert_eq!(health.failure(), Some(status::FILE_FORCED_CLOSED));
    // It has failed even if what it failed with is no error.
    for odd in [status::SUCCESS, status::PENDING, status::BUFFER_OVERFLOW] {
        let health = Health::new(1);
        assert!(health.part_failed(odd));
        assert_eq!(health.failure(), Some(status::UNSUCCESSFUL));
    }
}

#[test]
fn sockets_of_services_are_in_one_order_and_a_list_goes_on_where_it_stopped() {
    let mut ids = vec![1, (1 << 62) - 1];
    for service in [1, 2, 64] {
        ids.push(sockets::id(service, sockets::OWN));
        // The youngest connection first, its client before its target.
        for count in [u32::MAX, 70_000, 1, 0] {
            for side in [0, 1] {
                let number = sockets::number(count, side);
                let id = sockets::id(service, number);
                assert_eq!(sockets::place(id), (service, number));
                ids.push(id);
            }
        }
    }
    assert!(ids.is_sorted(), "{ids:x?}");
    ids.dedup();
    assert_eq!(ids.len(), 2 + 3 * 9, "two have the same");
    // A list of handles' sockets that is over goes on with the first service.
    assert_eq!(sockets::place(0), (0, sockets::OWN));
    assert_eq!(sockets::place(12_345), (0, sockets::OWN));
    // What is shown of one that nothing else is known of.
    let (kind, state) = (SocketKind::Udp, SocketState::Bound);
    let blank = sockets::blank(3, sockets::OWN, kind, state);
    assert_eq!((blank.service, blank.owner), (3, 0));
    assert_eq!(blank.id, sockets::id(3, sockets::OWN));
}

struct Item {
    links: Links<Item>,
}

impl Linked for Item {
    fn links(&self) -> &Links<Self> {
        &self.links
    }
}

/// A list of boxes, freed as soon as they are taken out.
struct Items {
    list: List<Item>,
    live: Vec<*mut Item>,
}

impl Items {
    fn new(count: usize) -> Self {
        let mut items = Self {
            list: List::new(),
            live: Vec::new(),
        };
        for _ in 0..count {
            items.add();
        }
        items
    }

    fn add(&mut self) {
        let links = Links::new();
        let item = Box::into_raw(Box::new(Item { links }));
        // SAFETY: in no list, and freed by `free` only, which takes it out.
        unsafe { self.list.link(item) };
        self.live.push(item);
    }

    fn free(&mut self, item: *mut Item) {
        self.live.retain(|other| *other != item);
        // SAFETY: put in by `add`, and taken out once: it was in `live`.
        unsafe { self.list.unlink(item) };
        // SAFETY: from Box::into_raw in `add`; nobody refers to it any more.
        drop(unsafe { Box::from_raw(item) });
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        while let Some(item) = self.live.first() {
            self.free(*item);
        }
    }
}

#[test]
fn a_walk_meets_each_that_stays_once_whatever_goes_in_between() {
    const COUNT: usize = 6;
    // After how many steps; which of them go then, each subset of them.
    for steps in 0..=COUNT {
        for gone in 0_u32..1 << COUNT {
            for backwards in [false, true] {
                let mut items = Items::new(COUNT);
                let all = items.live.clone();
                items.list.walk();
                let mut met: Vec<*const Item> = Vec::new();
                for _ in 0..steps {
                    met.extend(items.list.step());
                }
                let mut leaving: Vec<*mut Item> = (0..COUNT)
                    .filter(|n| gone & (1 << n) != 0)
                    .map(|n| all[n])
                    .collect();
                if backwards {
                    leaving.reverse();
                }
                for item in &leaving {
                    items.free(*item);
                }
                while let Some(item) = items.list.step() {
                    assert!(items.live.contains(&item.cast_mut()), "it is gone");
                    met.push(item);
                }
                let once: HashSet<*const Item> = met.iter().copied().collect();
                assert_eq!(once.len(), met.len(), "one was met twice");
                assert!(
                    items
                        .live
                        .iter()
                        .all(|item| once.contains(&item.cast_const())),
                    "one was lost: {steps} steps, {gone:#b} gone"
                );
                assert_eq!(items.list.step(), None, "it ends");
            }
        }
    }
}

#[test]
fn a_walk_does_not_meet_what_comes_after_its_start() {
    let mut items = Items::new(2);
    items.list.walk();
    assert!(items.list.step().is_some());
    items.add();
    assert!(items.list.step().is_some());
    assert_eq!(items.list.step(), None);
    items.list.walk();
    for _ in 0..3 {
        assert!(items.list.step().is_some(), "a new walk meets all");
    }
    assert_eq!(items.list.step(), None);
}
