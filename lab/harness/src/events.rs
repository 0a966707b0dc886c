//! The stand-ins' event log, `C:\lab\events.jsonl`: one JSON object a line.

use serde_json::Value;

/// One line of the event log.
#[derive(Clone, Debug, PartialEq)]
pub struct Event(pub Value);

impl Event {
    /// What happened: `load`, `unload`, `violation`, `bugcheck` ...
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text("event")
    }

    /// A text field, empty when it is not there.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.0
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// A whole number, 0 when it is not there.
    #[must_use]
    pub fn number(&self, field: &str) -> u64 {
        self.0
            .get(field)
            .and_then(Value::as_u64)
            .unwrap_or_default()
    }

    /// Whether the stand-ins ended the run with this event.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self.kind(), "violation" | "bugcheck" | "exception")
    }

    /// Reads a log; a last line cut short by the end of its writer is passed over.
    #[must_use]
    pub fn parse_log(log: &str) -> Vec<Self> {
        log.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .map(Self)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_line_is_passed_over() {
        let log =
            "{\"event\":\"load\",\"name\":\"x\"}\n{\"event\":\"violation\",\"rule\":\"R\"}\n{\"eve";
        let events = Event::parse_log(log);
        assert_eq!(events.len(), 2);
        assert!(!events[0].is_fatal());
        assert!(events[1].is_fatal());
        assert_eq!(events[1].text("rule"), "R");
    }
}
