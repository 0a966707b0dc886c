//! Rule files: what is wrong is told all at once, with its place; what is right
//! becomes a program that the engine takes.

use weir_engine::rule::{Program, RuleSet, View};
use weir_rules::{Action, Directions, Never, RuleFile, compile_expression, explain};

const GOOD: &str = "\
# name      action   where        expression
rule smb    drop     in           tcp port 445 and not src net 10.0.0.0/8
rule dns    log      any          udp port 53   # both ways
rule web    pass     out          tcp dst port 443 or udp dst port 443
rule rest   count    any

default pass
";

#[test]
fn a_file_becomes_a_program_the_engine_takes() {
    let file = RuleFile::parse(GOOD, "good.rules").expect("no errors");
    assert_eq!(file.default_action(), Action::Pass);
    let names: Vec<&str> = file.rules().iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["smb", "dns", "web", "rest"]);
    assert_eq!(file.rules()[0].directions, Directions::In);
    assert_eq!(file.rules()[1].expression.text(), "udp port 53");
    assert_eq!(file.rules()[2].line, 4);
    let bytes = file.compile();
    let program = Program::verify(&bytes).expect("a program");
    assert_eq!(program.name(3), Some("rest"));
    let index = vec![0u32; program.index_len()];
    let set = RuleSet::build(&bytes[..], index).expect("an index");
    let frame = [0u8; 60];
    let mut hits = Vec::new();
    set.decide(&View::contiguous(&frame, 60), None, &mut |rule| {
        hits.push(rule)
    });
    assert_eq!(hits, [3], "a frame of zeros is counted by the rule for all");
}

#[test]
fn all_errors_of_a_file_are_told() {
    let text = "rule a drp in tcp\nrule b drop inn\nrule b! drop in\nrle c\nrule d drop in tcp prot 80\n\
                default reject\nrule e pass any port 80 and\ndefault pass\ndefault drop\n\
                rule f pass any host example.org\nrule g pass any tcp\nrule g pass any udp\n";
    let errors = RuleFile::parse(text, "bad.rules").expect_err("errors").0;
    let places: Vec<(u32, u32, u32)> = errors.iter().map(|e| (e.line, e.column, e.width)).collect();
    let expected = [
        (1, 8, 3),
        (2, 13, 3),
        (3, 7, 1),
        (4, 1, 3),
        (5, 20, 4),
        (6, 9, 6),
        (7, 28, 1),
        (9, 1, 12),
        (10, 22, 11),
        (12, 6, 1),
    ];
    assert_eq!(places, expected);
    for error in &errors {
        assert_eq!(&*error.source_name, "bad.rules");
        assert_eq!(
            error.source_line,
            text.lines().nth(error.line as usize - 1).unwrap()
        );
        let line_start: usize = text
            .split_inclusive('\n')
            .take(error.line as usize - 1)
            .map(str::len)
            .sum();
        assert_eq!(error.span.start, line_start + error.column as usize - 1);
    }
    let shown = errors[0].to_string();
    let expected = "\
error: an action is not drp; did you mean drop?
 --> bad.rules:1:8
  |
1 | rule a drp in tcp
  |        ^^^
  = expected `pass`, `drop`, `divert`, `log` or `count`";
    assert_eq!(shown, expected);
}

#[test]
fn a_file_of_too_much_is_refused() {
    let text: String = (0..=16_384)
        .map(|number| format!("rule r{number} count any\n"))
        .collect();
    let errors = RuleFile::parse(&text, "many")
        .expect_err("one rule too many")
        .0;
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].line, 16_385);
    // Some 2,000 instructions each, and nothing to look up by.
    let expression = vec!["ether[60] + len = 1"; 400].join(" or ");
    let line = |number: usize| format!("rule r{number} drop any {expression}\n");
    let text: String = (0..20).map(line).collect();
    assert!(RuleFile::parse(&text, "linear").is_ok());
    let text: String = (0..60).map(line).collect();
    let errors = RuleFile::parse(&text, "linear")
        .expect_err("too much for a frame")
        .0;
    assert!(
        errors[0].message.contains("65536 instructions"),
        "{}",
        errors[0]
    );
    assert!(errors[0].line < 60);
}

