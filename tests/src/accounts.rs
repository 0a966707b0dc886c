//! The closed balance, checked: what `weirctl stats`, `capture` and `divert`
//! print with `--json` must add up, over adapters, rules and readers.

use serde_json::Value;

fn number(value: &Value, field: &str) -> u64 {
    value
        .get(field)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("no {field} in {value}"))
}

/// `seen = passed + dropped + diverted + lost`, as weirctl shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Frames that came.
    pub seen: u64,
    /// Frames that went on.
    pub passed: u64,
    /// Frames a rule dropped.
    pub dropped: u64,
    /// Frames a rule diverted.
    pub diverted: u64,
    /// Frames lost, for all reasons.
    pub lost: u64,
}

impl Balance {
    pub(crate) fn of(value: &Value) -> Self {
        Self {
            seen: number(value, "seen"),
            passed: number(value, "passed"),
            dropped: number(value, "dropped"),
            diverted: number(value, "diverted"),
            lost: number(value, "lost"),
        }
    }

    /// Checks each adapter's balances in what `weirctl stats --json` printed.
    ///
    /// # Panics
    /// When one doesn't close.
    pub fn check_all(stats: &Value) {
        for (_, balance) in balances(stats) {
            balance.check();
        }
    }

    /// # Panics
    /// When the balance doesn't close.
    pub fn check(&self) {
        let sum = self.passed + self.dropped + self.diverted + self.lost;
        assert_eq!(self.seen, sum, "the balance does not close: {self:?}");
    }
}

/// Each adapter's balance of each direction, as weirctl shows it and parsed.
fn balances(stats: &Value) -> impl Iterator<Item = (&Value, Balance)> {
    let adapters = stats["adapters"].as_array().expect("stats has adapters");
    adapters
        .iter()
        .flat_map(|adapter| [&adapter["in"]["balance"], &adapter["out"]["balance"]])
        .map(|balance| (balance, Balance::of(balance)))
}

/// What all adapters and rules counted, after everything in it was found to add up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accounts {
    /// All adapters, both directions.
    pub all: Balance,
    /// Of the lost ones, those that no rule was asked about, because the adapter
    /// was paused.
    pub unasked: u64,
    /// What the rules in force decided.
    pub rules: Option<Decided>,
}

/// What rules decided, in frames, the default among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// Frames they were asked about.
    pub seen: u64,
    /// Let through.
    pub pass: u64,
    /// Dropped.
    pub drop: u64,
    /// Diverted, or let through because nobody diverts.
    pub divert: u64,
}

impl Accounts {
    /// Checks what `weirctl stats --json` printed while no frames passed: each
    /// adapter's balance in both directions, and over the rules in force.
    ///
    /// # Panics
    /// When something doesn't add up.
    pub fn check(stats: &Value) -> Self {
        let mut accounts = Self::default();
        for (shown, balance) in balances(stats) {
            balance.check();
            assert_eq!(shown["balanced"], true, "{shown}");
            let reasons = ["lost_paused", "lost_resources", "lost_other"];
            let reasons: u64 = reasons.iter().map(|r| number(shown, r)).sum();
            assert_eq!(reasons, balance.lost, "each loss has one reason: {shown}");
            let all = &mut accounts.all;
            all.seen += balance.seen;
            all.passed += balance.passed;
            all.dropped += balance.dropped;
            all.diverted += balance.diverted;
            all.lost += balance.lost;
            accounts.unasked += number(shown, "lost_paused");
        }
        if !stats["rules"].is_null() {
            accounts.rules = Some(Decided::check(&stats["rules"]));
        }
        assert_eq!(stats["balanced"], true, "{stats}");
        accounts
    }

    /// Checks the rules' sums against the adapters': for rules that were in force
    /// before the first frame, and that saw every one since.
    ///
    /// # Panics
    /// When they differ.
    pub fn rules_saw_every_frame(&self) {
        let Some(rules) = self.rules else {
            panic!("no rules are in force");
        };
        let all = self.all;
        assert_eq!(rules.seen, all.seen - self.unasked, "{self:?}");
        assert_eq!(rules.drop, all.dropped, "{self:?}");
        // What nobody diverted passed.
        let passed = rules.pass + rules.divert - all.diverted;
        assert_eq!(passed, all.passed + all.lost - self.unasked, "{self:?}");
    }

