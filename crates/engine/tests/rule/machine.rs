//! The machine returns what libpcap's does: for what libpcap compiles, and for
//! random code of every operation.

use std::fs::File;
use std::path::Path;

use pcap_file::pcap::PcapReader;
use proptest::prelude::*;
use weir_engine::rule::bpf::*;
use weir_engine::rule::format::{ACTION_DROP, ACTION_PASS, Insn};
use weir_engine::rule::{NoFar, Program, View, bpf};
use zerocopy::Unalign;

use super::assemble::{Draft, Parts, insn, jump};
use super::frames::frame;
use super::libpcap::{BpfInsn, Libpcap, as_ours};

/// Of every kind that libpcap's compiler knows for Ethernet.
const EXPRESSIONS: &[&str] = &[
    "",
    "ip",
    "ip6",
    "arp",
    "rarp",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "sctp",
    "not ip",
    "host 10.0.0.1",
    "src host 10.0.0.1 and not dst host 10.0.0.2",
    "net 10.0.0.0/8",
    "dst net 192.168.0.0/16 or src net 10.0.0.0/9",
    "ip6 host fe80::1",
    "net fd00::/8",
    "ip6 net fd00::/65",
    "port 80",
    "tcp port 80 or udp port 53",
    "src port 80",
    "dst portrange 5000-6000",
    "portrange 1-1023",
    "tcp dst port 5201 and greater 1000",
    "ether host 02:00:00:00:00:01",
    "ether src 02:00:00:00:00:01 and ether broadcast",
    "ether multicast",
    "ip broadcast or ip multicast",
    "ip6 multicast",
    "ether proto 0x88cc",
    "ip proto 47",
    "ip6 proto 17",
    "proto 6",
    "vlan",
    "vlan 7",
    "vlan and tcp",
    "vlan 7 and vlan 8 and ip",
    "less 64",
    "greater 1514",
    "len >= 100 and len != 1514",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[13] = 18",
    "tcp[tcpflags] == tcp-ack and tcp[14:2] > 500",
    "icmp[icmptype] = icmp-echo",
    "icmp6[icmp6type] == icmp6-echo",
    "ip[6:2] & 0x1fff != 0",
    "ip[0] & 0xf > 5",
    "ip[8] * 2 < 100",
    "ip[2:2] - (ip[0] & 0xf) * 4 > 40",
    "udp[4:2] / 2 = 10",
    "ip[16] % 3 = 1",
    "ip[2:2] >> 8 = 1",
    "1 << (ip[9] & 31) = 64",
    "ip[12:4] ^ ip[16:4] = 3",
    "-(ip[8]) = 4294967232",
    "ip6[6] = 58 and ip6[40] = 128",
    "ether[0] & 1 = 0 and ip[16] >= 224",
    "ether[70:4] != 0",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
    "llc",
    "stp",
    "ip or ip6 or arp",
    "gateway 10.0.0.1 or port 1",
    "tcp port http and (host 10.9.0.1 or host 10.9.0.2)",
    "mpls",
    "pppoes",
    "iso",
    "ipx",
];

fn captured() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/captures");
    let mut frames = Vec::new();
    for name in ["mixed.pcap", "odd.pcap"] {
        let file = File::open(folder.join(name)).unwrap();
        let mut reader = PcapReader::new(file).unwrap();
        while let Some(packet) = reader.next_packet() {
            frames.push(packet.unwrap().data.into_owned());
        }
    }
    assert!(frames.len() > 5_000);
    frames
}

/// The program of one rule with this code; it has to be one.
fn program(code: Vec<Insn>) -> Vec<u8> {
    let bytes = Parts::new(ACTION_PASS, &[Draft::linear("r", ACTION_DROP, code)]).bytes();
    Program::verify(&bytes).expect("what libpcap accepts is a program");
    bytes
}

fn code(bytes: &[u8]) -> &[Unalign<Insn>] {
    Program::verify(bytes).unwrap().rule(0).unwrap().code()
}

#[test]
fn what_libpcap_compiles_returns_what_libpcap_returns() {
    let libpcap = Libpcap::load();
    let machine = libpcap.machine();
    let frames = captured();
    let mut compiled = 0;
    let mut matched = 0;
    for expression in EXPRESSIONS {
        for optimize in [false, true] {
            let Ok(theirs) = libpcap.compile(expression, optimize) else {
                // `gateway` and such want a table of names.
                continue;
            };
            compiled += 1;
            let theirs = libpcap.valid(theirs);
            let bytes = program(as_ours(theirs.insns()));
            let ours = code(&bytes);
            for frame in &frames {
                let wire_len = u32::try_from(frame.len()).unwrap();
                for cut in [frame.len(), frame.len().min(45), 13] {
                    let cut = &frame[..cut.min(frame.len())];
                    let expected = machine.run(&theirs, cut, wire_len);
                    let returned = bpf::run(ours, &View::contiguous(cut, wire_len));
                    assert_eq!(returned, expected, "{expression:?} on {cut:02x?}");
                    matched += u32::from(expected != 0);
                }
            }
        }
    }
    assert!(compiled > 2 * EXPRESSIONS.len() - 10, "{compiled}");
    assert!(matched > 100_000, "{matched}");
}

