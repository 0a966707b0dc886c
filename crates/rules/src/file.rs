//! Rule files: lines of `rule NAME ACTION DIRECTION EXPRESSION`, one of
//! `default pass` or `default drop`, and comments behind `#`.

use std::collections::HashMap;
use std::ops::Range;

use weir_engine::rule::format::{self, MAX_NAME, MAX_RULES};

use crate::names::closest;
use crate::{Error, Errors, Expression, compile_expression, program};

/// What a rule does with a frame that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Action {
    /// It goes on.
    Pass = format::ACTION_PASS,
    /// It goes nowhere.
    Drop = format::ACTION_DROP,
    /// It goes to the reader in the divert role.
    Divert = format::ACTION_DIVERT,
    /// A record of it, and on.
    Log = format::ACTION_LOG,
    /// Counted, and on.
    Count = format::ACTION_COUNT,
}

impl Action {
    const ALL: [Self; 5] = [Self::Pass, Self::Drop, Self::Divert, Self::Log, Self::Count];

    /// The word that stands for it in a rule file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Divert => "divert",
            Self::Log => "log",
            Self::Count => "count",
        }
    }

    /// Whether it decides about a frame.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Pass | Self::Drop | Self::Divert)
    }
}

impl From<weir_engine::rule::Action> for Action {
    fn from(action: weir_engine::rule::Action) -> Self {
        match action {
            weir_engine::rule::Action::Pass => Self::Pass,
            weir_engine::rule::Action::Drop => Self::Drop,
            weir_engine::rule::Action::Divert => Self::Divert,
            weir_engine::rule::Action::Log => Self::Log,
            weir_engine::rule::Action::Count => Self::Count,
        }
    }
}

/// The frames a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Directions {
    /// Received.
    In = format::DIRECTION_IN,
    /// Sent.
    Out = format::DIRECTION_OUT,
    /// Both.
    Any = format::DIRECTION_IN | format::DIRECTION_OUT,
}

impl Directions {
    const ALL: [Self; 3] = [Self::In, Self::Out, Self::Any];

    /// The word that stands for it in a rule file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Any => "any",
        }
    }
}

/// One rule of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, unique in the file.
    pub name: String,
    /// What it does.
    pub action: Action,
    /// For which frames.
    pub directions: Directions,
    /// Which of them match.
    pub expression: Expression,
    /// Line it stands in, from 1.
    pub line: u32,
}

/// A rule file without errors, whose program is within all bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFile {
    rules: Vec<Rule>,
    default_action: Action,
    program: Vec<u8>,
}

impl RuleFile {
    /// Reads a rule file. `file_name` is what errors call it.
    ///
    /// # Errors
    /// All that is wrong with it, one error a line at most, in the order of the
    /// lines; or, of a file whose lines are right, what it has too much of.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, Errors> {
        let mut reader = Reader {
            lines: HashMap::new(),
            default: None,
            rules: Vec::new(),
        };
        let mut errors = Vec::new();
        let mut start = 0;
        for (number, line) in (1u32..).zip(text.split_inclusive('\n')) {
            let content = line.strip_suffix('\n').unwrap_or(line);
            let mark = if number == 1 && content.starts_with('\u{feff}') {
                3
            } else {
                0
            };
            let content = &content[mark..];
            if let Err(fault) = reader.line(content, number) {
                errors.push(
                    fault
                        .error(content)
                        .in_line(number, start + mark, file_name),
                );
            }
            start += line.len();
        }
        if !errors.is_empty() {
            return Err(Errors(errors));
        }
        let default_action = reader.default.map_or(Action::Pass, |(action, _)| action);
        match program::build(&reader.rules, default_action) {
            Ok(program) => Ok(Self {
                rules: reader.rules,
                default_action,
                program,
            }),
            Err(excess) => {
                let line = excess.line.unwrap_or(1);
                let content = text.lines().nth(line as usize - 1).unwrap_or("");
                let start: usize = text
                    .split_inclusive('\n')
                    .take(line as usize - 1)
                    .map(str::len)
                    .sum();
                let span = 0..content.len();
                let error = Error::new(content, file_name, span, excess.message, vec![]);
                Err(Errors(vec![error.in_line(line, start, file_name)]))
            }
        }
    }

    /// Its rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What happens to frames no rule decides on: pass or drop.
    #[must_use]
    pub fn default_action(&self) -> Action {
        self.default_action
    }

    /// The program, in the format of `weir_engine::rule::format`. The engine has
    /// verified it.
    #[must_use]
    pub fn compile(&self) -> Vec<u8> {
        self.program.clone()
    }
}

/// What is wrong with a line.
enum Fault {
    Words {
        span: Range<usize>,
        message: String,
        expected: Vec<String>,
    },
    /// An error of the expression that starts at this byte of the line.
    Expression { at: usize, error: Box<Error> },
}

impl Fault {
    fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self::Words {
            span,
            message: message.into(),
            expected: Vec::new(),
        }
    }

    fn error(self, line: &str) -> Error {
        match self {
            Self::Words {
                span,
                message,
                expected,
            } => Error::new(line, "", span, message, expected),
            Self::Expression { at, error } => {
                let span = error.span.start + at..error.span.end + at;
                Error::new(line, "", span, error.message, error.expected)
            }
        }
    }
}

