//! The lab catches what it says it catches: a small driver commits one sin a
//! run, named by its service, and the stand-ins end the run with the rule's
//! name. A lab that has never failed anything proves nothing.

use std::collections::BTreeSet;

use serde_json::json;
use weir_lab_harness::Error;
use weir_tests::lab::{Fixture, root};

/// One row of `lab/badriver/sins.csv`.
struct Sin {
    name: String,
    rule: String,
}

fn sins() -> Vec<Sin> {
    let table = std::fs::read_to_string(root().join("lab/badriver/sins.csv")).expect("sins.csv");
    table
        .lines()
        .skip(1)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, rest) = line.split_once(',').expect("a sin has a rule");
            let rule = rest.split(',').next().expect("a sin has a rule");
            Sin {
                name: name.into(),
                rule: rule.into(),
            }
        })
        .collect()
}

/// Loads the driver under a sin's name, lets it meet traffic, unloads it.
fn commit(fixture: &Fixture, sin: &str) -> Result<(), Error> {
    let service = format!("bad-{sin}");
    fixture
        .lab
        .install_driver(&service, &root().join("target/weir/bad.sys"))?;
    fixture.lab.start_driver(&service)?;
    // Some sins wait for traffic; those of other kinds ignore it, and a driver
    // without a filter has no adapter to inject into.
    let frame = "020000000001020000000002080045000014".to_owned() + &"00".repeat(40);
    for direction in ["up", "down"] {
        match fixture.lab.ask(&json!({
            "cmd": "inject", "adapter": "lab0", "dir": direction, "frames": [frame, frame],
        })) {
            Ok(_) | Err(Error::Refused { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    match fixture.lab.poke_device("LabBad") {
        Ok(()) | Err(Error::Refused { .. }) => {}
        Err(other) => return Err(other),
    }
    fixture.lab.stop_driver(&service)
}

/// A new rule without a driver that breaks it is not a rule yet.
#[test]
fn each_rule_has_a_sin() {
    let table = root().join("lab/standins/src/core/rules.rs");
    let table = std::fs::read_to_string(table).expect("rules.rs");
    // One a line in the table: `Name => "what it demands",`.
    let rules: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.trim().split_once(" => \""))
        .map(|(name, _)| name)
        .collect();
    assert!(rules.len() > 100, "only {} rules were read", rules.len());
    let sins = sins();
    let broken: BTreeSet<&str> = sins.iter().map(|sin| sin.rule.as_str()).collect();
    let spared: Vec<_> = rules.difference(&broken).collect();
    assert!(spared.is_empty(), "nothing breaks {spared:?}");
    let unknown: Vec<_> = broken.difference(&rules).collect();
    assert!(unknown.is_empty(), "no rule is called {unknown:?}");
}

#[test]
fn a_driver_without_sin_passes() {
    let fixture = Fixture::bare("rules-good");
    commit(&fixture, "none").expect("nothing is found where nothing is wrong");
}

#[test]
fn each_rule_is_enforced() {
    let fixture = Fixture::bare("rules");
    let sins = sins();
    assert!(sins.len() >= 30, "only {} sins", sins.len());
    let mut wrong = Vec::new();
    for sin in &sins {
        // Each service has a process of its own, so that a run's end is its own.
        match commit(&fixture, &sin.name) {
            Err(Error::Violation { rule, caller, .. }) if rule == sin.rule => {
                if !caller.starts_with(&format!("bad-{}", sin.name)) {
                    wrong.push(format!("{}: caught, but the caller is {caller}", sin.name));
                }
            }
            Err(other) => wrong.push(format!("{}: wanted {}, got: {other}", sin.name, sin.rule)),
            Ok(()) => wrong.push(format!("{}: nobody noticed ({})", sin.name, sin.rule)),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        sins.len(),
        wrong.join("\n")
    );
}
