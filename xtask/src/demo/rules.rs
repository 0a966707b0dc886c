//! The part of the demonstration about rules: what they drop is dropped, and
//! tcpdump, which knows nothing of Weir, says how many frames that should be.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_lab_harness::windows_path;

use super::{CAPTURE, Demo, step};
use crate::play::ADAPTER;

/// Name, action and expression of each rule.
const RULES: [(&str, &str, &str); 2] = [
    ("no-web", "drop", "tcp port 80 and not src net 10.0.0.0/8"),
    ("pings", "count", "icmp or icmp6"),
];

impl Demo<'_> {
    /// Replays the capture with rules in force.
    pub(super) fn rules(&mut self) -> Result<()> {
        step("the same frames, with rules in force");
        let text: String = RULES
            .iter()
            .map(|(name, action, expression)| format!("rule {name} {action} any {expression}\n"))
            .collect();
        print!("{text}");
        let rules = self.root.join("target/weir/demo.rules");
        std::fs::write(&rules, text).with_context(|| format!("writing {}", rules.display()))?;
        self.ask(&["rules", "load", &windows_path(&rules)])?;
        let file = self.root.join(CAPTURE);
        self.lab.ask(&json!({
            "cmd": "replay", "adapter": ADAPTER, "file": windows_path(&file),
            "speed": 0, "loops": 1, "wait": true,
        }))?;
        let stats = self.ask(&["rules", "stats"])?;
        for (name, action, expression) in RULES {
            let hits = hits(&stats, name)?;
            let wanted = matches(&file, expression)?;
            ensure!(
                hits == wanted,
                "rule {name}: {hits} frames, and tcpdump finds {wanted}"
            );
            self.saw(
                &format!("rule {name}, {action}"),
                &format!("{hits} frames, as tcpdump counts"),
            );
        }
        let shown = self.weirctl(&["flows", "--limit", "5"]).status()?;
        ensure!(shown.success(), "weirctl flows: {shown}");
        self.ask(&["rules", "clear"])?;
        Ok(())
    }
}

/// Frames a rule took effect on.
fn hits(stats: &Value, name: &str) -> Result<u64> {
    stats
        .get("rules")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|rule| rule.get("name").and_then(Value::as_str) == Some(name))
        .and_then(|rule| rule.get("frames"))
        .and_then(Value::as_u64)
        .with_context(|| format!("no rule {name} in {stats}"))
}

/// How many frames of a file tcpdump says an expression matches.
fn matches(file: &Path, expression: &str) -> Result<u64> {
    let out = Command::new("tcpdump")
        .args(["--count", "-r"])
        .arg(file)
        .arg(expression)
        .output()
        .context("running tcpdump")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let count = text.split_whitespace().next().unwrap_or_default();
    count
        .parse()
        .with_context(|| format!("what tcpdump --count printed: {text}"))
}