#[test]
fn networks_of_all_lengths_are_still_looked_up() {
    let line = |len: u32| {
        let src = u32::MAX.checked_shl(32 - len).unwrap_or(0) & 0x0a0b_0c0d;
        let address = std::net::Ipv4Addr::from(src);
        format!("rule net{len} drop in src net {address}/{len}\n")
    };
    let text: String = (1..=32).map(line).collect();
    let bytes = RuleFile::parse(&text, "nets").expect("a program").compile();
    let explanation = explain(&bytes).expect("an explanation");
    assert!(explanation.lookups.len() <= 64);
    assert!(explanation.rules.iter().all(|rule| !rule.tuples.is_empty()));
}

#[test]
fn what_never_takes_effect_is_told() {
    let text = "rule a drop in tcp port 80\nrule b drop in tcp dst port 80 and src host 10.0.0.1\n\
                rule c log any tcp and udp\nrule d drop out tcp dst port 80\nrule e pass any port 53\n\
                rule f log in udp src port 53\nrule g pass in vlan 5\nrule h drop in vlan 5\n\
                rule i count any\nrule j pass any\nrule k log any icmp\n";
    let bytes = RuleFile::parse(text, "never").expect("a program").compile();
    let explanation = explain(&bytes).expect("an explanation");
    let never: Vec<(&str, String)> = explanation
        .rules
        .iter()
        .filter_map(|rule| Some((rule.name.as_str(), rule.never.as_ref()?.to_string())))
        .collect();
    let by = |name: &str| format!("{name} before it decides about all its frames");
    let expected = [
        ("b", by("a")),
        ("c", Never::Contradiction.to_string()),
        ("f", by("e")),
        ("h", by("g")),
        ("k", by("j")),
    ];
    assert_eq!(never, expected);
    assert!(explain(b"nothing").is_err());
}

#[test]
fn the_listing_is_that_of_bpf() {
    let bytes = RuleFile::parse(
        "rule a drop in tcp dst port 80 and src host 10.0.0.1\n",
        "one",
    )
    .expect("a program")
    .compile();
    let shown = explain(&bytes).expect("an explanation").to_string();
    println!("{shown}");
    assert!(shown.contains("ipv4 tcp src 10.0.0.1 dst port 80 (look-up 1, with 0 other rules)"));
    assert!(shown.contains("(000) ldh   [12]"), "{shown}");
}

#[test]
fn what_is_left_out_is_refused_and_says_so() {
    for (text, said) in [
        ("host example.org", "names of hosts"),
        ("net loopback", "names of hosts"),
        ("inbound", "a rule says in, out or any"),
        ("outbound and tcp", "a rule says in, out or any"),
        ("ip protochain 6", "protochain is left out"),
        ("gateway router", "gateway is left out"),
        ("mpls", "ether proto 0x8847"),
        ("pppoes 5", "ether proto 0x8864"),
        ("geneve", "udp port 6081"),
        ("ifname eth0", "packet filter"),
        ("on eth0", "packet filter"),
        ("rnr 5", "packet filter"),
        ("ifindex 5", "all adapters"),
        ("wlan addr1 02:00:00:00:00:01", "802.11"),
        ("type mgt", "802.11"),
        ("vpi 5", "ATM"),
        ("oam", "ATM"),
        ("fisu", "SS7"),
        ("radio[5] = 1", "radio"),
        ("decnet host 1.2", "DECnet"),
        ("byte 5 & 6", "ether[5] &"),
        ("tcp port nosuchport", "write its number"),
        ("tcp port htp", "did you mean"),
        ("$12", "ARCnet"),
    ] {
        let error = compile_expression(text).expect_err(text);
        assert!(error.message.contains(said), "{text}: {error}");
    }
}

#[test]
fn what_is_too_deep_or_too_long_is_refused() {
    let deep = "(".repeat(100_000) + "tcp" + &")".repeat(100_000);
    let wide = vec!["port 80"; 8_000].join(" or ");
    let zigzag = vec!["tcp or udp and"; 1_000].join(" ") + " ip";
    let signs = "- ".repeat(30_000) + "1 > len";
    let sums = vec!["len"; 10_000].join(" + ") + " > 1";
    let loads = "ip[".repeat(500) + "0" + &"]".repeat(500) + " = 1";
    let vlans = vec!["vlan"; 50].join(" and ");
    for text in [&deep, &wide, &zigzag, &signs, &sums, &loads, &vlans] {
        let error = compile_expression(text).expect_err("too much");
        assert!(error.message.len() < 200, "{error}");
    }
    // What is long, but not too long, is taken.
    assert!(compile_expression(&vec!["host 10.0.0.1"; 100].join(" or ")).is_ok());
    assert!(compile_expression(&"not ".repeat(10_001)).is_err());
}