    /// Checks the balance of the reader in what `weirctl capture --json` or
    /// `weirctl divert --json` printed at its end.
    ///
    /// # Panics
    /// When it doesn't close.
    pub fn reader(said: &Value) {
        let reader = &said["reader"];
        let of = |field: &str| number(reader, field);
        assert_eq!(reader["balanced"], true, "{said}");
        let sum = of("delivered") + of("queued") + of("lost");
        assert_eq!(
            of("seen"),
            sum,
            "the reader's balance does not close: {said}"
        );
        if reader.get("returned").is_some() {
            let sum = of("returned") + of("outstanding") + of("unreturned");
            assert_eq!(
                of("delivered"),
                sum,
                "frames of the reader are missing: {said}"
            );
        }
    }
}

impl Decided {
    fn check(rules: &Value) -> Self {
        assert_eq!(rules["balanced"], true, "{rules}");
        let mut decided = Self {
            seen: number(&rules["seen"], "frames"),
            ..Self::default()
        };
        let mut bytes = 0;
        let listed = rules["rules"].as_array().expect("rules");
        for one in listed.iter().chain([&rules["default"]]) {
            let term = match one["action"].as_str() {
                Some("pass") => &mut decided.pass,
                Some("drop") => &mut decided.drop,
                Some("divert") => &mut decided.divert,
                // These decide nothing.
                Some("log" | "count") => continue,
                _ => panic!("no action in {one}"),
            };
            *term += number(one, "frames");
            bytes += number(one, "bytes");
        }
        let sum = decided.pass + decided.drop + decided.divert;
        assert_eq!(decided.seen, sum, "the rules' hits do not add up: {rules}");
        assert_eq!(number(&rules["seen"], "bytes"), bytes, "{rules}");
        decided
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stats(dropped: u64, hits: u64) -> Value {
        let none = json!({
            "seen": 0, "passed": 0, "dropped": 0, "diverted": 0, "lost": 0, "lost_paused": 0,
            "lost_resources": 0, "lost_other": 0, "balanced": true,
        });
        let some = json!({
            "seen": 10, "passed": 6, "dropped": dropped, "diverted": 1, "lost": 1,
            "lost_paused": 1, "lost_resources": 0, "lost_other": 0, "balanced": true,
        });
        let rule = |action: &str, frames: u64| json!({"action": action, "frames": frames, "bytes": frames * 100});
        json!({
            "adapters": [{ "in": {"balance": none}, "out": {"balance": some} }],
            "rules": {
                "seen": {"frames": 9, "bytes": 900}, "balanced": true,
                "rules": [rule("count", 77), rule("drop", hits), rule("divert", 3)],
                "default": rule("pass", 4),
            },
            "balanced": true,
        })
    }

    fn fails(check: impl FnOnce() + std::panic::UnwindSafe) -> bool {
        std::panic::catch_unwind(check).is_err()
    }

    #[test]
    fn what_adds_up_passes() {
        let accounts = Accounts::check(&stats(2, 2));
        accounts.rules_saw_every_frame();
        assert_eq!((accounts.all.seen, accounts.unasked), (10, 1));
        Accounts::reader(&json!({"reader": {
            "seen": 5, "delivered": 3, "queued": 1, "lost": 1, "balanced": true,
            "returned": 1, "outstanding": 1, "unreturned": 1,
        }}));
    }

    #[test]
    fn what_does_not_add_up_is_found() {
        assert!(fails(|| Balance::check_all(&stats(3, 2))));
        assert!(fails(|| {
            let _unsound = Accounts::check(&stats(2, 3));
        }));
        let mut other = stats(2, 2);
        other["adapters"][0]["out"]["balance"]["seen"] = 11.into();
        other["adapters"][0]["out"]["balance"]["passed"] = 7.into();
        let accounts = Accounts::check(&other);
        assert!(fails(move || accounts.rules_saw_every_frame()));
        for field in ["seen", "delivered", "returned"] {
            let mut said = json!({"reader": {
                "seen": 5, "delivered": 3, "queued": 1, "lost": 1, "balanced": true,
                "returned": 3, "outstanding": 0, "unreturned": 0,
            }});
            said["reader"][field] = 9.into();
            assert!(fails(|| Accounts::reader(&said)), "{field}");
        }
    }
}