/// Operations that take any operand.
const PLAIN: &[u16] = &[
    LD | W | ABS,
    LD | H | ABS,
    LD | B | ABS,
    LD | W | IND,
    LD | H | IND,
    LD | B | IND,
    LDX | B | MSH,
    LD | W | LEN,
    LDX | W | LEN,
    LD | IMM,
    LDX | IMM,
    ALU | ADD | K,
    ALU | SUB | K,
    ALU | MUL | K,
    ALU | AND | K,
    ALU | OR | K,
    ALU | XOR | K,
    ALU | ADD | X,
    ALU | SUB | X,
    ALU | MUL | X,
    ALU | DIV | X,
    ALU | MOD | X,
    ALU | AND | X,
    ALU | OR | X,
    ALU | XOR | X,
    ALU | LSH | X,
    ALU | RSH | X,
    ALU | NEG,
    MISC | TAX,
    MISC | TXA,
];
const JUMPS: &[u16] = &[
    JMP | JEQ | K,
    JMP | JGT | K,
    JMP | JGE | K,
    JMP | JSET | K,
    JMP | JEQ | X,
    JMP | JGT | X,
    JMP | JGE | X,
    JMP | JSET | X,
];

fn operand() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0u32..100,
        1 => any::<u32>(),
        1 => (u32::MAX - 50)..=u32::MAX,
    ]
}

fn step() -> impl Strategy<Value = BpfInsn> {
    let of = |codes: &'static [u16]| proptest::sample::select(codes);
    let made = |code: u16, k: u32| BpfInsn {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    prop_oneof![
        12 => (of(PLAIN), operand()).prop_map(move |(code, k)| made(code, k)),
        // By a constant: libpcap leaves shifts of 32 and more to the processor.
        2 => (of(&[ALU | LSH | K, ALU | RSH | K]), 0u32..32).prop_map(move |(c, k)| made(c, k)),
        2 => (of(&[ALU | DIV | K, ALU | MOD | K]), 1u32..).prop_map(move |(c, k)| made(c, k)),
        3 => (of(&[LD | MEM, LDX | MEM, ST, STX]), 0u32..16).prop_map(move |(c, k)| made(c, k)),
        4 => (of(JUMPS), operand(), any::<(u8, u8)>())
            .prop_map(|(code, k, (jt, jf))| BpfInsn { code, jt, jf, k }),
        1 => any::<u8>().prop_map(move |k| made(JMP | JA, k.into())),
        1 => of(&[RET | K, RET | A]).prop_map(move |code| made(code, 7)),
    ]
}

/// Valid code: jumps brought inside, scratch memory written before it is read.
fn random_code() -> impl Strategy<Value = Vec<BpfInsn>> {
    proptest::collection::vec(step(), 0..60).prop_map(|steps| {
        let stores = (0..SCRATCH_WORDS).map(|k| BpfInsn {
            code: ST,
            jt: 0,
            jf: 0,
            k,
        });
        let end = BpfInsn {
            code: RET | A,
            jt: 0,
            jf: 0,
            k: 0,
        };
        let mut code: Vec<_> = stores.chain(steps).chain([end]).collect();
        let len = code.len();
        for (at, insn) in code.iter_mut().enumerate() {
            let behind = u8::try_from(len - at - 1).unwrap().max(1);
            if JUMPS.contains(&insn.code) {
                // Short ones, or most of the code would be passed over.
                insn.jt = insn.jt % behind % 4;
                insn.jf = insn.jf % behind % 4;
            } else if insn.code == JMP | JA {
                insn.k = insn.k % u32::from(behind) % 4;
            }
        }
        code
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 3_000 }))]
    #[test]
    fn random_code_returns_what_libpcap_returns(
        theirs in random_code(),
        frames in proptest::collection::vec(frame(), 1..6),
    ) {
        let libpcap = Libpcap::load();
        let machine = libpcap.machine();
        let theirs = libpcap.valid(theirs);
        let bytes = program(as_ours(theirs.insns()));
        for frame in &frames {
            let wire_len = u32::try_from(frame.bytes.len()).unwrap();
            let expected = machine.run(&theirs, &frame.bytes[..frame.captured], wire_len);
            // However the bytes are spread.
            let returned = frame.with_view(|view| bpf::run(code(&bytes), view));
            prop_assert_eq!(returned, expected);
        }
    }
}

fn returns(steps: &[Insn], bytes: &[u8]) -> u32 {
    let bytes_of_program = program(steps.to_vec());
    let wire_len = u32::try_from(bytes.len()).unwrap();
    bpf::run(code(&bytes_of_program), &View::contiguous(bytes, wire_len))
}

/// What libpcap leaves open is fixed here: a shift by 32 bits or more gives 0.
#[test]
fn shifts_by_a_constant_beyond_the_register_give_zero() {
    for shift in [LSH, RSH] {
        for by in [32, 33, 64, u32::MAX] {
            let steps = [
                insn(LD | IMM, u32::MAX),
                insn(ALU | shift | K, by),
                insn(ALU | ADD | K, 5),
                insn(RET | A, 0),
            ];
            assert_eq!(returns(&steps, &[]), 5);
        }
    }
}

/// A distance no `bpf_insn` could hold.
#[test]
fn conditional_jumps_reach_further_than_libpcaps() {
    let mut steps = vec![insn(LD | IMM, 1), jump(JMP | JEQ | K, 1, 3_000, 0)];
    steps.extend([insn(RET | K, 8); 3_000]);
    steps.push(insn(RET | K, 9));
    assert_eq!(returns(&steps, &[]), 9);
}

/// A frame that promises more than its far part gives is cut where that ends.
#[test]
fn far_bytes_that_do_not_come_end_the_run() {
    let bytes = program(vec![insn(LD | H | ABS, 3), insn(RET | K, 1)]);
    let view = View::new(&[1, 2, 3, 4], 10, 10, &NoFar);
    assert_eq!(bpf::run(code(&bytes), &view), 0);
    let near = program(vec![insn(LD | H | ABS, 2), insn(RET | K, 1)]);
    assert_eq!(bpf::run(code(&near), &view), 1);
    // Nor does the piece at hand reach beyond what was captured.
    let view = View::new(&[1, 2, 3, 4], 3, 10, &NoFar);
    assert_eq!(bpf::run(code(&near), &view), 0);
}
