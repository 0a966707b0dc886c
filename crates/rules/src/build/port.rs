//! Ports and ranges of ports.

use super::{Builder, Qualifiers, Refusal, Result, host::by_dir, proto_name};
use crate::lex::Proto;
use crate::node::{Compare, Node, Operand, Size, Step, Test};

pub(super) const TCP: u32 = 6;
pub(super) const UDP: u32 = 17;
pub(super) const SCTP: u32 = 132;

/// Transports a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transports {
    Any,
    Tcp,
    Udp,
}

impl Builder {
    /// A port, or ports from a first to a last; `named` says for which transport
    /// its name was found.
    pub(crate) fn ports(
        &self,
        first: u32,
        last: Option<u32>,
        named: Transports,
        q: Qualifiers,
    ) -> Result<Node> {
        let what = if last.is_some() { "portrange" } else { "port" };
        for port in [Some(first), last].into_iter().flatten() {
            if port > 65_535 {
                return Err(Refusal::new(format!(
                    "{port} is no port: they go up to 65535"
                )));
            }
        }
        let proto = match q.proto {
            None => match named {
                Transports::Any => None,
                Transports::Tcp => Some(TCP),
                Transports::Udp => Some(UDP),
            },
            Some(Proto::Tcp) if named != Transports::Udp => Some(TCP),
            Some(Proto::Udp) if named != Transports::Tcp => Some(UDP),
            Some(Proto::Sctp) if named == Transports::Any => Some(SCTP),
            Some(proto @ (Proto::Tcp | Proto::Udp | Proto::Sctp)) => {
                let other = if named == Transports::Tcp {
                    "TCP"
                } else {
                    "UDP"
                };
                return Err(Refusal::new(format!(
                    "this is the name of a port of {other}, and not of {}; write its number",
                    proto_name(proto).to_uppercase()
                )));
            }
            Some(proto) => {
                let name = proto_name(proto);
                return Err(Refusal {
                    message: format!("{name} has no {what}"),
                    expected: vec!["tcp".into(), "udp".into(), "sctp".into()],
                });
            }
        };
        let range = last.map_or((first, None), |last| {
            (first.min(last), Some(first.max(last)))
        });
        let all = |of: &dyn Fn(u32) -> Node| match proto {
            Some(proto) => of(proto),
            // SCTP, TCP, UDP: the order of libpcap.
            None => of(SCTP).or(of(TCP)).or(of(UDP)),
        };
        let ip6 = self
            .ethertype(0x86dd)
            .and(all(&|proto| self.ports6(proto, range, q)));
        let ip4 = self
            .ethertype(0x0800)
            .and(all(&|proto| self.ports4(proto, range, q)));
        Ok(ip6.or(ip4))
    }

    fn ports4(&self, proto: u32, range: (u32, Option<u32>), q: Qualifiers) -> Node {
        let ports = by_dir(q.dir, |is_src| {
            let at = self.payload + if is_src { 0 } else { 2 };
            let steps = vec![
                Step::HeaderLen { at: self.payload },
                Step::LoadX {
                    size: Size::Half,
                    at,
                },
            ];
            in_range(range, &steps)
        });
        self.payload(Size::Byte, 9, Compare::Equal, proto)
            .and(self.first_fragment())
            .and(ports)
    }

    fn ports6(&self, proto: u32, range: (u32, Option<u32>), q: Qualifiers) -> Node {
        let ports = by_dir(q.dir, |is_src| {
            let at = self.payload + 40 + if is_src { 0 } else { 2 };
            in_range(
                range,
                &[Step::Load {
                    size: Size::Half,
                    at,
                }],
            )
        });
        self.payload(Size::Byte, 6, Compare::Equal, proto)
            .and(ports)
    }

    /// Not a fragment of IPv4, or its first.
    pub(super) fn first_fragment(&self) -> Node {
        self.payload(Size::Half, 6, Compare::AnyBit, 0x1fff)
            .negate()
    }
}

fn in_range((first, last): (u32, Option<u32>), steps: &[Step]) -> Node {
    let test = |compare, k| {
        Node::Test(Test {
            steps: steps.to_vec(),
            compare,
            operand: Operand::K(k),
        })
    };
    match last {
        None => test(Compare::Equal, first),
        Some(last) => test(Compare::GreaterEqual, first).and(test(Compare::Greater, last).negate()),
    }
}