struct Reader {
    /// Lines of the rules' names.
    lines: HashMap<String, u32>,
    default: Option<(Action, u32)>,
    rules: Vec<Rule>,
}

/// A word of a line and where it is.
type Word<'a> = (&'a str, Range<usize>);

/// The first word of `line` from a byte on; empty at its end.
fn word(line: &str, from: usize) -> Word<'_> {
    let rest = &line[from..];
    let start = rest
        .find(|c: char| !c.is_ascii_whitespace())
        .unwrap_or(rest.len());
    let word = &rest[start..];
    let word = &word[..word
        .find(|c: char| c.is_ascii_whitespace())
        .unwrap_or(word.len())];
    (word, from + start..from + start + word.len())
}

impl Reader {
    fn line(&mut self, line: &str, number: u32) -> Result<(), Fault> {
        let line = line.split('#').next().unwrap_or("").trim_end();
        let (first, span) = word(line, 0);
        match first {
            "" => Ok(()),
            "rule" => self.rule(line, span.end, number),
            "default" => self.default_line(line, span.end, number),
            _ => Err(unknown(
                "a line starts with",
                (first, span),
                &["rule", "default"],
            )),
        }
    }

    fn default_line(&mut self, line: &str, from: usize, number: u32) -> Result<(), Fault> {
        let what = word(line, from);
        let action = match what.0 {
            "pass" => Action::Pass,
            "drop" => Action::Drop,
            _ => return Err(unknown("a default is", what, &["pass", "drop"])),
        };
        let (more, span) = word(line, what.1.end);
        if !more.is_empty() {
            let message = format!("there is nothing behind default {}", action.name());
            return Err(Fault::new(span.start..line.len(), message));
        }
        if let Some((_, earlier)) = self.default {
            let message = format!("line {earlier} has a default already");
            return Err(Fault::new(0..line.len(), message));
        }
        self.default = Some((action, number));
        Ok(())
    }

    fn rule(&mut self, line: &str, from: usize, number: u32) -> Result<(), Fault> {
        let (name, name_span) = word(line, from);
        check_name(name, name_span.clone())?;
        let action = word(line, name_span.end);
        let Some(&does) = Action::ALL.iter().find(|known| known.name() == action.0) else {
            return Err(unknown(
                "an action is",
                action,
                &Action::ALL.map(Action::name),
            ));
        };
        let direction = word(line, action.1.end);
        let Some(&directions) = Directions::ALL
            .iter()
            .find(|known| known.name() == direction.0)
        else {
            return Err(unknown(
                "a direction is",
                direction,
                &Directions::ALL.map(Directions::name),
            ));
        };
        let at = word(line, direction.1.end).1.start;
        let expression = compile_expression(&line[at..]).map_err(|error| Fault::Expression {
            at,
            error: Box::new(error),
        })?;
        if let Some(earlier) = self.lines.insert(name.to_owned(), number) {
            let message = format!("the rule in line {earlier} has the name {name} already");
            return Err(Fault::new(name_span, message));
        }
        if self.rules.len() >= MAX_RULES as usize {
            let message = format!("a file has at most {MAX_RULES} rules");
            return Err(Fault::new(0..line.len(), message));
        }
        let name = name.to_owned();
        self.rules.push(Rule {
            name,
            action: does,
            directions,
            expression,
            line: number,
        });
        Ok(())
    }
}

fn check_name(name: &str, span: Range<usize>) -> Result<(), Fault> {
    if name.is_empty() {
        let expected = vec!["a name for the rule".to_owned()];
        return Err(Fault::Words {
            span,
            message: "the line ends too early".into(),
            expected,
        });
    }
    let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if let Some(at) = name.find(odd) {
        let c = name[at..].chars().next().unwrap_or(' ');
        let message = format!("{c} can't be in a name: A-Z a-z 0-9 _ - . can");
        return Err(Fault::new(
            span.start + at..span.start + at + c.len_utf8(),
            message,
        ));
    }
    if name.len() > MAX_NAME as usize {
        let message = format!(
            "a name has at most {MAX_NAME} characters, and not {}",
            name.len()
        );
        return Err(Fault::new(span, message));
    }
    Ok(())
}

fn unknown(what: &str, (word, span): Word<'_>, known: &[&str]) -> Fault {
    let lower = word.to_ascii_lowercase();
    let other = match lower.as_str() {
        "allow" | "accept" | "permit" => Some("pass"),
        "deny" | "block" | "reject" => Some("drop"),
        "both" => Some("any"),
        "inbound" => Some("in"),
        "outbound" => Some("out"),
        _ => None,
    };
    let other = other
        .filter(|other| known.contains(other))
        .or_else(|| closest(&lower, known.iter().copied()));
    let message = match other {
        _ if word.is_empty() => "the line ends too early".to_owned(),
        Some(other) => format!("{what} not {word}; did you mean {other}?"),
        None => format!("{what} not {word}"),
    };
    Fault::Words {
        span,
        message,
        expected: known.iter().map(|&word| word.to_owned()).collect(),
    }
}
